// What one message costs in the codecs, without sockets. Compare with the 10 us of CPU a whole message costs end to
// end.
#include <array>
#include <string>

#include <benchmark/benchmark.h>

#include "sim/protocol/http/http_codec.hpp"
#include "sim/protocol/json_scanner.hpp"
#include "sim/protocol/mqtt/client_session.hpp"
#include "sim/protocol/sas.hpp"
#include "sim/protocol/service_routes.hpp"
#include "sim/protocol/topics.hpp"

namespace {

using namespace twinstorm;

constexpr std::string_view kReported =
    R"({"climate":{"hvac":{"systemControl":true,"targetTemp":21.5}},"$corr":"01HZX3"})";
constexpr std::string_view kDesired =
    R"({"climate":{"hvac":{"systemControl":true,"targetTemp":21.5},"mode":"auto"},"led":null,"fw":"1.2","$version":5})";

struct Counting {
  uint64_t publishes = 0;
  uint64_t bytes = 0;
  void on_connack(const mqtt::Connack&) {}
  void on_publish(const mqtt::Publish& publish) {
    ++publishes;
    bytes += publish.payload.size();
  }
  void on_puback(uint16_t) {}
  void on_suback(const mqtt::Suback&) {}
  void on_unsuback(uint16_t) {}
  void on_pingresp() {}
};

void MqttWriteReportedInPlace(benchmark::State& state) {
  std::array<char, 4096> buffer;
  uint32_t rid = 0;
  for (auto _ : state) {
    mqtt::ByteWriter out{buffer};
    mqtt::PublishWriter publish{out};
    protocol::append_reported_patch(publish.out(), ++rid);
    publish.begin_payload();
    publish.out().append(kReported);
    benchmark::DoNotOptimize(publish.finish());
    benchmark::DoNotOptimize(out.view());
  }
}
BENCHMARK(MqttWriteReportedInPlace);

void MqttEncodePublish(benchmark::State& state) {
  std::array<char, 4096> buffer;
  for (auto _ : state) {
    mqtt::ByteWriter out{buffer};
    mqtt::encode_publish(out, "devices/dev1/messages/events/", kReported, mqtt::Qos::at_least_once, 7);
    benchmark::DoNotOptimize(out.view());
  }
}
BENCHMARK(MqttEncodePublish);

/// A read of 32 notifications, decoded and handed to the handler one by one.
void MqttSessionFeed(benchmark::State& state) {
  std::string stream;
  for (int i = 0; i < 32; ++i) {
    std::string topic;
    protocol::append_desired_notification(topic, i + 1);
    mqtt::encode_publish(stream, topic, kDesired);
  }
  std::array<char, 256> buffer;
  mqtt::ByteWriter out{buffer};
  mqtt::ClientSession session;
  Counting handler;
  session.connect(out, {}, {}, Nanos{1});
  session.feed(std::string_view{"\x20\x02\x00\x00", 4}, handler, {});
  for (auto _ : state) benchmark::DoNotOptimize(session.feed(stream, handler, {}));
  state.SetItemsProcessed(static_cast<int64_t>(handler.publishes));
}
BENCHMARK(MqttSessionFeed);

void ParseHubTopic(benchmark::State& state) {
  const std::string topic = "$iothub/twin/PATCH/properties/desired/?$version=12345";
  for (auto _ : state) benchmark::DoNotOptimize(protocol::parse_hub_topic(topic));
}
BENCHMARK(ParseHubTopic);

void ParseDeviceTopic(benchmark::State& state) {
  const std::string topic = "$iothub/twin/PATCH/properties/reported/?$rid=12345";
  for (auto _ : state) benchmark::DoNotOptimize(protocol::parse_device_topic(topic));
}
BENCHMARK(ParseDeviceTopic);

/// What a device does with a notification: the version and one watched value.
void JsonScanNotification(benchmark::State& state) {
  for (auto _ : state) {
    benchmark::DoNotOptimize(protocol::find_integer(kDesired, "$version"));
    benchmark::DoNotOptimize(protocol::find_path(kDesired, "climate.hvac.systemControl"));
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * kDesired.size()));
}
BENCHMARK(JsonScanNotification);

/// `$version` stands last in a whole twin of about 2 KB.
void JsonScanTwin(benchmark::State& state) {
  std::string twin = "{\"desired\":{";
  for (int i = 0; i < 60; ++i) twin += "\"property" + std::to_string(i) + "\":{\"value\":\"text\"},";
  twin += "\"$version\":77},\"reported\":{\"$version\":1}}";
  for (auto _ : state) benchmark::DoNotOptimize(protocol::find_integer(twin, "desired.$version"));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(twin.size()));
}
BENCHMARK(JsonScanTwin);

void HttpParsePatch(benchmark::State& state) {
  std::string text;
  const std::array headers{http::Header{"Authorization", "SharedAccessSignature sr=hub.example&sig=abc&se=1&skn=owner"},
                           http::Header{"Content-Type", "application/json; charset=utf-8"},
                           http::Header{"If-Match", "\"*\""}};
  http::append_request(text, "PATCH", protocol::service_target::twin("dev1"), "hub.example", headers, kReported);
  http::RequestParser parser;
  for (auto _ : state) {
    benchmark::DoNotOptimize(parser.feed(text));
    parser.next();
  }
}
BENCHMARK(HttpParsePatch);

void HttpWritePatch(benchmark::State& state) {
  std::string text;
  const std::array headers{http::Header{"Authorization", "SharedAccessSignature sr=hub.example&sig=abc&se=1&skn=owner"},
                           http::Header{"Content-Type", "application/json; charset=utf-8"}};
  for (auto _ : state) {
    text.clear();
    http::append_request(text, "PATCH", "/twins/dev1?api-version=2021-04-12", "hub.example", headers, kReported);
    benchmark::DoNotOptimize(text.data());
  }
}
BENCHMARK(HttpWritePatch);

void ParseServiceRoute(benchmark::State& state) {
  for (auto _ : state) {
    benchmark::DoNotOptimize(protocol::parse_service_route("PATCH", "/twins/factory-00042?api-version=2021-04-12"));
  }
}
BENCHMARK(ParseServiceRoute);

void SasMakeToken(benchmark::State& state) {
  const std::string key(32, 'k');
  for (auto _ : state) {
    benchmark::DoNotOptimize(protocol::make_sas_token("hub.example/devices/dev1", key, 1'700'003'600));
  }
}
BENCHMARK(SasMakeToken);

void SasSignerToken(benchmark::State& state) {
  protocol::SasSigner signer{std::string(32, 'k')};
  std::string token;
  for (auto _ : state) {
    token.clear();
    signer.append_token(token, "hub.example%2Fdevices%2Fdev1", 1'700'003'600);
    benchmark::DoNotOptimize(token.data());
  }
}
BENCHMARK(SasSignerToken);

}  // namespace
