// The devices that one back end has created on one shard: who may be deleted next, and who must be removed at the end.
// Devices are numbers; their names follow from the back end's pattern.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

namespace twinstorm::backend {

class CreatedDevices {
 public:
  /// So many at a time, those of uncertain fate included: 8 MB.
  static constexpr size_t kMax = 1'000'000;

  /// Numbers are shared out so that no two shards ever use one: `shard`, `shard + shards`, ...
  CreatedDevices(uint32_t shard, uint32_t shards) : next_{shard}, stride_{shards} {}

  bool room_for(size_t count) const { return known_.size() + uncertain_.size() + count <= kMax; }
  uint64_t next_number() {
    const uint64_t number = next_;
    next_ += stride_;
    return number;
  }
  void created(uint64_t number) { known_.push_back(number); }
  /// The oldest one, for deleting.
  std::optional<uint64_t> take_oldest() {
    if (known_.empty()) return std::nullopt;
    const uint64_t number = known_.front();
    known_.pop_front();
    return number;
  }
  size_t known_count() const { return known_.size(); }
  /// It was not deleted after all.
  void give_back(uint64_t number) { known_.push_front(number); }
  /// Nobody knows whether it is there.
  void uncertain(uint64_t number) { uncertain_.push_back(number); }

  const std::deque<uint64_t>& known() const { return known_; }
  const std::vector<uint64_t>& uncertain() const { return uncertain_; }

 private:
  uint64_t next_, stride_;
  std::deque<uint64_t> known_;
  std::vector<uint64_t> uncertain_;
};

}  // namespace twinstorm::backend
