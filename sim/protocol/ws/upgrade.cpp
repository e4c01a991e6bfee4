#include "sim/protocol/ws/upgrade.hpp"

#include <fmt/format.h>
#include <openssl/sha.h>

#include "sim/protocol/encoding.hpp"
#include "sim/protocol/text.hpp"

namespace twinstorm::ws {
namespace {

using protocol::equal_ignoring_case;
using protocol::TextSplitter;

constexpr size_t kKeySize = 24;  // base64 of 16 bytes

std::string_view trimmed(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

/// Whether a comma-separated list names `word`, in any case of letters unless told otherwise.
bool lists(std::string_view list, std::string_view word, bool exactly = false) {
  for (TextSplitter parts{list, ','}; parts.next();) {
    const auto part = trimmed(parts.part());
    if (exactly ? part == word : equal_ignoring_case(part, word)) return true;
  }
  return false;
}

/// The values of a header, all lines of that name joined with commas (RFC 9110 section 5.3).
std::optional<std::string> header(std::string_view head, std::string_view name) {
  std::optional<std::string> found;
  for (TextSplitter lines{head, '\n'}; lines.next();) {
    auto line = lines.part();
    if (line.ends_with('\r')) line.remove_suffix(1);
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos || !equal_ignoring_case(line.substr(0, colon), name)) continue;
    const auto value = trimmed(line.substr(colon + 1));
    if (found) {
      *found += ',';
      *found += value;
    } else {
      found = std::string{value};
    }
  }
  return found;
}

/// Something a peer sent, fit for a message to people.
std::string printable(std::string_view text) {
  std::string out{text.substr(0, 80)};
  for (char& c : out) {
    if (c < ' ' || c > '~') c = '?';
  }
  return out;
}

}  // namespace

std::string make_key(const std::array<uint8_t, 16>& nonce) {
  return protocol::base64_encode(std::string_view{reinterpret_cast<const char*>(nonce.data()), nonce.size()});
}

std::string accept_for(std::string_view key) {
  std::string text{key};
  text += "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
  std::array<unsigned char, SHA_DIGEST_LENGTH> digest{};
  SHA1(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
  return protocol::base64_encode(std::string_view{reinterpret_cast<const char*>(digest.data()), digest.size()});
}

void append_upgrade_request(std::string& out, const UpgradeRequest& request) {
  out += fmt::format(
      "GET {} HTTP/1.1\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {}\r\nConnection: Upgrade\r\n"
      "Upgrade: websocket\r\nSec-WebSocket-Protocol: {}\r\nHost: {}\r\n\r\n",
      request.path, request.key, request.subprotocol, request.host);
}

std::optional<Result<size_t>> check_upgrade_response(std::string_view bytes, const UpgradeRequest& request) {
  const size_t end = bytes.find("\r\n\r\n");
  constexpr std::string_view kProtocol = "HTTP/1.1 ";
  const auto start = bytes.substr(0, kProtocol.size());
  if (start != kProtocol.substr(0, start.size())) {
    return make_error(ErrorCode::protocol, fmt::format("the server's answer to the WebSocket request is not HTTP/1.1: "
                                                       "\"{}\"",
                                                       printable(bytes.substr(0, 40))));
  }
  if (end == std::string_view::npos) {
    if (bytes.size() < kResponseHeadMax) return std::nullopt;
    return make_error(ErrorCode::protocol, fmt::format("the server's answer to the WebSocket request has a header of "
                                                       "more than {} bytes",
                                                       kResponseHeadMax));
  }
  const auto head = bytes.substr(0, end);
  const auto status_line = head.substr(0, head.find("\r\n"));
  const auto status = protocol::parse_decimal<int>(status_line.substr(kProtocol.size(), 3));
  if (status != 101) {
    return make_error(ErrorCode::unavailable,
                      fmt::format("the server answered \"{}\" to the WebSocket request for \"{}\" instead of 101: does "
                                  "this port carry MQTT over WebSocket?",
                                  printable(status_line.substr(kProtocol.size())), request.path));
  }
  const auto wrong = [](std::string_view what) {
    return make_error(ErrorCode::protocol, fmt::format("the server's answer 101 to the WebSocket request {}", what));
  };
  const auto fields = head.substr(std::min(status_line.size() + 2, head.size()));
  if (!equal_ignoring_case(header(fields, "Upgrade").value_or(""), "websocket") ||
      !lists(header(fields, "Connection").value_or(""), "upgrade")) {
    return wrong("does not upgrade to websocket");
  }
  if (header(fields, "Sec-WebSocket-Accept") != accept_for(request.key)) {
    return wrong("has a Sec-WebSocket-Accept that does not fit the key: is there a cache in between?");
  }
  if (header(fields, "Sec-WebSocket-Protocol").value_or("") != request.subprotocol) {
    return wrong(fmt::format("does not agree to the subprotocol \"{}\"", request.subprotocol));
  }
  if (header(fields, "Sec-WebSocket-Extensions")) return wrong("uses an extension that was not offered");
  return end + 4;
}

bool wants_websocket(const UpgradeHeaders& headers) {
  return lists(headers.upgrade, "websocket") && lists(headers.connection, "upgrade");
}

Result<std::string> check_upgrade_request(const UpgradeHeaders& headers, std::string_view subprotocol) {
  const auto wrong = [](std::string message) { return make_error(ErrorCode::invalid_argument, std::move(message)); };
  if (headers.method != "GET") return wrong("a WebSocket opens with GET");
  if (!wants_websocket(headers)) {
    return wrong("a WebSocket opens with the headers \"Upgrade: websocket\" and \"Connection: Upgrade\"");
  }
  if (headers.version != "13") {
    return make_error(ErrorCode::precondition_failed,
                      fmt::format("WebSocket version \"{}\" is not spoken here: 13 is", printable(headers.version)));
  }
  const auto nonce = protocol::base64_decode(headers.key);
  if (headers.key.size() != kKeySize || !nonce || nonce->size() != 16) {
    return wrong("Sec-WebSocket-Key must be 16 bytes in base64");
  }
  if (!lists(headers.subprotocols, subprotocol, true)) {
    return wrong(fmt::format("the WebSocket must offer the subprotocol \"{}\" (offered: \"{}\")", subprotocol,
                             printable(headers.subprotocols)));
  }
  return accept_for(headers.key);
}

void append_upgrade_response(std::string& out, std::string_view accept, std::string_view subprotocol) {
  out += fmt::format(
      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n"
      "Sec-WebSocket-Protocol: {}\r\n\r\n",
      accept, subprotocol);
}

}  // namespace twinstorm::ws
