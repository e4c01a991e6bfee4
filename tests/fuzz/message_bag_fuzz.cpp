// Property bags and message headers of any text: reading and measuring agree, and what was read is written readably.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "sim/protocol/message_bag.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace twinstorm::protocol;
  const std::string_view text{reinterpret_cast<const char*>(data), size};
  const auto properties = parse_message_bag(text);
  const auto measured = measure_message_bag(text);
  if (properties.has_value() != measured.has_value()) std::abort();
  if (properties) {
    const auto again = parse_message_bag(format_message_bag(*properties));
    if (!again || *again != *properties) std::abort();
    (void)properties->find(kAckProperty);
    for_each_message_header(*properties, [](std::string_view name, std::string_view value) {
      if (name.empty() || name.find_first_of("\r\n :") != std::string_view::npos) std::abort();
      if (value.find_first_of("\r\n") != std::string_view::npos) std::abort();
    });
  }
  MessageProperties taken;
  const size_t colon = text.find(':');
  if (colon != std::string_view::npos) (void)take_message_header(taken, text.substr(0, colon), text.substr(colon + 1));
  return 0;
}
