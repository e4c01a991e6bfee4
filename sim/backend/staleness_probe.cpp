#include "sim/backend/staleness_probe.hpp"

#include <algorithm>
#include <array>

#include "sim/backend/json_rows.hpp"
#include "sim/protocol/json_scanner.hpp"
#include "sim/protocol/service_routes.hpp"
#include "sim/twin/value.hpp"

namespace twinstorm::backend {

using metrics::StalenessOutcome;

namespace {

constexpr size_t kQueryMax = 8000;  // characters; the service takes 8192
constexpr Nanos kQueryTimeout = std::chrono::seconds{10};

}  // namespace

StalenessProbe::StalenessProbe(const BackendBehavior& behavior, HttpClient::Config client, ServiceAccess access,
                               net::ShardIo& io, TimerWheel& wheel, uint32_t first_timer, const Clock& clock,
                               metrics::ShardRecorder& recorder, RequestBooks& books,
                               const std::function<void(uint32_t, std::string&)>& append_device_id)
    : behavior_{behavior},
      access_{std::move(access)},
      wheel_{wheel},
      first_timer_{first_timer},
      clock_{clock},
      recorder_{recorder},
      books_{books},
      append_device_id_{append_device_id},
      client_{std::move(client), io, wheel, first_timer, clock, static_cast<HttpEvents&>(*this)},
      batch_(kBatchMax) {
  followed_.reserve(kFollowedMax);
}

void StalenessProbe::follow(uint32_t device, int64_t version, metrics::PhaseIndex phase) {
  recorder_.staleness_started(phase);
  if (followed_.size() == kFollowedMax) {
    recorder_.staleness_ended(phase, StalenessOutcome::unknown, Nanos{0});
    return;
  }
  const MonoTime now = clock_.mono();
  followed_.push_back({now, version, device, static_cast<uint16_t>(phase)});
  const uint32_t tick_timer = first_timer_ + 1;
  if (!wheel_.armed(tick_timer)) wheel_.arm(tick_timer, now + behavior_.staleness.every);
}

void StalenessProbe::on_timer(uint32_t timer) {
  if (timer == first_timer_) return client_.on_timer(timer);
  tick();
}

void StalenessProbe::tick() {
  const MonoTime now = clock_.mono();
  for (size_t i = followed_.size(); i-- > 0;) {
    if (now - followed_[i].acknowledged < behavior_.staleness.timeout) continue;
    end(i, followed_[i].looked ? StalenessOutcome::not_visible : StalenessOutcome::unknown);
  }
  if (followed_.empty()) return;
  wheel_.arm(first_timer_ + 1, now + behavior_.staleness.every);
  if (asking_) return;
  compose_batch();
  submit({});
}

/// The next devices in turn, and the query for them.
void StalenessProbe::compose_batch() {
  std::string text = "SELECT deviceId, version FROM devices WHERE deviceId IN [";
  batch_size_ = 0;
  for (size_t seen = 0; seen < followed_.size() && batch_size_ < kBatchMax; ++seen) {
    cursor_ = cursor_ + 1 < followed_.size() ? cursor_ + 1 : 0;
    const uint32_t device = followed_[cursor_].device;
    const auto in_batch = batch_.begin() + static_cast<std::ptrdiff_t>(batch_size_);
    if (std::any_of(batch_.begin(), in_batch, [&](const auto& each) { return each.second == device; })) continue;
    auto& [id, number] = batch_[batch_size_];
    id.clear();
    append_device_id_(device, id);
    number = device;
    if (batch_size_ > 0) text += ", ";
    text += '\'';
    for (const char c : id) {
      if (c == '\'' || c == '\\') text += '\\';
      text += c;
    }
    text += '\'';
    ++batch_size_;
    if (text.size() + id.size() + 8 > kQueryMax) break;
  }
  std::sort(batch_.begin(), batch_.begin() + static_cast<std::ptrdiff_t>(batch_size_));
  text += ']';
  body_ = "{\"query\":";
  twin::write_string(text, body_);
  body_ += '}';
}

void StalenessProbe::submit(std::string_view continuation) {
  static const std::string kItems = std::to_string(kBatchMax);
  const std::array<http::Header, 4> headers{http::Header{"Authorization", access_.authorization(clock_.wall())},
                                            http::Header{"Content-Type", "application/json; charset=utf-8"},
                                            http::Header{"x-ms-max-item-count", kItems},
                                            http::Header{"x-ms-continuation", continuation}};
  const std::span<const http::Header> used{headers.data(), continuation.empty() ? size_t{3} : size_t{4}};
  sent_ = false;
  asking_ = true;
  if (!client_.submit(0, clock_.mono() + kQueryTimeout, "POST", protocol::service_target::query(), used, body_)) {
    asking_ = false;
  }
}

void StalenessProbe::on_http_answer(uint64_t, const HttpAnswer& answer) {
  asking_ = false;
  if (answer.status != 200) return;  // throttled, perhaps: asked again at the next tick
  books_.answered(HubCount::queries, 1);
  read_rows(answer.body);
  const auto continuation = answer.header("x-ms-continuation");
  if (continuation && !continuation->empty() && !followed_.empty()) submit(std::string{*continuation});
}

void StalenessProbe::on_http_failed(uint64_t, HttpFailure) {
  asking_ = false;
  if (sent_) books_.unknown(HubCount::queries, 1);
}

void StalenessProbe::read_rows(std::string_view rows) {
  const auto batch_end = batch_.begin() + static_cast<std::ptrdiff_t>(batch_size_);
  const auto in_batch = [&](uint32_t device) {
    return std::any_of(batch_.begin(), batch_end, [&](const auto& each) { return each.second == device; });
  };
  for (auto& each : followed_) each.looked = each.looked || in_batch(each.device);
  for_each_row(rows, [&](std::string_view row) {
    const auto id = protocol::find_plain_string(row, "deviceId");
    const auto version = protocol::find_integer(row, "version");
    if (!id || !version) return;
    const auto found = std::lower_bound(batch_.begin(), batch_end, *id,
                                        [](const auto& each, std::string_view wanted) { return each.first < wanted; });
    if (found == batch_end || found->first != *id) return;
    for (size_t i = followed_.size(); i-- > 0;) {
      if (followed_[i].device == found->second && followed_[i].version <= *version) end(i, StalenessOutcome::visible);
    }
  });
}

void StalenessProbe::end(size_t position, StalenessOutcome outcome) {
  const auto& each = followed_[position];
  recorder_.staleness_ended(each.phase, outcome, clock_.mono() - each.acknowledged);
  followed_[position] = followed_.back();
  followed_.pop_back();
}

void StalenessProbe::close() {
  if (asking_ && sent_) books_.unknown(HubCount::queries, 1);
  asking_ = false;
  client_.close();
  wheel_.cancel(first_timer_ + 1);
  while (!followed_.empty()) end(followed_.size() - 1, StalenessOutcome::unknown);
}

}  // namespace twinstorm::backend
