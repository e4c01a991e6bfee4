// Records by key, in leaves of up to 256 neighbours: a scan runs along arrays and fetches records from memory before
// it needs them, where the nodes of a tree would each be waited for. A scan of 100,000 twins spends most of its time on
// memory, not on the condition.
#pragma once

#include <cstddef>
#include <iterator>
#include <string_view>
#include <utility>
#include <vector>

#include "sim/hub/store/device_record.hpp"
#include "sim/hub/store/key_order.hpp"

namespace twinstorm::hub {

class OrderedRecords {
 public:
  using Entry = std::pair<std::string_view, DeviceRecord*>;  ///< the key is kept alive by the caller

  /// Forward iteration in ascending order of key; any change invalidates it.
  class Iterator {
   public:
    using iterator_category = std::forward_iterator_tag;
    using value_type = Entry;
    using difference_type = std::ptrdiff_t;
    using pointer = const Entry*;
    using reference = const Entry&;

    Iterator() = default;
    reference operator*() const { return (*leaves_)[leaf_][at_]; }
    pointer operator->() const { return &**this; }
    Iterator& operator++() {
      if (++at_ == (*leaves_)[leaf_].size()) {
        at_ = 0;
        ++leaf_;
      }
      return *this;
    }
    Iterator operator++(int) {
      Iterator before = *this;
      ++*this;
      return before;
    }
    friend bool operator==(const Iterator& a, const Iterator& b) { return a.leaf_ == b.leaf_ && a.at_ == b.at_; }

   private:
    friend class OrderedRecords;
    Iterator(const std::vector<std::vector<Entry>>& leaves, size_t leaf, size_t at)
        : leaves_{&leaves}, leaf_{leaf}, at_{at} {}
    const std::vector<std::vector<Entry>>* leaves_ = nullptr;
    size_t leaf_ = 0;
    size_t at_ = 0;
  };

  Iterator begin() const { return {leaves_, 0, 0}; }
  Iterator end() const { return {leaves_, leaves_.size(), 0}; }
  /// The first entry whose key is not before `key`.
  Iterator lower_bound(std::string_view key) const { return place(key); }
  /// The first entry behind `key`.
  Iterator upper_bound(std::string_view key) const;
  size_t size() const { return size_; }
  size_t leaves() const { return leaves_.size(); }

  /// Asserts that the key is new. It must stay where it is until it is erased.
  void insert(std::string_view key, DeviceRecord& record);
  /// Asserts that the key is there.
  void erase(std::string_view key);

  /// Visits from `from` on until `visit(record)` returns false.
  template <class Visit>
  void visit_from(Iterator from, Visit&& visit) const {
    for (size_t leaf = from.leaf_, at = from.at_; leaf < leaves_.size(); ++leaf, at = 0) {
      const std::vector<Entry>& entries = leaves_[leaf];
      for (; at < entries.size(); ++at) {
        // What a condition reads of a twin: the record first, then what tags and properties point to.
        if (at + kFar < entries.size()) fetch_record(*entries[at + kFar].second);
        if (at + kNear < entries.size()) fetch_values(*entries[at + kNear].second);
        if (!visit(*entries[at].second)) return;
      }
    }
  }

 private:
  static constexpr size_t kLeafMax = 256;
  static constexpr size_t kFar = 12;
  static constexpr size_t kNear = 6;

  static void fetch_record(const DeviceRecord& record) {
    __builtin_prefetch(&record.twin.tags);
    __builtin_prefetch(&record.twin.desired.values);
    __builtin_prefetch(&record.twin.reported.values);
  }
  static void fetch_values(const DeviceRecord& record) {
    record.twin.tags.prefetch();
    record.twin.desired.values.prefetch();
    record.twin.reported.values.prefetch();
  }
  Iterator place(std::string_view key) const;

  std::vector<std::vector<Entry>> leaves_;  // none is empty
  size_t size_ = 0;
};

}  // namespace twinstorm::hub
