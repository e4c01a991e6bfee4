#include "sim/scenario/detail/reader.hpp"

#include <algorithm>
#include <charconv>
#include <set>

#include <fmt/format.h>

#include "sim/base/assert.hpp"
#include "sim/base/spelling.hpp"
#include "sim/scenario/detail/text.hpp"

namespace twinstorm::scenario::detail {

// Sums of a few durations must stay far inside 63 bits of nanoseconds.
constexpr Nanos kLongestDuration = std::chrono::hours{24 * 30};

void Complaints::add(const YamlPlace& place, std::string path, std::string value, std::string message,
                     std::string hint) {
  // An override is one line that the author just typed: naming it is place enough.
  const bool in_file = place.source == 0;
  items_.push_back({place,
                    {sources_.at(place.source), in_file ? place.line : 0, in_file ? place.column : 0, std::move(path),
                     std::move(value), std::move(message), std::move(hint)}});
}

void Complaints::add_error(const YamlPlace& place, std::string path, std::string value, std::string text) {
  std::string hint;
  const auto open = text.rfind(" (");
  if (open != std::string::npos && text.ends_with(')')) {
    hint = text.substr(open + 2, text.size() - open - 3);
    text.erase(open);
  }
  add(place, std::move(path), std::move(value), std::move(text), std::move(hint));
}

std::vector<Diagnostic> Complaints::take() {
  std::stable_sort(items_.begin(), items_.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<Diagnostic> out;
  out.reserve(items_.size());
  for (auto& [place, diagnostic] : items_) out.push_back(std::move(diagnostic));
  items_.clear();
  return out;
}

std::string join(const std::vector<std::string>& words, std::string_view separator) {
  std::string out;
  for (const auto& word : words) {
    if (!out.empty()) out += separator;
    out += word;
  }
  return out;
}

std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates) {
  const auto best = nearest(word, candidates);
  if (!best.empty()) return fmt::format("did you mean \"{}\"?", best);
  return candidates.empty() ? std::string{} : "known: " + join(candidates);
}

bool is_name(std::string_view text) {
  const auto alphanumeric = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  if (text.empty() || text.size() > 64 || !alphanumeric(text.front())) return false;
  return std::all_of(text.begin(), text.end(), [&](char c) { return alphanumeric(c) || c == '-' || c == '_'; });
}

std::string_view leading_number(std::string_view text) {
  while (text.starts_with(' ')) text.remove_prefix(1);
  size_t end = 0;
  while (end < text.size() && text[end] >= '0' && text[end] <= '9') ++end;
  if (end > 0 && end + 1 < text.size() && text[end] == '.' && text[end + 1] >= '0' && text[end + 1] <= '9') {
    for (++end; end < text.size() && text[end] >= '0' && text[end] <= '9';) ++end;
  }
  return text.substr(0, end);
}

Section::Section(Complaints& complaints, const YamlNode& node, std::string path, std::string_view pattern)
    : complaints_{&complaints}, node_{&node}, path_{std::move(path)} {
  const auto& table = key_table();
  const auto known =
      std::find_if(table.begin(), table.end(), [&](const KeySet& set) { return set.pattern == pattern; });
  TS_ASSERT(known != table.end());
  if (!node.is_mapping()) {
    valid_ = false;
    complaints.add(node.place, path_, shortened(node.text), fmt::format("{} is not a mapping", describe(node)),
                   "write its keys: " + join(known->keys));
    return;
  }
  std::set<std::string_view> seen;
  for (const auto& member : node.members) {
    const auto shown = shortened(member.key);
    if (!seen.insert(member.key).second) {
      complaints.add(member.place, path_of(member.key), shown, fmt::format("\"{}\" appears twice", shown), "keep one");
      continue;
    }
    if (std::find(known->keys.begin(), known->keys.end(), member.key) != known->keys.end()) continue;
    // `x-...` at the top is where anchors may be kept.
    if (pattern.empty() && member.key.starts_with("x-")) continue;
    const auto elsewhere = known->elsewhere.find(member.key);
    complaints.add(
        member.place, path_of(member.key), shown,
        elsewhere == known->elsewhere.end() ? fmt::format("unknown key \"{}\"", shown)
                                            : fmt::format("\"{}\" is not written here", shown),
        elsewhere == known->elsewhere.end() ? did_you_mean(member.key, known->keys) : std::string{elsewhere->second});
  }
}

std::string Section::path_of(std::string_view key) const {
  return path_.empty() ? shortened(key) : fmt::format("{}.{}", path_, shortened(key));
}

YamlPlace Section::place_of(std::string_view key) const {
  const auto* value = find(key);
  return value != nullptr ? value->place : node_->place;
}

YamlPlace Section::key_place_of(std::string_view key) const {
  for (const auto& member : node_->members) {
    if (member.key == key) return member.place;
  }
  return node_->place;
}

void Section::complain(std::string_view key, std::string message, std::string hint) const {
  const auto* value = find(key);
  complaints_->add(place_of(key), path_of(key), value != nullptr ? shortened(value->text) : std::string{},
                   std::move(message), std::move(hint));
}

bool Section::require(std::string_view key, std::string hint) const {
  if (!valid_) return false;
  if (has(key)) return true;
  complaints_->add(node_->place, path_of(key), {}, fmt::format("\"{}\" is missing", key), std::move(hint));
  return false;
}

void Section::refuse(std::string_view key, std::string why, std::string hint) const {
  if (!has(key)) return;
  complaints_->add(key_place_of(key), path_of(key), shortened(find(key)->text), std::move(why), std::move(hint));
}

std::optional<std::string> Section::text(std::string_view key) const {
  const auto* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_scalar() || value->text.empty()) {
    complain(key, fmt::format("{} is not text", describe(*value)), "write a word or a quoted text");
    return std::nullopt;
  }
  return value->text;
}

std::optional<std::string> Section::name(std::string_view key) const {
  auto value = text(key);
  if (value && !is_name(*value)) {
    complain(key, fmt::format("\"{}\" is not a name", shortened(*value)),
             "letters, digits, - and _, at most 64, starting with a letter or digit");
    return std::nullopt;
  }
  return value;
}

std::optional<uint64_t> Section::integer(std::string_view key, uint64_t low, uint64_t high) const {
  const auto* value = find(key);
  if (value == nullptr) return std::nullopt;
  uint64_t number = 0;
  const auto& digits = value->text;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  const bool whole = value->is_scalar() && is_json_integer(digits) && end == digits.data() + digits.size();
  if (!whole && error != std::errc::result_out_of_range) {
    std::string plain;
    for (const char c : digits) {
      if (c >= '0' && c <= '9') plain.push_back(c);
    }
    const bool separated = !plain.empty() && digits.find_first_not_of("0123456789,_ ") == std::string::npos;
    complain(key, fmt::format("{} is not a whole number", describe(*value)),
             separated ? "try " + plain : fmt::format("try {}", std::clamp<uint64_t>(low == 0 ? 1 : low, low, high)));
    return std::nullopt;
  }
  if (error != std::errc{} || number < low || number > high) {
    complain(key, fmt::format("{} is out of range", shortened(digits)),
             fmt::format("{} to {}", format_count(low), format_count(high)));
    return std::nullopt;
  }
  return number;
}

std::optional<bool> Section::boolean(std::string_view key) const {
  const auto* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_scalar() && !value->is_quoted && (value->text == "true" || value->text == "false")) {
    return value->text == "true";
  }
  complain(key, fmt::format("{} is neither true nor false", describe(*value)), "try true");
  return std::nullopt;
}

std::optional<Nanos> read_duration(Complaints& complaints, const YamlNode& node, const std::string& path,
                                   bool allow_zero) {
  if (!node.is_scalar()) {
    complaints.add(node.place, path, {}, fmt::format("{} is not a duration", describe(node)),
                   "try 30s, 250ms or 1h30m");
    return std::nullopt;
  }
  const auto value = parse_duration(node.text);
  const auto shown = shortened(node.text);
  if (!value) {
    const auto number = leading_number(node.text);
    const bool no_unit = !number.empty() && number.size() == node.text.size();
    if (no_unit) {
      complaints.add(node.place, path, shown, fmt::format("\"{}\" has no unit", shown),
                     fmt::format("try {0}s or {0}ms", number));
    } else {
      complaints.add(node.place, path, shown, fmt::format("\"{}\" is not a duration", shown),
                     number.empty() ? "try 30s, 250ms or 1h30m" : fmt::format("try {}s", number));
    }
    return std::nullopt;
  }
  if (*value > kLongestDuration) {
    complaints.add(node.place, path, shown, fmt::format("\"{}\" is longer than a run may last", shown), "at most 30d");
    return std::nullopt;
  }
  if (!allow_zero && *value <= Nanos{0}) {
    complaints.add(node.place, path, shown, fmt::format("\"{}\" must be longer than nothing", shown), "try 1s");
    return std::nullopt;
  }
  return *value;
}

std::optional<Nanos> Section::duration(std::string_view key, bool allow_zero) const {
  const auto* value = find(key);
  if (value == nullptr) return std::nullopt;
  return read_duration(*complaints_, *value, path_of(key), allow_zero);
}

std::optional<double> Section::share(std::string_view key) const {
  const auto* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_scalar()) {
    const auto result = parse_share(value->text);
    if (result) return *result;
    const auto number = leading_number(value->text);
    const bool percent = !number.empty() && parse_share(std::string{number} + "%").has_value();
    complain(key, fmt::format("{} is not a share between 0% and 100%", describe(*value)),
             percent ? fmt::format("try {}%", number) : "try 30%");
    return std::nullopt;
  }
  complain(key, fmt::format("{} is not a share between 0% and 100%", describe(*value)), "try 30%");
  return std::nullopt;
}

std::optional<ByteCount> Section::size(std::string_view key) const {
  const auto* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_scalar()) {
    const auto result = parse_size(value->text);
    if (result) return *result;
  }
  const auto number = leading_number(value->text);
  complain(key, fmt::format("{} is not a size", describe(*value)),
           number.empty() ? "try 256B, 4KB or 1MB" : fmt::format("try {}B", number));
  return std::nullopt;
}

std::optional<size_t> Section::word(std::string_view key, const std::vector<std::string>& words) const {
  const auto* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_scalar()) {
    const auto at = std::find(words.begin(), words.end(), value->text);
    if (at != words.end()) return static_cast<size_t>(at - words.begin());
  }
  const auto best = nearest(value->text, words);
  complain(key, fmt::format("{} is not one of {}", describe(*value), join(words)),
           best.empty() ? std::string{} : fmt::format("did you mean \"{}\"?", best));
  return std::nullopt;
}

}  // namespace twinstorm::scenario::detail
