// The MQTT vectors, run over decoder and encoder.
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sim/protocol/mqtt/decoder.hpp"
#include "sim/protocol/mqtt/encoder.hpp"
#include "tests/unit/protocol/vectors.hpp"

namespace twinstorm::mqtt {
namespace {

using nlohmann::json;
using test::bytes_of;
using test::ExactBytes;
using test::load_vectors;

json fields_of(const FrameResult& frame) {
  const auto text = [](std::string_view view) { return std::string{view}; };
  switch (frame.type) {
    case PacketType::connect: {
      const auto connect = decode_connect(frame.body).value();
      json out{{"clientId", text(connect.client_id)},
               {"keepAlive", connect.keep_alive_seconds},
               {"cleanSession", connect.clean_session}};
      if (connect.will) {
        out["will"] = {{"topic", text(connect.will->topic)},
                       {"message", text(connect.will->message)},
                       {"qos", static_cast<int>(connect.will->qos)},
                       {"retain", connect.will->retain}};
      }
      if (connect.user_name) out["userName"] = text(*connect.user_name);
      if (connect.password) out["password"] = text(*connect.password);
      return out;
    }
    case PacketType::connack: {
      const auto connack = decode_connack(frame.body).value();
      return {{"sessionPresent", connack.session_present}, {"code", static_cast<int>(connack.code)}};
    }
    case PacketType::publish: {
      const auto publish = decode_publish(frame.flags, frame.body).value();
      json out{{"topic", text(publish.topic)}, {"qos", static_cast<int>(publish.qos)}};
      if (publish.payload.size() > 1000) {
        out["payloadSize"] = publish.payload.size();
      } else {
        out["payload"] = text(publish.payload);
      }
      if (publish.packet_id != 0) out["packetId"] = publish.packet_id;
      if (publish.retain) out["retain"] = true;
      if (publish.dup) out["dup"] = true;
      return out;
    }
    case PacketType::subscribe: {
      const auto subscribe = decode_subscribe(frame.body).value();
      json out{{"packetId", subscribe.packet_id}, {"filters", json::array()}};
      for (const auto& one : subscribe.filters) {
        out["filters"].push_back({{"filter", text(one.filter)}, {"qos", static_cast<int>(one.qos)}});
      }
      EXPECT_EQ(subscribe.filters.size(), out["filters"].size());
      return out;
    }
    case PacketType::suback: {
      const auto suback = decode_suback(frame.body).value();
      json out{{"packetId", suback.packet_id}, {"codes", json::array()}};
      for (const char code : suback.return_codes) out["codes"].push_back(static_cast<uint8_t>(code));
      return out;
    }
    case PacketType::unsubscribe: {
      const auto unsubscribe = decode_unsubscribe(frame.body).value();
      json out{{"packetId", unsubscribe.packet_id}, {"filters", json::array()}};
      for (const auto& one : unsubscribe.filters) out["filters"].push_back(text(one.filter));
      return out;
    }
    case PacketType::puback:
    case PacketType::unsuback:
      return {{"packetId", decode_packet_id(frame.body).value()}};
    default:
      EXPECT_EQ(check_empty(frame.body), DecodeError::none);
      return json::object();
  }
}

template <class Out>
void encode(Out& out, std::string_view type, const json& fields) {
  const auto packet_id = static_cast<uint16_t>(fields.value("packetId", 0));
  if (type == "CONNECT") {
    // The views below need strings that outlive the call.
    const auto client_id = fields["clientId"].get<std::string>();
    const auto user = fields.value("userName", "");
    const auto password = fields.value("password", "");
    const auto will_topic = fields.contains("will") ? fields["will"]["topic"].get<std::string>() : "";
    const auto will_message = fields.contains("will") ? fields["will"]["message"].get<std::string>() : "";
    Connect connect;
    connect.client_id = client_id;
    connect.keep_alive_seconds = fields["keepAlive"].get<uint16_t>();
    connect.clean_session = fields["cleanSession"].get<bool>();
    if (fields.contains("will")) {
      connect.will = Will{will_topic, will_message, static_cast<Qos>(fields["will"]["qos"].get<int>()),
                          fields["will"]["retain"].get<bool>()};
    }
    if (fields.contains("userName")) connect.user_name = user;
    if (fields.contains("password")) connect.password = password;
    encode_connect(out, connect);
  } else if (type == "CONNACK") {
    encode_connack(out, {fields["sessionPresent"].get<bool>(), static_cast<ConnackCode>(fields["code"].get<int>())});
  } else if (type == "PUBLISH") {
    const auto payload =
        fields.contains("payload") ? fields["payload"].get<std::string>() : std::string(fields["payloadSize"], 'x');
    encode_publish(out, fields["topic"].get<std::string>(), payload, static_cast<Qos>(fields["qos"].get<int>()),
                   packet_id, fields.value("retain", false), fields.value("dup", false));
  } else if (type == "SUBSCRIBE") {
    std::vector<std::string> filters;
    for (const auto& one : fields["filters"]) filters.push_back(one["filter"]);
    std::vector<Subscription> subscriptions;
    for (size_t i = 0; i < filters.size(); ++i) {
      subscriptions.push_back({filters[i], static_cast<Qos>(fields["filters"][i]["qos"].get<int>())});
    }
    encode_subscribe(out, packet_id, subscriptions);
  } else if (type == "SUBACK") {
    encode_suback(out, packet_id, fields["codes"].get<std::vector<uint8_t>>());
  } else if (type == "UNSUBSCRIBE") {
    const auto filters = fields["filters"].get<std::vector<std::string>>();
    encode_unsubscribe(out, packet_id, std::vector<std::string_view>{filters.begin(), filters.end()});
  } else if (type == "PUBACK") {
    encode_puback(out, packet_id);
  } else if (type == "UNSUBACK") {
    encode_unsuback(out, packet_id);
  } else if (type == "PINGREQ") {
    encode_pingreq(out);
  } else if (type == "PINGRESP") {
    encode_pingresp(out);
  } else if (type == "DISCONNECT") {
    encode_disconnect(out);
  } else {
    FAIL() << "no encoder for " << type;
  }
}

class MqttVectors : public testing::TestWithParam<const char*> {};

TEST_P(MqttVectors, DecodeToTheirFieldsAndEncodeToTheirBytes) {
  for (const auto& one : load_vectors(GetParam())["cases"]) {
    SCOPED_TRACE(one["name"].get<std::string>());
    const ExactBytes bytes{bytes_of(one["hex"].get<std::string>())};
    const auto frame = next_frame(bytes.view());
    ASSERT_EQ(frame.status, FrameStatus::complete) << describe(frame.error);
    EXPECT_EQ(frame.size, bytes.view().size());
    EXPECT_EQ(to_string(frame.type), one["packet"].get<std::string>());
    EXPECT_EQ(fields_of(frame), one["fields"]);
    if (one.value("decodeOnly", false)) continue;

    std::string encoded;
    encode(encoded, one["packet"].get<std::string>(), one["fields"]);
    EXPECT_EQ(encoded, bytes.view());

    // The same into a buffer of exactly the right size, and into one that is a byte too small.
    std::string storage(bytes.view().size(), '\0');
    ByteWriter exact{storage};
    encode(exact, one["packet"].get<std::string>(), one["fields"]);
    EXPECT_FALSE(exact.overflowed());
    EXPECT_EQ(exact.view(), bytes.view());
    ByteWriter small{std::span{storage}.first(storage.size() - 1)};
    encode(small, one["packet"].get<std::string>(), one["fields"]);
    EXPECT_TRUE(small.overflowed());
  }
}

TEST_P(MqttVectors, AreIncompleteAtEveryEarlierByte) {
  for (const auto& one : load_vectors(GetParam())["cases"]) {
    SCOPED_TRACE(one["name"].get<std::string>());
    const auto bytes = bytes_of(one["hex"].get<std::string>());
    if (bytes.size() > 1000) continue;
    for (size_t size = 0; size < bytes.size(); ++size) {
      const ExactBytes part{std::string_view{bytes}.substr(0, size)};
      const auto frame = next_frame(part.view());
      ASSERT_EQ(frame.status, FrameStatus::need_more) << size << " of " << bytes.size() << " bytes";
      ASSERT_TRUE(frame.size == 0 || frame.size == bytes.size()) << "announced " << frame.size;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, MqttVectors, testing::Values("mqtt-packets.json", "mqtt-traces.json"),
                         [](const auto& vectors) { return vectors.index == 0 ? "Packets" : "Traces"; });

DecodeError error_of(const FrameResult& frame) {
  switch (frame.type) {
    case PacketType::connect:
      return decode_connect(frame.body).error();
    case PacketType::connack:
      return decode_connack(frame.body).error();
    case PacketType::publish:
      return decode_publish(frame.flags, frame.body).error();
    case PacketType::subscribe:
      return decode_subscribe(frame.body).error();
    case PacketType::suback:
      return decode_suback(frame.body).error();
    case PacketType::unsubscribe:
      return decode_unsubscribe(frame.body).error();
    case PacketType::pingreq:
    case PacketType::pingresp:
    case PacketType::disconnect:
      return check_empty(frame.body);
    default:
      return decode_packet_id(frame.body).error();
  }
}

TEST(MqttMalformed, PacketsAreRefusedWithTheClauseTheyBreak) {
  for (const auto& one : load_vectors("mqtt-malformed.json")["cases"]) {
    SCOPED_TRACE(one["name"].get<std::string>());
    const ExactBytes bytes{bytes_of(one["hex"].get<std::string>())};
    const auto frame = next_frame(bytes.view());
    ASSERT_NE(frame.status, FrameStatus::need_more);
    const auto error = frame.status == FrameStatus::malformed ? frame.error : error_of(frame);
    EXPECT_EQ(describe(error), one["error"].get<std::string>());
  }
}

TEST(MqttMalformed, EveryReasonHasItsOwnSentence) {
  std::vector<std::string> sentences;
  for (int i = 0; i <= static_cast<int>(DecodeError::unexpected_packet); ++i) {
    sentences.emplace_back(describe(static_cast<DecodeError>(i)));
  }
  EXPECT_THAT(sentences, testing::Not(testing::Contains("unknown error")));
  std::sort(sentences.begin(), sentences.end());
  EXPECT_EQ(std::adjacent_find(sentences.begin(), sentences.end()), sentences.end());
}

}  // namespace
}  // namespace twinstorm::mqtt
