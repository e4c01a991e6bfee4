#include "sim/hub/frontends/mqtt/mqtt_connection.hpp"

#include "sim/base/log.hpp"
#include "sim/protocol/mqtt/decoder.hpp"
#include "sim/protocol/mqtt/encoder.hpp"

namespace twinstorm::hub {
namespace {

constexpr size_t kConnectMax = 80 * 1024;  // a SAS token and a user name are a few hundred bytes; the rest is a will

}  // namespace

MqttConnection::MqttConnection(Shard& shard, Channel channel, std::string received)
    : Connection{shard, std::move(channel), {&HubCounts::mqtt_bytes_in, &HubCounts::mqtt_bytes_out}},
      received_{std::move(received)} {}

void MqttConnection::on_start() {
  set_deadline(shard().mono_now() + shard().config().connect_timeout);
  if (received_.empty()) return;
  const std::string bytes = std::exchange(received_, {});
  deliver(bytes);
}

size_t MqttConnection::on_bytes(std::string_view bytes) {
  if (session_) return session_->feed(bytes);
  const size_t taken = on_connect(bytes);
  if (taken == 0 || closed() || !session_ || taken == bytes.size()) return taken;
  return taken + session_->feed(bytes.substr(taken));
}

size_t MqttConnection::on_connect(std::string_view bytes) {
  const mqtt::FrameResult frame = mqtt::next_frame(bytes, kConnectMax);
  if (frame.status == mqtt::FrameStatus::need_more) return 0;
  if (frame.status == mqtt::FrameStatus::malformed || frame.type != mqtt::PacketType::connect) {
    lose(DeviceLink::CloseReason::protocol);
    close();
    return bytes.size();
  }
  const auto connect = mqtt::decode_connect(frame.body);
  if (!connect) {
    if (connect.error() == mqtt::DecodeError::unacceptable_protocol_level) {
      refuse(mqtt::ConnackCode::unacceptable_protocol_version, mqtt::describe(connect.error()));
    } else {
      lose(DeviceLink::CloseReason::protocol);
      close();
    }
    return bytes.size();
  }
  const auto identity = connect_identity(*connect);
  if (!identity) {
    refuse(mqtt::ConnackCode::not_authorized, identity.error().message);
    return bytes.size();
  }
  if (Shard& owner = shard().shared().owner_of(identity->device_id); &owner != &shard()) {
    move_to(owner, bytes);
    return bytes.size();
  }
  const ConnectDecision decision = decide_connect(*connect, peer_certificate(), shard());
  if (decision.code != mqtt::ConnackCode::accepted) {
    refuse(decision.code, decision.reason);
    return bytes.size();
  }
  if (hold(*decision.record)) return 0;
  if (limit()) return 0;
  MqttPort& port = *this;
  session_.emplace(shard(), port, *connect, decision);
  forget_peer_certificate();
  set_deadline(session_->deadline());
  session_->begin();
  return frame.size;
}

bool MqttConnection::hold(const DeviceRecord& record) {
  if (held_ || record.link == nullptr) return false;  // held once is enough
  const Nanos delay = record.take_overs.delay(shard().mono_now());
  if (delay <= Nanos::zero()) return false;
  shard().counts().add(&HubCounts::connects_damped);
  wait(delay);
  return true;
}

bool MqttConnection::limit() {
  if (shard().shared().policy == nullptr || admitted_) return false;
  const TierPolicy::Verdict verdict = shard().admit(kConnect);
  if (verdict.refusal) {
    refuse(mqtt::ConnackCode::server_unavailable, verdict.refusal->message);
    return true;
  }
  admitted_ = true;
  if (verdict.delay <= Nanos::zero()) return false;
  wait(verdict.delay);
  return true;
}

void MqttConnection::wait(Nanos delay) {
  held_ = true;
  pause();
  set_deadline(shard().mono_now() + delay);
}

void MqttConnection::refuse(mqtt::ConnackCode code, std::string_view reason) {
  log::debug("CONNECT refused with {}: {}", static_cast<int>(code), reason);
  lose(DeviceLink::CloseReason::protocol);
  std::string out;
  mqtt::encode_connack(out, {false, code});
  send(out);
  close_after_sending();
}

void MqttConnection::move_to(Shard& owner, std::string_view bytes) {
  auto parked = release();
  if (!parked) {  // reset between the bytes and now
    lose(DeviceLink::CloseReason::client);
    close();
    return;
  }
  owner.post([&owner, received = std::string{bytes}, parked = std::move(*parked)]() mutable {
    owner.adopt(std::make_unique<MqttConnection>(owner, std::move(parked).revive(owner.io()), std::move(received)));
  });
}

MonoTime MqttConnection::on_deadline(MonoTime now) {
  if (session_) {
    session_->check_deadline(now);
    return session_->ended() ? MonoTime::max() : session_->deadline();
  }
  if (held_) {
    if (peer_has_left()) {  // nobody would use what it took over
      if (admitted_) shard().abandon(kConnect.operation);
      lose(DeviceLink::CloseReason::client);
      close();
    } else {
      resume();  // its CONNECT is whole and is decided now
    }
    return MonoTime::max();
  }
  lose(DeviceLink::CloseReason::protocol);
  close();
  return MonoTime::max();
}

void MqttConnection::on_wake(MonoTime now) {
  if (!session_) return;
  const bool was_full = session_->full();
  session_->do_held(now);
  if (was_full && !session_->ended() && !session_->full()) resume();
}

void MqttConnection::lose(DeviceLink::CloseReason reason) {
  if (session_) {
    session_->close(reason);
  } else if (!std::exchange(refused_, true)) {
    shard().counts().add(&HubCounts::connects_refused);
  }
}

}  // namespace twinstorm::hub
