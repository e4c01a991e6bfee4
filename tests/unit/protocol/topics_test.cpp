#include "sim/protocol/topics.hpp"

#include <random>

#include <gtest/gtest.h>

#include "tests/unit/protocol/vectors.hpp"

namespace twinstorm::protocol {
namespace {

using nlohmann::json;
using test::load_vectors;

const json& vectors() { return load_vectors("topics.json"); }
std::string text(const json& one, const char* name) { return one.value(name, std::string{}); }

const char* name_of(DeviceTopic::Kind kind) {
  static constexpr const char* kNames[] = {"twinGet", "reportedPatch", "telemetry", "methodResponse"};
  return kNames[static_cast<size_t>(kind)];
}
const char* name_of(HubTopic::Kind kind) {
  static constexpr const char* kNames[] = {"twinResponse", "desired", "method", "c2d", "input"};
  return kNames[static_cast<size_t>(kind)];
}
const char* name_of(HubFilter filter) {
  static constexpr const char* kNames[] = {"twinResponses", "desired", "methods", "devicebound", "inputs"};
  return kNames[static_cast<size_t>(filter)];
}

TEST(Topics, FromDevicesAreUnderstood) {
  for (const auto& one : vectors()["fromDevice"]) {
    SCOPED_TRACE(one);
    const auto topic = text(one, "topic");
    const auto parsed = parse_device_topic(topic);
    ASSERT_EQ(parsed.has_value(), !one["kind"].is_null());
    if (!parsed) continue;
    EXPECT_EQ(name_of(parsed->kind), one["kind"]);
    EXPECT_EQ(parsed->rid, text(one, "rid"));
    EXPECT_EQ(parsed->device_id, text(one, "deviceId"));
    EXPECT_EQ(parsed->module_id, text(one, "moduleId"));
    EXPECT_EQ(parsed->bag, text(one, "bag"));
    EXPECT_EQ(parsed->status, one.value("status", 0));
    EXPECT_EQ(parsed->version.value_or(-1), one.value("version", -1));
  }
}

TEST(Topics, FromTheHubAreUnderstood) {
  for (const auto& one : vectors()["fromHub"]) {
    SCOPED_TRACE(one);
    const auto topic = text(one, "topic");
    const auto parsed = parse_hub_topic(topic);
    ASSERT_EQ(parsed.has_value(), !one["kind"].is_null());
    if (!parsed) continue;
    EXPECT_EQ(name_of(parsed->kind), one["kind"]);
    EXPECT_EQ(parsed->rid, text(one, "rid"));
    EXPECT_EQ(parsed->name, text(one, "name"));
    EXPECT_EQ(parsed->bag, text(one, "bag"));
    EXPECT_EQ(parsed->status, one.value("status", 0));
    EXPECT_EQ(parsed->version.value_or(-1), one.value("version", -1));
  }
}

template <class Append>
std::string built(Append&& append) {
  std::string out;
  append(out);
  char buffer[256];
  ByteWriter writer{buffer};
  append(writer);
  EXPECT_EQ(writer.view(), out) << "both sinks get the same text";
  return out;
}

TEST(Topics, AreBuiltAsTheyAreParsed) {
  EXPECT_EQ(built([](auto& out) { append_twin_get(out, 42U); }), "$iothub/twin/GET/?$rid=42");
  EXPECT_EQ(built([](auto& out) { append_twin_get(out, "a-b"); }), "$iothub/twin/GET/?$rid=a-b");
  EXPECT_EQ(built([](auto& out) { append_reported_patch(out, 7U); }), "$iothub/twin/PATCH/properties/reported/?$rid=7");
  EXPECT_EQ(built([](auto& out) { append_reported_patch(out, "x"); }),
            "$iothub/twin/PATCH/properties/reported/?$rid=x");
  EXPECT_EQ(built([](auto& out) { append_telemetry(out, "d", "k=v"); }), "devices/d/messages/events/k=v");
  EXPECT_EQ(built([](auto& out) { append_telemetry(out, "d"); }), "devices/d/messages/events/");
  EXPECT_EQ(built([](auto& out) { append_twin_response(out, 204, "42", 8); }),
            "$iothub/twin/res/204/?$rid=42&$version=8");
  EXPECT_EQ(built([](auto& out) { append_twin_response(out, 200, "42"); }), "$iothub/twin/res/200/?$rid=42");
  EXPECT_EQ(built([](auto& out) { append_desired_notification(out, 5); }),
            "$iothub/twin/PATCH/properties/desired/?$version=5");
  EXPECT_EQ(built([](auto& out) { append_method_call(out, "m", "1"); }), "$iothub/methods/POST/m/?$rid=1");
  EXPECT_EQ(built([](auto& out) { append_method_response(out, 404, "1"); }), "$iothub/methods/res/404/?$rid=1");
  EXPECT_EQ(built([](auto& out) { append_devicebound(out, "d", "p"); }), "devices/d/messages/devicebound/p");
  EXPECT_EQ(built([](auto& out) { append_devicebound_filter(out, "d"); }), "devices/d/messages/devicebound/#");
}

TEST(Topics, HubFiltersAreThoseOfTheService) {
  for (const auto& one : vectors()["hubFilters"]) {
    const auto filter = parse_hub_filter(text(one, "filter"), text(one, "deviceId"), text(one, "moduleId"));
    ASSERT_EQ(filter.has_value(), !one["kind"].is_null()) << one;
    if (filter) {
      EXPECT_EQ(name_of(*filter), one["kind"]);
    }
  }
}

TEST(TopicFilters, MatchAsTheStandardSays) {
  for (const auto& one : vectors()["matching"]) {
    EXPECT_EQ(topic_matches(text(one, "filter"), text(one, "topic")), one["matches"].get<bool>()) << one;
  }
}

std::vector<std::string> levels(const std::string& text_) {
  std::vector<std::string> out(1);
  for (const char c : text_) {
    if (c == '/') {
      out.emplace_back();
    } else {
      out.back() += c;
    }
  }
  return out;
}
bool reference_match(const std::vector<std::string>& filter, const std::vector<std::string>& topic, size_t at = 0) {
  if (at == filter.size()) return at == topic.size();
  if (filter[at] == "#") return true;  // also for the parent level
  if (at == topic.size()) return false;
  return (filter[at] == "+" || filter[at] == topic[at]) && reference_match(filter, topic, at + 1);
}

TEST(TopicFilters, MatchLikeALevelByLevelReference) {
  std::mt19937 random{17};
  const auto random_text = [&](std::string_view alphabet) {
    std::string out(1 + random() % 7, '\0');
    for (auto& c : out) c = alphabet[random() % alphabet.size()];
    return out;
  };
  int matched = 0;
  for (int i = 0; i < 100'000; ++i) {
    const auto filter = random_text("a/+#/b");
    const auto topic = random_text("ab//a");
    if (!is_valid_filter(filter)) continue;
    const bool expected = reference_match(levels(filter), levels(topic));
    ASSERT_EQ(topic_matches(filter, topic), expected) << filter << " " << topic;
    matched += expected ? 1 : 0;
  }
  EXPECT_GT(matched, 500);
}

TEST(TopicFilters, AreValidWhenWildcardsStandAlone) {
  for (const auto& one : vectors()["filters"]) {
    EXPECT_EQ(is_valid_filter(text(one, "filter")), one["valid"].get<bool>()) << one;
  }
}

TEST(PropertyBag, GoesBothWays) {
  for (const auto& one : vectors()["propertyBags"]) {
    SCOPED_TRACE(one);
    const auto decoded = decode_property_bag(text(one, "bag"));
    if (one.contains("error")) {
      ASSERT_FALSE(decoded);
      EXPECT_EQ(decoded.error().message, text(one, "error"));
      continue;
    }
    std::vector<Property> expected;
    for (const auto& pair : one["properties"]) {
      expected.push_back({pair[0], pair[1].is_null() ? std::nullopt : std::optional{pair[1].get<std::string>()}});
    }
    EXPECT_EQ(decoded.value(), expected);
    if (!one.value("decodeOnly", false)) {
      EXPECT_EQ(encode_property_bag(expected), text(one, "bag"));
    }
    for (const auto& property : expected) EXPECT_EQ(find_property(text(one, "bag"), property.key), property.value);
    EXPECT_EQ(find_property(text(one, "bag"), "absent"), std::nullopt);
  }
}

TEST(MqttUserNames, GoBothWays) {
  for (const auto& one : vectors()["userNames"]) {
    SCOPED_TRACE(one);
    const auto parsed = parse_mqtt_user_name(text(one, "text"));
    if (one.contains("error")) {
      ASSERT_FALSE(parsed);
      EXPECT_EQ(parsed.error().message, text(one, "error"));
      continue;
    }
    const auto& name = one["name"];
    const MqttUserName expected{text(name, "hostName"),   text(name, "deviceId"), text(name, "moduleId"),
                                text(name, "apiVersion"), text(name, "modelId"),  text(name, "deviceClientType")};
    EXPECT_EQ(parsed.value(), expected);
    if (!one.value("decodeOnly", false)) {
      EXPECT_EQ(format_mqtt_user_name(expected), text(one, "text"));
    }
    EXPECT_EQ(parse_mqtt_user_name(format_mqtt_user_name(expected)).value(), expected);
  }
}

}  // namespace
}  // namespace twinstorm::protocol
