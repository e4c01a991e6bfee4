#include "sim/base/distribution.hpp"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "sim/base/units.hpp"

namespace twinstorm {
namespace {

constexpr double kZ99 = 2.3263478740408408;  // the 99th percentile of the standard normal distribution

double sigma_of(Nanos p50, Nanos p99) { return std::log(to_seconds(p99) / to_seconds(p50)) / kZ99; }

/// Words of a flow mapping: names, durations, and the four brackets; colons and commas only separate.
std::vector<std::string_view> words_of(std::string_view text) {
  constexpr std::string_view kSpace = " \t:,";
  constexpr std::string_view kBrackets = "{}[]";
  std::vector<std::string_view> words;
  while (true) {
    const size_t start = text.find_first_not_of(kSpace);
    if (start == std::string_view::npos) return words;
    text.remove_prefix(start);
    const bool bracket = kBrackets.find(text.front()) != std::string_view::npos;
    const size_t end = bracket ? 1 : text.find_first_of(" \t:,{}[]");
    words.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return words;
    text.remove_prefix(end);
  }
}

}  // namespace

Result<Distribution> Distribution::parse(std::string_view text) {
  const auto refuse = [text](std::string_view problem) {
    return make_error(ErrorCode::invalid_argument,
                      fmt::format("'{}' is no distribution of durations: {}; try 5s, {{uniform: [1s, 5s]}} or "
                                  "{{lognormal: {{p50: 1s, p99: 10s}}}}",
                                  text, problem));
  };
  struct Form {
    std::string_view name;
    std::vector<std::string_view> shape;  // after the name; "" = a duration
    Kind kind;
    bool zero_allowed;
  };
  static const std::vector<Form> kForms{{"uniform", {"[", "", "", "]"}, Kind::uniform, true},
                                        {"lognormal", {"{", "p50", "", "p99", "", "}"}, Kind::lognormal, false},
                                        {"exponential", {"{", "mean", "", "}"}, Kind::exponential, false},
                                        {"normal", {"{", "mean", "", "stddev", "", "}"}, Kind::normal, true}};
  std::vector<std::string_view> words = words_of(text);
  if (words.size() >= 2 && words.front() == "{" && words.back() == "}") words = {words.begin() + 1, words.end() - 1};
  if (words.empty()) return refuse("it is empty");
  if (words.size() == 1) {
    const auto value = parse_duration(words.front());
    if (!value) return refuse(value.error().message);
    return constant(*value);
  }
  const auto form =
      std::find_if(kForms.begin(), kForms.end(), [&words](const Form& each) { return each.name == words.front(); });
  if (form == kForms.end()) return refuse("it is none of uniform, lognormal, exponential, normal, or a duration");
  if (words.size() != form->shape.size() + 1) return refuse(fmt::format("{} has other parameters", form->name));
  std::vector<Nanos> values;
  for (size_t i = 0; i < form->shape.size(); ++i) {
    if (!form->shape[i].empty()) {
      if (words[i + 1] != form->shape[i]) return refuse(fmt::format("{} has other parameters", form->name));
      continue;
    }
    const auto value = parse_duration(words[i + 1]);
    if (!value) return refuse(value.error().message);
    if (*value == Nanos{0} && !form->zero_allowed) return refuse("its durations must be longer than 0");
    values.push_back(*value);
  }
  const Nanos second = values.size() > 1 ? values[1] : Nanos{0};
  const bool ascending = form->kind == Kind::uniform || form->kind == Kind::lognormal;
  if (ascending && values[0] > second) return refuse("the first duration is longer than the second");
  return Distribution{form->kind, values[0], second};
}

Nanos Distribution::sample(Rng& rng) const {
  const auto scaled = [](Nanos unit, double factor) {
    return Nanos{static_cast<int64_t>(std::clamp(static_cast<double>(unit.count()) * factor, 0.0, 9.0e18))};
  };
  switch (kind_) {
    case Kind::constant:
      return a_;
    case Kind::uniform:
      return a_ + Nanos{static_cast<int64_t>(rng.below(static_cast<uint64_t>((b_ - a_).count()) + 1))};
    case Kind::lognormal:
      return scaled(a_, std::exp(sigma_of(a_, b_) * rng.normal()));
    case Kind::exponential:
      return scaled(a_, rng.exponential());
    case Kind::normal:
      return std::max(Nanos{0}, a_ + Nanos{static_cast<int64_t>(static_cast<double>(b_.count()) * rng.normal())});
  }
  return a_;
}

Nanos Distribution::mean() const {
  switch (kind_) {
    case Kind::uniform:
      return (a_ + b_) / 2;
    case Kind::lognormal: {
      const double sigma = sigma_of(a_, b_);
      return Nanos{static_cast<int64_t>(static_cast<double>(a_.count()) * std::exp(sigma * sigma / 2))};
    }
    case Kind::constant:
    case Kind::exponential:
    case Kind::normal:
      break;
  }
  return a_;
}

std::string Distribution::to_yaml() const {
  const auto a = exact_duration(a_), b = exact_duration(b_);
  switch (kind_) {
    case Kind::constant:
      return a;
    case Kind::uniform:
      return fmt::format("{{uniform: [{}, {}]}}", a, b);
    case Kind::lognormal:
      return fmt::format("{{lognormal: {{p50: {}, p99: {}}}}}", a, b);
    case Kind::exponential:
      return fmt::format("{{exponential: {{mean: {}}}}}", a);
    case Kind::normal:
      return fmt::format("{{normal: {{mean: {}, stddev: {}}}}}", a, b);
  }
  return a;
}

}  // namespace twinstorm
