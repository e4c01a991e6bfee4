#include "sim/scenario/sources.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "sim/base/assert.hpp"

namespace twinstorm::scenario {
namespace {

constexpr uint32_t kConnectStream = 0xffffffff;  // of arrival seeds: connects are no stream of one fleet

constexpr std::array kEventNames{"disconnect", "report", "getTwin", "telemetry", "renewToken"};

uint64_t place(metrics::PhaseIndex phase, uint64_t what) { return uint64_t{phase} << 32 | what; }

}  // namespace

const char* to_string(EventSpec::Kind kind) { return kEventNames[static_cast<size_t>(kind)]; }

// --- OwnShare
// ---------------------------------------------------------------------------------------------------------

OwnShare::OwnShare(const Fleet& fleet, uint64_t offset, ShardId shard, ShardId shards)
    : first_{fleet.first}, count_{fleet.count}, shard_{shard}, shards_{shards} {
  TS_ASSERT(shard < shards && count_ > 0);
  offset_ = static_cast<uint32_t>(offset % count_);
  own_ = std::min((shard_ + shards_ - first_ % shards_) % shards_, count_);
}

OwnShare::OwnShare(ShardId shard, ShardId shards) : shard_{shard}, shards_{shards} { TS_ASSERT(shard < shards); }

std::optional<uint64_t> OwnShare::from(uint64_t n) const {
  const auto up = [&](uint64_t position, uint64_t own) {
    return position <= own ? own : own + (position - own + shards_ - 1) / shards_ * shards_;
  };
  if (count_ == 0) return up(n, shard_);
  if (own_ == count_) return std::nullopt;
  const uint64_t position = (n + offset_) % count_;
  const uint64_t own = up(position, own_);
  return own < count_ ? n + (own - position) : n + (count_ - position) + own_;
}

DeviceIndex OwnShare::device(uint64_t n) const {
  return count_ == 0 ? 0 : first_ + static_cast<DeviceIndex>((n + offset_) % count_);
}

// --- Sources
// ----------------------------------------------------------------------------------------------------------

Sources::Sources(const Scenario& scenario, ShardId shard, ShardId shards)
    : scenario_{scenario}, shard_{shard}, shards_{shards} {}

OwnShare Sources::share_of(metrics::PhaseIndex phase, uint32_t stream) const {
  const bool no_device = scenario_.is_backend_stream(stream) &&
                         !scenario_.backends[scenario_.backend_of_stream(stream)].works_on_devices();
  if (no_device) return {shard_, shards_};
  // Round the fleet, from a place that depends on the phase so that short phases do not all meet the same devices.
  const auto& fleet = scenario_.fleets[scenario_.fleet_of_stream(stream)];
  return {fleet, mix64(scenario_.seed ^ place(phase, stream)), shard_, shards_};
}

uint32_t Sources::fleet_of(DeviceIndex device) const {
  uint32_t fleet = 0;
  while (!scenario_.fleets[fleet].holds(device)) ++fleet;
  return fleet;
}

bool Sources::advance(Flow& flow, uint64_t n) const {
  if (flow.connects) {
    const auto& connect = *scenario_.phases[flow.phase].connect;
    for (;; ++n) {
      const auto device = connect_target(scenario_, connect, n);
      if (!device) return false;
      if (*device % shards_ != shard_) continue;
      flow.device = *device;
      break;
    }
  } else {
    const auto own = flow.share.from(n);
    if (!own) return false;
    n = *own;
    flow.device = flow.share.device(n);
  }
  const auto arrival = flow.schedule.at(n);
  if (!arrival) return false;
  flow.head = *arrival;
  return true;
}

void Sources::add_flow(metrics::PhaseIndex phase, uint32_t stream, bool connects, const LoadShape& shape,
                       MonoTime start) {
  const auto seed = arrival_seed(scenario_.seed, phase, stream);
  Flow flow{.phase = phase,
            .stream = connects ? 0 : stream,
            .connects = connects,
            .schedule = {shape, start, 0, 1, seed},
            .share = connects ? OwnShare{shard_, shards_} : share_of(phase, stream)};
  if (advance(flow, 0)) flows_.push_back(std::move(flow));
}

void Sources::add_events(metrics::PhaseIndex phase, uint16_t event, const EventSpec& spec, MonoTime start) {
  const bool cut = event == kDisconnect;
  for (const uint32_t index : spec.fleets) {
    const auto& fleet = scenario_.fleets[index];
    const DeviceIndex own = fleet.first + (shard_ + shards_ - fleet.first % shards_) % shards_;
    for (DeviceIndex device = own; device < fleet.first + fleet.count; device += shards_) {
      Rng rng{scenario_.seed, cut ? "disconnect" : "event", place(phase, device) ^ (cut ? 0 : uint64_t{event} << 52)};
      if (!rng.chance(spec.share)) continue;
      events_.push_back({start + spec.after + from_seconds(to_seconds(spec.over) * rng.uniform()), device,
                         static_cast<uint16_t>(phase), event});
    }
  }
}

void Sources::begin_phase(metrics::PhaseIndex phase, MonoTime start) {
  const auto& spec = scenario_.phases[phase];
  for (auto& flow : flows_) flow.end = std::min(flow.end, start);
  std::erase_if(flows_, [](const Flow& flow) { return flow.head.intended >= flow.end; });
  closed_.clear();
  if (spec.connect) add_flow(phase, kConnectStream, true, spec.connect->shape, start);
  for (const auto& load : spec.load) {
    if (!load.closed()) {
      add_flow(phase, load.stream, false, load.shape, start);
      continue;
    }
    const uint32_t slots = load.concurrency / shards_ + (shard_ < load.concurrency % shards_ ? 1 : 0);
    Closed closed{.phase = phase,
                  .stream = load.stream,
                  .share = share_of(phase, load.stream),
                  .think = load.think,
                  .think_seed = Rng(scenario_.seed, "think", place(phase, load.stream)).state(),
                  .free = {}};
    const auto first = closed.share.from(0);
    if (slots == 0 || !first) continue;
    closed.next_n = closed.next_rest = *first;
    std::vector<MonoTime> free;
    free.reserve(slots);
    free.assign(slots, start);
    closed.free = decltype(closed.free){{}, std::move(free)};
    closed_.push_back(std::move(closed));
  }
  if (spec.disconnect) {
    const auto& cut = *spec.disconnect;
    add_events(phase, kDisconnect, {EventSpec::Kind::disconnect, cut.share, cut.after, cut.over, cut.fleets}, start);
  }
  for (size_t i = 0; i < spec.events.size(); ++i) add_events(phase, static_cast<uint16_t>(i), spec.events[i], start);
  std::sort(events_.begin(), events_.end(), [](const Event& a, const Event& b) {
    return std::tie(a.due, a.phase, a.event, a.device) > std::tie(b.due, b.phase, b.event, b.device);
  });
}

void Sources::finish(MonoTime at) {
  for (auto& flow : flows_) flow.end = std::min(flow.end, at);
  std::erase_if(flows_, [](const Flow& flow) { return flow.head.intended >= flow.end; });
  std::erase_if(events_, [at](const Event& event) { return event.due >= at; });
  closed_.clear();
}

MonoTime Sources::next_due() const {
  MonoTime next = events_.empty() ? MonoTime::max() : events_.back().due;
  for (const auto& flow : flows_) next = std::min(next, flow.head.intended);
  for (const auto& closed : closed_) {
    if (!closed.free.empty()) next = std::min(next, closed.free.top());
  }
  return next;
}

Sources::Work Sources::work_of(const Event& event) const {
  Work work{.phase = event.phase, .due = event.due, .device = event.device};
  const auto kind =
      event.event == kDisconnect ? EventSpec::Kind::disconnect : scenario_.phases[event.phase].events[event.event].kind;
  const uint32_t fleet = fleet_of(event.device);
  work.n = event.device - scenario_.fleets[fleet].first;
  switch (kind) {
    case EventSpec::Kind::disconnect:
      work.kind = Work::Kind::disconnect;
      break;
    case EventSpec::Kind::renew_token:
      work.kind = Work::Kind::renew_token;
      break;
    case EventSpec::Kind::report:
      work.stream = scenario_.fleet_stream(fleet, metrics::OpKind::report);
      break;
    case EventSpec::Kind::get_twin:
      work.stream = scenario_.fleet_stream(fleet, metrics::OpKind::get_twin);
      break;
    case EventSpec::Kind::telemetry:
      work.stream = scenario_.fleet_stream(fleet, metrics::OpKind::telemetry);
      break;
  }
  return work;
}

std::optional<Sources::Work> Sources::next(MonoTime now) {
  // The earliest of all that is due; of equals, an event before an arrival before a closed slot.
  if (!events_.empty() && events_.back().due <= now && events_.back().due <= next_due()) {
    const Event event = events_.back();
    events_.pop_back();
    return work_of(event);
  }
  Flow* flow = nullptr;
  MonoTime earliest = MonoTime::max();
  for (auto& each : flows_) {
    if (each.head.intended < earliest) earliest = each.head.intended, flow = &each;
  }
  Closed* closed = nullptr;
  for (auto& each : closed_) {
    if (!each.free.empty() && each.free.top() < earliest) earliest = each.free.top(), closed = &each;
  }
  if (earliest > now) return std::nullopt;
  if (closed != nullptr) {
    const Work work{.phase = closed->phase,
                    .stream = closed->stream,
                    .due = earliest,
                    .n = closed->next_n,
                    .device = closed->share.device(closed->next_n),
                    .closed = true};
    closed->free.pop();
    closed->next_n = *closed->share.from(closed->next_n + 1);
    return work;
  }
  const Work work{.kind = flow->connects ? Work::Kind::connect : Work::Kind::stream,
                  .phase = flow->phase,
                  .stream = flow->stream,
                  .due = earliest,
                  .n = flow->head.n,
                  .device = flow->device};
  if (!advance(*flow, flow->head.n + 1) || flow->head.intended >= flow->end) {
    flows_.erase(flows_.begin() + (flow - flows_.data()));
  }
  return work;
}

void Sources::ended(uint32_t stream, metrics::PhaseIndex phase, MonoTime now, Nanos idle) {
  for (auto& closed : closed_) {
    if (closed.stream != stream || closed.phase != phase) continue;
    // Think times belong to the operations by number, and are handed out in that order: which operation ends first
    // depends on the answers, the times to rest do not.
    Nanos rest = idle;
    if (!closed.think.is_zero()) {
      Rng rng{closed.think_seed, "rest", closed.next_rest};
      rest = std::max(rest, closed.think.sample(rng));
      closed.next_rest = *closed.share.from(closed.next_rest + 1);
    }
    closed.free.push(now + rest);
    return;
  }
}

}  // namespace twinstorm::scenario
