#include "sim/run/findings.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace twinstorm::backend {
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(RequestBooks::Row, answered, unknown)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(RequestBooks, rows)
}  // namespace twinstorm::backend

namespace twinstorm::run {

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Findings::Created, known, uncertain)

namespace {

void add_examples(std::vector<std::string>& to, const std::vector<std::string>& from) {
  for (const auto& example : from) {
    if (to.size() < kExamplesMax) to.push_back(example);
  }
}

std::string dump(const nlohmann::json& json) {
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

template <class T, class Read>
Result<T> parse(std::string_view text, Read&& read) {
  try {
    T value;
    read(nlohmann::json::parse(text), value);
    return value;
  } catch (const nlohmann::json::exception& error) {
    return make_error(ErrorCode::protocol, fmt::format("a worker's answer cannot be read: {}", error.what()));
  }
}

}  // namespace

void Findings::add(const Findings& other) {
  notifications += other.notifications;
  open_at_stop += other.open_at_stop;
  requests.add(other.requests);
  versions_went_back += other.versions_went_back;
  add_examples(lost, other.lost);
  add_examples(went_back, other.went_back);
  add_examples(duplicates, other.duplicates);
  created.resize(std::max(created.size(), other.created.size()));
  for (size_t i = 0; i < other.created.size(); ++i) {
    const auto append = [](std::vector<uint64_t>& to, const std::vector<uint64_t>& from) {
      to.insert(to.end(), from.begin(), from.end());
    };
    append(created[i].known, other.created[i].known);
    append(created[i].uncertain, other.created[i].uncertain);
  }
}

void TwinComparison::add(const TwinComparison& other) {
  compared += other.compared;
  differing += other.differing;
  unchecked += other.unchecked;
  unread += other.unread;
  add_examples(examples, other.examples);
  if (!problem) problem = other.problem;
}

std::string to_json(const Findings& findings) {
  return dump(nlohmann::json{{"notifications", findings.notifications},
                             {"openAtStop", findings.open_at_stop},
                             {"requests", findings.requests},
                             {"versionsWentBack", findings.versions_went_back},
                             {"lost", findings.lost},
                             {"wentBack", findings.went_back},
                             {"duplicates", findings.duplicates},
                             {"created", findings.created}});
}

std::string to_json(const TwinComparison& comparison) {
  nlohmann::json json{{"compared", comparison.compared},
                      {"differing", comparison.differing},
                      {"unchecked", comparison.unchecked},
                      {"unread", comparison.unread},
                      {"examples", comparison.examples}};
  if (comparison.problem) json["problem"] = *comparison.problem;
  return dump(json);
}

Result<Findings> findings_from_json(std::string_view text) {
  return parse<Findings>(text, [](const nlohmann::json& json, Findings& findings) {
    json.at("notifications").get_to(findings.notifications);
    json.at("openAtStop").get_to(findings.open_at_stop);
    json.at("requests").get_to(findings.requests);
    json.at("versionsWentBack").get_to(findings.versions_went_back);
    json.at("lost").get_to(findings.lost);
    json.at("wentBack").get_to(findings.went_back);
    json.at("duplicates").get_to(findings.duplicates);
    json.at("created").get_to(findings.created);
  });
}

Result<TwinComparison> comparison_from_json(std::string_view text) {
  return parse<TwinComparison>(text, [](const nlohmann::json& json, TwinComparison& comparison) {
    json.at("compared").get_to(comparison.compared);
    json.at("differing").get_to(comparison.differing);
    json.at("unchecked").get_to(comparison.unchecked);
    json.at("unread").get_to(comparison.unread);
    json.at("examples").get_to(comparison.examples);
    if (json.contains("problem")) comparison.problem = json["problem"].get<std::string>();
  });
}

}  // namespace twinstorm::run
