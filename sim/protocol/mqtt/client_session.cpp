#include "sim/protocol/mqtt/client_session.hpp"

namespace twinstorm::mqtt {
namespace {

/// Runs `encode`; when the packet did not fit, nothing of it stays behind.
template <class Encode>
bool write_whole(ByteWriter& out, Encode&& encode) {
  if (out.overflowed()) return false;
  const size_t start = out.size();
  encode();
  if (!out.overflowed()) return true;
  out.rewind(start);
  return false;
}

uint16_t next_packet_id(uint16_t id) { return id == 0xffff ? uint16_t{1} : static_cast<uint16_t>(id + 1); }

uint16_t advance(uint16_t id, int steps) {
  const int sum = id + steps;
  return static_cast<uint16_t>(sum > 0xffff ? sum - 0xffff : sum);
}

}  // namespace

void ClientSession::reset() {
  deadline_ = MonoTime::max();
  in_flight_ = 0;
  state_ = SessionState::idle;
  ping_pending_ = false;
}

void ClientSession::close() {
  state_ = SessionState::closed;
  deadline_ = MonoTime::max();
}

bool ClientSession::connect(ByteWriter& out, const Connect& connect, MonoTime now, Nanos timeout) {
  if (state_ != SessionState::idle) return false;
  if (!write_whole(out, [&] { encode_connect(out, connect); })) return false;
  keep_alive_seconds_ = connect.keep_alive_seconds;
  deadline_ = now + timeout;
  state_ = SessionState::connecting;
  return true;
}

bool ClientSession::publish0(ByteWriter& out, std::string_view topic, std::string_view payload) {
  return connected() && write_whole(out, [&] { encode_publish(out, topic, payload); });
}

uint16_t ClientSession::publish1(ByteWriter& out, std::string_view topic, std::string_view payload, bool dup) {
  const auto packet_id = acquire_packet_id();
  if (packet_id == 0) return 0;
  const Publish publish{topic, payload, Qos::at_least_once, packet_id, false, dup};
  if (write_whole(out, [&] { encode_publish(out, publish); })) return packet_id;
  settle(packet_id);
  return 0;
}

uint16_t ClientSession::subscribe(ByteWriter& out, std::span<const Subscription> subscriptions) {
  const auto packet_id = acquire_packet_id();
  if (packet_id == 0) return 0;
  if (write_whole(out, [&] { encode_subscribe(out, packet_id, subscriptions); })) return packet_id;
  settle(packet_id);
  return 0;
}

uint16_t ClientSession::unsubscribe(ByteWriter& out, std::span<const std::string_view> filters) {
  const auto packet_id = acquire_packet_id();
  if (packet_id == 0) return 0;
  if (write_whole(out, [&] { encode_unsubscribe(out, packet_id, filters); })) return packet_id;
  settle(packet_id);
  return 0;
}

bool ClientSession::puback(ByteWriter& out, uint16_t packet_id) {
  return connected() && write_whole(out, [&] { encode_puback(out, packet_id); });
}

bool ClientSession::disconnect(ByteWriter& out) {
  if (!connected() || !write_whole(out, [&] { encode_disconnect(out); })) return false;
  close();
  return true;
}

uint16_t ClientSession::acquire_packet_id() {
  if (!connected()) return 0;
  if (in_flight_ == 0) oldest_id_ = next_id_;
  const int position = distance(oldest_id_, next_id_);
  if (position >= kInFlightMax) return 0;
  in_flight_ |= uint64_t{1} << position;
  const auto packet_id = next_id_;
  next_id_ = next_packet_id(next_id_);
  return packet_id;
}

bool ClientSession::is_outstanding(uint16_t packet_id) const {
  if (packet_id == 0) return false;
  const int position = distance(oldest_id_, packet_id);
  return position < kInFlightMax && (in_flight_ >> position & 1) != 0;
}

bool ClientSession::settle(uint16_t packet_id) {
  if (!is_outstanding(packet_id)) return false;
  in_flight_ &= ~(uint64_t{1} << distance(oldest_id_, packet_id));
  if (in_flight_ != 0) {
    const int answered = std::countr_zero(in_flight_);
    in_flight_ >>= answered;
    oldest_id_ = advance(oldest_id_, answered);
  }
  return true;
}

void ClientSession::on_connack(const Connack& connack, MonoTime now) {
  if (connack.code != ConnackCode::accepted) {
    close();
    return;
  }
  state_ = SessionState::connected;
  ping_pending_ = false;
  deadline_ = keep_alive_seconds_ == 0 ? MonoTime::max() : now + std::chrono::seconds{keep_alive_seconds_};
}

TimeAction ClientSession::on_time(MonoTime now, ByteWriter& out) {
  if (now < deadline_) return TimeAction::none;
  if (state_ == SessionState::connecting) {
    close();
    return TimeAction::connack_missing;
  }
  if (state_ != SessionState::connected) return TimeAction::none;
  if (ping_pending_) {
    close();
    return TimeAction::pingresp_missing;
  }
  if (!write_whole(out, [&] { encode_pingreq(out); })) return TimeAction::would_block;
  ping_pending_ = true;
  deadline_ = now + std::chrono::seconds{keep_alive_seconds_};
  return TimeAction::ping_sent;
}

}  // namespace twinstorm::mqtt
