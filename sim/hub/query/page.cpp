#include "sim/hub/query/page.hpp"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <tuple>
#include <utility>

#include <fmt/format.h>

#include "sim/base/assert.hpp"

namespace twinstorm::hub::query {
namespace {

/// Rows this page may hold, TOP considered.
size_t page_limit(const Query& query, const Cursor& cursor, size_t page_size) {
  TS_ASSERT(page_size > 0);
  if (!query.top()) return page_size;
  return std::min<size_t>(page_size, *query.top() - std::min(*query.top(), cursor.delivered));
}

void append_hex(std::string_view bytes, std::string& out) {
  for (const char c : bytes) fmt::format_to(std::back_inserter(out), "{:02x}", static_cast<unsigned char>(c));
}

bool read_hex(std::string_view text, std::string& out) {
  if (text.size() % 2 != 0) return false;
  for (size_t i = 0; i < text.size(); i += 2) {
    unsigned byte = 0;
    const auto [end, error] = std::from_chars(text.data() + i, text.data() + i + 2, byte, 16);
    if (error != std::errc{} || end != text.data() + i + 2) return false;
    out += static_cast<char>(byte);
  }
  return true;
}

std::string_view text_member(const twin::Value& row, std::string_view name) {
  const twin::Value* value = row.find(name);
  return value != nullptr && value->is_string() ? value->text() : std::string_view{};
}

bool row_before(const Row& a, const Row& b) { return std::tie(a.first, a.second) < std::tie(b.first, b.second); }

void append_element(std::string_view json, Page& page) {
  page.body += page.rows++ == 0 ? '[' : ',';
  page.body += json;
}

void finish(Page& page) { page.body += page.rows == 0 ? "[]" : "]"; }

}  // namespace

twin::TwinResult<size_t> read_page_size(std::optional<std::string_view> asked, uint32_t default_size,
                                        uint32_t max_size) {
  if (!asked) return default_size;
  uint32_t size = 0;
  const char* const end = asked->data() + asked->size();
  const auto [read, error] = std::from_chars(asked->data(), end, size);
  if (error != std::errc{} || read != end || size < 1 || size > kMaxPageSize) {
    std::string shown;
    for (const char c : asked->substr(0, 40)) shown += c < 0x20 || c > 0x7e || c == ';' || c == '\'' ? '?' : c;
    return twin::argument_invalid(
        fmt::format("x-ms-max-item-count '{}' is not a number from 1 to {}", shown, kMaxPageSize));
  }
  return std::min(size, max_size);
}

// <query hash>-<rows delivered>-<first in hex>-<second in hex>: plain characters, fit for a header.
std::string encode_cursor(const Cursor& cursor, const Query& query) {
  std::string token = fmt::format("{:016x}-{}-", query.hash(), cursor.delivered);
  append_hex(cursor.first, token);
  token += '-';
  append_hex(cursor.second, token);
  return token;
}

twin::TwinResult<Cursor> decode_cursor(std::string_view token, const Query& query) {
  const auto refuse = [](std::string_view problem) {
    return twin::argument_invalid(fmt::format("x-ms-continuation: {}", problem));
  };
  std::string_view parts[4];
  for (size_t i = 0; i < 4; ++i) {
    const size_t dash = i < 3 ? token.find('-') : token.size();
    if (dash == std::string_view::npos) return refuse("not a token of this hub");
    parts[i] = token.substr(0, dash);
    token.remove_prefix(std::min(token.size(), dash + 1));
  }
  Cursor cursor;
  cursor.started = true;
  const auto delivered = std::from_chars(parts[1].data(), parts[1].data() + parts[1].size(), cursor.delivered);
  if (parts[1].empty() || delivered.ec != std::errc{} || delivered.ptr != parts[1].data() + parts[1].size() ||
      !read_hex(parts[2], cursor.first) || !read_hex(parts[3], cursor.second)) {
    return refuse("not a token of this hub");
  }
  if (parts[0] != fmt::format("{:016x}", query.hash())) return refuse("the token belongs to another query");
  return cursor;
}

PageCollector::PageCollector(Query query, const Cursor& cursor, size_t page_size)
    : query_{std::move(query)}, cursor_{cursor} {
  TS_ASSERT(!query_.aggregates());
  const size_t limit = page_limit(query_, cursor, page_size);
  // One row more tells whether there is a next page, unless TOP has already said that there is none.
  capacity_ = limit < page_size ? limit : limit + 1;
  heap_.reserve(capacity_);
}

bool PageCollector::wanted(std::string_view first, std::string_view second) const {
  if (cursor_.started &&
      std::tuple{first, second} <= std::tuple<std::string_view, std::string_view>{cursor_.first, cursor_.second}) {
    return false;
  }
  if (!full()) return true;
  return capacity_ > 0 && std::tie(first, second) < std::tie(heap_.front().first, heap_.front().second);
}

void PageCollector::keep(const Candidate& candidate) {
  const auto less = [](const Candidate& a, const Candidate& b) {
    return std::tie(a.first, a.second) < std::tie(b.first, b.second);
  };
  if (full()) {
    std::pop_heap(heap_.begin(), heap_.end(), less);
    heap_.back() = candidate;
  } else {
    heap_.push_back(candidate);
  }
  std::push_heap(heap_.begin(), heap_.end(), less);
}

void PageCollector::offer(const twin::TwinDocument& twin) {
  if (wanted(twin.device_id, twin.module_id) && query_.matches(twin)) {
    keep({twin.device_id, twin.module_id, &twin, nullptr});
  }
}

void PageCollector::offer(const twin::Value& row) {
  const std::string_view job = text_member(row, "jobId");
  const std::string_view device = text_member(row, "deviceId");
  if (wanted(job, device) && query_.matches(row)) keep({job, device, nullptr, &row});
}

std::vector<Row> PageCollector::take_rows() {
  std::sort(heap_.begin(), heap_.end(), [](const Candidate& a, const Candidate& b) {
    return std::tie(a.first, a.second) < std::tie(b.first, b.second);
  });
  std::vector<Row> rows;
  rows.reserve(heap_.size());
  for (const Candidate& candidate : heap_) {
    Row& row = rows.emplace_back();
    row.first = candidate.first;
    row.second = candidate.second;
    if (candidate.twin != nullptr) {
      query_.write_row(*candidate.twin, row.json);
    } else {
      query_.write_row(*candidate.row, row.json);
    }
  }
  heap_.clear();
  return rows;
}

Page assemble_page(const Query& query, const Cursor& cursor, size_t page_size, std::vector<std::vector<Row>> shards) {
  const size_t limit = page_limit(query, cursor, page_size);
  std::vector<Row> all;
  for (std::vector<Row>& shard : shards) {
    all.insert(all.end(), std::make_move_iterator(shard.begin()), std::make_move_iterator(shard.end()));
  }
  std::sort(all.begin(), all.end(), row_before);
  Page page;
  for (size_t i = 0; i < std::min(limit, all.size()); ++i) append_element(all[i].json, page);
  finish(page);
  const uint32_t delivered = cursor.delivered + static_cast<uint32_t>(page.rows);
  const bool top_reached = query.top() && delivered >= *query.top();
  if (all.size() > page.rows && !top_reached) {
    const Row& last = all[page.rows - 1];
    page.next = Cursor{true, last.first, last.second, delivered};
  }
  return page;
}

Page assemble_page(const Query& query, const Cursor& cursor, size_t page_size, const Aggregation& total) {
  const size_t limit = page_limit(query, cursor, page_size);
  const auto place = cursor.started ? std::optional<std::string_view>{cursor.first} : std::nullopt;
  const auto rows = total.rows_behind(place, limit + 1);
  Page page;
  for (size_t i = 0; i < std::min(limit, rows.size()); ++i) append_element(rows[i].json, page);
  finish(page);
  const uint32_t delivered = cursor.delivered + static_cast<uint32_t>(page.rows);
  const bool top_reached = query.top() && delivered >= *query.top();
  if (rows.size() > page.rows && !top_reached) page.next = Cursor{true, rows[page.rows - 1].place, {}, delivered};
  return page;
}

}  // namespace twinstorm::hub::query
