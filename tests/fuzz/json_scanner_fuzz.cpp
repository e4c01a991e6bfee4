// Any bytes into the JSON scanner: what is complete JSON must have a readable member list.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "sim/protocol/json_scanner.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace twinstorm::protocol;
  const std::string_view text{reinterpret_cast<const char*>(data), size};
  const bool complete = is_complete_json(text);
  const auto trimmed = find_path(text, "");
  const bool whole = for_each_member(text, [](std::string_view key, std::string_view value) {
    if (key.data() == nullptr || value.empty()) std::abort();
  });
  if (complete && !trimmed->empty() && trimmed->front() == '{' && !whole) std::abort();
  (void)find_integer(text, "$version");
  (void)find_path(text, "a.b.c");
  (void)find_plain_string(text, "a");
  return 0;
}
