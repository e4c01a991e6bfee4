// Partial results of COUNT, AVG, SUM, MIN, MAX and GROUP BY: one per shard, merged at the end.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "sim/hub/query/query.hpp"

namespace twinstorm::hub::query {

/// Belongs to one thread; hand it over whole. Costs one entry per group.
class Aggregation {
 public:
  /// Asserts that `query` aggregates.
  explicit Aggregation(Query query);

  /// Counts the twin when it matches WHERE.
  void add(const twin::TwinDocument& twin);
  /// Adds what another shard found for the same query.
  void merge(Aggregation&& other);

  struct GroupRow {
    std::string place;  ///< in the order of groups; at most some hundred bytes of any kind
    std::string json;
  };
  /// The first `limit` rows of those behind `place` (nullopt: of all). See rows() for the order; TOP is not applied.
  std::vector<GroupRow> rows_behind(std::optional<std::string_view> place, size_t limit) const;

  /// One JSON object per group, ordered by the group's value (undefined first), so that pages are stable; without
  /// GROUP BY exactly one. AVG, SUM, MIN and MAX over no number are left out. TOP is applied.
  std::vector<std::string> rows() const;

 private:
  struct Accumulator {
    uint64_t numbers = 0;
    double sum = 0;
    double min = 0;
    double max = 0;
  };
  struct Group {
    std::string value_json;  // the group's value as first met, empty when undefined
    uint64_t rows = 0;
    std::vector<Accumulator> columns;
  };

  std::string row_of(const Group& group) const;
  Group& group(const std::string& key, const std::string& value_json);

  Query query_;
  std::unordered_map<std::string, Group> groups_;
};

}  // namespace twinstorm::hub::query
