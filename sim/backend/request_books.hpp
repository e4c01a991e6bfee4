// What a hub that keeps counts of its own must have counted because of a pool's requests.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace twinstorm::backend {

/// The hub's counters that back ends move.
enum class HubCount : uint8_t {
  desired_patches,
  tags_patches,
  twin_replaces,
  twin_reads,
  queries,
  methods_answered,
  registry_writes,  ///< identities, not requests
  jobs_created,
  kCount,  ///< none of them
};
inline constexpr size_t kHubCountCount = static_cast<size_t>(HubCount::kCount);

/// The name under which the hub tells it: `desiredPatches`.
constexpr std::string_view to_string(HubCount count) {
  constexpr std::array<std::string_view, kHubCountCount> kNames{"desiredPatches", "tagsPatches", "twinReplaces",
                                                                "twinReads",      "queries",     "methodsAnswered",
                                                                "registryWrites", "jobsCreated"};
  return kNames[static_cast<size_t>(count)];
}

struct RequestBooks {
  struct Row {
    uint64_t answered = 0;  ///< with success
    uint64_t unknown = 0;   ///< sent, and no answer came: the hub may have counted them
  };
  std::array<Row, kHubCountCount> rows{};

  void answered(HubCount count, uint64_t amount) {
    if (count != HubCount::kCount) rows[static_cast<size_t>(count)].answered += amount;
  }
  void unknown(HubCount count, uint64_t amount) {
    if (count != HubCount::kCount) rows[static_cast<size_t>(count)].unknown += amount;
  }
  const Row& of(HubCount count) const { return rows[static_cast<size_t>(count)]; }
  void add(const RequestBooks& other) {
    for (size_t i = 0; i < kHubCountCount; ++i) {
      rows[i].answered += other.rows[i].answered;
      rows[i].unknown += other.rows[i].unknown;
    }
  }
};

}  // namespace twinstorm::backend
