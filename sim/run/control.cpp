#include "sim/run/control.hpp"

#include <array>
#include <set>

#include <boost/asio/executor_work_guard.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "sim/backend/http_client.hpp"
#include "sim/net/certificates.hpp"
#include "sim/protocol/connection_string.hpp"
#include "sim/protocol/json_scanner.hpp"
#include "sim/protocol/service_routes.hpp"

namespace twinstorm::run {
namespace {

constexpr uint32_t kConnections = 8;
constexpr uint32_t kWindow = 32;  // requests given to the client at a time
constexpr size_t kBulk = 100;     // devices a request: the documented maximum
constexpr int kAttemptsMax = 5;
constexpr int kThrottledMax = 60;  // ten minutes: a tier of a few registrations a second takes its time
constexpr Nanos kTimeout = std::chrono::seconds{30};       // a hub with a tier may hold a request back for ten
constexpr uint32_t kGiveUp = 8;                            // requests in a row without an answer: the hub is not there
constexpr Nanos kThrottleWait = std::chrono::seconds{10};  // what the service's 429 asks for
constexpr std::chrono::milliseconds kTurn{20};             // at most between two looks at the clock

const SteadyClock kClock;

const char* describe(backend::HttpFailure failure) {
  switch (failure) {
    case backend::HttpFailure::refused:
      return "connection refused";
    case backend::HttpFailure::disconnected:
      return "the connection was closed before the answer";
    case backend::HttpFailure::protocol:
      return "the answer is not HTTP (is this the hub's REST port?)";
    case backend::HttpFailure::timed_out:
      return "no answer in time";
    case backend::HttpFailure::not_sent:
      return "no free connection in time";
    case backend::HttpFailure::tls:
      return "the TLS handshake failed";
  }
  return "failed";
}

/// A batch of requests against the REST API with its own small loop.
class Batch final : private backend::HttpEvents {
 public:
  explicit Batch(const HubLink& hub)
      : hub_{hub},
        access_{hub.access},
        wheel_{kWindow, kClock.mono()},
        client_{config_of(hub), io_, wheel_, 0, kClock, events()},
        work_{io_.context.get_executor()} {}

  struct Job {
    std::string method, target, body;
  };
  /// Runs `count` jobs made by `make(i)`; every answer goes to `done(i, status, body)`, status 0 with the reason as
  /// body when there was none. `done` returns how long to wait before the job is tried again; zero or less means it is
  /// finished.
  void run(size_t count, const std::function<Job(size_t)>& make,
           const std::function<Nanos(size_t, int, std::string_view)>& done) {
    done_ = &done;
    ended_.assign(count, false);
    unanswered_ = 0;
    std::vector<std::pair<MonoTime, size_t>> again;
    size_t next = 0;
    finished_ = 0;
    while (finished_ < count) {
      const MonoTime now = kClock.mono();
      if (unanswered_ >= kGiveUp || (hub_.cancelled && hub_.cancelled())) {
        give_up(count, done);
        return;
      }
      wheel_.advance(now, [&](TimerWheel::TimerId id) { client_.on_timer(id); });
      for (auto& job : retry_) again.push_back(job);
      retry_.clear();
      while (client_.open() < kWindow) {
        size_t job = count;
        const auto due = std::find_if(again.begin(), again.end(), [&](const auto& each) { return each.first <= now; });
        if (due != again.end()) {
          job = due->second;
          again.erase(due);
        } else if (next < count) {
          job = next++;
        } else {
          break;
        }
        submit(job, make(job));
      }
      io_.context.run_one_for(kTurn);
      io_.context.poll();
    }
  }

 private:
  static backend::HttpClient::Config config_of(const HubLink& hub) {
    backend::HttpClient::Config config{hub.control(), hub.host_name, kConnections, kWindow};
    if (hub.control_over_tls) {
      config.tls = &*hub.tls;
      config.server_name = hub.host;
    }
    return config;
  }
  backend::HttpEvents& events() { return *this; }
  void submit(size_t index, const Job& job) {
    const std::array<http::Header, 2> headers{http::Header{"Authorization", access_.authorization(kClock.wall())},
                                              http::Header{"Content-Type", "application/json; charset=utf-8"}};
    const std::span<const http::Header> used{headers.data(), job.body.empty() ? size_t{1} : size_t{2}};
    client_.submit(index, kClock.mono() + kTimeout, job.method, job.target, used, job.body);
  }
  void finish(uint64_t tag, int status, std::string_view body) {
    unanswered_ = status == 0 ? unanswered_ + 1 : 0;
    if (status == 0) reason_ = body;
    const Nanos wait = (*done_)(tag, status, body);
    if (wait > Nanos{0}) {
      retry_.emplace_back(kClock.mono() + wait, tag);
    } else {
      ++finished_;
      ended_[tag] = true;
    }
  }
  /// Every job that has not ended gets no answer.
  void give_up(size_t count, const std::function<Nanos(size_t, int, std::string_view)>& done) {
    client_.close();
    for (size_t i = 0; i < count; ++i) {
      if (!ended_[i]) done(i, 0, unanswered_ >= kGiveUp ? reason_ : "interrupted");
    }
  }
  void on_http_sent(uint64_t, MonoTime) override {}
  void on_http_answer(uint64_t tag, const backend::HttpAnswer& answer) override {
    finish(tag, answer.status, answer.body);
  }
  void on_http_failed(uint64_t tag, backend::HttpFailure failure) override {
    const bool tls = failure == backend::HttpFailure::tls && !client_.error_text().empty();
    finish(tag, 0, tls ? client_.error_text() : std::string_view{describe(failure)});
  }

  const HubLink& hub_;
  backend::ServiceAccess access_;
  net::ShardIo io_;
  TimerWheel wheel_;
  backend::HttpClient client_;
  /// A turn without anything under way (all wait for their next attempt) lasts its time too.
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
  const std::function<Nanos(size_t, int, std::string_view)>* done_ = nullptr;
  std::vector<std::pair<MonoTime, size_t>> retry_;
  size_t finished_ = 0;
  std::vector<bool> ended_;
  uint32_t unanswered_ = 0;  // in a row
  std::string reason_;
};

std::string at(const HubLink& hub, uint16_t port) { return fmt::format("{}:{}", hub.host, port); }

/// The hub's own words, without JSON around them, shortened.
std::string said(std::string_view body) {
  const auto message = protocol::find_plain_string(body, "Message");
  std::string text{message ? *message : body};
  text = protocol::redact_connection_string(text);
  if (text.size() > 300) text = text.substr(0, 297) + "...";
  return text.empty() ? "no reason given" : text;
}

Error refusal(const HubLink& hub, int status, std::string_view body) {
  if (status == 0) {
    return make_error(ErrorCode::unavailable,
                      fmt::format("cannot reach the hub's REST API at {}: {}", at(hub, hub.control().port()), body));
  }
  if (status == 401 || status == 403) {
    return make_error(
        ErrorCode::unauthorized,
        fmt::format("the hub at {} refuses the credentials (HTTP {}): {}. Use a policy with registry read, registry "
                    "write and service connect, such as iothubowner",
                    at(hub, hub.control().port()), status, said(body)));
  }
  return make_error(ErrorCode::protocol, fmt::format("the hub at {} answered HTTP {}: {}",
                                                     at(hub, hub.control().port()), status, said(body)));
}

/// What the hub is to know a device by.
std::string authentication(const FleetPlan& plan, const device::Authority& authority, DeviceIndex device,
                           const std::string& id) {
  const auto& fleet = plan.fleets[plan.fleet_of(device)];
  switch (plan.scenario.fleets[plan.fleet_of(device)].auth) {
    case scenario::AuthKind::sas:
      return fmt::format(R"({{"type":"sas","symmetricKey":{{"primaryKey":"{}","secondaryKey":"{}"}}}})",
                         authority.device_key(id), authority.device_key(id + "/secondary"));
    case scenario::AuthKind::x509_selfsigned:
      return fmt::format(R"({{"type":"selfSigned","x509Thumbprint":{{"primaryThumbprint":"{}"}}}})",
                         net::sha256_thumbprint(fleet.certificates.certificate_pem[device - fleet.first]).value());
    case scenario::AuthKind::x509_ca:
      return R"({"type":"certificateAuthority"})";
  }
  return "{}";
}

std::string device_entry(const FleetPlan& plan, const device::Authority& authority, DeviceIndex device) {
  const auto& spec = plan.scenario.fleets[plan.fleet_of(device)];
  const uint32_t index = device - spec.first;
  const std::string id = plan.device_id(device);
  std::string tags;
  if (!spec.tags.empty()) {
    Rng rng{plan.scenario.seed, "tags", device};
    spec.tags.render(rng, index, tags);
  }
  const auto quoted = nlohmann::json(id).dump();
  return fmt::format(R"({{"id":{},"importMode":"create","status":"enabled","authentication":{}{}{}}})", quoted,
                     authentication(plan, authority, device, id), tags.empty() ? "" : ",\"tags\":", tags);
}

bool is_already_exists(const nlohmann::json& entry) {
  const auto code = entry.contains("errorCode") ? entry["errorCode"].dump() : std::string{};
  return code.find("AlreadyExists") != std::string::npos || code.find("409001") != std::string::npos;
}

/// Whether a device that existed before carries the credentials this run has for it. Those of others are never
/// overwritten.
Result<void> check_credentials(const HubLink& hub, const FleetPlan& plan, const device::Authority& authority,
                               DeviceIndex device) {
  const auto id = plan.device_id(device);
  const auto answer = control_get(hub, protocol::service_target::device(id));
  if (!answer) return answer.error();
  if (answer->status != 200) return refusal(hub, answer->status, answer->body);
  const auto registered = [&](const char* member) {
    return protocol::find_plain_string(answer->body, member).value_or(std::string_view{});
  };
  const auto& fleet = plan.fleets[plan.fleet_of(device)];
  const char* what = "a key";
  switch (plan.scenario.fleets[plan.fleet_of(device)].auth) {
    case scenario::AuthKind::sas:
      if (registered("authentication.symmetricKey.primaryKey") == authority.device_key(id)) return {};
      break;
    case scenario::AuthKind::x509_selfsigned:
      if (registered("authentication.x509Thumbprint.primaryThumbprint") ==
          net::sha256_thumbprint(fleet.certificates.certificate_pem[device - fleet.first]).value())
        return {};
      what = "a certificate";
      break;
    case scenario::AuthKind::x509_ca:
      if (registered("authentication.type") == "certificateAuthority") return {};
      what = "credentials";
      break;
  }
  return make_error(
      ErrorCode::already_exists,
      fmt::format(
          "device \"{}\" is registered at the hub already, with {} that {} not this run's. Nothing was changed: "
          "give the fleet another deviceId pattern, or delete the device",
          id, what, what == std::string_view{"credentials"} ? "are" : "is"));
}

}  // namespace

Result<ControlAnswer> control_get(const HubLink& hub, const std::string& target) {
  return control_request(hub, "GET", target, {});
}

Result<ControlAnswer> control_request(const HubLink& hub, const std::string& method, const std::string& target,
                                      const std::string& body) {
  ControlAnswer result;
  Batch batch{hub};
  batch.run(
      1,
      [&](size_t) {
        return Batch::Job{method, target, body};
      },
      [&](size_t, int status, std::string_view answer) {
        result = {status, std::string{answer}};
        return Nanos{0};
      });
  if (result.status == 0) return refusal(hub, 0, result.body);
  return result;
}

Result<Provisioned> provision(const HubLink& hub, const FleetPlan& plan, const device::Authority& authority,
                              Stripe stripe, const Progress& progress, const Progress& throttled) {
  Provisioned result;
  std::vector<DeviceIndex> devices, known;
  for (DeviceIndex device = stripe.first; device < plan.scenario.device_count(); device += stripe.of) {
    (plan.registered_before(device) ? known : devices).push_back(device);
  }
  const size_t batches = (devices.size() + kBulk - 1) / kBulk;
  const auto batch_of = [&](size_t i) {
    const size_t first = i * kBulk;
    return std::span{devices}.subspan(first, std::min(kBulk, devices.size() - first));
  };
  std::optional<Error> error;
  uint64_t done = 0;
  MonoTime moved = kClock.mono();  // when the hub last took or refused a request for another reason than its rates

  Batch batch{hub};
  batch.run(
      batches,
      [&](size_t i) {
        std::string body = "[";
        for (const DeviceIndex device : batch_of(i)) {
          if (body.size() > 1) body += ',';
          body += device_entry(plan, authority, device);
        }
        return Batch::Job{"POST", protocol::service_target::devices(), body + "]"};
      },
      [&](size_t i, int status, std::string_view body) {
        if (error) return Nanos{0};
        if (status == 429 && kClock.mono() - moved < kThrottledMax * kThrottleWait) {
          if (throttled) throttled(done, devices.size());
          return kThrottleWait;
        }
        moved = kClock.mono();
        size_t existing = 0;
        // A bulk request is carried out entry by entry: those it names were registered before, the others are now.
        const auto json = status == 400 ? nlohmann::json::parse(body, nullptr, false) : nlohmann::json{};
        if (json.is_object() && json.contains("errors") && json["errors"].is_array()) {
          for (const auto& entry : json["errors"]) {
            if (!entry.is_object() || !is_already_exists(entry)) continue;
            const auto id = entry.value("deviceId", "");
            for (const DeviceIndex device : batch_of(i)) {
              if (id == plan.device_id(device)) result.existing.push_back(device), ++existing;
            }
          }
          if (existing != json["errors"].size()) existing = 0;
        }
        if (status != 200 && existing == 0) {
          error = refusal(hub, status, body);
          return Nanos{0};
        }
        result.created += batch_of(i).size() - existing;
        done += batch_of(i).size();
        if (progress) progress(done, devices.size());
        return Nanos{0};
      });
  if (error) return *error;
  // One of each fleet stands for the others.
  std::set<uint32_t> checked;
  for (const DeviceIndex device : result.existing) {
    if (!checked.insert(plan.fleet_of(device)).second) continue;
    if (const auto ours = check_credentials(hub, plan, authority, device); !ours) return ours.error();
  }
  const auto read = read_twins(
      hub, plan, known,
      [&](size_t i, int status, std::string_view body) {
        if (status != 200 && !error) {
          error = status == 404
                      ? make_error(ErrorCode::not_found,
                                   fmt::format("device \"{}\" of connectionStrings is not registered at the hub",
                                               plan.device_id(known[i])))
                      : refusal(hub, status, body);
        }
      },
      progress);
  if (!read) return read.error();
  if (error) return *error;
  result.existing.insert(result.existing.end(), known.begin(), known.end());
  return result;
}

Result<void> read_twins(const HubLink& hub, const FleetPlan& plan, const std::vector<DeviceIndex>& devices,
                        const std::function<void(size_t, int, std::string_view)>& visit, const Progress& progress) {
  std::vector<uint8_t> attempts(devices.size());
  uint64_t done = 0;
  bool reached = devices.empty();
  std::string reason;
  Batch batch{hub};
  batch.run(
      devices.size(),
      [&](size_t i) {
        return Batch::Job{"GET", protocol::service_target::twin(plan.device_id(devices[i])), {}};
      },
      [&](size_t i, int status, std::string_view body) {
        if (status == 429 && ++attempts[i] < kAttemptsMax) return kThrottleWait;
        if (status == 0 && reached && ++attempts[i] < kAttemptsMax) return Nanos{std::chrono::milliseconds{100}};
        if (status != 0) reached = true;
        if (status == 0) reason = body;
        visit(i, status, body);
        if (++done % 500 == 0 && progress) progress(done, devices.size());
        return Nanos{0};
      });
  if (!reached) return refusal(hub, 0, reason);
  return {};
}

Result<std::map<std::string, uint64_t>> read_hub_counts(const HubLink& hub) {
  const auto answer = control_get(hub, "/twinstorm/counts");
  if (!answer) return answer.error();
  if (answer->status != 200) return refusal(hub, answer->status, answer->body);
  const auto json = nlohmann::json::parse(answer->body, nullptr, false);
  if (!json.is_object()) return make_error(ErrorCode::protocol, "the hub's counts are not a JSON object");
  std::map<std::string, uint64_t> counts;
  for (const auto& [name, value] : json.items()) {
    if (value.is_number_unsigned()) counts[name] = value.get<uint64_t>();
  }
  return counts;
}

Result<void> start_tier(const HubLink& hub) {
  const auto answer = control_request(hub, "POST", "/twinstorm/throttle", {});
  if (!answer) return answer.error();
  if (answer->status != 200) return refusal(hub, answer->status, answer->body);
  return {};
}

Result<std::optional<metrics::ThrottlingRecord>> read_throttling(const HubLink& hub) {
  using Answer = std::optional<metrics::ThrottlingRecord>;
  const auto answer = control_get(hub, "/twinstorm/throttle");
  if (!answer) return answer.error();
  if (answer->status != 200) return Answer{};
  const auto json = nlohmann::json::parse(answer->body, nullptr, false);
  if (!json.is_object() || !json.contains("tier")) {
    return make_error(ErrorCode::protocol, "the hub's figures of its tier are not the JSON object they should be");
  }
  if (!json["tier"].is_string()) return Answer{};
  const auto number = [](const nlohmann::json& object, const char* name) -> std::optional<double> {
    const auto it = object.find(name);
    return it != object.end() && it->is_number() ? std::optional{it->get<double>()} : std::nullopt;
  };
  const auto count = [&](const nlohmann::json& object, const char* name) {
    return static_cast<uint64_t>(std::max(number(object, name).value_or(0), 0.0));
  };
  metrics::ThrottlingRecord record;
  record.tier = json["tier"].get<std::string>();
  record.units = count(json, "units");
  for (const auto& each : json.value("classes", nlohmann::json::array())) {
    if (!each.is_object() || !each.contains("class") || !each["class"].is_string()) continue;
    metrics::ThrottlingClass row;
    row.name = each["class"].get<std::string>();
    row.limit_per_second = number(each, "limitPerSecond");
    row.admitted = count(each, "admitted");
    row.shaped = count(each, "shaped");
    row.refused = count(each, "refused");
    if (const auto delay = each.find("delay"); delay != each.end() && delay->is_object()) {
      row.delay_p50 = number(*delay, "p50");
      row.delay_p99 = number(*delay, "p99");
      row.delay_max = number(*delay, "max");
      row.delay_sum = number(*delay, "sum").value_or(0);
    }
    record.classes.push_back(std::move(row));
  }
  if (const auto quota = json.find("quota"); quota != json.end() && quota->is_object()) {
    record.quota_used = count(*quota, "used");
    record.quota_limit = count(*quota, "limit");
  }
  return Answer{std::move(record)};
}

metrics::ThrottlingRecord throttling_between(const std::optional<metrics::ThrottlingRecord>& before,
                                             metrics::ThrottlingRecord after) {
  if (!before) return after;
  const auto less = [](auto& value, auto earlier) { value -= std::min(value, earlier); };
  for (auto& row : after.classes) {
    const auto at = std::find_if(before->classes.begin(), before->classes.end(),
                                 [&](const auto& each) { return each.name == row.name; });
    if (at == before->classes.end()) continue;
    less(row.admitted, at->admitted);
    less(row.shaped, at->shaped);
    less(row.refused, at->refused);
    less(row.delay_sum, at->delay_sum);
    if (row.shaped == 0) row.delay_p50 = row.delay_p99 = row.delay_max = std::nullopt;
  }
  return after;
}

Result<uint64_t> remove_devices(const HubLink& hub, const device::Authority& authority, MadeDevices made) {
  uint64_t left = 0;
  std::optional<Error> unreachable;
  std::vector<int> attempts(made.uncertain.size());
  const auto patient = [&](size_t i, int status) { return status == 429 && ++attempts[i] <= kThrottledMax; };
  const auto note = [&](int status, std::string_view body) {
    if (status == 0 && !unreachable) unreachable = refusal(hub, 0, body);
  };
  Batch batch{hub};
  batch.run(
      made.uncertain.size(),
      [&](size_t i) {
        return Batch::Job{"GET", protocol::service_target::device(made.uncertain[i]), {}};
      },
      [&](size_t i, int status, std::string_view body) {
        if (patient(i, status)) return kThrottleWait;
        note(status, body);
        const auto key = protocol::find_plain_string(body, "authentication.symmetricKey.primaryKey");
        if (status == 200 && key == authority.device_key(made.uncertain[i])) made.known.push_back(made.uncertain[i]);
        if (status != 200 && status != 404) ++left;
        return Nanos{0};
      });
  if (unreachable) return *unreachable;
  const size_t batches = (made.known.size() + kBulk - 1) / kBulk;
  const auto batch_of = [&](size_t i) {
    return std::span{made.known}.subspan(i * kBulk, std::min(kBulk, made.known.size() - i * kBulk));
  };
  attempts.assign(batches, 0);
  batch.run(
      batches,
      [&](size_t i) {
        auto body = nlohmann::json::array();
        for (const auto& id : batch_of(i)) body.push_back({{"id", id}, {"importMode", "delete"}});
        return Batch::Job{"POST", protocol::service_target::devices(), body.dump()};
      },
      [&](size_t i, int status, std::string_view body) {
        if (patient(i, status)) return kThrottleWait;
        note(status, body);
        // 400: carried out but for those it names, which are gone already or cannot be removed.
        if (status != 200 && status != 400) left += batch_of(i).size();
        if (status != 400) return Nanos{0};
        const auto json = nlohmann::json::parse(body, nullptr, false);
        if (!json.is_object() || !json.contains("errors") || !json["errors"].is_array()) {
          left += batch_of(i).size();
          return Nanos{0};
        }
        for (const auto& entry : json["errors"])
          left += entry.dump().find("DeviceNotFound") == std::string::npos ? 1 : 0;
        return Nanos{0};
      });
  if (unreachable) return *unreachable;
  return left;
}

}  // namespace twinstorm::run
