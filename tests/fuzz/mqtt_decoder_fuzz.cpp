// Any bytes into framing, the typed decoders and the device's session: nothing may be read outside, and what decodes
// must encode to something that decodes to the same.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "sim/protocol/mqtt/client_session.hpp"
#include "sim/protocol/mqtt/decoder.hpp"
#include "sim/protocol/mqtt/encoder.hpp"
#include "sim/protocol/topics.hpp"

namespace {

using namespace twinstorm;

void require(bool condition) {
  if (!condition) std::abort();
}

struct IgnoringHandler {
  void on_connack(const mqtt::Connack&) {}
  void on_publish(const mqtt::Publish& publish) { (void)protocol::parse_hub_topic(publish.topic); }
  void on_puback(uint16_t) {}
  void on_suback(const mqtt::Suback&) {}
  void on_unsuback(uint16_t) {}
  void on_pingresp() {}
};

void decode_and_encode(const mqtt::FrameResult& frame) {
  std::string out;
  const auto body_of = [&out] {
    const auto again = mqtt::next_frame(out);
    require(again.status == mqtt::FrameStatus::complete && again.size == out.size());
    return again.body;
  };
  if (const auto connect = mqtt::decode_connect(frame.body)) {
    mqtt::encode_connect(out, *connect);
    require(body_of() == frame.body);
    if (connect->user_name) (void)protocol::parse_mqtt_user_name(*connect->user_name);
    out.clear();
  }
  if (const auto publish = mqtt::decode_publish(frame.flags, frame.body)) {
    mqtt::encode_publish(out, *publish);
    require(body_of() == frame.body);
    (void)protocol::parse_device_topic(publish->topic);
    out.clear();
  }
  if (const auto subscribe = mqtt::decode_subscribe(frame.body)) {
    const std::vector<mqtt::Subscription> all{subscribe->filters.begin(), subscribe->filters.end()};
    mqtt::encode_subscribe(out, subscribe->packet_id, all);
    require(body_of() == frame.body);
    out.clear();
  }
  if (const auto unsubscribe = mqtt::decode_unsubscribe(frame.body)) {
    std::vector<std::string_view> all;
    for (const auto& one : unsubscribe->filters) all.push_back(one.filter);
    mqtt::encode_unsubscribe(out, unsubscribe->packet_id, all);
    require(body_of() == frame.body);
    out.clear();
  }
  (void)mqtt::decode_connack(frame.body);
  (void)mqtt::decode_packet_id(frame.body);
  (void)mqtt::decode_suback(frame.body);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes{reinterpret_cast<const char*>(data), size};
  auto rest = bytes;
  while (true) {
    const auto frame = mqtt::next_frame(rest);
    if (frame.status != mqtt::FrameStatus::complete) break;
    decode_and_encode(frame);
    rest.remove_prefix(frame.size);
  }

  char buffer[256];
  mqtt::ByteWriter out{buffer};
  mqtt::ClientSession session;
  IgnoringHandler handler;
  require(session.connect(out, {}, MonoTime{}, Nanos{1}));
  const auto fed = session.feed(bytes, handler, MonoTime{});
  require(fed.consumed <= size);
  return 0;
}
