#include "sim/hub/store/ordered_records.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

#include "sim/base/assert.hpp"

namespace twinstorm::hub {
namespace {

bool before(const OrderedRecords::Entry& entry, std::string_view key) { return KeyOrder{}(entry.first, key); }

}  // namespace

OrderedRecords::Iterator OrderedRecords::place(std::string_view key) const {
  const auto leaf = std::partition_point(leaves_.begin(), leaves_.end(),
                                         [key](const std::vector<Entry>& each) { return before(each.back(), key); });
  if (leaf == leaves_.end()) return end();
  const auto at = std::lower_bound(leaf->begin(), leaf->end(), key, before);
  return {leaves_, static_cast<size_t>(leaf - leaves_.begin()), static_cast<size_t>(at - leaf->begin())};
}

OrderedRecords::Iterator OrderedRecords::upper_bound(std::string_view key) const {
  Iterator found = place(key);
  if (found != end() && found->first == key) ++found;
  return found;
}

void OrderedRecords::insert(std::string_view key, DeviceRecord& record) {
  const Iterator found = place(key);
  TS_ASSERT(found == end() || found->first != key);
  ++size_;
  if (found == end()) {
    // Keys mostly come in ascending order: full leaves stay as they are.
    if (leaves_.empty() || leaves_.back().size() == kLeafMax) leaves_.emplace_back();
    leaves_.back().emplace_back(key, &record);
    return;
  }
  size_t leaf = found.leaf_;
  size_t at = found.at_;
  if (leaves_[leaf].size() == kLeafMax) {
    constexpr size_t kHalf = kLeafMax / 2;
    const auto middle = leaves_[leaf].begin() + kHalf;
    std::vector<Entry> upper{middle, leaves_[leaf].end()};
    leaves_[leaf].erase(middle, leaves_[leaf].end());
    leaves_.insert(leaves_.begin() + static_cast<std::ptrdiff_t>(leaf) + 1, std::move(upper));
    if (at > kHalf) {
      ++leaf;
      at -= kHalf;
    }
  }
  leaves_[leaf].insert(leaves_[leaf].begin() + static_cast<std::ptrdiff_t>(at), Entry{key, &record});
}

void OrderedRecords::erase(std::string_view key) {
  const Iterator found = place(key);
  TS_ASSERT(found != end() && found->first == key);
  --size_;
  std::vector<Entry>& leaf = leaves_[found.leaf_];
  leaf.erase(leaf.begin() + static_cast<std::ptrdiff_t>(found.at_));
  const auto drop = [this](size_t index) { leaves_.erase(leaves_.begin() + static_cast<std::ptrdiff_t>(index)); };
  if (leaf.empty()) {
    drop(found.leaf_);
  } else if (found.leaf_ + 1 < leaves_.size() && leaf.size() + leaves_[found.leaf_ + 1].size() <= kLeafMax / 2) {
    // Neighbours that have become small go together, so that leaves never outnumber records by much.
    const std::vector<Entry>& next = leaves_[found.leaf_ + 1];
    leaf.insert(leaf.end(), next.begin(), next.end());
    drop(found.leaf_ + 1);
  }
}

}  // namespace twinstorm::hub
