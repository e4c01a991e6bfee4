// What the shipped dashboards and alerts ask for must be what the tool exports.
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <yaml-cpp/yaml.h>

namespace twinstorm::metrics {
namespace {

const std::filesystem::path kRoot = TWINSTORM_SOURCE_DIR;

std::set<std::string> names_on_record() {
  std::ifstream in(kRoot / "tests/golden/metric_names.txt");
  std::set<std::string> names;
  for (std::string line; std::getline(in, line);) names.insert(line);
  return names;
}

/// Every `twinstorm_...` in an expression, a histogram's series by the histogram's name. What rules record
/// (`level:metric:operation`) is none.
std::set<std::string> metrics_in(std::string expression) {
  expression = std::regex_replace(expression, std::regex("[a-z_]+:[a-z0-9_]+:[a-z0-9_]+"), "");
  static const std::regex kName("twinstorm_[a-z0-9_]+");
  std::set<std::string> names;
  for (std::sregex_iterator it(expression.begin(), expression.end(), kName), end; it != end; ++it) {
    auto name = it->str();
    for (const std::string suffix : {"_bucket", "_sum", "_count"}) {
      if (name.ends_with("_seconds" + suffix)) name.resize(name.size() - suffix.size());
    }
    names.insert(name);
  }
  return names;
}

void collect_expressions(const nlohmann::json& node, std::vector<std::string>& out) {
  for (const auto& [key, value] : node.items()) {
    if ((key == "expr" || key == "query") && value.is_string()) out.push_back(value);
    if (value.is_structured()) collect_expressions(value, out);
  }
}

TEST(Dashboards, AskOnlyForMetricsThatAreExported) {
  const auto known = names_on_record();
  std::set<std::string> used;
  for (const auto& entry : std::filesystem::directory_iterator(kRoot / "dashboards/grafana")) {
    std::ifstream in(entry.path());
    const auto dashboard = nlohmann::json::parse(in);
    EXPECT_FALSE(dashboard.at("uid").get<std::string>().empty()) << entry.path();
    std::vector<std::string> expressions;
    collect_expressions(dashboard, expressions);
    EXPECT_GE(expressions.size(), 10u) << entry.path();
    for (const auto& expression : expressions) {
      for (const auto& name : metrics_in(expression)) {
        // The hub's are asked of a real Prometheus (tests/interop/prometheus).
        if (name.starts_with("twinstorm_hub_")) continue;
        EXPECT_TRUE(known.contains(name)) << entry.path() << ": " << expression;
        used.insert(name);
      }
    }
  }
  // A number nobody draws is a number nobody looks at.
  EXPECT_THAT(used, testing::ContainerEq(known));
}

TEST(Dashboards, GiveEachPanelItsOwnIdAndPlace) {
  for (const auto& entry : std::filesystem::directory_iterator(kRoot / "dashboards/grafana")) {
    std::ifstream in(entry.path());
    std::set<int> ids;
    std::set<std::pair<int, int>> cells;
    for (const auto& panel : nlohmann::json::parse(in).at("panels")) {
      EXPECT_TRUE(ids.insert(panel.at("id").get<int>()).second) << panel.at("title");
      const auto& at = panel.at("gridPos");
      const int x0 = at.at("x"), y0 = at.at("y"), w = at.at("w"), h = at.at("h");
      EXPECT_LE(x0 + w, 24) << panel.at("title");
      for (int y = y0; y < y0 + h; ++y) {
        for (int x = x0; x < x0 + w; ++x) EXPECT_TRUE(cells.emplace(x, y).second) << panel.at("title");
      }
    }
  }
}

TEST(Alerts, AskOnlyForMetricsThatAreExported) {
  const auto known = names_on_record();
  size_t rules = 0;
  for (const auto& group : YAML::LoadFile((kRoot / "dashboards/alerts.yml").string())["groups"]) {
    for (const auto& rule : group["rules"]) {
      ++rules;
      const auto names = metrics_in(rule["expr"].as<std::string>());
      for (const auto& name : names) EXPECT_TRUE(known.contains(name)) << rule["alert"] << ": " << name;
      if (rule["alert"]) {
        EXPECT_TRUE(rule["annotations"]["summary"]) << rule["alert"];
      }
    }
  }
  EXPECT_GE(rules, 5u);
}

}  // namespace
}  // namespace twinstorm::metrics
