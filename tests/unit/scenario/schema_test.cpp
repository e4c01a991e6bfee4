// The JSON Schema that editors use and the loader that decides must know the same keys.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <set>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "sim/scenario/detail/yaml_tree.hpp"
#include "sim/scenario/loader.hpp"

namespace twinstorm::scenario {
namespace {

using nlohmann::json;

const std::filesystem::path kScenarios = std::filesystem::path{TWINSTORM_SOURCE_DIR} / "scenarios";

const json& schema() {
  static const json document = json::parse(std::ifstream{kScenarios / "schema" / "scenario.schema.json"});
  return document;
}

/// Every key the schema allows, as `path` patterns; `visit` sees the schema of each.
void walk(const json& node, const std::string& path, std::set<std::string>& keys) {
  if (node.contains("$ref")) {
    const auto name = node["$ref"].get<std::string>();
    // A template is free-form: its keys are the user's.
    if (name == "#/$defs/template") return;
    walk(schema()["$defs"].at(name.substr(8)), path, keys);
    return;
  }
  for (const auto* any : {"oneOf", "anyOf"}) {
    if (!node.contains(any)) continue;
    for (const auto& option : node[any]) walk(option, path, keys);
  }
  if (node.contains("items")) walk(node["items"], path + "[]", keys);
  if (node.contains("additionalProperties") && node["additionalProperties"].is_object()) {
    walk(node["additionalProperties"], path + ".*", keys);
  }
  if (!node.contains("properties")) return;
  for (const auto& [key, value] : node["properties"].items()) {
    const auto at = path.empty() ? key : path + "." + key;
    keys.insert(at);
    walk(value, at, keys);
  }
}

std::set<std::string> schema_keys() {
  std::set<std::string> raw, out;
  walk(schema(), "", raw);
  for (auto key : raw) {
    // A single listener may stand without its list.
    const auto at = key.find("onDesired.");
    if (at != std::string::npos) key.insert(at + 9, "[]");
    out.insert(key);
  }
  return out;
}

/// Whether the document keeps to the part of the schema's language that it uses; the first mistake, or empty.
std::string misfit(const json& rule, const detail::YamlNode& node, const std::string& path) {
  if (rule.contains("$ref")) {
    const auto inner = misfit(schema()["$defs"].at(rule["$ref"].get<std::string>().substr(8)), node, path);
    if (!inner.empty()) return inner;
  }
  if (rule.contains("oneOf")) {
    int fitting = 0;
    for (const auto& option : rule["oneOf"]) fitting += misfit(option, node, path).empty() ? 1 : 0;
    if (fitting != 1) return path + ": fits " + std::to_string(fitting) + " of the alternatives";
  }
  if (rule.contains("const") &&
      (rule["const"].is_string() ? rule["const"] != node.text : rule["const"].dump() != node.text))
    return path + ": const";
  if (rule.contains("enum") && std::find(rule["enum"].begin(), rule["enum"].end(), node.text) == rule["enum"].end())
    return path + ": enum";
  if (rule.contains("type")) {
    const auto fits = [&](const std::string& type) {
      if (type == "object") return node.is_mapping();
      if (type == "array") return node.is_sequence();
      if (type == "string") return node.is_scalar() && (node.is_quoted || !detail::is_json_number(node.text));
      if (type == "integer") return node.is_scalar() && !node.is_quoted && detail::is_json_integer(node.text);
      if (type == "number") return node.is_scalar() && !node.is_quoted && detail::is_json_number(node.text);
      return type == "boolean" && node.is_scalar() && (node.text == "true" || node.text == "false");
    };
    bool any = false;
    if (rule["type"].is_string()) {
      any = fits(rule["type"]);
    } else {
      for (const auto& type : rule["type"]) any = any || fits(type);
    }
    if (!any) return path + ": type";
  }
  if (rule.contains("items")) {
    for (const auto& item : node.items) {
      const auto inner = misfit(rule["items"], item, path + "[]");
      if (!inner.empty()) return inner;
    }
  }
  if (rule.contains("required")) {
    for (const auto& key : rule["required"]) {
      if (node.find(key.get<std::string>()) == nullptr) return path + ": " + key.get<std::string>() + " is required";
    }
  }
  for (const auto& member : node.members) {
    if (rule.contains("properties") && rule["properties"].contains(member.key)) {
      const auto inner = misfit(rule["properties"][member.key], member.value, path + "." + member.key);
      if (!inner.empty()) return inner;
    } else if (rule.contains("additionalProperties") && rule["additionalProperties"].is_object()) {
      const auto inner = misfit(rule["additionalProperties"], member.value, path + ".*");
      if (!inner.empty()) return inner;
    } else if (rule.contains("additionalProperties") && rule["additionalProperties"] == false &&
               !member.key.starts_with("x-")) {
      return path + ": key " + member.key;
    }
  }
  return {};
}

detail::YamlNode read(const std::filesystem::path& path) {
  std::ifstream file{path};
  const std::string text{std::istreambuf_iterator<char>{file}, {}};
  return detail::read_yaml(text, path.string()).root;
}

TEST(Schema, KnowsExactlyTheKeysTheLoaderKnows) {
  const auto known = known_keys();
  EXPECT_EQ(schema_keys(), std::set<std::string>(known.begin(), known.end()));
}

TEST(Schema, EveryKeyIsDescribed) {
  const std::function<void(const json&, const std::string&)> visit = [&](const json& node, const std::string& path) {
    if (node.is_object() && node.contains("properties")) {
      for (const auto& [key, value] : node["properties"].items()) {
        const bool direct = value.contains("description");
        const bool by_reference =
            value.contains("$ref") &&
            schema()["$defs"].at(value["$ref"].get<std::string>().substr(8)).contains("description");
        EXPECT_TRUE(direct || by_reference) << path << "." << key;
      }
    }
    if (!node.is_structured()) return;
    for (const auto& [key, value] : node.items()) visit(value, path + "." + key);
  };
  visit(schema(), "");
}

TEST(Schema, EveryReferenceLeadsSomewhere) {
  const std::function<void(const json&)> visit = [&](const json& node) {
    if (node.is_object() && node.contains("$ref")) {
      const auto name = node["$ref"].get<std::string>();
      EXPECT_TRUE(name.starts_with("#/$defs/") && schema()["$defs"].contains(name.substr(8))) << name;
    }
    if (!node.is_structured()) return;
    for (const auto& value : node) visit(value);
  };
  visit(schema());
}

TEST(Schema, AcceptsEveryShippedScenario) {
  size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator{kScenarios}) {
    if (entry.path().extension() != ".yaml") continue;
    EXPECT_EQ(misfit(schema(), read(entry.path()), ""), "") << entry.path();
    ++count;
  }
  EXPECT_GE(count, 4u);
}

TEST(Schema, RefusesScenariosWithUnknownKeysWrongTypesAndMissingParts) {
  for (const auto* name : {"unknown-keys.yaml", "wrong-types.yaml", "missing.yaml", "not-in-this-build.yaml"}) {
    EXPECT_NE(misfit(schema(), read(kScenarios / "invalid" / name), ""), "") << name;
  }
}

}  // namespace
}  // namespace twinstorm::scenario
