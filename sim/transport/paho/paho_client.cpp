#include "sim/transport/paho/paho_client.hpp"

#include <algorithm>
#include <mutex>

#include <fmt/format.h>
#include <mqtt/async_client.h>

#ifdef __SANITIZE_THREAD__
// Debian's Paho is not built with the thread sanitizer, which then does not see its reference counts.
extern "C" const char* __tsan_default_suppressions();
extern "C" const char* __tsan_default_suppressions() { return "race:libpaho-mqttpp3.so\nrace:libpaho-mqtt3as.so\n"; }
#endif

namespace twinstorm::transport {

namespace {

constexpr int kMaxInflight = 1000;  // telemetry not yet acknowledged; Paho's default of 10 would queue silently

/// CONNACK codes are positive; Paho's own failures are negative and do not tell a refused TCP connection from one that
/// was closed before CONNACK.
ConnectRefusal refusal_of(int code, const PahoLink& link) {
  switch (code) {
    case 1:
    case 2:
      return ConnectRefusal::rejected;
    case 3:
      return ConnectRefusal::unavailable;
    case 4:
    case 5:
      return ConnectRefusal::unauthorized;
    default:
      break;
  }
  if (code == MQTTASYNC_DISCONNECTED) return ConnectRefusal::closed;
  return link.tls ? ConnectRefusal::handshake : ConnectRefusal::unreachable;
}

int ssl_version(net::TlsVersion version) {
  // Paho 1.3 knows nothing newer than 1.2; "default" is the highest version both sides have.
  return version == net::TlsVersion::tls12 ? MQTT_SSL_VERSION_TLS_1_2 : MQTT_SSL_VERSION_DEFAULT;
}

/// What Paho and the standard library may throw, as text; `what` names the attempt.
template <class Fn>
Result<void> guarded(std::string_view what, Fn&& fn) {
  try {
    fn();
    return {};
  } catch (const mqtt::exception& error) {
    return make_error(ErrorCode::unavailable,
                      fmt::format("Paho cannot {}: {}", what, mqtt::exception::error_str(error.get_return_code())));
  } catch (const std::exception& error) {
    return make_error(ErrorCode::internal, fmt::format("Paho cannot {}: {}", what, error.what()));
  }
}

}  // namespace

struct PahoClient::Impl {
  /// Turns one kind of completion into an event.
  struct Listener final : mqtt::iaction_listener {
    Impl* impl = nullptr;
    PahoEvent::Kind kind = PahoEvent::Kind::connected;
    void on_success(const mqtt::token& token) override { impl->completed(kind, token, true); }
    void on_failure(const mqtt::token& token) override { impl->completed(kind, token, false); }
  };

  Sink sink;
  PahoLink link;
  Listener connecting, subscribing, publishing;
  // Kept for as long as the client: Paho's C side points into them.
  mqtt::connect_options options;
  mqtt::async_client client;  // last: destroyed first, and from then on nothing calls back

  Impl(const std::string& uri, const std::string& client_id, Sink to)
      : sink{std::move(to)},
        client{uri, client_id, mqtt::create_options_builder().mqtt_version(MQTTVERSION_3_1_1).finalize(), nullptr} {
    connecting.impl = subscribing.impl = publishing.impl = this;
    subscribing.kind = PahoEvent::Kind::subscribed;
    publishing.kind = PahoEvent::Kind::acknowledged;
    client.set_message_callback([this](const mqtt::const_message_ptr& message) {
      tell([&](PahoEvent& event) {
        event.topic = message->get_topic();
        event.text = message->get_payload();
      });
    });
    client.set_connection_lost_handler(
        [this](const std::string&) { tell([](PahoEvent& event) { event.kind = PahoEvent::Kind::lost; }); });
  }

  /// Nothing may travel through Paho's C frames.
  template <class Fill>
  void tell(Fill&& fill) noexcept {
    try {
      PahoEvent event;
      fill(event);
      sink(std::move(event));
    } catch (...) {
      // Out of memory: the event is lost, and the owner's deadline notices.
    }
  }

  void completed(PahoEvent::Kind kind, const mqtt::token& token, bool well) noexcept {
    tell([&](PahoEvent& event) {
      event.kind = kind;
      switch (kind) {
        case PahoEvent::Kind::connected:
          if (well) {
            event.session_present = token.get_connect_response().is_session_present();
          } else {
            event.kind = PahoEvent::Kind::refused;
            event.refusal = refusal_of(token.get_return_code(), link);
            event.text = mqtt::exception::error_str(token.get_return_code());
          }
          break;
        case PahoEvent::Kind::subscribed:
          event.granted = well;
          break;
        default:
          event.number = static_cast<uint16_t>(token.get_message_id());
          if (!well) event.kind = PahoEvent::Kind::lost;
          break;
      }
    });
  }
};

PahoClient::PahoClient(std::unique_ptr<Impl> impl) : impl_{std::move(impl)} {}
PahoClient::~PahoClient() = default;

Result<std::unique_ptr<PahoClient>> PahoClient::create(const std::string& uri, const std::string& client_id,
                                                       Sink sink) {
  std::unique_ptr<PahoClient> made;
  const auto done = guarded(fmt::format("use {}", uri), [&] {
    made.reset(new PahoClient{std::make_unique<Impl>(uri, client_id, std::move(sink))});
  });
  if (!done) return make_error(ErrorCode::invalid_argument, done.error().message);
  return made;
}

Result<void> PahoClient::connect(const Identity& identity, const PahoLink& link, Nanos timeout) {
  return guarded("connect", [&] {
    impl_->link = link;
    auto& options = impl_->options;
    options.set_mqtt_version(MQTTVERSION_3_1_1);
    options.set_clean_session(false);  // as the official SDK: subscriptions survive a lost connection
    options.set_automatic_reconnect(false);
    options.set_keep_alive_interval(static_cast<int>(identity.keep_alive_seconds));
    options.set_max_inflight(kMaxInflight);
    options.set_connect_timeout(std::max(1, static_cast<int>(timeout / std::chrono::seconds{1})));
    options.set_user_name(identity.user_name);
    if (!identity.password.empty()) options.set_password(identity.password);
    if (link.tls) {
      mqtt::ssl_options ssl;
      if (link.trust_store.empty()) {
        ssl.set_trust_store("/etc/ssl/certs/ca-certificates.crt");
      } else {
        ssl.set_trust_store(link.trust_store);
      }
      ssl.set_enable_server_cert_auth(true);
      ssl.set_verify(true);  // the host of the URI against the certificate
      ssl.set_ssl_version(ssl_version(link.version));
      options.set_ssl(std::move(ssl));
    }
    impl_->client.connect(options, nullptr, impl_->connecting);
  });
}

bool PahoClient::subscribe(const std::string& filter, int qos) {
  return guarded("subscribe", [&] { impl_->client.subscribe(filter, qos, nullptr, impl_->subscribing); }).has_value();
}

bool PahoClient::unsubscribe(const std::string& filter) {
  return guarded("unsubscribe", [&] { impl_->client.unsubscribe(filter); }).has_value();
}

bool PahoClient::publish(const std::string& topic, std::string_view payload) {
  return guarded("publish", [&] { impl_->client.publish(topic, payload.data(), payload.size(), 0, false); })
      .has_value();
}

std::optional<uint16_t> PahoClient::publish_acknowledged(const std::string& topic, std::string_view payload) {
  std::optional<uint16_t> number;
  const auto sent = guarded("publish", [&] {
    const auto token =
        impl_->client.publish(topic, payload.data(), payload.size(), 1, false, nullptr, impl_->publishing);
    number = static_cast<uint16_t>(token->get_message_id());
  });
  return sent ? number : std::nullopt;
}

void PahoClient::disconnect() {
  const auto ignored = guarded("disconnect", [&] { impl_->client.disconnect(0); });
  static_cast<void>(ignored);  // was not connected
}

// --- The library ---------------------------------------------------------------------------------------------------

struct PahoLibrary::Impl {
  // Never connects; Paho ends its threads when the last client of the process goes.
  mqtt::async_client keeper{"tcp://127.0.0.1:1883", "keeper"};
};

PahoLibrary::PahoLibrary() {
  const auto made = guarded("start", [&] { impl_ = std::make_unique<Impl>(); });
  static_cast<void>(made);  // without it the last client takes a second longer to go
}
PahoLibrary::~PahoLibrary() = default;

std::shared_ptr<PahoLibrary> PahoLibrary::hold() {
  static std::mutex mutex;
  static std::weak_ptr<PahoLibrary> current;
  const std::lock_guard lock{mutex};
  auto library = current.lock();
  if (library == nullptr) {
    library.reset(new PahoLibrary);
    current = library;
  }
  return library;
}

std::string paho_version() {
  const auto version = mqtt::VERSION;
  return fmt::format("Paho MQTT C++ {}.{}.{}", version >> 24, version >> 16 & 0xff, version >> 8 & 0xff);
}

}  // namespace twinstorm::transport
