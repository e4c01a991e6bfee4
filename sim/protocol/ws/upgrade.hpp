// The HTTP/1.1 exchange that opens a WebSocket (RFC 6455 section 4), as IoT Hub does it: subprotocol asked for and
// confirmed, no extensions (permessage-deflate is declined by not naming it). Sans-I/O.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "sim/base/result.hpp"

namespace twinstorm::ws {

inline constexpr std::string_view kMqttSubprotocol = "mqtt";
inline constexpr std::string_view kIotHubPath = "/$iothub/websocket";
inline constexpr size_t kResponseHeadMax = 16 * 1024;

/// `Sec-WebSocket-Key`: base64 of 16 bytes that no earlier request used.
std::string make_key(const std::array<uint8_t, 16>& nonce);
/// `Sec-WebSocket-Accept` for a key (section 4.2.2).
std::string accept_for(std::string_view key);

// --- Client ----------------------------------------------------------------------------------------------------------

struct UpgradeRequest {
  std::string_view path = kIotHubPath;
  std::string_view host;  ///< with `:port` when it is not the scheme's own
  std::string_view key;
  std::string_view subprotocol = kMqttSubprotocol;
};
void append_upgrade_request(std::string& out, const UpgradeRequest& request);

/// Looks for the whole head of the response in `bytes`. nullopt: more bytes are needed. A number: the bytes of the
/// head; frames follow. An error (`unavailable` for any answer but 101, `protocol` for a 101 that is not right) is a
/// sentence for people.
std::optional<Result<size_t>> check_upgrade_response(std::string_view bytes, const UpgradeRequest& request);

// --- Server ----------------------------------------------------------------------------------------------------------

/// The headers of a request, empty when absent.
struct UpgradeHeaders {
  std::string_view method;
  std::string_view upgrade;
  std::string_view connection;
  std::string_view version;       ///< `Sec-WebSocket-Version`
  std::string_view key;           ///< `Sec-WebSocket-Key`
  std::string_view subprotocols;  ///< `Sec-WebSocket-Protocol`
};
/// True when the client wants to leave HTTP for WebSocket: only then the others matter.
bool wants_websocket(const UpgradeHeaders& headers);
/// The value of `Sec-WebSocket-Accept`, or an error (`invalid_argument`, a sentence) to answer 400 with; an unknown
/// version deserves 426 and `Sec-WebSocket-Version: 13` instead (`precondition_failed`).
Result<std::string> check_upgrade_request(const UpgradeHeaders& headers,
                                          std::string_view subprotocol = kMqttSubprotocol);
/// `101 Switching Protocols`.
void append_upgrade_response(std::string& out, std::string_view accept,
                             std::string_view subprotocol = kMqttSubprotocol);

}  // namespace twinstorm::ws
