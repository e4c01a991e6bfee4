// Exact text forms: what `parse_duration` and its like read back without loss.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "sim/base/time.hpp"
#include "sim/base/units.hpp"

namespace twinstorm::scenario::detail {

using twinstorm::exact_duration;
/// `50/s` with every digit the double has.
std::string exact_rate(Rate rate);
/// `30%`, as short as reads back to the same double, else the plain number.
std::string exact_share(double share);
std::string exact_size(ByteCount size);
/// As a JSON string, which is a YAML double-quoted scalar too.
std::string quoted(std::string_view text);
void append_quoted(std::string& out, std::string_view text);
/// At most `limit` bytes of valid UTF-8 without control characters, `...` at the end when cut. Keys and signatures
/// of connection strings are cut off.
std::string shortened(std::string_view text, size_t limit = 60);

}  // namespace twinstorm::scenario::detail
