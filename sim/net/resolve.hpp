// Host names to endpoints, once, before a run starts.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "sim/base/result.hpp"
#include "sim/net/asio.hpp"

namespace twinstorm::net {

/// `localhost` and every name below it, with or without the root's dot (RFC 6761 section 6.3).
bool is_loopback_name(std::string_view host);

/// All addresses of `host` with `port`; `localhost` and names below it are 127.0.0.1 and ::1 without asking anybody
/// (RFC 6761 section 6.3). Blocks; for set-up only. Fails with `unavailable`, naming host and port.
Result<std::vector<Endpoint>> resolve(const std::string& host, uint16_t port);

}  // namespace twinstorm::net
