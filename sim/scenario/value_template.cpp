#include "sim/scenario/value_template.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "sim/scenario/detail/template_compiler.hpp"
#include "sim/scenario/detail/text.hpp"
#include "sim/scenario/text_pattern.hpp"

namespace twinstorm::scenario {
namespace detail {

struct TemplatePart {
  enum class Kind : uint8_t { literal, integer, real, normal, choice, sequence, pattern };
  Kind kind = Kind::literal;
  uint8_t decimals = 0;                            // real, normal
  std::string text;                                // literal
  int64_t low = 0;                                 // integer: lowest; sequence: start
  uint64_t span = 0;                               // integer: number of values
  int64_t step = 0;                                // sequence
  double a = 0, b = 0;                             // real: low, high; normal: mean, stddev
  std::vector<std::vector<TemplatePart>> options;  // choice
  std::vector<double> cumulative;                  // choice by weight: upper ends in (0, 1]; empty: equal odds
  TextPattern pattern;                             // pattern: quotes and escapes included
};

const std::vector<std::string>& generator_names() {
  static const std::vector<std::string> kNames{"uniform",  "normal",  "oneOf",  "weighted",
                                               "sequence", "pattern", "literal"};
  return kNames;
}

namespace {

// Integers of a twin (service.md 5.4): 52 bits and the sign.
constexpr int64_t kMinTwinInteger = -4503599627370496;
constexpr int64_t kMaxTwinInteger = 4503599627370495;
constexpr size_t kMaxKeyBytes = 1024;
constexpr size_t kMaxStringBytes = 4096;
constexpr size_t kMaxLevels = 10;
constexpr uint8_t kDecimals = 3;
constexpr std::array<double, 10> kPowersOfTen{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9};

using Kind = TemplatePart::Kind;

void append_integer(std::string& out, int64_t value) {
  char digits[24];
  out.append(digits, static_cast<size_t>(std::to_chars(digits, digits + sizeof digits, value).ptr - digits));
}

void append_real(std::string& out, double value, unsigned decimals) {
  char digits[400];
  const auto end =
      std::to_chars(digits, digits + sizeof digits, value, std::chars_format::fixed, static_cast<int>(decimals)).ptr;
  out.append(digits, static_cast<size_t>(end - digits));
}

void render_parts(const std::vector<TemplatePart>& parts, Rng& rng, uint64_t n, std::string& out) {
  for (const auto& part : parts) {
    switch (part.kind) {
      case Kind::literal:
        out += part.text;
        break;
      case Kind::integer:
        append_integer(out, part.low + static_cast<int64_t>(rng.below(part.span)));
        break;
      case Kind::real:
        append_real(out, rng.uniform(part.a, part.b), part.decimals);
        break;
      case Kind::normal:
        append_real(out, part.a + part.b * rng.normal(), part.decimals);
        break;
      case Kind::choice: {
        size_t pick = 0;
        if (part.cumulative.empty()) {
          pick = rng.below(part.options.size());
        } else {
          const double at = rng.uniform();
          while (pick + 1 < part.cumulative.size() && at >= part.cumulative[pick]) ++pick;
        }
        render_parts(part.options[pick], rng, n, out);
        break;
      }
      case Kind::sequence:
        // Unsigned, because a long run may wrap and must not be undefined.
        append_integer(out,
                       static_cast<int64_t>(static_cast<uint64_t>(part.low) + static_cast<uint64_t>(part.step) * n));
        break;
      case Kind::pattern:
        part.pattern.append(out, n);
        break;
    }
  }
}

size_t integer_digits(int64_t value) { return fmt::formatted_size("{}", value); }

size_t max_bytes(const std::vector<TemplatePart>& parts) {
  size_t sum = 0;
  for (const auto& part : parts) {
    switch (part.kind) {
      case Kind::literal:
        sum += part.text.size();
        break;
      case Kind::integer:
        sum += std::max(integer_digits(part.low), integer_digits(part.low + static_cast<int64_t>(part.span - 1)));
        break;
      case Kind::real:
        sum += std::max(fmt::formatted_size("{:.{}f}", part.a, part.decimals),
                        fmt::formatted_size("{:.{}f}", part.b, part.decimals));
        break;
      case Kind::normal: {
        // The generator's tail ends at 8.6 standard deviations: 53 bits of uniform go into its radius.
        const double reach = 9 * part.b;
        sum += std::max(fmt::formatted_size("{:.{}f}", part.a - reach, part.decimals),
                        fmt::formatted_size("{:.{}f}", part.a + reach, part.decimals));
        break;
      }
      case Kind::choice: {
        size_t longest = 0;
        for (const auto& option : part.options) longest = std::max(longest, max_bytes(option));
        sum += longest;
        break;
      }
      case Kind::sequence:
        sum += 20;
        break;
      case Kind::pattern:
        sum += part.pattern.max_bytes();
        break;
    }
  }
  return sum;
}

void append_literal(std::vector<TemplatePart>& out, std::string_view text) {
  if (out.empty() || out.back().kind != Kind::literal) out.emplace_back();
  out.back().text += text;
}

TemplatePart& append_part(std::vector<TemplatePart>& out, Kind kind) {
  out.emplace_back();
  out.back().kind = kind;
  return out.back();
}

std::optional<double> number_of(const YamlNode* node) {
  if (node == nullptr || !node->is_scalar() || node->is_quoted || !is_json_number(node->text)) return std::nullopt;
  double value = 0;
  const auto [end, error] = std::from_chars(node->text.data(), node->text.data() + node->text.size(), value);
  if (error != std::errc{} || !std::isfinite(value)) return std::nullopt;
  return value;
}

std::optional<int64_t> integer_of(const YamlNode* node) {
  if (node == nullptr || !node->is_scalar() || node->is_quoted || !is_json_integer(node->text)) return std::nullopt;
  int64_t value = 0;
  const auto [end, error] = std::from_chars(node->text.data(), node->text.data() + node->text.size(), value);
  if (error != std::errc{} || value < kMinTwinInteger || value > kMaxTwinInteger) return std::nullopt;
  return value;
}

/// Digits behind the point as written, so that `uniform: [0.25, 0.5]` has at least two.
uint8_t decimals_of(const YamlNode& node) {
  const auto point = node.text.find('.');
  if (point == std::string::npos || node.text.find_first_of("eE") != std::string::npos) return 0;
  return static_cast<uint8_t>(std::min<size_t>(node.text.size() - point - 1, 9));
}

enum class Scalar : uint8_t { boolean, number, text, doubtful };

/// JSON's view of a plain scalar. Doubtful is what YAML 1.1, YAML 1.2 and JSON read differently: the author must say.
Scalar classify(const YamlNode& node) {
  if (node.is_quoted) return Scalar::text;
  const std::string& text = node.text;
  if (text == "true" || text == "false") return Scalar::boolean;
  if (is_json_number(text)) return Scalar::number;
  static const std::set<std::string> kDoubtful{"yes",  "Yes",   "YES",  "no",   "No",   "NO",   "on",    "On",
                                               "ON",   "off",   "Off",  "OFF",  "True", "TRUE", "False", "FALSE",
                                               ".inf", "-.inf", ".nan", ".NaN", ".Inf", "-.Inf"};
  if (kDoubtful.contains(text)) return Scalar::doubtful;
  std::string_view rest = text;
  if (rest.starts_with('+') || rest.starts_with('-')) rest.remove_prefix(1);
  const auto numeric = [](std::string_view t) {
    return !t.empty() && t.find_first_not_of("0123456789._eE+-") == std::string_view::npos &&
           t.find_first_of("0123456789") != std::string_view::npos;
  };
  // `007`, `+1`, `.5`, `1.`, `1_000`; but not `1.2.3` or `2026-11-23`, which nobody takes for numbers.
  const bool one_point = std::count(rest.begin(), rest.end(), '.') <= 1;
  const bool no_dash = rest.find_first_of("-+") == std::string_view::npos;
  if (numeric(rest) && one_point && no_dash && rest.find_first_not_of("0123456789._") == std::string_view::npos) {
    return Scalar::doubtful;
  }
  if (rest.starts_with("0x") && rest.size() > 2 &&
      rest.find_first_not_of("0123456789abcdefABCDEF", 2) == std::string_view::npos) {
    return Scalar::doubtful;
  }
  return Scalar::text;
}

std::string quote_hint(const YamlNode& node) {
  if (node.text.find_first_of("0123456789") != std::string::npos) {
    return fmt::format("write a number as in JSON, or quote it: \"{}\"", node.text);
  }
  return fmt::format("write true or false, or quote it: \"{}\"", node.text);
}

}  // namespace
}  // namespace detail

using detail::TemplatePart;
using detail::YamlMember;
using detail::YamlNode;
using Kind = TemplatePart::Kind;

// --- ValueTemplate
// ----------------------------------------------------------------------------------------------------

Result<ValueTemplate> ValueTemplate::parse(std::string_view text) {
  auto document = detail::read_yaml(text, "template");
  std::optional<std::string> first;
  if (!document.diagnostics.empty()) first = to_string(document.diagnostics.front());
  TemplateCompiler compiler{{},
                            [&first](const detail::YamlPlace& place, const std::string& path, std::string,
                                     std::string message, std::string hint) {
                              if (first) return;
                              first = fmt::format("template:{}:{}: {}{}{} ({})", place.line, place.column, path,
                                                  path.empty() ? "" : ": ", message, hint);
                            }};
  ValueTemplate result;
  if (!first) result = compiler.compile(document.root, "");
  if (first) return make_error(ErrorCode::invalid_argument, *first);
  return result;
}

void ValueTemplate::render(Rng& rng, uint64_t n, std::string& out) const {
  if (parts_) detail::render_parts(*parts_, rng, n, out);
}

std::string ValueTemplate::render(Rng& rng, uint64_t n) const {
  std::string out;
  out.reserve(max_rendered_bytes_);
  render(rng, n, out);
  return out;
}

bool ValueTemplate::is_constant() const {
  return !parts_ || std::all_of(parts_->begin(), parts_->end(), [](const auto& p) { return p.kind == Kind::literal; });
}

// --- TemplateCompiler
// -------------------------------------------------------------------------------------------------

ValueTemplate TemplateCompiler::compile(const Node& node, const std::string& path) {
  bool failed = false;
  const auto outer = sink_;
  sink_ = [&](const auto& place, const auto& at, auto value, auto message, auto hint) {
    failed = true;
    outer(place, at, std::move(value), std::move(message), std::move(hint));
  };
  auto parts = std::make_shared<Parts>();
  if (rules_.twin_section && !renders_object(node)) {
    fail(node.place, path, node,
         node.is_mapping() ? fmt::format("does not always give an object, as {} must be", rules_.section)
                           : fmt::format("{} is not an object, as {} must be", describe(node), rules_.section),
         "try {name: value}");
  } else {
    value(node, path, 1, false, *parts);
  }
  ValueTemplate result;
  if (!failed) {
    result.max_twin_bytes_ = twin_bytes(node, false);
    if (rules_.max_twin_bytes > 0 && result.max_twin_bytes_ > rules_.max_twin_bytes) {
      fail(node.place, path, Node{},
           fmt::format("can reach {} bytes, and the service takes {} of {}", result.max_twin_bytes_,
                       rules_.max_twin_bytes, rules_.section),
           "make it smaller: key and string bytes, 8 for a number and 4 for a boolean count");
    }
    result.max_rendered_bytes_ = detail::max_bytes(*parts);
    write_source(node, result.source_);
    result.parts_ = std::move(parts);
  }
  sink_ = outer;
  return result;
}

void TemplateCompiler::fail(const detail::YamlPlace& place, const std::string& path, const Node& node,
                            std::string message, std::string hint) {
  sink_(place, path, node.is_scalar() ? detail::shortened(node.text) : std::string{}, std::move(message),
        std::move(hint));
}

void TemplateCompiler::value(const Node& node, const std::string& path, size_t level, bool literal, Parts& out) {
  switch (node.kind) {
    case Node::Kind::null:
      detail::append_literal(out, "null");
      return;
    case Node::Kind::scalar:
      scalar(node, path, out);
      return;
    case Node::Kind::sequence: {
      detail::append_literal(out, "[");
      for (size_t i = 0; i < node.items.size(); ++i) {
        if (i > 0) detail::append_literal(out, ",");
        const auto item_path = fmt::format("{}[{}]", path, i);
        if (rules_.twin_section && node.items[i].is_null()) {
          fail(node.items[i].place, item_path, node.items[i], "the service refuses null inside an array",
               "leave it out");
        }
        value(node.items[i], item_path, level, literal, out);
      }
      detail::append_literal(out, "]");
      return;
    }
    case Node::Kind::mapping:
      break;
  }
  if (!literal && generator(node, path, level, out)) return;
  if (rules_.twin_section && level > detail::kMaxLevels) {
    fail(node.place, path, node,
         fmt::format("is nested deeper than the {} levels the service takes", detail::kMaxLevels), "flatten it");
    return;
  }
  detail::append_literal(out, "{");
  std::set<std::string> seen;
  for (const auto& member : node.members) {
    const auto member_path = path.empty() ? member.key : path + "." + member.key;
    if (!seen.insert(member.key).second) {
      fail(member.place, member_path, node, fmt::format("\"{}\" appears twice", detail::shortened(member.key)),
           "keep one");
      continue;
    }
    check_key(member, member_path);
    if (seen.size() > 1) detail::append_literal(out, ",");
    detail::append_literal(out, detail::quoted(member.key) + ":");
    value(member.value, member_path, level + 1, literal, out);
  }
  detail::append_literal(out, "}");
}

void TemplateCompiler::check_key(const YamlMember& member, const std::string& path) {
  if (!rules_.twin_section) return;
  const auto& key = member.key;
  const auto shown = detail::shortened(key);
  const bool control =
      std::any_of(key.begin(), key.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
  if (key.empty() || control || key.find_first_of(".$# ") != std::string::npos) {
    sink_(member.place, path, shown,
          fmt::format(
              "\"{}\" cannot be a key: the service refuses empty keys, '.', '$', '#', blanks and control characters",
              shown),
          key.find('.') != std::string::npos ? "nest the keys: {a: {b: 1}} instead of {a.b: 1}"
                                             : "use letters, digits, - and _");
  } else if (key.size() > detail::kMaxKeyBytes) {
    sink_(member.place, path, shown,
          fmt::format("the key has {} bytes; the service takes {}", key.size(), detail::kMaxKeyBytes), "shorten it");
  }
}

void TemplateCompiler::scalar(const Node& node, const std::string& path, Parts& out) {
  switch (detail::classify(node)) {
    case detail::Scalar::boolean:
      detail::append_literal(out, node.text);
      return;
    case detail::Scalar::number:
      if (rules_.twin_section && detail::is_json_integer(node.text) && !detail::integer_of(&node)) {
        fail(node.place, path, node, fmt::format("{} is outside the integers of a twin", node.text),
             fmt::format("{} to {}", detail::kMinTwinInteger, detail::kMaxTwinInteger));
      }
      detail::append_literal(out, node.text);
      return;
    case detail::Scalar::doubtful:
      fail(node.place, path, node, fmt::format("\"{}\" means different things to different readers of YAML", node.text),
           detail::quote_hint(node));
      return;
    case detail::Scalar::text:
      break;
  }
  if (rules_.twin_section && node.text.size() > detail::kMaxStringBytes) {
    fail(node.place, path, node,
         fmt::format("the text has {} bytes; the service takes {}", node.text.size(), detail::kMaxStringBytes),
         "shorten it");
  }
  detail::append_literal(out, detail::quoted(node.text));
}

bool TemplateCompiler::generator(const Node& node, const std::string& path, size_t level, Parts& out) {
  if (node.members.size() != 1) return false;
  const auto& name = node.members.front().key;
  const auto& inner = node.members.front().value;
  const auto inner_path = path.empty() ? name : path + "." + name;
  if (name == "uniform") {
    uniform(inner, inner_path, out);
  } else if (name == "normal") {
    normal(inner, inner_path, out);
  } else if (name == "oneOf") {
    one_of(inner, inner_path, level, out);
  } else if (name == "weighted") {
    weighted(inner, inner_path, out);
  } else if (name == "sequence") {
    sequence(inner, inner_path, out);
  } else if (name == "pattern") {
    pattern(inner, inner_path, out);
  } else if (name == "literal") {
    value(inner, inner_path, level, true, out);
  } else {
    return false;
  }
  return true;
}

void TemplateCompiler::uniform(const Node& node, const std::string& path, Parts& out) {
  const bool pair = node.is_sequence() && node.items.size() == 2;
  const auto low = pair ? detail::number_of(&node.items[0]) : std::nullopt;
  const auto high = pair ? detail::number_of(&node.items[1]) : std::nullopt;
  if (!low || !high) {
    fail(node.place, path, node, fmt::format("{} is not a pair of numbers", describe(node)), "try uniform: [60, 70]");
    return;
  }
  const auto low_integer = detail::integer_of(&node.items[0]), high_integer = detail::integer_of(&node.items[1]);
  const bool integers = low_integer && high_integer;
  if (*low > *high) {
    fail(node.place, path, node, fmt::format("[{}, {}] runs backwards", node.items[0].text, node.items[1].text),
         fmt::format("try [{}, {}]", node.items[1].text, node.items[0].text));
    return;
  }
  if (integers) {
    auto& part = detail::append_part(out, Kind::integer);
    part.low = *low_integer;
    part.span = static_cast<uint64_t>(*high_integer - *low_integer) + 1;
    return;
  }
  auto& part = detail::append_part(out, Kind::real);
  part.a = *low;
  part.b = *high;
  part.decimals = std::max({detail::kDecimals, detail::decimals_of(node.items[0]), detail::decimals_of(node.items[1])});
}

void TemplateCompiler::normal(const Node& node, const std::string& path, Parts& out) {
  const auto mean = detail::number_of(node.find("mean")), stddev = detail::number_of(node.find("stddev"));
  if (!node.is_mapping() || node.members.size() != 2 || !mean || !stddev || *stddev < 0) {
    fail(node.place, path, node, "needs the numbers mean and stddev, and stddev not negative",
         "try normal: {mean: 21, stddev: 2}");
    return;
  }
  auto& part = detail::append_part(out, Kind::normal);
  part.a = *mean;
  part.b = *stddev;
  part.decimals = detail::kDecimals;
}

void TemplateCompiler::one_of(const Node& node, const std::string& path, size_t level, Parts& out) {
  if (!node.is_sequence() || node.items.empty()) {
    fail(node.place, path, node, fmt::format("{} is not a list of values", describe(node)), "try oneOf: [US, Europe]");
    return;
  }
  std::vector<Parts> options(node.items.size());
  for (size_t i = 0; i < options.size(); ++i) {
    value(node.items[i], fmt::format("{}[{}]", path, i), level, false, options[i]);
  }
  detail::append_part(out, Kind::choice).options = std::move(options);
}

void TemplateCompiler::weighted(const Node& node, const std::string& path, Parts& out) {
  if (!node.is_mapping() || node.members.empty()) {
    fail(node.place, path, node, fmt::format("{} is not a mapping of names to weights", describe(node)),
         "try weighted: {cellular: 3, wifi: 7}");
    return;
  }
  double sum = 0;
  std::vector<Parts> options;
  std::vector<double> cumulative;
  for (const auto& member : node.members) {
    const auto weight = detail::number_of(&member.value);
    if (!weight || *weight < 0) {
      fail(member.value.place, path + "." + member.key, member.value,
           fmt::format("{} is not a weight", describe(member.value)), "a number, 0 or more");
      return;
    }
    sum += *weight;
    cumulative.push_back(sum);
    detail::append_literal(options.emplace_back(), detail::quoted(member.key));
  }
  if (!(sum > 0) || !std::isfinite(sum)) {
    fail(node.place, path, node, "the weights add up to nothing", "give at least one name a weight above 0");
    return;
  }
  for (auto& upper : cumulative) upper /= sum;
  auto& part = detail::append_part(out, Kind::choice);
  part.options = std::move(options);
  part.cumulative = std::move(cumulative);
}

void TemplateCompiler::sequence(const Node& node, const std::string& path, Parts& out) {
  const YamlNode* start = node.find("start");
  const YamlNode* step = node.find("step");
  const auto known = static_cast<size_t>(start != nullptr) + static_cast<size_t>(step != nullptr);
  const bool shaped = node.is_mapping() && node.members.size() == known;
  if (!shaped || (start != nullptr && !detail::integer_of(start)) || (step != nullptr && !detail::integer_of(step))) {
    fail(node.place, path, node, "takes the whole numbers start and step", "try sequence: {start: 0, step: 1}");
    return;
  }
  auto& part = detail::append_part(out, Kind::sequence);
  part.low = start != nullptr ? *detail::integer_of(start) : 0;
  part.step = step != nullptr ? *detail::integer_of(step) : 1;
}

void TemplateCompiler::pattern(const Node& node, const std::string& path, Parts& out) {
  if (!node.is_scalar()) {
    fail(node.place, path, node, fmt::format("{} is not text", describe(node)), "try pattern: \"rev-{index:05}\"");
    return;
  }
  if (const auto plain = TextPattern::parse(node.text); !plain) {
    fail(node.place, path, node, plain.error().message, {});
    return;
  }
  // Escaping leaves braces alone, so the escaped text is the same pattern in JSON.
  detail::append_part(out, Kind::pattern).pattern = TextPattern::parse(detail::quoted(node.text)).value();
}

bool TemplateCompiler::renders_object(const Node& node) {
  if (!node.is_mapping()) return false;
  if (node.members.size() != 1) return true;
  const auto& [name, place, inner] = node.members.front();
  if (name == "literal") return inner.is_mapping();
  if (name == "oneOf") {
    return inner.is_sequence() && std::all_of(inner.items.begin(), inner.items.end(), renders_object);
  }
  const auto& names = detail::generator_names();
  return std::find(names.begin(), names.end(), name) == names.end();
}

/// The largest size by the service's count (service.md 5.4). Only asked of templates without mistakes.
size_t TemplateCompiler::twin_bytes(const Node& node, bool literal) {
  size_t sum = 0;
  switch (node.kind) {
    case Node::Kind::null:
      return 0;
    case Node::Kind::scalar:
      switch (detail::classify(node)) {
        case detail::Scalar::boolean:
          return 4;
        case detail::Scalar::number:
          return 8;
        default:
          return node.text.size();
      }
    case Node::Kind::sequence:
      for (const auto& item : node.items) sum += twin_bytes(item, literal);
      return sum;
    case Node::Kind::mapping:
      break;
  }
  if (!literal && node.members.size() == 1) {
    const auto& [name, place, inner] = node.members.front();
    if (name == "uniform" || name == "normal" || name == "sequence") return 8;
    if (name == "pattern") return TextPattern::parse(inner.text).value().max_bytes();
    if (name == "literal") return twin_bytes(inner, true);
    if (name == "oneOf") {
      for (const auto& item : inner.items) sum = std::max(sum, twin_bytes(item, false));
      return sum;
    }
    if (name == "weighted") {
      for (const auto& member : inner.members) sum = std::max(sum, member.key.size());
      return sum;
    }
  }
  for (const auto& member : node.members) sum += member.key.size() + twin_bytes(member.value, literal);
  return sum;
}

void TemplateCompiler::write_source(const Node& node, std::string& out) {
  const char* separator = "";
  switch (node.kind) {
    case Node::Kind::null:
      out += "null";
      return;
    case Node::Kind::scalar:
      out += detail::classify(node) == detail::Scalar::text ? detail::quoted(node.text) : node.text;
      return;
    case Node::Kind::sequence:
      out += '[';
      for (const auto& item : node.items) {
        out += std::exchange(separator, ", ");
        write_source(item, out);
      }
      out += ']';
      return;
    case Node::Kind::mapping:
      out += '{';
      for (const auto& member : node.members) {
        out += std::exchange(separator, ", ") + detail::quoted(member.key) + ": ";
        write_source(member.value, out);
      }
      out += '}';
      return;
  }
}

}  // namespace twinstorm::scenario
