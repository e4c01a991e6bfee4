#include "sim/hub/shard.hpp"

#include <algorithm>
#include <ctime>

#include <fmt/format.h>
#include <openssl/rand.h>

#include "sim/base/assert.hpp"
#include "sim/hub/jobs/jobs.hpp"

namespace twinstorm::hub {
namespace {

constexpr int kHandshakesPerTurn = 4;
constexpr Nanos kTick = std::chrono::milliseconds{50};

uint64_t random_seed() {
  uint64_t seed = 0;
  TS_ASSERT(RAND_bytes(reinterpret_cast<unsigned char*>(&seed), sizeof(seed)) == 1);
  return seed;
}

ConnectionId make_id(uint32_t slot, uint32_t generation) { return uint64_t{generation} << 32 | slot; }

}  // namespace

Shard& HubShared::owner_of(std::string_view device_id) const { return *shards[stable_hash(device_id) % shards.size()]; }

HubCounts HubShared::counts() const {
  HubCounts sum;
  for (const auto& shard : shards) sum += shard->counts().read();
  return sum;
}

Shard::Shard(ShardId id, HubShared& shared)
    : id_{id}, shared_{shared}, jobs_{std::make_unique<Jobs>(*this)}, rng_{random_seed()} {}

Shard::~Shard() { join(); }

QueryLane Shard::lane_of(size_t hub_max) {
  return QueryLane{[this, hub_max] { return std::max<size_t>(1, hub_max / shared_.shards.size()); },
                   [this](std::function<void()> turn) { post(std::move(turn)); }};
}

std::string Shard::make_hex_id() { return fmt::format("{:016x}{:016x}", rng_.next(), rng_.next()); }

std::string Shard::make_uuid() {
  const uint64_t high = rng_.next();
  const uint64_t low = rng_.next();
  return fmt::format("{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}", high >> 32, high >> 16 & 0xffff, high & 0xfff,
                     0x8000 | (low >> 48 & 0x3fff), low & 0xffff'ffff'ffff);
}

std::string_view Shard::http_date() {
  const int64_t second = unix_seconds(wall_now());
  if (second != http_date_second_) {
    http_date_second_ = second;
    const std::time_t time = second;
    std::tm utc{};
    gmtime_r(&time, &utc);
    constexpr const char* kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    http_date_ = fmt::format("{}, {:02} {} {:04} {:02}:{:02}:{:02} GMT", kDays[utc.tm_wday], utc.tm_mday,
                             kMonths[utc.tm_mon], utc.tm_year + 1900, utc.tm_hour, utc.tm_min, utc.tm_sec);
  }
  return http_date_;
}

ConnectionId Shard::adopt(std::unique_ptr<Connection> connection) {
  uint32_t slot;
  if (free_slots_.empty()) {
    slot = static_cast<uint32_t>(slots_.size());
    slots_.emplace_back();
  } else {
    slot = free_slots_.back();
    free_slots_.pop_back();
  }
  slots_[slot].connection = std::move(connection);
  const ConnectionId id = make_id(slot, slots_[slot].generation);
  slots_[slot].connection->start(id);
  return id;
}

Connection* Shard::find(ConnectionId id) {
  const auto slot = static_cast<uint32_t>(id);
  if (slot >= slots_.size() || slots_[slot].generation != id >> 32) return nullptr;
  Connection* connection = slots_[slot].connection.get();
  return connection == nullptr || connection->closed() ? nullptr : connection;
}

void Shard::retire(ConnectionId id) {
  retired_.push_back(id);
  if (bury_posted_) return;
  bury_posted_ = true;
  post([this] { bury(); });
}

void Shard::bury() {
  bury_posted_ = false;
  for (const ConnectionId id : retired_) {
    const auto slot = static_cast<uint32_t>(id);
    if (slots_[slot].generation != id >> 32) continue;
    slots_[slot].connection.reset();
    ++slots_[slot].generation;
    free_slots_.push_back(slot);
  }
  retired_.clear();
}

void Shard::watch(ConnectionId id, MonoTime at) { watches_.push({at, id}); }

void Shard::wake(ConnectionId id, MonoTime at) {
  const bool first = wakes_.empty() || at < wakes_.top().at;
  wakes_.push({at, next_wake_number_++, id});
  if (!first) return;
  waker_.expires_after(std::max(Nanos::zero(), at - mono_now()));
  waker_.async_wait([this](const boost::system::error_code& error) {
    if (!error) run_wakes();
  });
}

void Shard::run_wakes() {
  const MonoTime now = mono_now();
  while (!wakes_.empty() && wakes_.top().at <= now) {
    const ConnectionId id = wakes_.top().id;
    wakes_.pop();
    if (Connection* connection = find(id)) connection->on_wake(now);
  }
  if (wakes_.empty()) return;
  waker_.expires_after(wakes_.top().at - now);
  waker_.async_wait([this](const boost::system::error_code& error) {
    if (!error) run_wakes();
  });
}

TierPolicy::Verdict Shard::admit(const OperationPolicy& operation, uint32_t cost) {
  TS_ASSERT(shared_.policy != nullptr);
  auto verdict = shared_.policy->decide(operation, cost, config().host_name, mono_now(), wall_now());
  if (verdict.delay > Nanos::zero()) counts_.add(&HubCounts::throttle_shaped);
  if (verdict.refusal) {
    counts_.add(verdict.refusal->status == 429           ? &HubCounts::throttle_refused
                : verdict.refusal->error_code == 403'002 ? &HubCounts::quota_refused
                                                         : &HubCounts::tier_refused);
  }
  return verdict;
}

void Shard::abandon(OperationClass operation) {
  shared_.policy->throttle().abandoned(operation);
  counts_.add(&HubCounts::throttle_abandoned);
}

void Shard::queue_handshake(ConnectionId id) {
  handshakes_.push_back(id);
  if (handshakes_posted_) return;
  handshakes_posted_ = true;
  post([this] { run_handshakes(); });
}

void Shard::run_handshakes() {
  for (int i = 0; i < kHandshakesPerTurn && !handshakes_.empty(); ++i) {
    const ConnectionId id = handshakes_.front();
    handshakes_.pop_front();
    if (Connection* connection = find(id)) connection->continue_handshake();
  }
  handshakes_posted_ = !handshakes_.empty();
  if (handshakes_posted_) post([this] { run_handshakes(); });
}

void Shard::tick() {
  const MonoTime now = mono_now();
  while (!watches_.empty() && watches_.top().at <= now) {
    const Watch due = watches_.top();
    watches_.pop();
    Connection* connection = find(due.id);
    if (connection == nullptr || connection->watched_ != due.at) continue;  // gone, or an earlier look was asked for
    connection->watched_ = MonoTime::max();
    const MonoTime next = now < connection->deadline_ ? connection->deadline_ : connection->deadline_passed(now);
    if (!connection->closed() && next != MonoTime::max() && connection->watched_ == MonoTime::max()) {
      connection->set_deadline(next);
    }
  }
  run_wakes();  // its timer follows the machine's clock, not one of a test
  messaging_.tick(now);
  configurations_.tick(now);
  jobs_->tick(now);
  ticker_.expires_after(kTick);
  ticker_.async_wait([this](const boost::system::error_code& error) {
    if (!error) tick();
  });
}

void Shard::start_thread() {
  tick();
  thread_ = std::thread{[this] { io_.run(); }};
}

void Shard::join() {
  if (thread_.joinable()) thread_.join();
}

void Shard::close_all() {
  jobs_->clear();
  messaging_.clear();
  for (Slot& slot : slots_) {
    if (slot.connection == nullptr || slot.connection->closed()) continue;
    slot.connection->on_shutdown();
    slot.connection->close();
  }
}

}  // namespace twinstorm::hub
