#include "sim/hub/frontends/mqtt/mqtt_session.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "sim/hub/policy/device_admission.hpp"
#include "sim/protocol/byte_writer.hpp"
#include "sim/protocol/message_bag.hpp"
#include "sim/protocol/mqtt/decoder.hpp"
#include "sim/protocol/mqtt/encoder.hpp"

namespace twinstorm::hub {
namespace {

using mqtt::ConnackCode;

constexpr int64_t kPatienceMaxSeconds = 1767;  // device.md 3.3: the hub's cap on 1.5 times the keep-alive
constexpr size_t kTopicAllowance = 66 * 1024;  // fixed header, the longest topic and packet id beside the message
constexpr size_t kFiltersMax = 5;              // device.md 3.3
constexpr size_t kFlushBytes = 64 * 1024;      // answers to one read are gathered up to here
constexpr std::string_view kFirstVersionWithArrays = "2019-10-01";

ApiLevel api_level(std::string_view version) {
  constexpr std::string_view kDate = "dddd-dd-dd";
  if (version.size() < kDate.size()) return ApiLevel::none;
  for (size_t i = 0; i < kDate.size(); ++i) {
    const bool fits = kDate[i] == 'd' ? version[i] >= '0' && version[i] <= '9' : version[i] == kDate[i];
    if (!fits) return ApiLevel::none;
  }
  return version.substr(0, kDate.size()) < kFirstVersionWithArrays ? ApiLevel::no_arrays : ApiLevel::full;
}

bool has_array(const twin::Value& value) {
  if (value.is_array()) return true;
  if (!value.is_object()) return false;
  return std::any_of(value.members().begin(), value.members().end(),
                     [](const twin::Member& member) { return has_array(member.value); });
}

uint8_t subscription_bit(protocol::HubFilter filter) {
  switch (filter) {
    case protocol::HubFilter::twin_responses:
      return kTwinResponses;
    case protocol::HubFilter::desired:
      return kDesired;
    case protocol::HubFilter::methods:
      return kMethods;
    case protocol::HubFilter::devicebound:
      return kCloudToDevice;
    case protocol::HubFilter::inputs:
      return kInputs;
  }
  return 0;
}

uint64_t HubCounts::*disconnect_counter(DeviceLink::CloseReason reason) {
  switch (reason) {
    case DeviceLink::CloseReason::goodbye:
    case DeviceLink::CloseReason::client:
      return &HubCounts::disconnects_client;
    case DeviceLink::CloseReason::keep_alive:
      return &HubCounts::disconnects_keep_alive;
    case DeviceLink::CloseReason::take_over:
      return &HubCounts::disconnects_take_over;
    case DeviceLink::CloseReason::protocol:
      return &HubCounts::disconnects_protocol;
    case DeviceLink::CloseReason::slow_reader:
      return &HubCounts::disconnects_slow_reader;
    case DeviceLink::CloseReason::token_expired:
      return &HubCounts::disconnects_token_expired;
    case DeviceLink::CloseReason::throttled:
      return &HubCounts::disconnects_throttled;
    case DeviceLink::CloseReason::hub:
      break;
  }
  return &HubCounts::disconnects_hub;
}

/// What a device's publication is held to; nullptr: nothing.
const OperationPolicy* policy_of(protocol::DeviceTopic::Kind kind) {
  switch (kind) {
    case protocol::DeviceTopic::Kind::twin_get:
      return &kDeviceTwinRead;
    case protocol::DeviceTopic::Kind::reported_patch:
      return &kDeviceTwinUpdate;
    case protocol::DeviceTopic::Kind::telemetry:
      return &kTelemetry;
    case protocol::DeviceTopic::Kind::method_response:
      break;
  }
  return nullptr;
}

Nanos patience(uint16_t keep_alive_seconds) {
  if (keep_alive_seconds == 0) return std::chrono::seconds{kPatienceMaxSeconds};
  return std::min<Nanos>(std::chrono::milliseconds{int64_t{keep_alive_seconds} * 1500},
                         std::chrono::seconds{kPatienceMaxSeconds});
}

/// The end of the token in the shard's monotonic time, with the grace.
MonoTime token_end(const Shard& shard, WallTime expires) {
  if (expires == WallTime::max()) return MonoTime::max();
  return shard.mono_now() + (expires - shard.wall_now()) + shard.shared().config->token_grace;
}

ConnectDecision refuse_connect(std::string reason) {
  ConnectDecision decision;
  decision.reason = std::move(reason);
  return decision;
}

/// What is wrong with a will; empty = nothing. The service takes only what it would take as a PUBLISH.
std::string will_problem(const mqtt::Will& will, const protocol::MqttUserName& name, size_t max_bytes) {
  if (will.qos == mqtt::Qos::exactly_once) return "the will has QoS 2";
  const auto topic = protocol::parse_device_topic(will.topic);
  if (!topic || topic->kind != protocol::DeviceTopic::Kind::telemetry || topic->device_id != name.device_id ||
      topic->module_id != name.module_id) {
    return fmt::format("the will's topic '{}' is not a telemetry topic of the identity", will.topic);
  }
  const auto size = protocol::measure_message_bag(topic->bag);
  if (!size) return "the will's topic has a malformed property bag";
  if (size->bytes + will.message.size() > max_bytes) return "the will is too large";
  return {};
}

}  // namespace

Result<protocol::MqttUserName> connect_identity(const mqtt::Connect& connect) {
  if (!connect.user_name) return make_error(ErrorCode::unauthorized, "CONNECT has no user name");
  return protocol::parse_mqtt_user_name(*connect.user_name);
}

ConnectDecision decide_connect(const mqtt::Connect& connect, const net::PeerCertificate* certificate,
                               const Shard& shard) {
  if (!shard.shared().serving.load(std::memory_order_relaxed)) {
    ConnectDecision decision = refuse_connect("the hub is not serving");
    decision.code = ConnackCode::server_unavailable;
    return decision;
  }
  const auto name = connect_identity(connect);
  if (!name) return refuse_connect(name.error().message);
  if (!shard.shared().access->knows_host(name->host_name)) {
    return refuse_connect(fmt::format("user name for host '{}', not for this hub", name->host_name));
  }
  const std::string expected =
      name->module_id.empty() ? name->device_id : fmt::format("{}/{}", name->device_id, name->module_id);
  if (connect.client_id != expected) {
    return refuse_connect(fmt::format("client id '{}' with user name of '{}'", connect.client_id, expected));
  }
  const auto admission = admit_device(shard.store(), *shard.shared().access, name->device_id, name->module_id,
                                      connect.password.value_or(std::string_view{}), certificate, shard.wall_now());
  if (!admission) return refuse_connect(fmt::format("'{}': {}", expected, admission.error().message));
  if (connect.will) {
    if (const auto problem = will_problem(*connect.will, *name, shard.shared().config->max_message_bytes);
        !problem.empty()) {
      return refuse_connect(fmt::format("'{}': {}", expected, problem));
    }
  }
  ConnectDecision decision;
  decision.code = ConnackCode::accepted;
  decision.session_present = !connect.clean_session && admission->record->session_stored;
  decision.api_level = api_level(name->api_version);
  decision.record = admission->record;
  decision.expires = admission->expires;
  decision.model_id = name->model_id;
  return decision;
}

MqttSession::MqttSession(Shard& shard, MqttPort& port, const mqtt::Connect& connect, const ConnectDecision& decision)
    : shard_{shard},
      port_{port},
      record_{decision.record},
      last_seen_{shard.mono_now()},
      patience_{patience(connect.keep_alive_seconds)},
      token_until_{token_end(shard, decision.expires)},
      clean_session_{connect.clean_session},
      api_level_{decision.api_level} {
  if (record_->link != nullptr) {
    record_->link->close(CloseReason::take_over);
    record_->take_overs.count(shard_.mono_now());
  }
  if (connect.will) {
    will_ = std::make_unique<StoredWill>(StoredWill{std::string{protocol::parse_device_topic(connect.will->topic)->bag},
                                                    std::string{connect.will->message}, connect.will->retain});
  }
  if (clean_session_) {
    record_->subscriptions = 0;
    if (record_->messages != nullptr) record_->messages->connection_lost(false);
  }
  record_->session_stored = !clean_session_;
  record_->link = this;
  const WallTime now = shard_.wall_now();
  if (!decision.model_id.empty()) record_->twin.model_id = decision.model_id;
  record_->twin.connection_state = twin::ConnectionState::connected;
  record_->twin.last_activity_time = now;
  record_->connection_state_updated = now;
  record_->touch();
  shard_.counts().add(&HubCounts::connects_accepted);
  shard_.counts().add(&HubCounts::connected_devices);

  std::string& out = shard_.scratch();
  out.clear();
  mqtt::encode_connack(out, {decision.session_present, ConnackCode::accepted});
  port_.write(out);
}

MqttSession::~MqttSession() { close(CloseReason::hub); }

template <class Append>
void MqttSession::emit(Append&& append) {
  std::string& out = shard_.scratch();
  if (gathering_) {
    append(out);
    return;
  }
  out.clear();
  append(out);
  if (!out.empty()) port_.write(out);
}

void MqttSession::begin() {
  messages_waiting();
  if (!ended() && (record_->subscriptions & kMethods) != 0) {
    shard_.messaging().methods().device_ready(*record_, shard_.mono_now());
  }
}

void MqttSession::check_deadline(MonoTime now) {
  if (ended()) return;
  if (token_until_ <= now) {
    close(CloseReason::token_expired);
  } else if (full()) {
    last_seen_ = now;  // it may have spoken: it is we who do not listen
  } else if (silent_until() <= now) {
    close(CloseReason::keep_alive);
  }
}

void MqttSession::close(CloseReason reason) {
  if (ended()) return;
  if (will_ != nullptr && reason != CloseReason::goodbye && reason != CloseReason::hub) publish_will();
  if (held_ != nullptr) {
    for (const Held::Packet& packet : held_->packets) shard_.abandon(packet.operation);
    held_.reset();
  }
  DeviceRecord& record = *std::exchange(record_, nullptr);
  record.link = nullptr;
  if (PlantedFaults* faults = shard_.shared().faults.get(); faults != nullptr) faults->drop_held(record.key());
  if (clean_session_) record.subscriptions = 0;
  if (record.messages != nullptr) record.messages->connection_lost(!clean_session_);
  record.twin.connection_state = twin::ConnectionState::disconnected;
  record.connection_state_updated = shard_.wall_now();
  record.touch();
  shard_.counts().subtract(&HubCounts::connected_devices);
  shard_.counts().add(&HubCounts::disconnects);
  shard_.counts().add(disconnect_counter(reason));
  port_.end();
}

void MqttSession::publish_will() {
  auto properties = protocol::parse_message_bag(will_->bag);
  if (!properties) return;  // checked at CONNECT
  properties->application.push_back({std::string{protocol::kMessageTypeProperty}, "Will"});
  if (will_->retain) properties->application.push_back({std::string{protocol::kRetainProperty}, "true"});
  shard_.messaging().accept_event(*record_, Arrival::will, protocol::measure(*properties), &*properties,
                                  will_->message);
}

size_t MqttSession::feed(std::string_view bytes) {
  std::string& out = shard_.scratch();
  out.clear();
  const WallTime now = shard_.wall_now();
  last_seen_ = shard_.mono_now();
  record_->twin.last_activity_time = now;
  record_->touch();

  const size_t packet_max = shard_.config().max_message_bytes + kTopicAllowance;
  size_t taken = 0;
  std::optional<CloseReason> end;
  gathering_ = true;
  while (!end && taken < bytes.size() && !full()) {
    const mqtt::FrameResult frame = mqtt::next_frame(bytes.substr(taken), packet_max);
    if (frame.status == mqtt::FrameStatus::need_more) break;
    if (frame.status == mqtt::FrameStatus::malformed) {
      end = CloseReason::protocol;
      break;
    }
    taken += frame.size;
    end = on_packet(frame.type, frame.flags, frame.body, now, out);
    if (out.size() < kFlushBytes) continue;
    // A request of 30 bytes may ask for a twin of 50 KB, and one read holds thousands of requests.
    port_.write(out);
    if (ended()) return taken;  // the device does not read: `bytes` are gone, too
    out.clear();
  }
  gathering_ = false;
  if (!out.empty()) port_.write(out);
  if (end) close(*end);
  if (full()) port_.stop_reading();
  return taken;
}

void MqttSession::do_held(MonoTime now) {
  if (ended() || held_ == nullptr) return;
  std::string& out = shard_.scratch();
  out.clear();
  const WallTime wall = shard_.wall_now();
  std::optional<CloseReason> end;
  gathering_ = true;
  while (!end && held_ != nullptr && held_->packets.front().due <= now) {
    const Held::Packet packet = std::move(held_->packets.front());
    held_->packets.pop_front();
    held_->bytes -= packet.body.size();
    if (held_->packets.empty()) held_.reset();
    const auto publish = mqtt::decode_publish(packet.flags, packet.body);
    end = perform(*protocol::parse_device_topic(publish->topic), *publish, wall, out);
    if (out.size() < kFlushBytes) continue;
    port_.write(out);
    if (ended()) return;
    out.clear();
  }
  gathering_ = false;
  if (!out.empty()) port_.write(out);
  if (end) close(*end);
  if (held_ != nullptr) port_.wake_at(held_->packets.front().due);
}

std::optional<DeviceLink::CloseReason> MqttSession::on_packet(mqtt::PacketType type, uint8_t flags,
                                                              std::string_view body, WallTime now, std::string& out) {
  switch (type) {
    case mqtt::PacketType::publish:
      return on_publish(flags, body, now, out);
    case mqtt::PacketType::puback:
      return on_puback(body, now, out);
    case mqtt::PacketType::subscribe:
      return on_subscribe(body, now, out);
    case mqtt::PacketType::unsubscribe:
      return on_unsubscribe(body, out);
    case mqtt::PacketType::pingreq:
      if (mqtt::check_empty(body) != mqtt::DecodeError::none) return CloseReason::protocol;
      mqtt::encode_pingresp(out);
      shard_.counts().add(&HubCounts::pings);
      return std::nullopt;
    case mqtt::PacketType::disconnect:
      return mqtt::check_empty(body) == mqtt::DecodeError::none ? CloseReason::goodbye : CloseReason::protocol;
    default:
      return CloseReason::protocol;  // a second CONNECT, QoS 2 traffic, packets only a server sends
  }
}

std::optional<DeviceLink::CloseReason> MqttSession::on_publish(uint8_t flags, std::string_view body, WallTime now,
                                                               std::string& out) {
  const auto publish = mqtt::decode_publish(flags, body);
  if (!publish || publish->qos == mqtt::Qos::exactly_once) return CloseReason::protocol;
  const auto topic = protocol::parse_device_topic(publish->topic);
  if (!topic) return CloseReason::protocol;
  if (shard_.shared().policy == nullptr) return perform(*topic, *publish, now, out);
  return perform_limited(*topic, *publish, flags, body, now, out);
}

std::optional<DeviceLink::CloseReason> MqttSession::perform(const protocol::DeviceTopic& topic,
                                                            const mqtt::Publish& publish, WallTime now,
                                                            std::string& out) {
  switch (topic.kind) {
    case protocol::DeviceTopic::Kind::twin_get:
      on_twin_get(topic.rid, now, out);
      break;
    case protocol::DeviceTopic::Kind::reported_patch:
      on_reported_patch(topic, publish.payload, now, out);
      break;
    case protocol::DeviceTopic::Kind::telemetry:
      if (!on_telemetry(topic, publish)) return CloseReason::protocol;
      break;
    case protocol::DeviceTopic::Kind::method_response:
      shard_.messaging().methods().answer(*record_, topic.rid, topic.status, publish.payload);
      break;
  }
  if (publish.qos == mqtt::Qos::at_least_once) mqtt::encode_puback(out, publish.packet_id);
  return std::nullopt;
}

std::optional<DeviceLink::CloseReason> MqttSession::perform_limited(const protocol::DeviceTopic& topic,
                                                                    const mqtt::Publish& publish, uint8_t flags,
                                                                    std::string_view body, WallTime now,
                                                                    std::string& out) {
  const OperationPolicy* const policy = policy_of(topic.kind);
  if (policy == nullptr) return perform(topic, publish, now, out);
  const TierPolicy::Verdict verdict = shard_.admit(*policy);
  if (verdict.refusal) {
    // Telemetry has no way to be refused but the end of the connection (device.md 3.9).
    if (topic.kind == protocol::DeviceTopic::Kind::telemetry) return CloseReason::throttled;
    shard_.counts().add(topic.kind == protocol::DeviceTopic::Kind::twin_get ? &HubCounts::twin_gets_refused
                                                                            : &HubCounts::reported_patches_refused);
    refuse(verdict.refusal->status == 429 ? device_throttled(policy->type) : *verdict.refusal, topic.rid, now, out);
    if (publish.qos == mqtt::Qos::at_least_once) mqtt::encode_puback(out, publish.packet_id);
    return std::nullopt;
  }
  if (verdict.delay <= Nanos::zero() && held_ == nullptr) return perform(topic, publish, now, out);
  const MonoTime due = shard_.mono_now() + verdict.delay;
  if (held_ == nullptr) {
    held_ = std::make_unique<Held>();
    port_.wake_at(due);
  }
  const MonoTime behind = held_->packets.empty() ? due : std::max(due, held_->packets.back().due);
  held_->packets.push_back({behind, policy->operation, flags, std::string{body}});
  held_->bytes += body.size();
  return std::nullopt;
}

std::optional<DeviceLink::CloseReason> MqttSession::on_subscribe(std::string_view body, WallTime now,
                                                                 std::string& out) {
  const auto subscribe = mqtt::decode_subscribe(body);
  if (!subscribe || subscribe->filters.size() > kFiltersMax) return CloseReason::protocol;
  std::string granted;
  uint8_t subscriptions = record_->subscriptions;
  for (const mqtt::Subscription& wanted : subscribe->filters) {
    const auto filter = protocol::parse_hub_filter(wanted.filter, record_->twin.device_id, record_->twin.module_id);
    // SDKs take SUBACK 0x80 as success, so the service closes instead.
    if (!filter) return CloseReason::protocol;
    const uint8_t bit = subscription_bit(*filter);
    const int qos = std::min<int>(static_cast<int>(wanted.qos), 1);
    subscriptions = static_cast<uint8_t>(subscriptions | bit);
    if ((bit & (kCloudToDevice | kInputs)) != 0) {
      subscriptions =
          static_cast<uint8_t>(qos == 1 ? subscriptions | kMessagesAtLeastOnce : subscriptions & ~kMessagesAtLeastOnce);
    }
    granted.push_back(static_cast<char>(qos));
  }
  const bool methods_added = (subscriptions & ~record_->subscriptions & kMethods) != 0;
  record_->subscriptions = subscriptions;
  mqtt::encode_suback(out, subscribe->packet_id,
                      std::span{reinterpret_cast<const uint8_t*>(granted.data()), granted.size()});
  shard_.counts().add(&HubCounts::subscribes);
  if (methods_added) shard_.messaging().methods().device_ready(*record_, shard_.mono_now());
  send_messages(now, out);
  return std::nullopt;
}

std::optional<DeviceLink::CloseReason> MqttSession::on_unsubscribe(std::string_view body, std::string& out) {
  const auto unsubscribe = mqtt::decode_unsubscribe(body);
  if (!unsubscribe) return CloseReason::protocol;
  uint8_t removed = 0;
  for (const mqtt::Subscription& named : unsubscribe->filters) {
    const auto filter = protocol::parse_hub_filter(named.filter, record_->twin.device_id, record_->twin.module_id);
    if (!filter) return CloseReason::protocol;
    removed = static_cast<uint8_t>(removed | subscription_bit(*filter));
  }
  record_->subscriptions = static_cast<uint8_t>(record_->subscriptions & ~removed);
  mqtt::encode_unsuback(out, unsubscribe->packet_id);
  shard_.counts().add(&HubCounts::unsubscribes);
  return std::nullopt;
}

void MqttSession::respond(int status, std::string_view rid, std::optional<int64_t> version, std::string_view body,
                          std::string& out) {
  if ((record_->subscriptions & kTwinResponses) == 0) return;
  std::string& topic = shard_.topic_scratch();
  topic.clear();
  protocol::append_twin_response(topic, status, rid, version);
  mqtt::encode_publish(out, topic, body);
}

void MqttSession::refuse(const ServiceError& error, std::string_view rid, WallTime now, std::string& out) {
  if (error.status == 412) shard_.counts().add(&HubCounts::precondition_failed);
  std::string body;
  twin::write_device_error(error, shard_.make_hex_id(), now, body);
  respond(error.status, rid, std::nullopt, body, out);
}

void MqttSession::on_twin_get(std::string_view rid, WallTime now, std::string& out) {
  if (api_level_ == ApiLevel::none) {
    shard_.counts().add(&HubCounts::twin_gets_refused);
    refuse(twin::argument_invalid("the user name has no api-version, twin operations need one"), rid, now, out);
    return;
  }
  std::string& body = shard_.body_scratch();
  body.clear();
  twin::write_device_twin(record_->twin, body);
  respond(200, rid, std::nullopt, body, out);
  shard_.charge(body.size());
  shard_.counts().add(&HubCounts::twin_gets);
}

void MqttSession::on_reported_patch(const protocol::DeviceTopic& topic, std::string_view payload, WallTime now,
                                    std::string& out) {
  const auto apply = [&]() -> ServiceResult<int64_t> {
    if (api_level_ == ApiLevel::none) {
      return twin::argument_invalid("the user name has no api-version, twin operations need one");
    }
    if (topic.version && *topic.version != record_->twin.reported.version) {
      return twin::version_mismatch(*topic.version, record_->twin.reported.version);
    }
    const auto patch = twin::parse_body(payload);
    if (!patch) return patch.error();
    if (api_level_ == ApiLevel::no_arrays && has_array(*patch)) {
      return twin::argument_invalid(
          fmt::format("arrays are not supported before api-version {}", kFirstVersionWithArrays));
    }
    if (PlantedFaults* faults = shard_.shared().faults.get(); faults != nullptr) [[unlikely]] {
      if (faults->strikes(Fault::lose_reported)) {
        twin::TwinDocument forgotten = record_->twin;
        const auto version = twin::apply_reported_patch(forgotten, *patch, now);
        if (version) faults->record(Fault::lose_reported, record_->key(), *version, now);
        return version;
      }
    }
    return twin::apply_reported_patch(record_->twin, *patch, now);
  };
  const auto version = apply();
  if (!version) {
    shard_.counts().add(&HubCounts::reported_patches_refused);
    refuse(version.error(), topic.rid, now, out);
    return;
  }
  shard_.charge(payload.size());
  shard_.counts().add(&HubCounts::reported_patches);
  respond(204, topic.rid, *version, {}, out);
}

bool MqttSession::on_telemetry(const protocol::DeviceTopic& topic, const mqtt::Publish& publish) {
  if (topic.device_id != record_->twin.device_id || topic.module_id != record_->twin.module_id) return false;
  auto size = protocol::measure_message_bag(topic.bag);
  if (!size || publish.payload.size() + size->bytes > shard_.config().max_message_bytes) return false;
  if (publish.retain) {
    ++size->properties;
    size->bytes += protocol::kRetainProperty.size() + std::string_view{"true"}.size();
  }
  const Arrival arrival = publish.qos == mqtt::Qos::at_most_once ? Arrival::qos0 : Arrival::qos1;
  if (record_->watch == nullptr) {
    shard_.messaging().accept_event(*record_, arrival, *size, nullptr, publish.payload);
    return true;
  }
  auto properties = protocol::parse_message_bag(topic.bag);
  if (properties && publish.retain) {
    properties->application.push_back({std::string{protocol::kRetainProperty}, "true"});
  }
  shard_.messaging().accept_event(*record_, arrival, *size, properties ? &*properties : nullptr, publish.payload);
  return true;
}

std::optional<DeviceLink::CloseReason> MqttSession::on_puback(std::string_view body, WallTime now, std::string& out) {
  const auto packet_id = mqtt::decode_puback(body);
  if (!packet_id) return CloseReason::protocol;
  if (record_->messages == nullptr) return std::nullopt;
  if (const auto message = record_->messages->acknowledge(*packet_id)) {
    shard_.messaging().settled(*record_, *message, MessageOutcome::success);
    send_messages(now, out);
  }
  return std::nullopt;
}

void MqttSession::send_messages(WallTime now, std::string& out) {
  const bool is_module = record_->is_module();
  if (record_->messages == nullptr) return;
  if ((record_->subscriptions & (is_module ? kInputs : kCloudToDevice)) == 0) return;
  const bool at_least_once = (record_->subscriptions & kMessagesAtLeastOnce) != 0;
  bool repeated = false;
  while (const CloudMessage* message = record_->messages->send_next(now, repeated)) {
    std::string& topic = shard_.topic_scratch();
    topic.clear();
    if (is_module) {
      protocol::append_input(topic, record_->twin.device_id, record_->twin.module_id, message->input, {});
    } else {
      protocol::append_devicebound(topic, record_->twin.device_id, {});
    }
    protocol::append_message_bag(topic, message->properties);
    shard_.counts().add(&HubCounts::c2d_sent);
    if (at_least_once) {
      mqtt::encode_publish(out, topic, message->body, mqtt::Qos::at_least_once, message->packet_id, false, repeated);
      return;
    }
    mqtt::encode_publish(out, topic, message->body);
    const auto sent = record_->messages->take_sent();
    shard_.messaging().settled(*record_, *sent, MessageOutcome::success);
    // A full queue at once would look like a device that does not read. The next sweep sends on.
    if (out.size() > shard_.config().max_pending_bytes / 2) return;
  }
}

void MqttSession::messages_waiting() {
  if (ended()) return;
  emit([&](std::string& out) { send_messages(shard_.wall_now(), out); });
}

bool MqttSession::invoke_method(std::string_view name, std::string_view rid, std::string_view payload) {
  if (ended() || (record_->subscriptions & kMethods) == 0) return false;
  emit([&](std::string& out) {
    std::string& topic = shard_.topic_scratch();
    topic.clear();
    protocol::append_method_call(topic, name, rid);
    mqtt::encode_publish(out, topic, payload);
  });
  return true;
}

void MqttSession::notify_desired(int64_t version, std::string_view body) {
  if (ended() || (record_->subscriptions & kDesired) == 0) return;
  if (shard_.shared().faults != nullptr) [[unlikely]] {
    return notify_with_faults(*shard_.shared().faults, version, body);
  }
  send_notification(version, body);
}

void MqttSession::notify_with_faults(PlantedFaults& faults, int64_t version, std::string_view body) {
  const std::string key = record_->key();
  if (faults.strikes(Fault::drop_notification)) {
    faults.record(Fault::drop_notification, key, version, shard_.wall_now());
    return;
  }
  if (faults.strikes(Fault::swap_notifications) && faults.hold(key, version, body)) return;
  send_notification(version, body);
  if (faults.strikes(Fault::duplicate_notification)) {
    faults.record(Fault::duplicate_notification, key, version, shard_.wall_now());
    send_notification(version, body);
  }
  if (const auto held = faults.take_held(key)) {
    faults.record(Fault::swap_notifications, key, held->version, shard_.wall_now());
    send_notification(held->version, held->body);
  }
}

void MqttSession::send_notification(int64_t version, std::string_view body) {
  char buffer[128];
  protocol::ByteWriter topic{buffer};
  protocol::append_desired_notification(topic, version);
  std::string& out = shard_.scratch();
  out.clear();
  mqtt::encode_publish(out, topic.view(), body);
  shard_.charge(body.size());
  shard_.counts().add(&HubCounts::desired_notifications_sent);
  port_.write(out);
}

}  // namespace twinstorm::hub
