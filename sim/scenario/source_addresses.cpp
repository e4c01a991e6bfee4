#include "sim/scenario/source_addresses.hpp"

#include <charconv>
#include <optional>
#include <set>

#include <arpa/inet.h>
#include <fmt/format.h>

namespace twinstorm::scenario {
namespace {

constexpr std::string_view kForms = "try 10.0.0.5, 10.0.0.5-10.0.0.9 or 10.0.0.0/29";

std::optional<uint32_t> ipv4(const std::string& text) {
  in_addr address{};
  if (inet_pton(AF_INET, text.c_str(), &address) != 1) return std::nullopt;
  return ntohl(address.s_addr);
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
  in6_addr address{};
  if (inet_pton(AF_INET6, text.c_str(), &address) == 1) {
    char out[INET6_ADDRSTRLEN];
    return std::vector<std::string>{inet_ntop(AF_INET6, &address, out, sizeof out)};
  }
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
