// The device side of one MQTT connection: what may be sent, what arrived, when to ping. Sans-I/O.
//
// Bytes go out through a `ByteWriter` of the caller, bytes come in through `feed`, time is a parameter. A session is 40
// bytes of plain values, never allocates and belongs to one thread.
//
//     session.connect(out, connect, now, 60s);           // then write the bytes
//     auto [consumed, error] = session.feed(bytes, handler, now);
//     switch (session.on_time(now, out)) ...             // when `next_deadline()` has passed
#pragma once

#include <bit>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>

#include "sim/base/time.hpp"
#include "sim/protocol/mqtt/decoder.hpp"
#include "sim/protocol/mqtt/encoder.hpp"

namespace twinstorm::mqtt {

enum class SessionState : uint8_t {
  idle,        ///< nothing sent yet
  connecting,  ///< CONNECT written, CONNACK awaited
  connected,   ///< CONNACK 0 received
  closed,      ///< refused, dead, disconnected or out of protocol: only `reset` helps
};

/// What `on_time` did.
enum class TimeAction : uint8_t {
  none,
  ping_sent,        ///< PINGREQ is in the writer
  would_block,      ///< the writer had no room for PINGREQ: call again when it has
  connack_missing,  ///< no CONNACK in time: close the connection
  pingresp_missing  ///< no PINGRESP within one keep-alive period: close the connection
};

struct FeedResult {
  size_t consumed = 0;                    ///< whole packets; the incomplete tail behind them is the caller's to keep
  DecodeError error = DecodeError::none;  ///< set: close the connection, the rest of the bytes is meaningless
};

/// What `feed` calls. Views are valid during the call. `feed` stops after the packet during whose handling the session
/// became closed.
template <class H>
concept SessionHandler = requires(H& handler, const Connack& connack, const Publish& publish, const Suback& suback,
                                  uint16_t packet_id) {
  handler.on_connack(connack);     ///< accepted or refused: see `code`; a refused session is closed
  handler.on_publish(publish);     ///< QoS 1: answer with `ClientSession::puback`
  handler.on_puback(packet_id);    ///< only for identifiers that were outstanding
  handler.on_suback(suback);       ///< likewise
  handler.on_unsuback(packet_id);  ///< likewise
  handler.on_pingresp();
};

class ClientSession {
 public:
  /// Identifiers in flight at once (QoS 1 PUBLISH, SUBSCRIBE, UNSUBSCRIBE together); the window starts at the oldest
  /// unanswered one.
  static constexpr int kInFlightMax = 64;

  explicit ClientSession(uint16_t first_packet_id = 1)
      : next_id_{first_packet_id == 0 ? uint16_t{1} : first_packet_id} {}

  /// Back to idle for a new connection; packet identifiers continue, outstanding ones are forgotten.
  void reset();

  // Each of these writes one packet, or nothing when it returns false or 0 (no room in the writer, window full, or not
  // in the state for it).

  /// Clean session, keep alive, will and credentials as given. `timeout` bounds the wait for CONNACK.
  bool connect(ByteWriter& out, const Connect& connect, MonoTime now, Nanos timeout);
  bool publish0(ByteWriter& out, std::string_view topic, std::string_view payload);
  /// Returns the packet identifier, 0 when nothing was written.
  uint16_t publish1(ByteWriter& out, std::string_view topic, std::string_view payload, bool dup = false);
  uint16_t subscribe(ByteWriter& out, std::span<const Subscription> subscriptions);
  uint16_t unsubscribe(ByteWriter& out, std::span<const std::string_view> filters);
  bool puback(ByteWriter& out, uint16_t packet_id);
  /// DISCONNECT; the session is closed afterwards.
  bool disconnect(ByteWriter& out);

  /// For in-place writing with `PublishWriter`: reserves the next identifier (0 = window full or not connected). When
  /// nothing could be written after all, give it back with `release_packet_id`.
  uint16_t acquire_packet_id();
  void release_packet_id(uint16_t packet_id) { settle(packet_id); }

  /// Decodes every whole packet in `bytes` and calls the handler for each.
  template <SessionHandler Handler>
  FeedResult feed(std::string_view bytes, Handler& handler, MonoTime now, size_t max_packet = kMaxPacketDefault);

  /// When `on_time` wants to be called; `MonoTime::max()` when there is nothing to wait for.
  MonoTime next_deadline() const { return deadline_; }
  /// As the reference SDK: a PINGREQ each keep-alive period even under traffic; if the PINGRESP is missing when the
  /// next is due, the connection is dead (device.md 3.3). Does nothing before `next_deadline()`.
  TimeAction on_time(MonoTime now, ByteWriter& out);

  SessionState state() const { return state_; }
  bool connected() const { return state_ == SessionState::connected; }
  int outstanding() const { return std::popcount(in_flight_); }
  bool is_outstanding(uint16_t packet_id) const;

 private:
  bool settle(uint16_t packet_id);
  void on_connack(const Connack& connack, MonoTime now);
  void close();
  static uint16_t distance(uint16_t from, uint16_t to) {
    return static_cast<uint16_t>(to >= from ? to - from : to + 0xffff - from);  // identifiers skip 0
  }

  MonoTime deadline_ = MonoTime::max();
  uint64_t in_flight_ = 0;  // bit i: the identifier i steps behind oldest_id_ is unanswered
  uint16_t oldest_id_ = 1;
  uint16_t next_id_;
  uint16_t keep_alive_seconds_ = 0;
  SessionState state_ = SessionState::idle;
  bool ping_pending_ = false;
};
static_assert(sizeof(ClientSession) <= 48, "a session is part of every idle device");
static_assert(std::is_trivially_copyable_v<ClientSession>);

template <SessionHandler Handler>
FeedResult ClientSession::feed(std::string_view bytes, Handler& handler, MonoTime now, size_t max_packet) {
  FeedResult result;
  const auto fail = [&](DecodeError error) {
    close();
    result.error = error;
    return result;
  };
  while (state_ == SessionState::connecting || state_ == SessionState::connected) {
    const FrameResult frame = next_frame(bytes.substr(result.consumed), max_packet);
    if (frame.status == FrameStatus::need_more) break;
    if (frame.status == FrameStatus::malformed) return fail(frame.error);
    if ((state_ == SessionState::connecting) != (frame.type == PacketType::connack)) {
      return fail(DecodeError::unexpected_packet);
    }
    switch (frame.type) {
      case PacketType::connack: {
        const auto connack = decode_connack(frame.body);
        if (!connack) return fail(connack.error());
        result.consumed += frame.size;
        on_connack(*connack, now);
        handler.on_connack(*connack);
        break;
      }
      case PacketType::publish: {
        const auto publish = decode_publish(frame.flags, frame.body);
        if (!publish) return fail(publish.error());
        // No subscription of ours asks for QoS 2, so a server may not send it [MQTT-3.8.4-6].
        if (publish->qos == Qos::exactly_once) return fail(DecodeError::unexpected_packet);
        result.consumed += frame.size;
        handler.on_publish(*publish);
        break;
      }
      case PacketType::puback:
      case PacketType::unsuback: {
        const auto packet_id = decode_packet_id(frame.body);
        if (!packet_id) return fail(packet_id.error());
        result.consumed += frame.size;
        if (settle(*packet_id)) {
          if (frame.type == PacketType::puback) {
            handler.on_puback(*packet_id);
          } else {
            handler.on_unsuback(*packet_id);
          }
        }
        break;
      }
      case PacketType::suback: {
        const auto suback = decode_suback(frame.body);
        if (!suback) return fail(suback.error());
        result.consumed += frame.size;
        if (settle(suback->packet_id)) handler.on_suback(*suback);
        break;
      }
      case PacketType::pingresp: {
        if (const auto error = check_empty(frame.body); error != DecodeError::none) return fail(error);
        result.consumed += frame.size;
        ping_pending_ = false;
        handler.on_pingresp();
        break;
      }
      default:
        return fail(DecodeError::unexpected_packet);
    }
  }
  return result;
}

}  // namespace twinstorm::mqtt
