// Queries that came to a shard and what they may hold in memory: only so many are under way at a time, over all shards
// of the hub, the others wait in order of arrival. Those whose client has left meanwhile are dropped in their turn.
//
// A shard has two lanes, so that questions that hold little (a count, a page of a hundred) do not wait behind pages of
// ten thousand rows. What is under way shares the shards' time slice by slice (slice_queue.hpp).
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <utility>

namespace twinstorm::hub {

/// Whether the client still waits for its answer. Once it has said no it says no for ever. Called on the thread of the
/// shard that the client is connected to.
using Wanted = std::function<bool()>;

/// Belongs to its shard's thread.
class QueryLane {
 public:
  /// Of the whole hub; each shard has its share, one at least.
  static constexpr size_t kSmallMax = 32;
  static constexpr size_t kLargeMax = 8;
  /// A page of at most so many rows is small.
  static constexpr size_t kSmallRows = 1000;

  /// `most()` = how many may be under way, more than zero. `post(f)` runs `f` on the same thread in a later turn.
  QueryLane(std::function<size_t()> most, std::function<void(std::function<void()>)> post)
      : most_{std::move(most)}, post_{std::move(post)} {}

  /// Calls `begin` when there is a place: at once, or in a later turn, one a turn. Calls `drop` instead when the query
  /// is not wanted any more by then. An empty `wanted` always wants it.
  void enter(Wanted wanted, std::function<void()> begin, std::function<void()> drop);
  /// A query that has begun is done, or given up.
  void leave();

  size_t under_way() const { return under_way_; }
  size_t waiting() const { return waiting_.size(); }

 private:
  struct Entry {
    Wanted wanted;
    std::function<void()> begin;
    std::function<void()> drop;
  };
  void post_turn();
  void turn();

  std::function<size_t()> most_;
  std::function<void(std::function<void()>)> post_;
  std::deque<Entry> waiting_;
  size_t under_way_ = 0;
  bool posted_ = false;
};

}  // namespace twinstorm::hub
