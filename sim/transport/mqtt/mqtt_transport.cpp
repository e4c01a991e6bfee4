#include "sim/transport/mqtt/mqtt_transport.hpp"

#include <array>
#include <utility>

#include "sim/base/rng.hpp"
#include "sim/protocol/topics.hpp"
#include "sim/transport/mqtt/request_id.hpp"

namespace twinstorm::transport {

using mqtt::ByteWriter;

namespace {

/// Filters of one device, in the order the SDK would subscribe.
class Filters {
 public:
  Filters(Subscriptions set, DeviceName name) {
    if (contains(set, Subscriptions::twin_responses)) add(protocol::kTwinResponseFilter, mqtt::Qos::at_most_once);
    if (contains(set, Subscriptions::desired)) add(protocol::kDesiredFilter, mqtt::Qos::at_most_once);
    if (contains(set, Subscriptions::methods)) add(protocol::kMethodFilter, mqtt::Qos::at_most_once);
    if (contains(set, Subscriptions::devicebound) && name.module_id.empty()) {
      protocol::append_devicebound_filter(devicebound_, name.device_id);
      add(devicebound_, mqtt::Qos::at_least_once);
    }
  }
  const mqtt::Subscription* begin() const { return filters_.data(); }
  const mqtt::Subscription* end() const { return filters_.data() + size_; }
  size_t size() const { return size_; }

 private:
  void add(std::string_view filter, mqtt::Qos qos) { filters_[size_++] = {filter, qos}; }

  std::string devicebound_;
  std::array<mqtt::Subscription, 4> filters_;
  size_t size_ = 0;
};

template <protocol::ByteSink Out>
void append_telemetry_topic(Out& out, const Telemetry& telemetry) {
  if (telemetry.from.module_id.empty()) {
    protocol::append_telemetry(out, telemetry.from.device_id, telemetry.bag);
    return;
  }
  out.append(std::string_view{"devices/"});
  out.append(telemetry.from.device_id);
  out.append(std::string_view{"/modules/"});
  out.append(telemetry.from.module_id);
  out.append(std::string_view{"/messages/events/"});
  out.append(telemetry.bag);
}

ConnectRefusal refusal_of(net::StreamEnd end) {
  switch (end) {
    case net::StreamEnd::connect_failed:
      return ConnectRefusal::unreachable;
    case net::StreamEnd::untrusted:
      return ConnectRefusal::untrusted;
    case net::StreamEnd::handshake_failed:
      return ConnectRefusal::handshake;
    case net::StreamEnd::upgrade_refused:
      return ConnectRefusal::upgrade;
    case net::StreamEnd::protocol_error:
      return ConnectRefusal::protocol;
    case net::StreamEnd::peer_closed:
    case net::StreamEnd::io_error:
      return ConnectRefusal::closed;
  }
  return ConnectRefusal::closed;
}

DisconnectReason reason_of(net::StreamEnd end) {
  if (end == net::StreamEnd::peer_closed) return DisconnectReason::hub_closed;
  return end == net::StreamEnd::protocol_error ? DisconnectReason::protocol : DisconnectReason::io;
}

}  // namespace

// The packets of one read, turned into device events. Lives on the stack of `on_stream_bytes`.
template <class Stream>
struct BasicMqttTransport<Stream>::Handler {
  BasicMqttTransport& link;
  bool answered = false;  // the owner has heard how its connect ended

  void on_connack(const mqtt::Connack& connack) {
    answered = true;
    switch (connack.code) {
      case mqtt::ConnackCode::accepted:
        link.events_.on_connected(link.device_, connack.session_present);
        return;
      case mqtt::ConnackCode::server_unavailable:
        return link.refuse(ConnectRefusal::unavailable, "the hub is busy or throttles (CONNACK 3)");
      case mqtt::ConnackCode::bad_user_name_or_password:
      case mqtt::ConnackCode::not_authorized:
        return link.refuse(ConnectRefusal::unauthorized,
                           "the hub refused the credentials, or does not know the device (CONNACK 4 or 5)");
      default:
        return link.refuse(ConnectRefusal::rejected,
                           "the hub refused the protocol version or the client id (CONNACK 1 or 2)");
    }
  }

  void on_publish(const mqtt::Publish& publish) const {
    if (publish.qos == mqtt::Qos::at_least_once) {
      char bytes[8];
      ByteWriter out{bytes};
      if (link.session_.puback(out, publish.packet_id)) link.flush(out);
    }
    const auto topic = protocol::parse_hub_topic(publish.topic);
    if (!topic) return;  // nothing this device asked for
    using Kind = protocol::HubTopic::Kind;
    switch (topic->kind) {
      case Kind::desired:
        if (topic->version) link.events_.on_desired(link.device_, *topic->version, publish.payload);
        return;
      case Kind::twin_response:
        if (const auto request = parse_request_id(topic->rid, link.device_)) {
          link.events_.on_twin_response(link.device_, {topic->status, *request, topic->version, publish.payload});
        }
        return;
      case Kind::method:
        link.events_.on_method(link.device_, topic->name, topic->rid, publish.payload);
        return;
      case Kind::c2d:
        link.events_.on_message(link.device_, topic->bag, publish.payload);
        return;
      case Kind::input:
        return;  // of modules on an edge gateway
    }
  }
  void on_puback(uint16_t packet_id) const { link.events_.on_telemetry_acknowledged(link.device_, packet_id); }
  void on_suback(const mqtt::Suback& suback) const {
    for (const char code : suback.return_codes) {
      if (static_cast<uint8_t>(code) == mqtt::kSubackFailure) link.granted_ = false;
    }
    if (link.subacks_missing_ > 0 && --link.subacks_missing_ == 0) {
      link.events_.on_subscribed(link.device_, std::exchange(link.granted_, true));
    }
  }
  void on_unsuback(uint16_t) const {}
  void on_pingresp() const {}
};

template <class Stream>
BasicMqttTransport<Stream>::BasicMqttTransport(net::ShardIo& io, const Clock& clock, TransportEvents& events,
                                               LocalDevice device)
    : stream_{io},
      session_{static_cast<uint16_t>(mix64(device) | 1)},
      clock_{clock},
      events_{events},
      device_{device} {}

template <class Stream>
void BasicMqttTransport<Stream>::connect(const LinkTarget& target, Nanos timeout) {
  session_.reset();
  subacks_missing_ = 0;
  granted_ = true;
  timeout_ms_ = static_cast<uint32_t>(timeout / std::chrono::milliseconds{1});
  net::StreamEvents& events = *this;
  const auto& websocket_host = target.websocket_host.empty() ? target.host_name : target.websocket_host;
  stream_.connect({.endpoint = target.endpoint,
                   .tls = target.tls,
                   .server_name = target.verified_name(),
                   .certificate = target.tls == nullptr ? nullptr : events_.client_certificate(device_),
                   .websocket_host = websocket_host,
                   .websocket_path = target.websocket_path,
                   .source = target.sources.empty() ? net::Address{} : target.sources[device_ % target.sources.size()]},
                  events);
}

template <class Stream>
void BasicMqttTransport<Stream>::on_stream_connected() {
  // One identity at a time is being written on this thread: its strings are reused by every device.
  thread_local Identity identity;
  identity.clear();
  events_.identify(device_, identity);
  mqtt::Connect connect;
  connect.client_id = identity.client_id;
  connect.user_name = identity.user_name;
  if (!identity.password.empty()) connect.password = identity.password;
  connect.keep_alive_seconds = identity.keep_alive_seconds;
  connect.clean_session = false;  // as the official SDK (docs/protocol.md): subscriptions survive a lost connection
  ByteWriter out{stream_.io().write_buffer};
  session_.connect(out, connect, clock_.mono(), std::chrono::milliseconds{timeout_ms_});
  flush(out);
}

template <class Stream>
Sent BasicMqttTransport<Stream>::subscribe(Subscriptions set, DeviceName name) {
  if (!session_.connected()) return Sent::offline;
  const Filters filters{set, name};
  ByteWriter out{stream_.io().write_buffer};
  for (const auto& filter : filters) {
    if (session_.subscribe(out, {&filter, 1}) == 0) return Sent::would_block;
  }
  const Sent sent = flush(out);
  if (sent == Sent::ok) subacks_missing_ = static_cast<uint8_t>(subacks_missing_ + filters.size());
  return sent;
}

template <class Stream>
Sent BasicMqttTransport<Stream>::unsubscribe(Subscriptions set, DeviceName name) {
  if (!session_.connected()) return Sent::offline;
  ByteWriter out{stream_.io().write_buffer};
  for (const auto& filter : Filters{set, name}) {
    if (session_.unsubscribe(out, {&filter.filter, 1}) == 0) return Sent::would_block;
  }
  return flush(out);
}

template <class Stream>
Sent BasicMqttTransport<Stream>::get_twin(uint32_t request) {
  ByteWriter out{stream_.io().write_buffer};
  mqtt::PublishWriter publish{out};
  protocol::append_twin_get(publish.out(), format_request_id(request, device_).view());
  publish.begin_payload();
  publish.out().append(" ");  // one blank, not empty: what the SDK sends
  if (!session_.connected() || !publish.finish()) return Sent::offline;
  return flush(out);
}

template <class Stream>
Sent BasicMqttTransport<Stream>::report(uint32_t request, std::string_view patch) {
  ByteWriter out{stream_.io().write_buffer};
  mqtt::PublishWriter publish{out};
  protocol::append_reported_patch(publish.out(), format_request_id(request, device_).view());
  publish.begin_payload();
  publish.out().append(patch);
  if (!session_.connected() || !publish.finish()) return Sent::offline;
  return flush(out);
}

template <class Stream>
Sent BasicMqttTransport<Stream>::send_telemetry(const Telemetry& telemetry, uint16_t& message) {
  if (!session_.connected()) return Sent::offline;
  if (stream_.send_pending()) return Sent::would_block;
  message = session_.acquire_packet_id();
  if (message == 0) return Sent::would_block;
  ByteWriter out{stream_.io().write_buffer};
  mqtt::PublishWriter publish{out, mqtt::Qos::at_least_once, message};
  append_telemetry_topic(publish.out(), telemetry);
  publish.begin_payload();
  publish.out().append(telemetry.payload);
  if (!publish.finish()) {
    session_.release_packet_id(message);
    return Sent::would_block;
  }
  return flush(out);
}

template <class Stream>
Sent BasicMqttTransport<Stream>::send_method_response(std::string_view rid, int status, std::string_view payload) {
  if (!session_.connected()) return Sent::offline;
  ByteWriter out{stream_.io().write_buffer};
  mqtt::PublishWriter publish{out};
  protocol::append_method_response(publish.out(), status, rid);
  publish.begin_payload();
  publish.out().append(payload);
  if (!publish.finish()) return Sent::would_block;
  return flush(out);
}

template <class Stream>
void BasicMqttTransport<Stream>::disconnect() {
  if (session_.connected()) {
    char bytes[4];
    ByteWriter out{bytes};
    if (session_.disconnect(out)) flush(out);
  }
  stream_.close();
  session_.reset();
}

template <class Stream>
void BasicMqttTransport<Stream>::abort() {
  stream_.close(true);
  session_.reset();
}

template <class Stream>
void BasicMqttTransport<Stream>::on_time(MonoTime now) {
  char bytes[4];
  ByteWriter out{bytes};
  switch (session_.on_time(now, out)) {
    case mqtt::TimeAction::ping_sent:
      flush(out);
      return;
    case mqtt::TimeAction::connack_missing:
      refuse(ConnectRefusal::closed, "the hub did not answer CONNECT in time");
      return;
    case mqtt::TimeAction::pingresp_missing:
      fail(DisconnectReason::keep_alive);
      return;
    case mqtt::TimeAction::none:
    case mqtt::TimeAction::would_block:
      return;
  }
}

template <class Stream>
size_t BasicMqttTransport<Stream>::on_stream_bytes(std::string_view bytes) {
  Handler handler{*this};
  const bool connecting = session_.state() == mqtt::SessionState::connecting;
  const auto result = session_.feed(bytes, handler, clock_.mono());
  if (result.error != mqtt::DecodeError::none) {
    if (connecting && !handler.answered) {
      refuse(ConnectRefusal::protocol, "the answer to CONNECT is not MQTT 3.1.1");
    } else {
      fail(DisconnectReason::protocol);
    }
  }
  return result.consumed;
}

template <class Stream>
void BasicMqttTransport<Stream>::on_stream_ended(net::StreamEnd end) {
  const bool was_connected = session_.connected();
  session_.reset();
  if (was_connected) {
    events_.on_disconnected(device_, reason_of(end));
  } else {
    events_.on_connect_refused(device_, refusal_of(end));
  }
}

template <class Stream>
void BasicMqttTransport<Stream>::refuse(ConnectRefusal refusal, std::string_view text) {
  stream_.close();
  session_.reset();
  stream_.io().error_text = text;
  events_.on_connect_refused(device_, refusal);
}

template <class Stream>
void BasicMqttTransport<Stream>::fail(DisconnectReason reason) {
  stream_.close(true);
  session_.reset();
  events_.on_disconnected(device_, reason);
}

template <class Stream>
Sent BasicMqttTransport<Stream>::flush(const ByteWriter& out) {
  switch (stream_.send(out.view())) {
    case net::SendResult::sent:
      return Sent::ok;
    case net::SendResult::would_block:
      return Sent::would_block;
    case net::SendResult::closed:
      return Sent::offline;
  }
  return Sent::offline;
}

template class BasicMqttTransport<net::TcpStream>;
template class BasicMqttTransport<net::TlsStream>;
template class BasicMqttTransport<net::WsStream<net::TcpStream>>;
template class BasicMqttTransport<net::WsStream<net::TlsStream>>;

std::unique_ptr<DeviceTransport> make_mqtt_transport(MqttCarrier carrier, net::ShardIo& io, const Clock& clock,
                                                     TransportEvents& events, LocalDevice device) {
  switch (carrier) {
    case MqttCarrier::tcp:
      return std::make_unique<MqttTransport>(io, clock, events, device);
    case MqttCarrier::tls:
      return std::make_unique<MqttTlsTransport>(io, clock, events, device);
    case MqttCarrier::ws:
      return std::make_unique<MqttWsTransport>(io, clock, events, device);
    case MqttCarrier::wss:
      return std::make_unique<MqttWssTransport>(io, clock, events, device);
  }
  return nullptr;
}

}  // namespace twinstorm::transport
