#include "sim/scenario/detail/overrides.hpp"

#include <algorithm>
#include <charconv>
#include <functional>
#include <optional>

#include <fmt/format.h>

#include "sim/scenario/detail/text.hpp"

namespace twinstorm::scenario::detail {
namespace {

void place_all(YamlNode& node, const YamlPlace& place) {
  node.place = place;
  for (auto& item : node.items) place_all(item, place);
  for (auto& member : node.members) {
    member.place = place;
    place_all(member.value, place);
  }
}

/// Walks a path such as `fleets[0].count`, `phases[steady].load.thermostats.report`.
class Walker {
 public:
  Walker(std::string_view path, const YamlPlace& place) : rest_{path}, whole_{path}, place_{place} {}

  /// The node the path names, made where only keys were missing; null after a mistake (`message`, `hint`).
  YamlNode* walk(YamlNode* node) {
    while (node != nullptr && !rest_.empty()) {
      if (rest_.front() == '[') {
        node = bracket(*node);
      } else {
        node = key(*node);
      }
      if (node != nullptr && rest_.starts_with('.')) {
        rest_.remove_prefix(1);
        if (rest_.empty()) return mistake("the path ends with a dot", "name the key behind it");
      }
    }
    return node;
  }
  std::string message, hint;

 private:
  YamlNode* mistake(std::string text, std::string fix) {
    message = std::move(text);
    hint = std::move(fix);
    return nullptr;
  }
  std::string walked() const { return std::string{whole_.substr(0, whole_.size() - rest_.size())}; }

  YamlNode* member_of(YamlNode& node, std::string_view name) {
    if (node.is_null()) node.kind = YamlNode::Kind::mapping;  // `connect:` with nothing behind it may be filled
    if (!node.is_mapping()) {
      auto at = walked();
      if (at.ends_with('.')) at.pop_back();
      return mistake(fmt::format("{} is {}, which has no keys", at.empty() ? "the document" : at, describe(node)),
                     node.is_sequence() ? "pick an item: [0] or [name]" : "set it as a whole");
    }
    if (auto* present = node.find(name)) return present;
    node.members.push_back({std::string{name}, place_, {}});
    node.members.back().value.place = place_;
    return &node.members.back().value;
  }

  YamlNode* key(YamlNode& node) {
    // Stream names have a dot in them: what is there already as a whole, or stands below `load`, is one key.
    const auto bracket_at = rest_.find('[');
    const auto until_bracket = rest_.substr(0, bracket_at);
    const auto dot = until_bracket.find('.');
    auto name = until_bracket.substr(0, dot);
    if (node.is_mapping() && dot != std::string_view::npos) {
      const auto second = until_bracket.substr(0, until_bracket.find('.', dot + 1));
      if (node.find(second) != nullptr || (last_key_ == "load" && node.find(name) == nullptr)) name = second;
    }
    if (name.empty()) return mistake(fmt::format("\"{}\" is not a path", shortened(whole_)), "try fleets[0].count");
    auto* next = member_of(node, name);
    rest_.remove_prefix(name.size());
    last_key_ = name;
    return next;
  }

  YamlNode* bracket(YamlNode& node) {
    const auto close = rest_.find(']');
    if (close == std::string_view::npos) return mistake("a [ is not closed", "try fleets[0].count");
    auto name = rest_.substr(1, close - 1);
    if (name.size() >= 2 && name.front() == '"' && name.back() == '"') name = name.substr(1, name.size() - 2);
    auto list = walked();
    rest_.remove_prefix(close + 1);
    last_key_ = {};
    if (node.is_mapping()) return member_of(node, name);
    if (!node.is_sequence()) {
      return mistake(fmt::format("{} is {}, which has no items", list, describe(node)), "leave out the brackets");
    }
    size_t index = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), index);
    if (error == std::errc{} && end == name.data() + name.size()) {
      if (index < node.items.size()) return &node.items[index];
      return mistake(fmt::format("{} has {} items", list, node.items.size()), "items count from 0");
    }
    std::vector<std::string> names;
    for (auto& item : node.items) {
      const auto* item_name = item.find("name");
      if (item_name == nullptr) continue;
      if (item_name->text == name) return &item;
      names.push_back(item_name->text);
    }
    return mistake(fmt::format("{} has no item named \"{}\"", list, shortened(name)), did_you_mean(name, names));
  }

  std::string_view rest_, whole_;
  std::string_view last_key_;
  YamlPlace place_;
};

}  // namespace

void apply_override(YamlNode& root, std::string_view text, uint16_t source, Complaints& complaints) {
  const YamlPlace place{source, 1, 1};
  const auto equals = text.find('=');
  if (equals == std::string_view::npos || equals == 0) {
    complaints.add(place, {}, shortened(text), fmt::format("\"{}\" is not path=value", shortened(text)),
                   "try fleets[0].count=100");
    return;
  }
  const auto path = text.substr(0, equals);
  auto value = read_yaml(text.substr(equals + 1), text, source);
  for (const auto& syntax : value.diagnostics) {
    complaints.add(place, shortened(path), shortened(text.substr(equals + 1)), syntax.message, syntax.hint);
  }
  if (!value.diagnostics.empty()) return;
  Walker walker{path, place};
  auto* node = walker.walk(&root);
  if (node == nullptr) {
    complaints.add(place, shortened(path), shortened(path), walker.message, walker.hint);
    return;
  }
  place_all(value.root, place);
  *node = std::move(value.root);
}

}  // namespace twinstorm::scenario::detail
