#include "sim/run/canary.hpp"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include <boost/asio/post.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <pthread.h>

#include "sim/backend/http_client.hpp"
#include "sim/net/shard_io.hpp"
#include "sim/protocol/json_scanner.hpp"
#include "sim/protocol/service_routes.hpp"
#include "sim/protocol/topics.hpp"
#include "sim/run/process_stats.hpp"
#include "sim/transport/mqtt/request_id.hpp"

namespace twinstorm::run {

using metrics::CanaryCounts;
using metrics::OpKind;
using transport::PahoClient;
using transport::PahoEvent;

namespace {

constexpr uint32_t kRequestsMax = 256;       // HTTP requests open at a time
constexpr uint32_t kRidDevice = 0xca'4a'57;  // disguises request numbers, like a device's index
constexpr Nanos kReconnectAfter = std::chrono::seconds{1};
constexpr Nanos kLongestWait = std::chrono::milliseconds{200};
constexpr size_t kDeviceIdMax = 128;

constexpr size_t index_of(CanaryOp op) { return static_cast<size_t>(op); }

/// The members of a patch that are properties, as an object.
std::string properties_of(std::string_view patch) {
  std::string out = "{";
  protocol::for_each_member(patch, [&](std::string_view key, std::string_view value) {
    if (key.starts_with('$')) return;
    out += fmt::format("{}\"{}\":{}", out.size() > 1 ? "," : "", key, value);
  });
  return out + "}";
}

}  // namespace

std::string_view to_string(CanaryOp op) {
  switch (op) {
    case CanaryOp::get_twin:
      return "getTwin";
    case CanaryOp::report:
      return "report";
    case CanaryOp::telemetry:
      return "telemetry";
    case CanaryOp::delivery:
    case CanaryOp::kCount:
      break;
  }
  return "delivery";
}

bool CanaryPhase::idle() const {
  return std::none_of(does.begin(), does.end(), [](bool each) { return each; });
}

double CanaryPhase::share_at(CanaryOp op, Nanos t) const {
  double rate = 0, peak = 0;
  for (const auto& shape : shapes[index_of(op)]) {
    rate += shape.rate_at(t).per_second;
    peak += shape.peak_rate().per_second;
  }
  return peak > 0 ? rate / peak : 0;
}

CanaryPlan make_canary_plan(const scenario::Scenario& scenario) {
  CanaryPlan plan;
  for (uint32_t i = 1; i < scenario.fleets.size(); ++i) {
    if (scenario.fleets[i].count > scenario.fleets[plan.fleet].count) plan.fleet = i;
  }
  const auto layout = scenario.recorder_layout();
  bool coming_back = false;  // from a cut in the phase before
  for (const auto& phase : scenario.phases) {
    auto& mine = plan.phases.emplace_back();
    const auto happens = [&phase](scenario::EventSpec::Kind kind) {
      return std::any_of(phase.events.begin(), phase.events.end(),
                         [&](const auto& event) { return event.kind == kind; });
    };
    const bool cut = phase.disconnect || happens(scenario::EventSpec::Kind::disconnect);
    const bool arriving = phase.connect || cut || coming_back;
    const bool all_back = phase.until && phase.until->kind == scenario::Until::Kind::devices_connected;
    coming_back = cut && !all_back;
    if (!phase.record || scenario.fleets.empty()) continue;
    std::array<bool, kCanaryOps> incomparable{};
    if (arriving) incomparable[index_of(CanaryOp::get_twin)] = incomparable[index_of(CanaryOp::report)] = true;
    // What devices do in a crowd, the canary does alone.
    if (happens(scenario::EventSpec::Kind::get_twin)) incomparable[index_of(CanaryOp::get_twin)] = true;
    if (happens(scenario::EventSpec::Kind::report)) incomparable[index_of(CanaryOp::report)] = true;
    if (happens(scenario::EventSpec::Kind::telemetry)) incomparable[index_of(CanaryOp::telemetry)] = true;
    const auto follow = [&mine](CanaryOp op, const scenario::LoadShape& shape) {
      mine.does[index_of(op)] = true;
      mine.shapes[index_of(op)].push_back(shape);
    };
    const auto add = [&](CanaryOp op, const scenario::LoadEntry& load) {
      if (load.closed()) {
        incomparable[index_of(op)] = true;
      } else {
        follow(op, load.shape);
      }
    };
    for (const auto& load : phase.load) {
      const auto kind = layout.streams[load.stream].kind;
      const bool own = scenario.fleet_of_stream(load.stream) == plan.fleet;
      if (scenario.is_backend_stream(load.stream)) {
        if (kind != OpKind::patch_desired && kind != OpKind::replace_twin) continue;
        add(CanaryOp::delivery, load);  // of any fleet: the convergence of a phase is one for all
        if (own && !mine.backend) mine.backend = scenario.backend_of_stream(load.stream);
      } else if (!own) {
        continue;
      } else if (kind == OpKind::get_twin) {
        add(CanaryOp::get_twin, load);
      } else if (kind == OpKind::report) {
        add(CanaryOp::report, load);
      } else if (kind == OpKind::telemetry) {
        add(CanaryOp::telemetry, load);
      }
    }
    const auto& fleet = scenario.fleets[plan.fleet];
    if (fleet.telemetry.every > Nanos{0} && (phase.duration || !phase.load.empty())) {
      follow(CanaryOp::telemetry,
             scenario::LoadShape::constant(Rate{fleet.count / to_seconds(fleet.telemetry.every)}, phase.length()));
    }
    if (!mine.backend) incomparable[index_of(CanaryOp::delivery)] = true;
    for (size_t op = 0; op < kCanaryOps; ++op) mine.does[op] = mine.does[op] && !incomparable[op];
    mine.compares = mine.does;
    const auto report = index_of(CanaryOp::report);
    mine.compares[report] = mine.does[report] || (mine.does[index_of(CanaryOp::delivery)] && !incomparable[report]);
  }
  return plan;
}

std::string canary_device_id(std::string_view run) {
  constexpr std::string_view kSuffix = "-canary";
  constexpr std::string_view kAllowed =
      "-:.+%_#*?!(),=@$'";  // service.md: what a device id may hold, beside ASCII letters and digits
  std::string id;
  for (const char c : run) {
    const bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                       kAllowed.find(c) != std::string_view::npos;
    id += plain ? c : '-';
  }
  if (id.size() > kDeviceIdMax - kSuffix.size()) id.resize(kDeviceIdMax - kSuffix.size());
  return id.append(kSuffix);
}

// --- The loop ------------------------------------------------------------------------------------------------------

/// Everything the canary's thread owns.
class Canary::Loop final : private backend::HttpEvents {
 public:
  Loop(const Config& config, const HubLink& hub, const device::Authority& authority, const Clock& clock)
      : config_{config},
        plan_{make_canary_plan(config.plan->scenario)},
        fleet_{config.plan->fleets[plan_.fleet]},
        access_{hub.access},
        authority_{authority},
        clock_{clock},
        wheel_{kRequestsMax, clock.mono()},
        http_{{.endpoint = hub.control(),
               .host = hub.host_name,
               .connections = 2,
               .requests_max = kRequestsMax,
               .tls = hub.control_over_tls ? &*hub.tls : nullptr,
               .server_name = hub.host},
              io_,
              wheel_,
              0,
              clock,
              events()},
        rng_{config.plan->scenario.seed, "canary"} {
    histograms_.resize(plan_.phases.size());
    for (size_t phase = 0; phase < plan_.phases.size(); ++phase) {
      for (size_t op = 0; op < kCanaryOps; ++op) {
        if (plan_.phases[phase].compares[op]) histograms_[phase][op] = std::make_unique<metrics::LatencyHistogram>();
      }
    }
    next_.fill(MonoTime::max());
  }

  /// The body of the thread. `quiet` is set once nothing of it can reach the hub any more; what follows is Paho's own
  /// way of ending, which takes its time.
  void run(std::atomic<bool>& decided, std::atomic<bool>& quiet) {
    decided_ = &decided;
    const auto library = transport::PahoLibrary::hold();
    auto work = boost::asio::make_work_guard(io_.context);
    connect();
    while (!finishing_ || open() > 0) {
      const MonoTime now = clock_.mono();
      start_due(now);
      wheel_.advance(now, [this](TimerWheel::TimerId id) { http_.on_timer(id); });
      expire(now);
      if (client_ == nullptr && !finishing_ && now >= connect_at_) connect();
      wait_for_events(now);
    }
    if (client_ != nullptr && connected_) client_->disconnect();
    http_.close();
    cpu_seconds_ = thread_cpu_seconds({"canary", "MQTTAsync"});
    quiet.store(true, std::memory_order_release);
    client_.reset();
  }

  // From other threads.
  void begin_phase(metrics::PhaseIndex phase, MonoTime start) {
    boost::asio::post(io_.context, [this, phase, start] {
      phase_ = phase;
      phase_start_ = start;
      for (size_t op = 0; op < kCanaryOps; ++op) {
        next_[op] = plan_.phases[phase].does[op] ? start + gap() : MonoTime::max();
      }
    });
  }
  void finish(MonoTime at) {
    boost::asio::post(io_.context, [this, at] {
      finishing_ = true;
      give_up_at_ = at + fleet_.timeout;
      next_.fill(MonoTime::max());
    });
  }

  // After `quiet`.
  const CanaryCounts& counts(std::string_view name) const {
    static const CanaryCounts kNone;
    const auto found = counts_.find(std::string{name});
    return found == counts_.end() ? kNone : found->second;
  }
  const std::map<std::string, CanaryCounts>& counts() const { return counts_; }
  metrics::HistogramSnapshot histogram(size_t phase, CanaryOp op) const {
    const auto& each = histograms_[phase][index_of(op)];
    return each == nullptr ? metrics::HistogramSnapshot{} : each->snapshot();
  }
  const CanaryPlan& plan() const { return plan_; }
  const device::FleetBehavior& fleet() const { return fleet_; }
  uint64_t notifications() const { return notifications_; }
  double cpu_seconds() const { return cpu_seconds_; }
  const std::string& trouble() const { return trouble_; }

 private:
  struct Pending {
    CanaryOp op = CanaryOp::report;
    uint32_t phase = 0;
    MonoTime sent{};
  };
  /// A patch on its way to the device.
  struct Patch {
    uint32_t phase = 0;
    MonoTime sent{};
    bool answered = false;
    std::optional<int64_t> version;
  };
  backend::HttpEvents& events() { return *this; }

  Nanos gap() { return from_seconds(rng_.exponential() / config_.per_second); }
  size_t open() const { return requests_.size() + messages_.size() + patches_.size(); }
  CanaryCounts& count(std::string_view name) { return counts_[std::string{name}]; }
  void measured(const Pending& pending, MonoTime at) {
    if (const auto& histogram = histograms_[pending.phase][index_of(pending.op)]) histogram->record(at - pending.sent);
  }

  // --- connection
  void connect() {
    transport::Identity identity;
    identity.client_id = config_.device_id;
    identity.user_name = protocol::format_mqtt_user_name({.host_name = config_.target.host_name,
                                                          .device_id = config_.device_id,
                                                          .module_id = {},
                                                          .api_version = std::string{protocol::kApiVersion},
                                                          .model_id = {},
                                                          .device_client_type = "twinstorm-canary"});
    authority_.append_token(identity.password, config_.device_id, clock_.wall());
    identity.keep_alive_seconds = static_cast<uint16_t>(fleet_.keep_alive / std::chrono::seconds{1});
    const uint32_t attempt = ++attempt_;
    auto made = PahoClient::create(
        transport::paho_uri(config_.target, config_.link), config_.device_id, [this, attempt](PahoEvent&& event) {
          const MonoTime at = clock_.mono();  // the stopwatch: before anything else happens to the message
          boost::asio::post(io_.context, [this, attempt, at, event = std::move(event)] {
            if (attempt == attempt_) handle(event, at);
          });
        });
    ++count("connect").sent;
    if (made) {
      client_ = std::move(*made);
      if (const auto begun = client_->connect(identity, config_.link, fleet_.timeout); begun)
        return;
      else
        made = begun.error();
    }
    lost(made.error().message);
    ++count("connect").failed;
  }

  /// Everything in flight ends with the connection.
  void lost(std::string why) {
    trouble_ = std::move(why);
    decided_->store(true, std::memory_order_release);
    ++attempt_;
    connected_ = false;
    client_.reset();
    connect_at_ = clock_.mono() + kReconnectAfter;
    for (const auto& [request, pending] : requests_) ++count(to_string(pending.op)).failed;
    for (const auto& [message, pending] : messages_) ++count(to_string(pending.op)).failed;
    requests_.clear();
    messages_.clear();
    for (auto patch = patches_.begin(); patch != patches_.end();) {
      // Its notification went to a connection that is no more.
      if (patch->second.answered) ++count("delivery").failed;
      patch = patch->second.answered ? patches_.erase(patch) : std::next(patch);
    }
    arrived_.clear();
  }

  void handle(const PahoEvent& event, MonoTime at) {
    switch (event.kind) {
      case PahoEvent::Kind::connected:
        ++count("connect").acknowledged;
        client_->subscribe(std::string{protocol::kTwinResponseFilter}, 0);
        client_->subscribe(std::string{protocol::kDesiredFilter}, 0);
        filters_open_ = 2;
        return;
      case PahoEvent::Kind::refused:
        ++count("connect").failed;
        lost(fmt::format("the canary could not connect: {}", event.text));
        return;
      case PahoEvent::Kind::subscribed:
        if (!event.granted) return lost("the hub refused the canary's subscriptions");
        if (--filters_open_ == 0) {
          connected_ = true;
          decided_->store(true, std::memory_order_release);
          trouble_.clear();
        }
        return;
      case PahoEvent::Kind::lost:
        lost("the canary lost its connection");
        return;
      case PahoEvent::Kind::acknowledged:
        if (const auto found = messages_.find(event.number); found != messages_.end()) {
          ++count("telemetry").acknowledged;
          measured(found->second, at);
          messages_.erase(found);
        }
        return;
      case PahoEvent::Kind::message:
        message(event, at);
        return;
    }
  }

  void message(const PahoEvent& event, MonoTime at) {
    using Kind = protocol::HubTopic::Kind;
    const auto topic = protocol::parse_hub_topic(event.topic);
    if (!topic) return;
    if (topic->kind == Kind::twin_response) {
      const auto request = transport::parse_request_id(topic->rid, kRidDevice);
      const auto found = request ? requests_.find(*request) : requests_.end();
      if (found == requests_.end()) return;  // after its deadline
      auto& counts = count(to_string(found->second.op));
      if (topic->status == 200 || topic->status == 204) {
        ++counts.acknowledged;
        measured(found->second, at);
      } else {
        ++counts.failed;
      }
      requests_.erase(found);
    } else if (topic->kind == Kind::desired && topic->version) {
      ++notifications_;
      arrived(*topic->version, event.text, at);
    }
  }

  // --- operations
  void start_due(MonoTime now) {
    for (size_t op = 0; op < kCanaryOps; ++op) {
      while (next_[op] <= now) {
        // A loop that was kept from running skips what it missed: the canary samples, it does not catch up.
        next_[op] = now + gap();
        const auto which = static_cast<CanaryOp>(op);
        if (connected_ && rng_.chance(plan_.phases[phase_].share_at(which, now - phase_start_))) start(which);
      }
    }
  }

  void start(CanaryOp op) {
    switch (op) {
      case CanaryOp::get_twin:
        topic_.clear();
        protocol::append_twin_get(topic_, rid().view());
        send_request(op, " ");
        return;
      case CanaryOp::report: {
        body_.clear();
        if (fleet_.reported) {
          fleet_.reported(rng_, request_, body_);
        } else {
          body_ = fmt::format(R"({{"twinstorm":{{"n":{}}}}})", request_);
        }
        report(body_);
        return;
      }
      case CanaryOp::telemetry: {
        topic_.clear();
        protocol::append_telemetry(topic_, config_.device_id);
        body_.assign(fleet_.telemetry.size, 'x');
        const Pending pending{op, phase_, clock_.mono()};
        if (const auto number = client_->publish_acknowledged(topic_, body_)) {
          ++count("telemetry").sent;
          messages_[*number] = pending;
        }
        return;
      }
      case CanaryOp::delivery:
      case CanaryOp::kCount:
        patch();
        return;
    }
  }

  transport::RequestId rid() { return transport::format_request_id(++request_, kRidDevice); }

  void report(std::string_view patch) {
    topic_.clear();
    protocol::append_reported_patch(topic_, rid().view());
    send_request(CanaryOp::report, patch);
  }

  void send_request(CanaryOp op, std::string_view payload) {
    const Pending pending{op, phase_, clock_.mono()};
    if (!client_->publish(topic_, payload)) return;
    ++count(to_string(op)).sent;
    requests_[request_] = pending;
  }

  void patch() {
    body_ = R"({"properties":{"desired":)";
    const auto& render = config_.plan->backends[*plan_.phases[phase_].backend].desired;
    if (render) {
      render(rng_, request_, body_);
    } else {
      body_ += fmt::format(R"({{"twinstorm":{{"n":{}}}}})", request_);
    }
    body_ += "}}";
    const std::array<http::Header, 3> headers{http::Header{"Authorization", access_.authorization(clock_.wall())},
                                              http::Header{"Content-Type", "application/json; charset=utf-8"},
                                              http::Header{"If-Match", "\"*\""}};
    const MonoTime now = clock_.mono();
    const uint64_t tag = ++patch_;
    patches_[tag] = {phase_, now, false, {}};
    if (!http_.submit(tag, now + fleet_.timeout, "PATCH", protocol::service_target::twin(config_.device_id), headers,
                      body_)) {
      patches_.erase(tag);
      return;
    }
    ++count("patchDesired").sent;
    ++count("delivery").sent;
  }

  // --- patches: the notification may overtake the answer
  void on_http_sent(uint64_t tag, MonoTime at) override {
    // As the fleet counts it: from when the bytes went to the kernel.
    if (const auto found = patches_.find(tag); found != patches_.end()) found->second.sent = at;
  }
  void on_http_answer(uint64_t tag, const backend::HttpAnswer& answer) override {
    const auto found = patches_.find(tag);
    if (found == patches_.end()) return;
    const auto version = protocol::find_integer(answer.body, "properties.desired.$version");
    if (answer.status != 200 || !version) {
      ++count("patchDesired").failed;
      ++count("delivery").failed;
      patches_.erase(found);
      return;
    }
    ++count("patchDesired").acknowledged;
    found->second.answered = true;
    found->second.version = version;
    if (const auto early = arrived_.find(*version); early != arrived_.end()) {
      delivered(tag, early->second);
      arrived_.erase(early);
    }
  }
  void on_http_failed(uint64_t tag, backend::HttpFailure failure) override {
    if (patches_.erase(tag) == 0) return;
    auto& counts = count("patchDesired");
    ++(failure == backend::HttpFailure::timed_out ? counts.timed_out : counts.failed);
    ++count("delivery").failed;
  }

  void arrived(int64_t version, std::string_view patch, MonoTime at) {
    report(properties_of(patch));
    for (const auto& [tag, each] : patches_) {
      if (each.version == version) return delivered(tag, at);
    }
    arrived_[version] = at;
    if (arrived_.size() > kRequestsMax) arrived_.clear();  // somebody else patches this device
  }
  void delivered(uint64_t tag, MonoTime at) {
    const auto found = patches_.find(tag);
    ++count("delivery").acknowledged;
    measured({CanaryOp::delivery, found->second.phase, found->second.sent}, at);
    patches_.erase(found);
  }

  /// What was not answered in time, and after `finish` what will not be waited for.
  void expire(MonoTime now) {
    const MonoTime limit = now - fleet_.timeout;
    const bool all = finishing_ && now >= give_up_at_;
    const auto sweep = [&](auto& pending) {
      for (auto each = pending.begin(); each != pending.end();) {
        const bool late = all || each->second.sent <= limit;
        if (late) ++count(to_string(each->second.op)).timed_out;
        each = late ? pending.erase(each) : std::next(each);
      }
    };
    sweep(requests_);
    sweep(messages_);
    for (auto each = patches_.begin(); each != patches_.end();) {
      // An unanswered one ends with its request.
      const bool late = all || (each->second.answered && each->second.sent <= limit);
      if (late) ++count("delivery").timed_out;
      each = late ? patches_.erase(each) : std::next(each);
    }
  }

  void wait_for_events(MonoTime now) {
    MonoTime until = std::min(now + kLongestWait, wheel_.next_event());
    for (const MonoTime next : next_) until = std::min(until, next);
    if (until > now) io_.context.run_one_until(until);
    io_.context.poll();
  }

  const Config& config_;
  const CanaryPlan plan_;
  const device::FleetBehavior& fleet_;
  backend::ServiceAccess access_;
  const device::Authority& authority_;
  const Clock& clock_;
  net::ShardIo io_;
  TimerWheel wheel_;
  backend::HttpClient http_;
  Rng rng_;

  std::vector<std::array<std::unique_ptr<metrics::LatencyHistogram>, kCanaryOps>> histograms_;
  std::map<std::string, CanaryCounts> counts_;
  std::unordered_map<uint32_t, Pending> requests_;  // by $rid
  std::unordered_map<uint16_t, Pending> messages_;  // by packet identifier
  std::unordered_map<uint64_t, Patch> patches_;
  std::unordered_map<int64_t, MonoTime> arrived_;  // notifications ahead of their patch's answer, by $version
  std::array<MonoTime, kCanaryOps> next_{};
  std::string topic_, body_, trouble_;
  uint64_t notifications_ = 0, patch_ = 0;
  uint32_t request_ = 0, attempt_ = 0;
  metrics::PhaseIndex phase_ = 0;
  int filters_open_ = 0;
  bool connected_ = false, finishing_ = false;
  MonoTime phase_start_{}, connect_at_{}, give_up_at_{};
  double cpu_seconds_ = 0;
  std::atomic<bool>* decided_ = nullptr;
  std::unique_ptr<PahoClient> client_;  // last: gone before anything its callbacks use
};

// --- The canary ----------------------------------------------------------------------------------------------------

Canary::Canary(Config config, const HubLink& hub, const device::Authority& authority, const Clock& clock)
    : config_{std::move(config)}, hub_{hub} {
  loop_ = std::make_unique<Loop>(config_, hub, authority, clock);
}

Result<std::unique_ptr<Canary>> Canary::create(Config config, const HubLink& hub, const device::Authority& authority,
                                               const Clock& clock) {
  const auto key = authority.device_key(config.device_id);
  const auto entry = fmt::format(
      R"([{{"id":{},"importMode":"create","status":"enabled","authentication":{{"type":"sas","symmetricKey":{{"primaryKey":"{}","secondaryKey":"{}"}}}}}}])",
      nlohmann::json(config.device_id).dump(), key, authority.device_key(config.device_id + "/secondary"));
  const auto answer = control_request(hub, "POST", protocol::service_target::devices(), entry);
  if (!answer) return answer.error();
  // A run into a folder of the same name left one behind: its key is derived the same way, or connecting will tell.
  const bool there = answer->body.find("AlreadyExists") != std::string::npos;
  if (answer->status != 200 && !there) {
    return make_error(ErrorCode::protocol, fmt::format("the hub answered HTTP {} when device \"{}\" was registered",
                                                       answer->status, config.device_id));
  }
  return std::unique_ptr<Canary>{new Canary{std::move(config), hub, authority, clock}};
}

metrics::CanaryRecord Canary::absent(std::string device_id, const Error& error) {
  metrics::CanaryRecord record;
  record.device = std::move(device_id);
  record.client = transport::paho_version();
  record.state = fmt::format("the canary could not be set up: {}", error.message);
  metrics::judge_canary(record);
  return record;
}

Canary::~Canary() {
  if (!thread_.joinable()) return;
  finish(MonoTime{});
  thread_.join();
}

void Canary::start() {
  thread_ = std::thread{[this] {
    pthread_setname_np(pthread_self(), "canary");
    loop_->run(connected_, quiet_);
  }};
}

void Canary::wait_connected(Nanos limit) const {
  constexpr Nanos kLook = std::chrono::milliseconds{2};
  for (Nanos waited{0}; waited < limit && !connected_.load(std::memory_order_acquire); waited += kLook) {
    std::this_thread::sleep_for(kLook);
  }
}
void Canary::begin_phase(metrics::PhaseIndex phase, MonoTime start) { loop_->begin_phase(phase, start); }
void Canary::finish(MonoTime at) { loop_->finish(at); }
void Canary::wait() {
  while (!quiet_.load(std::memory_order_acquire)) std::this_thread::sleep_for(std::chrono::milliseconds{1});
}

metrics::CanaryRecord Canary::record(const metrics::Totals& totals) const {
  metrics::CanaryRecord record;
  record.device = config_.device_id;
  record.client = transport::paho_version();
  record.operations = loop_->counts();
  const auto& fleets = config_.plan->scenario.fleets;
  const bool alone = std::none_of(fleets.begin(), fleets.end(),
                                  [](const auto& fleet) { return fleet.engine == scenario::Engine::paho; });
  if (alone) record.cpu_seconds = loop_->cpu_seconds();  // else Paho's threads work for a fleet, too
  bool planned = false;
  for (uint32_t phase = 0; phase < totals.phases.size(); ++phase) {
    const auto compare = [&](CanaryOp op, const metrics::HistogramSnapshot& fleet) {
      const auto mine = loop_->histogram(phase, op);
      if (!loop_->plan().phases[phase].compares[index_of(op)] || (mine.empty() && fleet.empty())) return;
      planned = true;
      record.rows.push_back(metrics::compare_operation(totals.phases[phase].name, std::string{to_string(op)}, mine,
                                                       fleet, record.allowance));
    };
    const auto& streams = totals.phases[phase].streams;
    const auto& fleet = loop_->fleet();
    compare(CanaryOp::get_twin, streams[fleet.get_twin_stream].service);
    compare(CanaryOp::report, streams[fleet.report_stream].service);
    compare(CanaryOp::telemetry, streams[fleet.telemetry_stream].service);
    compare(CanaryOp::delivery, totals.phases[phase].convergence.delivery);
  }
  const auto connects = loop_->counts("connect");
  if (connects.acknowledged == 0) {
    record.state = loop_->trouble().empty() ? "the run ended before the canary was connected" : loop_->trouble();
  } else if (!planned) {
    record.state =
        "no recorded phase has an operation that the canary mirrors (getTwin, report, telemetry, or desired "
        "patches)";
  }
  metrics::judge_canary(record);
  return record;
}

Canary::HubShare Canary::hub_share(std::string_view hub_count) const {
  const auto of = [&](std::string_view name) {
    const auto& counts = loop_->counts(name);
    return HubShare{counts.acknowledged, counts.unknown()};
  };
  if (hub_count == "connectsAccepted") return of("connect");
  if (hub_count == "twinGets") return of("getTwin");
  if (hub_count == "reportedPatches") return of("report");
  if (hub_count == "telemetryMessages") return of("telemetry");
  if (hub_count == "desiredPatches") return of("patchDesired");
  if (hub_count == "desiredNotificationsSent") {
    // One for each patch the hub accepted while the canary was subscribed.
    const auto sent = loop_->counts("patchDesired").sent;
    return {loop_->notifications(), sent - std::min(sent, loop_->notifications())};
  }
  if (hub_count == "registryWrites") return {removed_ ? uint64_t{1} : 0, 0};
  return {};
}

void Canary::remove_device() {
  const auto answer =
      control_request(hub_, "POST", protocol::service_target::devices(),
                      fmt::format(R"([{{"id":{},"importMode":"delete"}}])", nlohmann::json(config_.device_id).dump()));
  removed_ = answer && answer->status == 200;  // if not: a device too many harms nobody
}

}  // namespace twinstorm::run
