// A socket that speaks HTTP/1.1 with keep-alive and pipelining: parses, authorises, routes to the owner of the device
// and answers in order. Lives on any shard.
#pragma once

#include <limits>
#include <optional>
#include <string>

#include "sim/hub/connection.hpp"
#include "sim/hub/frontends/http/device_service.hpp"
#include "sim/protocol/http/http_codec.hpp"
#include "sim/protocol/message_bag.hpp"

namespace twinstorm::hub {

class HttpConnection final : public Connection {
 public:
  /// `loopback`: the peer is this machine, which may read the hub's own counts without a token.
  HttpConnection(Shard& shard, Channel channel, bool loopback);

 private:
  void on_start() override;
  size_t on_bytes(std::string_view bytes) override;
  void on_peer_gone() override {}
  MonoTime on_deadline(MonoTime now) override;
  void on_shutdown() override {}
  void on_slow_reader() override {}
  void on_wake(MonoTime now) override;
  /// Never reached by one answer however large: no further request is taken while bytes wait.
  size_t backlog_limit() const override { return std::numeric_limits<size_t>::max(); }
  void on_sent() override {
    if (!waiting_) resume();
  }

  /// Answers the parsed request into `out`, or pauses until another shard has the answer.
  void on_request(std::string& out);
  /// The resources of the hub itself, outside of the service API; nothing when the target is another one.
  std::optional<ServiceAnswer> own_resource();
  /// What a device or module asks for itself, and the hub's own resources about one identity: false when the target is
  /// neither, otherwise as `on_request`.
  bool on_device_request(std::string& out);
  bool on_extension_request(std::string& out);
  /// The message headers of the request.
  protocol::MessageProperties message_properties() const;
  /// Answers with what `work(owner)` returns, wherever the owner runs.
  template <class Work>
  void answer_from(Shard& owner, Work work, std::string& out);
  ServiceResult<void> authorize(const Requirement& needed);
  /// Lets the rates of the hub's tier decide: the answer to send instead, which may be one that is held back; nothing
  /// when the request may be served now.
  std::optional<ServiceAnswer> limit(const OperationPolicy& operation, uint32_t cost);
  /// Serves the request again, admitted, when its time has come.
  void hold(const ServiceAnswer::Held& held);
  /// MQTT over WebSocket: answers 101 and marks the connection for `go_on_as_mqtt`, or refuses.
  void upgrade(std::string& out);
  /// Hands the channel to an MqttConnection; `frames`: what came behind the request.
  void go_on_as_mqtt(std::string_view frames);
  void answer(const ServiceAnswer& answer, std::string& out);
  /// An answer that had to wait: sends it and goes on with the next request.
  void answer_later(const ServiceAnswer& answer);
  void end_request(std::string_view out);
  MonoTime due() const;

  http::RequestParser parser_;
  std::string granted_text_;  // the Authorization value that `grant_` was given for
  ServiceGrant grant_;
  MonoTime since_;  // when the current message, or the idleness before it, began
  bool loopback_;
  bool waiting_ = false;                // for another shard or for its turn
  std::optional<OperationClass> held_;  // the request waits for its turn, paused by the tier's rates
  bool admitted_ = false;               // it has had its turn
  bool closing_ = false;                // after the current answer
  bool upgraded_ = false;
  bool continue_sent_ = false;
};

}  // namespace twinstorm::hub
