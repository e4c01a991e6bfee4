// What shards know at the end of a run that their recorders do not hold. Plain values: they are added up over shards,
// and cross from worker processes as JSON.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sim/backend/request_books.hpp"
#include "sim/base/result.hpp"

namespace twinstorm::run {

/// Examples kept of each kind of defect.
inline constexpr size_t kExamplesMax = 5;

struct Findings {
  uint64_t notifications = 0;       ///< desired notifications received
  uint64_t open_at_stop = 0;        ///< operations counted as sent that nobody had ended: what the ledger must call in
                                    ///< flight
  backend::RequestBooks requests;   ///< of back ends, for the comparison with the hub's counts
  uint64_t versions_went_back = 0;  ///< fetched twins older than what the device had seen
  /// A few of each, with device, version and UTC time.
  std::vector<std::string> lost, went_back, duplicates;
  /// Numbers of the devices that a back end created and nobody deleted.
  struct Created {
    std::vector<uint64_t> known;
    std::vector<uint64_t> uncertain;  ///< their creation or deletion had no answer
  };
  std::vector<Created> created;  ///< by back end

  void add(const Findings& other);
};

/// What the hub holds at the end, against the model of the run.
struct TwinComparison {
  uint64_t compared = 0, differing = 0;
  uint64_t unchecked = 0;  ///< twins with more unanswered requests than the model follows
  uint64_t unread = 0;
  std::vector<std::string> examples;   ///< of the differing ones: device and difference
  std::optional<std::string> problem;  ///< why nothing, or not all, could be compared

  void add(const TwinComparison& other);
};

std::string to_json(const Findings& findings);
std::string to_json(const TwinComparison& comparison);
/// Errors: `protocol`, when the text is not what `to_json` writes.
Result<Findings> findings_from_json(std::string_view text);
Result<TwinComparison> comparison_from_json(std::string_view text);

}  // namespace twinstorm::run
