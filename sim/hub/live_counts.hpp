// The counts of one shard while it runs: one writer, any number of readers, no lock.
#pragma once

#include <atomic>
#include <cstdint>

#include "sim/hub/hub.hpp"

namespace twinstorm::hub {

class LiveCounts {
 public:
  /// Only by the owning shard's thread (or while it does not run): a relaxed load and store, not a read-modify-write.
  void add(uint64_t HubCounts::*member, uint64_t n = 1) {
    std::atomic_ref<uint64_t> cell{values_.*member};
    cell.store(cell.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  void subtract(uint64_t HubCounts::*member, uint64_t n = 1) { add(member, 0 - n); }

  /// From any thread. Members may be an event apart from each other while the shard runs.
  HubCounts read() const {
    HubCounts out;
    for (const HubCountField& field : hub_count_fields()) {
      out.*field.member = std::atomic_ref<uint64_t>{values_.*field.member}.load(std::memory_order_relaxed);
    }
    return out;
  }

 private:
  alignas(64) mutable HubCounts values_;  // mutable: std::atomic_ref has no const form in C++20
};

}  // namespace twinstorm::hub
