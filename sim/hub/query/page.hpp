// Paging that stays right while twins come, go and change: rows are ordered by their id and a page starts after the
// last id of the page before. No cursor state is kept in the hub; the token carries it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sim/hub/query/aggregation.hpp"
#include "sim/hub/query/query.hpp"

namespace twinstorm::hub::query {

/// What `x-ms-max-item-count` may ask for.
inline constexpr uint32_t kMaxPageSize = 10'000;

/// The rows a page may have. `asked`: the header's text, nullopt when absent: then `default_size`. 1 to 10,000 are
/// good, what is above `max_size` is cut to it. Errors: 400 ArgumentInvalid for 0, for more than 10,000 and for no
/// number.
twin::TwinResult<size_t> read_page_size(std::optional<std::string_view> asked, uint32_t default_size,
                                        uint32_t max_size);

/// Where a page starts. Twins are ordered by (deviceId, moduleId), jobs by (jobId, deviceId), bytewise.
struct Cursor {
  bool started = false;    ///< false: from the beginning
  std::string first;       ///< deviceId, jobId or group of the last row delivered
  std::string second;      ///< moduleId or deviceId of the last row delivered
  uint32_t delivered = 0;  ///< rows delivered so far, for TOP
};

/// Text of a cursor and the query it belongs to. Neither secret nor signed: the owner seals it
/// (sim/hub/token_seal.hpp).
std::string encode_cursor(const Cursor& cursor, const Query& query);
/// Errors: 400 ArgumentInvalid for garbage and for a token of another query.
twin::TwinResult<Cursor> decode_cursor(std::string_view token, const Query& query);

struct Row {
  std::string first, second;  ///< its place in the order
  std::string json;
};

/// Finds one shard's part of a page: the first rows after the cursor that match. Twins may be offered in any order;
/// they must stay alive and unchanged until take_rows(). At most page size + 1 rows are held.
class PageCollector {
 public:
  PageCollector(Query query, const Cursor& cursor, size_t page_size);
  void offer(const twin::TwinDocument& twin);
  /// A `devices.jobs` row with `jobId` and `deviceId`.
  void offer(const twin::Value& row);
  /// Enough rows: whoever offers in ascending order of id may stop.
  bool full() const { return heap_.size() == capacity_; }
  /// The rows in ascending order, serialised now.
  std::vector<Row> take_rows();

 private:
  struct Candidate {
    std::string_view first, second;
    const twin::TwinDocument* twin;
    const twin::Value* row;
  };
  bool wanted(std::string_view first, std::string_view second) const;
  void keep(const Candidate& candidate);

  Query query_;
  Cursor cursor_;
  size_t capacity_;
  std::vector<Candidate> heap_;  // largest on top
};

struct Page {
  std::string body;            ///< JSON array
  size_t rows = 0;             ///< its elements
  std::optional<Cursor> next;  ///< absent on the last page
};

/// Merges the shards' parts; TOP is applied over all pages.
Page assemble_page(const Query& query, const Cursor& cursor, size_t page_size, std::vector<std::vector<Row>> shards);
/// A page of aggregated rows; `total` is the merge of all shards.
Page assemble_page(const Query& query, const Cursor& cursor, size_t page_size, const Aggregation& total);

}  // namespace twinstorm::hub::query
