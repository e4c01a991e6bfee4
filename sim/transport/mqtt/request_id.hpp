// `$rid` of our devices: a number of 32 bits dressed as the version-4 UUID that the reference SDK sends
// (device.md 3.4), so that a hub sees the same shape and length, and the answer leads back to the request without a
// table.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "sim/base/rng.hpp"

namespace twinstorm::transport {

/// 36 characters, lower case.
struct RequestId {
  std::array<char, 36> text;
  std::string_view view() const { return {text.data(), text.size()}; }
};

/// The request number, disguised, in the first group; the other groups are fixed per device.
inline RequestId format_request_id(uint32_t request, uint32_t device) {
  const uint64_t high = mix64(device), low = mix64(high);
  const uint64_t groups[] = {
      static_cast<uint64_t>(request ^ static_cast<uint32_t>(high)) << 32 | (high >> 32 & 0xffff'0fff) | 0x4000,
      (low & 0x3fff'ffff'ffff'ffff) | 0x8000'0000'0000'0000};
  RequestId id;
  size_t at = 0;
  for (int digit = 0; digit < 32; ++digit) {
    if (digit == 8 || digit == 12 || digit == 16 || digit == 20) id.text[at++] = '-';
    id.text[at++] = "0123456789abcdef"[groups[digit / 16] >> (60 - digit % 16 * 4) & 15];
  }
  return id;
}

/// The number in a request id of this device; nullopt for any other text.
inline std::optional<uint32_t> parse_request_id(std::string_view rid, uint32_t device) {
  if (rid.size() != 36) return std::nullopt;
  uint32_t disguised = 0;
  for (const char c : rid.substr(0, 8)) {
    const auto digit = std::string_view{"0123456789abcdef"}.find(c);
    if (digit == std::string_view::npos) return std::nullopt;
    disguised = disguised << 4 | static_cast<uint32_t>(digit);
  }
  const uint32_t request = disguised ^ static_cast<uint32_t>(mix64(device));
  if (format_request_id(request, device).view() != rid) return std::nullopt;
  return request;
}

}  // namespace twinstorm::transport
