#include "sim/hub/frontends/mqtt/mqtt_session.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "sim/hub/policy/device_admission.hpp"
#include "sim/protocol/byte_writer.hpp"
#include "sim/protocol/mqtt/decoder.hpp"
#include "sim/protocol/mqtt/encoder.hpp"

namespace twinstorm::hub {
namespace {

using mqtt::ConnackCode;

constexpr int64_t kPatienceMaxSeconds = 1767;  // device.md 3.3: the hub's cap on 1.5 times the keep-alive
constexpr size_t kTopicAllowance = 16 * 1024;  // fixed header, topic and packet id beside the message itself

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
    case DeviceLink::CloseReason::hub:
      break;
  }
  return &HubCounts::disconnects_hub;
}

Nanos patience(uint16_t keep_alive_seconds) {
  if (keep_alive_seconds == 0) return std::chrono::seconds{kPatienceMaxSeconds};
  return std::min<Nanos>(std::chrono::milliseconds{int64_t{keep_alive_seconds} * 1500},
                         std::chrono::seconds{kPatienceMaxSeconds});
}

ConnectDecision refuse_connect(std::string reason) {
  ConnectDecision decision;
  decision.reason = std::move(reason);
  return decision;
}

}  // namespace

Result<protocol::MqttUserName> connect_identity(const mqtt::Connect& connect) {
  if (!connect.user_name) return make_error(ErrorCode::unauthorized, "CONNECT has no user name");
  return protocol::parse_mqtt_user_name(*connect.user_name);
}

ConnectDecision decide_connect(const mqtt::Connect& connect, const Shard& shard) {
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
                                      connect.password.value_or(std::string_view{}), nullptr, shard.wall_now());
  if (!admission) return refuse_connect(fmt::format("'{}': {}", expected, admission.error().message));
  ConnectDecision decision;
  decision.code = ConnackCode::accepted;
  decision.session_present = !connect.clean_session && admission->record->session_stored;
  decision.api_version_given = !name->api_version.empty();
  decision.record = admission->record;
  return decision;
}

MqttSession::MqttSession(Shard& shard, MqttPort& port, const mqtt::Connect& connect, const ConnectDecision& decision)
    : shard_{shard},
      port_{port},
      record_{decision.record},
      last_seen_{shard.mono_now()},
      patience_{patience(connect.keep_alive_seconds)},
      clean_session_{connect.clean_session},
      api_version_given_{decision.api_version_given} {
  if (record_->link != nullptr) record_->link->close(CloseReason::take_over);
  if (clean_session_) record_->subscriptions = 0;
  record_->session_stored = !clean_session_;
  record_->link = this;
  const WallTime now = shard_.wall_now();
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

void MqttSession::close(CloseReason reason) {
  if (ended()) return;
  DeviceRecord& record = *std::exchange(record_, nullptr);
  record.link = nullptr;
  if (clean_session_) record.subscriptions = 0;
  record.twin.connection_state = twin::ConnectionState::disconnected;
  record.connection_state_updated = shard_.wall_now();
  record.touch();
  shard_.counts().subtract(&HubCounts::connected_devices);
  shard_.counts().add(&HubCounts::disconnects);
  shard_.counts().add(disconnect_counter(reason));
  port_.end();
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
  while (!end && taken < bytes.size()) {
    const mqtt::FrameResult frame = mqtt::next_frame(bytes.substr(taken), packet_max);
    if (frame.status == mqtt::FrameStatus::need_more) break;
    if (frame.status == mqtt::FrameStatus::malformed) {
      end = CloseReason::protocol;
      break;
    }
    taken += frame.size;
    end = on_packet(frame.type, frame.flags, frame.body, now, out);
  }
  if (!out.empty()) port_.write(out);
  if (end) close(*end);
  return taken;
}

std::optional<DeviceLink::CloseReason> MqttSession::on_packet(mqtt::PacketType type, uint8_t flags,
                                                              std::string_view body, WallTime now, std::string& out) {
  switch (type) {
    case mqtt::PacketType::publish:
      return on_publish(flags, body, now, out);
    case mqtt::PacketType::puback:
      if (!mqtt::decode_puback(body)) return CloseReason::protocol;
      return std::nullopt;
    case mqtt::PacketType::subscribe:
      return on_subscribe(body, out);
    case mqtt::PacketType::unsubscribe:
      return on_unsubscribe(body, out);
    case mqtt::PacketType::pingreq:
      if (mqtt::check_empty(body) != mqtt::DecodeError::none) return CloseReason::protocol;
      mqtt::encode_pingresp(out);
      shard_.counts().add(&HubCounts::pings);
      return std::nullopt;
    case mqtt::PacketType::disconnect:
      return CloseReason::client;
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
  switch (topic->kind) {
    case protocol::DeviceTopic::Kind::twin_get:
      on_twin_get(topic->rid, now, out);
      break;
    case protocol::DeviceTopic::Kind::reported_patch:
      on_reported_patch(*topic, publish->payload, now, out);
      break;
    case protocol::DeviceTopic::Kind::telemetry:
      if (!on_telemetry(*topic, publish->payload)) return CloseReason::protocol;
      break;
    case protocol::DeviceTopic::Kind::method_response:
      break;  // nobody waits for it
  }
  if (publish->qos == mqtt::Qos::at_least_once) mqtt::encode_puback(out, publish->packet_id);
  return std::nullopt;
}

std::optional<DeviceLink::CloseReason> MqttSession::on_subscribe(std::string_view body, std::string& out) {
  const auto subscribe = mqtt::decode_subscribe(body);
  if (!subscribe) return CloseReason::protocol;
  std::string granted;
  uint8_t added = 0;
  for (const mqtt::Subscription& wanted : subscribe->filters) {
    const auto filter = protocol::parse_hub_filter(wanted.filter, record_->twin.device_id, record_->twin.module_id);
    // SDKs take SUBACK 0x80 as success, so the service closes instead.
    if (!filter) return CloseReason::protocol;
    added = static_cast<uint8_t>(added | subscription_bit(*filter));
    granted.push_back(static_cast<char>(std::min<int>(static_cast<int>(wanted.qos), 1)));
  }
  record_->subscriptions = static_cast<uint8_t>(record_->subscriptions | added);
  mqtt::encode_suback(out, subscribe->packet_id,
                      std::span{reinterpret_cast<const uint8_t*>(granted.data()), granted.size()});
  shard_.counts().add(&HubCounts::subscribes);
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
  if (!api_version_given_) {
    shard_.counts().add(&HubCounts::twin_gets_refused);
    refuse(twin::argument_invalid("the user name has no api-version, twin operations need one"), rid, now, out);
    return;
  }
  std::string& body = shard_.body_scratch();
  body.clear();
  twin::write_device_twin(record_->twin, body);
  respond(200, rid, std::nullopt, body, out);
  shard_.counts().add(&HubCounts::twin_gets);
}

void MqttSession::on_reported_patch(const protocol::DeviceTopic& topic, std::string_view payload, WallTime now,
                                    std::string& out) {
  const auto apply = [&]() -> ServiceResult<int64_t> {
    if (!api_version_given_) {
      return twin::argument_invalid("the user name has no api-version, twin operations need one");
    }
    if (topic.version && *topic.version != record_->twin.reported.version) {
      return twin::version_mismatch(*topic.version, record_->twin.reported.version);
    }
    const auto patch = twin::parse_body(payload);
    if (!patch) return patch.error();
    return twin::apply_reported_patch(record_->twin, *patch, now);
  };
  const auto version = apply();
  if (!version) {
    shard_.counts().add(&HubCounts::reported_patches_refused);
    refuse(version.error(), topic.rid, now, out);
    return;
  }
  shard_.counts().add(&HubCounts::reported_patches);
  respond(204, topic.rid, *version, {}, out);
}

bool MqttSession::on_telemetry(const protocol::DeviceTopic& topic, std::string_view payload) {
  if (topic.device_id != record_->twin.device_id || topic.module_id != record_->twin.module_id) return false;
  if (payload.size() + topic.bag.size() > shard_.config().max_message_bytes) return false;
  if (!topic.bag.empty() && !protocol::decode_property_bag(topic.bag)) return false;
  shard_.counts().add(&HubCounts::telemetry_messages);
  shard_.counts().add(&HubCounts::telemetry_bytes, payload.size());
  return true;
}

void MqttSession::notify_desired(int64_t version, std::string_view body) {
  if (ended() || (record_->subscriptions & kDesired) == 0) return;
  char buffer[128];
  protocol::ByteWriter topic{buffer};
  protocol::append_desired_notification(topic, version);
  std::string& out = shard_.scratch();
  out.clear();
  mqtt::encode_publish(out, topic.view(), body);
  shard_.counts().add(&HubCounts::desired_notifications_sent);
  port_.write(out);
}

}  // namespace twinstorm::hub
