// Any JSON must be refused or survive writing and reading, and any patch must be refused or leave a twin that is
// consistent: sizes, metadata and the exported form agree.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "sim/base/assert.hpp"
#include "sim/twin/twin_document.hpp"

using namespace twinstorm;

namespace {

void check_consistent(const twin::TwinDocument& document) {
  TS_ASSERT(document.tags_counted_bytes == twin::counted_size(document.tags));
  TS_ASSERT(document.desired.counted_bytes == twin::counted_size(document.desired.values));
  TS_ASSERT(document.reported.counted_bytes == twin::counted_size(document.reported.values));
  std::string json;
  twin::write_service_twin(document, json);
  std::string again;
  twin::write_service_twin(twin::TwinDocument::from_json(twin::parse_value(json).value()).value(), again);
  TS_ASSERT(json == again);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text{reinterpret_cast<const char*>(data), size};
  const auto value = twin::parse_value(text);
  if (!value) return 0;
  TS_ASSERT(twin::parse_value(twin::write(*value)).value() == *value);
  (void)twin::TwinDocument::from_json(*value);

  twin::TwinDocument document = twin::TwinDocument::fresh("d", "", WallTime{});
  const auto base =
      twin::parse_value(R"({"tags":{"a":{"b":1}},"properties":{"desired":{"a":{"b":1,"c":[2]},"d":"e"}}})");
  (void)twin::apply_service_patch(document, base.value(), WallTime{});
  (void)twin::apply_reported_patch(document, *value, WallTime{});
  (void)twin::apply_service_patch(document, *value, WallTime{});
  (void)twin::apply_service_patch(document, twin::Value::object({{"tags", *value}}), WallTime{});
  const auto properties = twin::Value::object({{"properties", twin::Value::object({{"desired", *value}})}});
  (void)twin::apply_service_patch(document, properties, WallTime{});
  check_consistent(document);
  (void)twin::replace_twin(document, properties, WallTime{});
  check_consistent(document);
  return 0;
}
