// The addresses that devices connect from, as a scenario writes them.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "sim/base/result.hpp"

namespace twinstorm::scenario {

inline constexpr size_t kMaxSourceAddresses = 4096;

/// `10.0.0.5`, `10.0.0.5-10.0.0.9` (both ends included), `10.0.0.0/29` (the hosts of the network: without its first and
/// last address, unless it is a /31 or /32) or one IPv6 address; the result has one address an element, as text.
/// `invalid_argument` says what is wrong with the text.
Result<std::vector<std::string>> expand_source_addresses(const std::string& text);
/// All of them, in order; an address twice is an error, and so are more than `kMaxSourceAddresses`.
Result<std::vector<std::string>> expand_source_addresses(const std::vector<std::string>& texts);

}  // namespace twinstorm::scenario
