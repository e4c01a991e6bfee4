// Topics, filters, property bags and user names of any text.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "sim/protocol/topics.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace twinstorm::protocol;
  const std::string_view text{reinterpret_cast<const char*>(data), size};
  (void)parse_device_topic(text);
  (void)parse_hub_topic(text);
  (void)parse_hub_filter(text, "dev1", "mod1");
  if (const auto bag = decode_property_bag(text)) {
    const auto again = decode_property_bag(encode_property_bag(*bag));
    if (!again || *again != *bag) std::abort();
  }
  (void)find_property(text, "$.mid");
  if (const auto name = parse_mqtt_user_name(text)) (void)format_mqtt_user_name(*name);
  const size_t half = size / 2;
  if (is_valid_filter(text.substr(0, half))) (void)topic_matches(text.substr(0, half), text.substr(half));
  return 0;
}
