// One thread of the hub and everything it owns: an event loop, the devices whose id hashes here, the connections that
// were handed here. Members are touched by the shard's own thread only, but for `post`, `counts` and construction.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <queue>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include <boost/asio/post.hpp>

#include "sim/base/ids.hpp"
#include "sim/base/rng.hpp"
#include "sim/base/time.hpp"
#include "sim/hub/configurations/rollout.hpp"
#include "sim/hub/connection.hpp"
#include "sim/hub/live_counts.hpp"
#include "sim/hub/messaging/messaging.hpp"
#include "sim/hub/policy/access_control.hpp"
#include "sim/hub/policy/planted_faults.hpp"
#include "sim/hub/policy/tier_policy.hpp"
#include "sim/hub/query_lane.hpp"
#include "sim/hub/slice_queue.hpp"
#include "sim/hub/store/device_store.hpp"
#include "sim/net/asio.hpp"
#include "sim/net/tls.hpp"

namespace twinstorm::hub {

class Jobs;
class Shard;

/// What all shards share: read-only while they run.
struct HubShared {
  const HubConfig* config = nullptr;
  const AccessControl* access = nullptr;
  const Clock* clock = nullptr;
  std::unique_ptr<TierPolicy> policy;  ///< of the hub's tier; nullptr without one
  std::unique_ptr<PlantedFaults> faults;  ///< nullptr when nothing is planted
  std::optional<net::TlsContext> tls;  ///< of the TLS ports; nothing when there are none
  /// False while the hub cannot serve devices: CONNECT is answered 3, which clients retry (device.md 3.2).
  std::atomic<bool> serving{true};
  std::string token_key;  ///< signs continuation tokens; random, so they end with this hub
  std::vector<std::unique_ptr<Shard>> shards;

  Shard& owner_of(std::string_view device_id) const;
  HubCounts counts() const;
};

class Shard {
 public:
  Shard(ShardId id, HubShared& shared);
  ~Shard();

  ShardId id() const { return id_; }
  HubShared& shared() const { return shared_; }
  const HubConfig& config() const { return *shared_.config; }
  net::IoContext& io() { return io_; }
  DeviceStore& store() { return store_; }
  const DeviceStore& store() const { return store_; }
  Messaging& messaging() { return messaging_; }
  ConfigurationRollout& configurations() { return configurations_; }
  Jobs& jobs() { return *jobs_; }
  /// Work too long for one turn of the loop.
  SliceQueue& slices() { return slices_; }
  /// Where a query that came to this shard, with pages of up to `rows` rows, waits for its turn.
  QueryLane& query_lane(size_t rows) { return rows <= QueryLane::kSmallRows ? small_queries_ : large_queries_; }
  LiveCounts& counts() { return counts_; }
  const LiveCounts& counts() const { return counts_; }
  MonoTime mono_now() const { return shared_.clock->mono(); }
  WallTime wall_now() const { return shared_.clock->wall(); }
  std::string make_hex_id();  ///< 32 hex digits, for tracking ids
  std::string make_uuid();    ///< version 4, for request ids
  /// Now, as HTTP wants it (RFC 9110 section 5.6.7); formatted once a second.
  std::string_view http_date();

  /// Takes ownership and starts it. The returned id finds it again as long as it lives.
  ConnectionId adopt(std::unique_ptr<Connection> connection);
  /// nullptr when it is gone.
  Connection* find(ConnectionId id);
  /// Connections call this when they have closed; they are destroyed once nothing refers to them.
  void retire(ConnectionId id);
  /// Calls `Connection::on_deadline` at or soon after `at` (50 ms steps).
  void watch(ConnectionId id, MonoTime at);
  /// Calls `Connection::on_wake` at `at`, a millisecond later at most; in the order of asking when `at` is the same.
  void wake(ConnectionId id, MonoTime at);
  /// Calls `Connection::continue_handshake` soon: a few a turn of the loop, in the order of asking, so that a storm of
  /// TLS connects (half a millisecond of signing each) does not keep connected devices waiting.
  void queue_handshake(ConnectionId id);

  /// Asks the policy of the hub's tier, which must be there, and counts what it says.
  TierPolicy::Verdict admit(const OperationPolicy& operation, uint32_t cost = 1);
  /// An operation that had to wait is not done because its client left.
  void abandon(OperationClass operation);
  /// Charges a payload to the day's messages, if the hub has a tier.
  void charge(uint64_t bytes) {
    if (shared_.policy != nullptr) shared_.policy->charge(bytes, wall_now());
  }

  /// Any thread: runs `work` on this shard's thread, later.
  template <class Work>
  void post(Work&& work) {
    boost::asio::post(io_, std::forward<Work>(work));
  }

  /// `work(shard)` on every shard's thread, then `done(results in shard order)` on this one. Directly, without a turn
  /// of the loop, when there is only this shard.
  template <class Partial>
  void gather(std::function<Partial(Shard&)> work, std::function<void(std::vector<Partial>)> done);

  void start_thread();
  /// Any thread: makes the loop end; `join` waits for it.
  void request_stop() { io_.stop(); }
  void join();
  /// After `join`: closes what is left, counting it as ended by the hub.
  void close_all();

  /// Shared by all connections of the shard; valid inside one handler.
  std::span<char> read_buffer() { return read_buffer_; }
  std::string& scratch() { return scratch_; }
  std::string& body_scratch() { return body_scratch_; }
  std::string& topic_scratch() { return topic_scratch_; }
  std::string& http_scratch() { return http_scratch_; }
  std::string& frame_scratch() { return frame_scratch_; }

 private:
  struct Slot {
    std::unique_ptr<Connection> connection;
    uint32_t generation = 0;
  };
  struct Watch {
    MonoTime at;
    ConnectionId id;
    friend bool operator>(const Watch& a, const Watch& b) { return a.at > b.at; }
  };

  struct Wake {
    MonoTime at;
    uint64_t number;
    ConnectionId id;
    friend bool operator>(const Wake& a, const Wake& b) { return a.at != b.at ? a.at > b.at : a.number > b.number; }
  };

  /// This shard's share of what may be under way in the hub.
  QueryLane lane_of(size_t hub_max);
  void tick();
  void run_wakes();
  void bury();
  void run_handshakes();

  static constexpr size_t kReadBuffer = 256 * 1024;

  const ShardId id_;
  HubShared& shared_;
  net::IoContext io_{1};
  net::SteadyTimer ticker_{io_.get_executor()};
  LiveCounts counts_;
  DeviceStore store_;
  Messaging messaging_{*this};
  ConfigurationRollout configurations_{*this};
  std::unique_ptr<Jobs> jobs_;
  SliceQueue slices_{*shared_.clock, [this](std::function<void()> turn) { post(std::move(turn)); }};
  QueryLane small_queries_ = lane_of(QueryLane::kSmallMax);
  QueryLane large_queries_ = lane_of(QueryLane::kLargeMax);
  Rng rng_;
  std::vector<char> read_buffer_ = std::vector<char>(kReadBuffer);
  std::string scratch_;
  std::string body_scratch_;
  std::string topic_scratch_;
  std::string http_scratch_;
  std::string frame_scratch_;
  std::string http_date_;
  int64_t http_date_second_ = -1;
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_slots_;
  std::vector<ConnectionId> retired_;
  bool bury_posted_ = false;
  std::deque<ConnectionId> handshakes_;
  bool handshakes_posted_ = false;
  std::priority_queue<Watch, std::vector<Watch>, std::greater<>> watches_;
  std::priority_queue<Wake, std::vector<Wake>, std::greater<>> wakes_;
  uint64_t next_wake_number_ = 0;
  net::SteadyTimer waker_{io_.get_executor()};
  std::thread thread_;
};

template <class Partial>
void Shard::gather(std::function<Partial(Shard&)> work, std::function<void(std::vector<Partial>)> done) {
  const size_t count = shared_.shards.size();
  if (count == 1) {
    std::vector<Partial> results;
    results.push_back(work(*this));
    done(std::move(results));
    return;
  }
  struct State {
    std::vector<Partial> results;
    size_t missing;
    std::function<void(std::vector<Partial>)> done;
  };
  // Only this shard's thread touches the state; the others carry the pointer.
  auto state = std::make_shared<State>(State{std::vector<Partial>(count), count, std::move(done)});
  for (const auto& shard : shared_.shards) {
    Shard* other = shard.get();
    other->post([this, other, state, work] {
      post([state, index = other->id(), partial = work(*other)]() mutable {
        state->results[index] = std::move(partial);
        if (--state->missing == 0) state->done(std::move(state->results));
      });
    });
  }
}

}  // namespace twinstorm::hub
