#include "sim/transport/paho/paho_transport.hpp"

#include <array>
#include <utility>

#include <boost/asio/post.hpp>
#include <fmt/format.h>

#include "sim/protocol/topics.hpp"
#include "sim/transport/mqtt/request_id.hpp"

namespace twinstorm::transport {

namespace {

struct TextSink {
  std::string& text;
  void append(std::string_view more) { text += more; }
};

/// Filters of a set in the order of the SDK, with their QoS.
template <class Fn>
void for_each_filter(Subscriptions set, DeviceName name, Fn&& fn) {
  if (contains(set, Subscriptions::twin_responses)) fn(std::string{protocol::kTwinResponseFilter}, 0);
  if (contains(set, Subscriptions::desired)) fn(std::string{protocol::kDesiredFilter}, 0);
  if (contains(set, Subscriptions::methods)) fn(std::string{protocol::kMethodFilter}, 0);
  if (contains(set, Subscriptions::devicebound) && name.module_id.empty()) {
    std::string filter;
    protocol::append_devicebound_filter(filter, name.device_id);
    fn(std::move(filter), 1);
  }
}

}  // namespace

std::string paho_uri(const LinkTarget& target, const PahoLink& link) {
  const auto address = target.endpoint.address();
  std::string host = address.is_v6() ? fmt::format("[{}]", address.to_string()) : address.to_string();
  if (link.tls && !address.is_loopback()) host = target.verified_name();
  return fmt::format("{}://{}:{}", link.tls ? "ssl" : "tcp", host, target.endpoint.port());
}

PahoTransport::PahoTransport(net::ShardIo& io, TransportEvents& events, LocalDevice device, PahoLink link)
    : io_{io},
      events_{events},
      device_{device},
      link_{std::move(link)},
      library_{PahoLibrary::hold()},
      anchor_{std::make_shared<Anchor>(Anchor{this})} {}

PahoTransport::~PahoTransport() = default;

void PahoTransport::connect(const LinkTarget& target, Nanos timeout) {
  client_.reset();
  const uint32_t attempt = ++attempt_;
  state_ = State::connecting;
  subscriptions_open_ = 0;
  granted_ = true;
  Identity identity;
  events_.identify(device_, identity);
  auto made = PahoClient::create(
      paho_uri(target, link_), identity.client_id,
      [executor = io_.context.get_executor(), anchor = std::weak_ptr<Anchor>{anchor_}, attempt](PahoEvent&& event) {
        boost::asio::post(executor, [anchor, attempt, event = std::move(event)]() mutable {
          const auto alive = anchor.lock();
          if (alive == nullptr || alive->transport->attempt_ != attempt) return;
          alive->transport->handle(std::move(event));
        });
      });
  if (made) {
    client_ = std::move(*made);
    if (const auto begun = client_->connect(identity, link_, timeout); begun)
      return;
    else
      made = begun.error();
  }
  // Told from the loop, as every other end of a connect.
  boost::asio::post(io_.context, [anchor = std::weak_ptr<Anchor>{anchor_}, attempt, text = made.error().message] {
    const auto alive = anchor.lock();
    if (alive != nullptr && alive->transport->attempt_ == attempt) {
      alive->transport->refuse(ConnectRefusal::unreachable, text);
    }
  });
}

void PahoTransport::refuse(ConnectRefusal refusal, std::string text) {
  state_ = State::closed;
  ++attempt_;
  refusal_text_ = std::move(text);
  events_.on_connect_refused(device_, refusal);
  refusal_text_.clear();
}

void PahoTransport::handle(PahoEvent&& event) {
  switch (event.kind) {
    case PahoEvent::Kind::connected:
      if (state_ != State::connecting) return;
      state_ = State::connected;
      events_.on_connected(device_, event.session_present);
      return;
    case PahoEvent::Kind::refused:
      if (state_ == State::connecting) refuse(event.refusal, std::move(event.text));
      return;
    case PahoEvent::Kind::lost:
      if (state_ != State::connected) return;
      state_ = State::closed;
      ++attempt_;
      // Paho does not tell why.
      events_.on_disconnected(device_, DisconnectReason::hub_closed);
      return;
    case PahoEvent::Kind::subscribed:
      if (subscriptions_open_ == 0) return;
      granted_ = granted_ && event.granted;
      if (--subscriptions_open_ == 0) events_.on_subscribed(device_, granted_);
      return;
    case PahoEvent::Kind::acknowledged:
      if (state_ == State::connected) events_.on_telemetry_acknowledged(device_, event.number);
      return;
    case PahoEvent::Kind::message:
      if (state_ == State::connected) handle_message(event);
      return;
  }
}

void PahoTransport::handle_message(const PahoEvent& event) {
  using Kind = protocol::HubTopic::Kind;
  const auto topic = protocol::parse_hub_topic(event.topic);
  if (!topic) return;  // nothing this device asked for
  switch (topic->kind) {
    case Kind::twin_response:
      if (const auto request = parse_request_id(topic->rid, device_)) {
        events_.on_twin_response(device_, {topic->status, *request, topic->version, event.text});
      }
      return;
    case Kind::desired:
      if (topic->version) events_.on_desired(device_, *topic->version, event.text);
      return;
    case Kind::method:
      events_.on_method(device_, topic->name, topic->rid, event.text);
      return;
    case Kind::c2d:
      events_.on_message(device_, topic->bag, event.text);
      return;
    default:
      return;
  }
}

Sent PahoTransport::subscribe(Subscriptions set, DeviceName name) {
  if (state_ != State::connected) return Sent::offline;
  subscriptions_open_ = 0;
  granted_ = true;
  bool sent = true;
  for_each_filter(set, name, [&](const std::string& filter, int qos) {
    ++subscriptions_open_;
    sent = sent && client_->subscribe(filter, qos);
  });
  return sent ? Sent::ok : Sent::offline;
}

Sent PahoTransport::unsubscribe(Subscriptions set, DeviceName name) {
  if (state_ != State::connected) return Sent::offline;
  bool sent = true;
  for_each_filter(set, name, [&](const std::string& filter, int) { sent = sent && client_->unsubscribe(filter); });
  return sent ? Sent::ok : Sent::offline;
}

Sent PahoTransport::get_twin(uint32_t request) {
  if (state_ != State::connected) return Sent::offline;
  std::string topic;
  protocol::append_twin_get(topic, format_request_id(request, device_).view());
  return client_->publish(topic, " ") ? Sent::ok : Sent::offline;
}

Sent PahoTransport::report(uint32_t request, std::string_view patch) {
  if (state_ != State::connected) return Sent::offline;
  std::string topic;
  protocol::append_reported_patch(topic, format_request_id(request, device_).view());
  return client_->publish(topic, patch) ? Sent::ok : Sent::offline;
}

Sent PahoTransport::send_telemetry(const Telemetry& telemetry, uint16_t& message) {
  if (state_ != State::connected) return Sent::offline;
  std::string topic;
  if (telemetry.from.module_id.empty()) {
    protocol::append_telemetry(topic, telemetry.from.device_id, telemetry.bag);
  } else {
    topic = fmt::format("devices/{}/modules/{}/messages/events/{}", telemetry.from.device_id, telemetry.from.module_id,
                        telemetry.bag);
  }
  const auto number = client_->publish_acknowledged(topic, telemetry.payload);
  if (!number) return Sent::offline;
  message = *number;
  return Sent::ok;
}

Sent PahoTransport::send_method_response(std::string_view rid, int status, std::string_view payload) {
  if (state_ != State::connected) return Sent::offline;
  std::string topic;
  protocol::append_method_response(topic, status, rid);
  return client_->publish(topic, payload) ? Sent::ok : Sent::offline;
}

void PahoTransport::disconnect() {
  ++attempt_;
  if (state_ == State::connected) client_->disconnect();
  state_ = State::closed;
}

void PahoTransport::abort() {
  ++attempt_;
  state_ = State::closed;
  client_.reset();
}

}  // namespace twinstorm::transport
