// First line: a condition; the rest: JSON for the tags and reported properties of a twin. Whatever they are, the laws
// of three-valued logic hold and pages add up to the whole answer.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sim/base/assert.hpp"
#include "sim/hub/query/page.hpp"

using namespace twinstorm;
using namespace twinstorm::hub::query;

namespace {

std::optional<twin::TwinDocument> twin_with(std::string_view id, std::string_view values) {
  const auto json = twin::parse_value(std::string{R"({"deviceId":")"}.append(id).append(R"(","tags":)").append(values) +
                                      R"(,"properties":{"reported":)" + std::string{values} + "}}");
  if (!json) return std::nullopt;
  auto twin = twin::TwinDocument::from_json(*json);
  if (!twin) return std::nullopt;
  return std::move(*twin);
}

/// Too long or too deep once it is part of something larger: nothing to say then.
std::optional<bool> holds(const std::string& condition, const twin::TwinDocument& twin) {
  const auto query = Query::parse("SELECT * FROM devices WHERE " + condition);
  if (!query) return std::nullopt;
  return query->matches(twin);
}

std::vector<std::string> ids_in_pages(const Query& query, const std::vector<twin::TwinDocument>& twins, size_t size) {
  std::vector<std::string> ids;
  for (Cursor cursor;;) {
    PageCollector collector{query, cursor, size};
    for (const twin::TwinDocument& twin : twins) collector.offer(twin);
    const Page page = assemble_page(query, cursor, size, {collector.take_rows()});
    const auto rows = twin::parse_value(page.body);
    TS_ASSERT(rows);
    for (const twin::Value& row : rows->elements()) ids.emplace_back(row.find("deviceId")->text());
    if (!page.next) return ids;
    const auto next = decode_cursor(encode_cursor(*page.next, query), query);
    TS_ASSERT(next);
    cursor = *next;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input{reinterpret_cast<const char*>(data), size};
  const size_t line = input.find('\n');
  if (line == std::string_view::npos) return 0;
  const std::string condition{input.substr(0, line)};
  const auto whole = Query::parse("SELECT * FROM devices WHERE " + condition);
  // GROUP BY would end the condition.
  if (!whole || !Query::parse_condition(condition)) return 0;
  std::vector<twin::TwinDocument> twins;
  for (const auto& [id, values] : {std::pair{"b", input.substr(line + 1)}, {"a", "{}"}, {"d1", R"({"a":1,"b":"x"})"}}) {
    auto twin = twin_with(id, values);
    if (!twin) return 0;
    twins.push_back(std::move(*twin));
  }

  const std::string inner = "(" + condition + ")";
  size_t matching = 0;
  for (const twin::TwinDocument& twin : twins) {
    const bool yes = whole->matches(twin);
    matching += yes ? 1 : 0;
    if (const auto ids = whole->only_device_ids(); yes && ids) {
      TS_ASSERT(std::find(ids->begin(), ids->end(), twin.device_id) != ids->end());
    }
    const auto no = holds("NOT " + inner, twin);
    if (!no) continue;
    TS_ASSERT(!(yes && *no));
    for (const char* same : {" OR FALSE", " AND TRUE", " = TRUE", " IN [TRUE]", " OR undefined"}) {
      TS_ASSERT(holds(inner + same, twin).value_or(yes) == yes);
    }
    for (const char* opposite : {" = FALSE", " NIN [TRUE]", " IN [FALSE]"}) {
      TS_ASSERT(holds(inner + opposite, twin).value_or(*no) == *no);
    }
    TS_ASSERT(!holds(inner + " AND NULL", twin).value_or(false));
    TS_ASSERT(holds(inner + " OR TRUE", twin).value_or(true));
  }
  const auto all = ids_in_pages(*whole, twins, 10);
  TS_ASSERT(all.size() == matching);
  TS_ASSERT(ids_in_pages(*whole, twins, 1) == all);
  return 0;
}
