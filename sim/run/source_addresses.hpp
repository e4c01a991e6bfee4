// Which addresses of this machine the devices of a run connect from: a TCP connection to one listener needs a local
// port of its own, and an address has about 28,000 of them (net.ipv4.ip_local_port_range).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sim/base/result.hpp"
#include "sim/net/stream.hpp"
#include "sim/scenario/scenario.hpp"

namespace twinstorm::run {

/// `localhost`, names below it, and addresses of loopback.
bool is_loopback_host(const std::string& host);

/// The addresses for `connections` connections to `hub`: those that the target gives, else, with the hub on
/// 127.0.0.0/8, 127.0.0.1, 127.0.0.2 ... as many as `loopback_addresses` (machine.hpp) asks for. Empty: the system
/// chooses. Errors name an address that is not this machine's, or not of the hub's family.
Result<std::vector<net::Address>> source_addresses(const scenario::Target& target, const net::Endpoint& hub,
                                                   uint64_t connections);

}  // namespace twinstorm::run
