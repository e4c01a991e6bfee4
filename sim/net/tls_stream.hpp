// One TLS connection of the fleet: OpenSSL on the socket, no record buffers while idle (docs/decisions.md).
//
// With `TlsClientConfig::session_resumption` each stream keeps the session of its last connection and offers it to the
// server at the next one.
#pragma once

#include "sim/net/socket_stream.hpp"

namespace twinstorm::net {

using TlsStream = SocketStream<TlsWire>;
static_assert(sizeof(TlsStream) <= 96, "part of every idle device");

}  // namespace twinstorm::net
