#include "sim/scenario/source_addresses.hpp"

#include <algorithm>
#include <charconv>
#include <optional>
#include <set>
#include <string_view>

#include <fmt/format.h>

namespace twinstorm::scenario {
namespace {

constexpr std::string_view kForms = "try 10.0.0.5, 10.0.0.5-10.0.0.9 or 10.0.0.0/29";

/// Four decimal numbers.
std::optional<uint32_t> ipv4(std::string_view text) {
  uint32_t address = 0;
  for (int part = 0; part < 4; ++part) {
    const auto end = part < 3 ? text.find('.') : text.size();
    if (end == std::string_view::npos || end > 3) return std::nullopt;
    unsigned value = 256;
    const auto [stop, error] = std::from_chars(text.data(), text.data() + end, value);
    if (error != std::errc{} || stop != text.data() + end || value > 255) return std::nullopt;
    address = address << 8 | value;
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return address;
}

/// Looks like one; whether it is shows when it is used.
bool ipv6(std::string_view text) {
  return text.size() < 46 && std::count(text.begin(), text.end(), ':') >= 2 &&
         text.find_first_not_of("0123456789abcdefABCDEF:.") == std::string_view::npos;
}

std::string ipv4_text(uint32_t address) {
  return fmt::format("{}.{}.{}.{}", address >> 24, address >> 16 & 255, address >> 8 & 255, address & 255);
}

Error wrong(const std::string& text, std::string_view why) {
  return make_error(ErrorCode::invalid_argument, fmt::format("\"{}\" {} ({})", text.substr(0, 64), why, kForms));
}

Result<std::vector<std::string>> range(const std::string& text, uint64_t first, uint64_t last) {
  if (last < first) return wrong(text, "ends before it begins");
  if (last - first >= kMaxSourceAddresses) {
    return wrong(text, fmt::format("has {} addresses, more than {}", last - first + 1, kMaxSourceAddresses));
  }
  std::vector<std::string> all;
  for (uint64_t at = first; at <= last; ++at) all.push_back(ipv4_text(static_cast<uint32_t>(at)));
  return all;
}

}  // namespace

Result<std::vector<std::string>> expand_source_addresses(const std::string& text) {
  if (const auto one = ipv4(text)) return range(text, *one, *one);
  if (ipv6(text)) return std::vector<std::string>{text};
  if (const auto dash = text.find('-'); dash != std::string::npos) {
    const auto first = ipv4(text.substr(0, dash)), last = ipv4(text.substr(dash + 1));
    if (!first || !last) return wrong(text, "is no range of IPv4 addresses");
    return range(text, *first, *last);
  }
  if (const auto slash = text.find('/'); slash != std::string::npos) {
    const auto base = ipv4(text.substr(0, slash));
    unsigned bits = 33;
    const auto [end, error] = std::from_chars(text.data() + slash + 1, text.data() + text.size(), bits);
    if (!base || error != std::errc{} || end != text.data() + text.size() || bits > 32) {
      return wrong(text, "is no IPv4 network");
    }
    const uint64_t size = uint64_t{1} << (32 - bits);
    if (*base % size != 0) {
      return wrong(text, fmt::format("is an address within {}/{}",
                                     ipv4_text(static_cast<uint32_t>(*base - *base % size)), bits));
    }
    return size <= 2 ? range(text, *base, *base + size - 1) : range(text, uint64_t{*base} + 1, *base + size - 2);
  }
  return wrong(text, "is no IP address");
}

Result<std::vector<std::string>> expand_source_addresses(const std::vector<std::string>& texts) {
  std::vector<std::string> all;
  std::set<std::string> seen;
  for (const auto& text : texts) {
    const auto some = expand_source_addresses(text);
    if (!some) return some.error();
    for (const auto& address : *some) {
      if (!seen.insert(address).second) {
        return make_error(ErrorCode::invalid_argument, fmt::format("{} is given twice (leave one out)", address));
      }
      all.push_back(address);
    }
    if (all.size() > kMaxSourceAddresses) {
      return make_error(ErrorCode::invalid_argument,
                        fmt::format("more than {} addresses (give fewer)", kMaxSourceAddresses));
    }
  }
  return all;
}

}  // namespace twinstorm::scenario
