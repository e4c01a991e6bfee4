// One TCP connection of the fleet.
#pragma once

#include "sim/net/socket_stream.hpp"

namespace twinstorm::net {

using TcpStream = SocketStream<TcpWire>;
static_assert(sizeof(TcpStream) <= 80, "part of every idle device");

}  // namespace twinstorm::net
