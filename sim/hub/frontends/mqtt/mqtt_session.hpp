// The hub's side of one MQTT conversation, without the socket: what a device's packets do to its twin and what it is
// answered (device.md 3). Belongs to the shard that owns the device.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "sim/base/time.hpp"
#include "sim/hub/shard.hpp"
#include "sim/hub/store/device_record.hpp"
#include "sim/net/certificates.hpp"
#include "sim/protocol/mqtt/packet.hpp"
#include "sim/protocol/topics.hpp"

namespace twinstorm::hub {

/// Where a session's bytes go.
class MqttPort {
 public:
  virtual void write(std::string_view bytes) = 0;
  /// Ends the connection; nothing more is written. The session has already left the device's record.
  virtual void end() = 0;
  /// Calls `MqttSession::do_held` at `at`.
  virtual void wake_at(MonoTime at) = 0;
  /// Hands no more bytes to `MqttSession::feed` until `do_held` has made room again (`MqttSession::full`).
  virtual void stop_reading() = 0;

 protected:
  ~MqttPort() = default;
};

/// What a device may do by the api-version of its user name (device.md 3.1, 7.3).
enum class ApiLevel : uint8_t {
  none,       ///< not given, or no date: twin operations are answered 400
  no_arrays,  ///< before 2019-10-01: arrays in reported properties are refused
  full,
};

/// The decision on a CONNECT. With `accepted`, `record` is set and `session_present` says whether it kept
/// subscriptions.
struct ConnectDecision {
  mqtt::ConnackCode code = mqtt::ConnackCode::not_authorized;
  bool session_present = false;
  ApiLevel api_level = ApiLevel::none;
  DeviceRecord* record = nullptr;
  WallTime expires = WallTime::max();  ///< of the token
  std::string model_id;                ///< plug and play, as announced in the user name
  std::string reason;                  ///< of a refusal, for the log
};

/// The identity a CONNECT speaks for: who owns it decides which shard answers. Error: no usable user name.
Result<protocol::MqttUserName> connect_identity(const mqtt::Connect& connect);

/// Checks user name, client id, password or certificate, and will on the shard that owns the device; changes nothing
/// (device.md 3.1, 3.2, 3.9). A will must be telemetry of the identity itself.
ConnectDecision decide_connect(const mqtt::Connect& connect, const net::PeerCertificate* certificate,
                               const Shard& shard);

class MqttSession final : public DeviceLink {
 public:
  /// Attaches to `decision.record`, whose previous link is closed first, and sends CONNACK 0.
  MqttSession(Shard& shard, MqttPort& port, const mqtt::Connect& connect, const ConnectDecision& decision);
  MqttSession(const MqttSession&) = delete;
  MqttSession& operator=(const MqttSession&) = delete;
  ~MqttSession();

  /// Sends what waited for the device: messages of the stored session, pending methods. To be called once, behind the
  /// constructor: writing may end the session.
  void begin();
  /// Takes whole packets off the front of `bytes`; returns how many bytes they had. Answers are written together, 64 KB
  /// or a little more at a time. May end the session.
  size_t feed(std::string_view bytes);
  /// When the device has to have been heard again: 1.5 times its keep-alive (device.md 3.3).
  MonoTime silent_until() const { return last_seen_ + patience_; }
  /// When the session ends if nothing happens: silence or an expired token.
  MonoTime deadline() const { return std::min(silent_until(), token_until_); }
  /// Ends the session if `deadline` has passed.
  void check_deadline(MonoTime now);
  /// Does what the rates of the hub's tier have kept waiting until `now`. May end the session.
  void do_held(MonoTime now);
  /// So much is waiting that the device is not read any more.
  bool full() const { return held_ != nullptr && held_->full(); }

  void notify_desired(int64_t version, std::string_view body) override;
  bool invoke_method(std::string_view name, std::string_view rid, std::string_view payload) override;
  void messages_waiting() override;
  void close(CloseReason reason) override;
  bool ended() const { return record_ == nullptr; }

 private:
  /// Handles one packet, appending answers to `out`; a reason to end, if there is one.
  std::optional<CloseReason> on_packet(mqtt::PacketType type, uint8_t flags, std::string_view body, WallTime now,
                                       std::string& out);
  std::optional<CloseReason> on_publish(uint8_t flags, std::string_view body, WallTime now, std::string& out);
  /// Does what the device asks for.
  std::optional<CloseReason> perform(const protocol::DeviceTopic& topic, const mqtt::Publish& publish, WallTime now,
                                     std::string& out);
  /// The same when the hub has a tier: now, later or not at all.
  std::optional<CloseReason> perform_limited(const protocol::DeviceTopic& topic, const mqtt::Publish& publish,
                                             uint8_t flags, std::string_view body, WallTime now, std::string& out);
  std::optional<CloseReason> on_subscribe(std::string_view body, WallTime now, std::string& out);
  std::optional<CloseReason> on_unsubscribe(std::string_view body, std::string& out);
  void on_twin_get(std::string_view rid, WallTime now, std::string& out);
  void on_reported_patch(const protocol::DeviceTopic& topic, std::string_view payload, WallTime now, std::string& out);
  std::optional<CloseReason> on_puback(std::string_view body, WallTime now, std::string& out);
  /// False for what ends the connection: someone else's topic, a malformed bag, too large.
  bool on_telemetry(const protocol::DeviceTopic& topic, const mqtt::Publish& publish);
  void notify_with_faults(PlantedFaults& faults, int64_t version, std::string_view body);
  void send_notification(int64_t version, std::string_view body);
  void publish_will();
  /// Appends the messages that may go out now; with QoS 1 at most one is unacknowledged, with QoS 0 they are at most
  /// about half of what may wait unsent.
  void send_messages(WallTime now, std::string& out);
  void refuse(const ServiceError& error, std::string_view rid, WallTime now, std::string& out);
  void respond(int status, std::string_view rid, std::optional<int64_t> version, std::string_view body,
               std::string& out);

  /// Lets `append` write packets: behind the answers that are being gathered, or at once.
  template <class Append>
  void emit(Append&& append);

  /// PUBLISH packets that wait because of the tier's rates, in the order they came. Whatever the device asks for behind
  /// them waits, too, so that its order is kept; pings, subscriptions and acknowledgements do not.
  struct Held {
    struct Packet {
      MonoTime due;
      OperationClass operation;
      uint8_t flags;
      std::string body;
    };
    static constexpr size_t kPacketsMax = 64;
    static constexpr size_t kBytesMax = 64 * 1024;  // reached, not exceeded by more than a message

    bool full() const { return packets.size() >= kPacketsMax || bytes >= kBytesMax; }

    std::deque<Packet> packets;  // never empty
    size_t bytes = 0;
  };

  struct StoredWill {
    std::string bag;
    std::string message;
    bool retain;
  };

  Shard& shard_;
  MqttPort& port_;
  DeviceRecord* record_;  // nullptr once ended
  MonoTime last_seen_;
  Nanos patience_;
  MonoTime token_until_;
  std::unique_ptr<StoredWill> will_;
  std::unique_ptr<Held> held_;  // nullptr: nothing waits
  bool clean_session_;
  ApiLevel api_level_;
  bool gathering_ = false;  // inside feed: packets go behind its answers
};

}  // namespace twinstorm::hub
