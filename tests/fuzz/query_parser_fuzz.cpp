// Any text must be refused or give a query that evaluates over a twin, a page and an aggregate without trouble.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "sim/base/assert.hpp"
#include "sim/hub/query/page.hpp"

using namespace twinstorm;

namespace {

const twin::TwinDocument& sample() {
  static const twin::TwinDocument document =
      twin::TwinDocument::from_json(
          twin::parse_value(R"({"deviceId":"d1","moduleId":"m","tags":{"ring":1,"a":{"b":"c"},"list":[1,"x",true]},
            "properties":{"desired":{"x":1.0},"reported":{"x":2}},"parentScopes":["s"],
            "configurations":{"c":{"status":"Applied"}}})")
              .value())
          .value();
  return document;
}

void evaluate(const hub::query::Query& query) {
  using namespace hub::query;
  if (query.aggregates()) {
    Aggregation part{query};
    part.add(sample());
    Aggregation total{query};
    total.merge(std::move(part));
    TS_ASSERT(twin::parse_value(assemble_page(query, Cursor{}, 1, total).body));
    return;
  }
  PageCollector collector{query, Cursor{}, 1};
  if (query.source() == Source::jobs) {
    static const twin::Value row = twin::parse_value(R"({"jobId":"j","deviceId":"d1","status":"failed"})").value();
    collector.offer(row);
  } else {
    collector.offer(sample());
  }
  TS_ASSERT(twin::parse_value(assemble_page(query, Cursor{}, 1, {collector.take_rows()}).body));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text{reinterpret_cast<const char*>(data), size};
  if (const auto query = hub::query::Query::parse(text)) {
    // Column names come from the query, and JSON output is only promised for UTF-8 input.
    if (twin::parse_value([&] {
          std::string quoted;
          twin::write_string(text, quoted);
          return quoted;
        }())) {
      evaluate(*query);
    }
    (void)hub::query::decode_cursor(text, *query);
  }
  (void)hub::query::Query::parse_condition(text);
  static const hub::query::Query kAll = hub::query::Query::parse("SELECT * FROM devices").value();
  (void)hub::query::decode_cursor(text, kAll);
  return 0;
}
