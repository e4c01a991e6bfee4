#include "sim/scenario/detail/yaml_tree.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <sstream>
#include <utility>

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include "sim/scenario/detail/text.hpp"
#include "sim/scenario/loader.hpp"

namespace twinstorm::scenario::detail {
namespace {

constexpr size_t kMaxExpandedBytes = 8 * kMaxScenarioBytes;

/// Stops the parser; carries what to tell the author.
struct Refused {
  YamlPlace place;
  std::string message;
  std::string hint;
};

struct Weight {
  size_t nodes = 0;
  size_t bytes = 0;
};

Weight weigh(const YamlNode& node) {
  Weight sum{1, node.text.size()};
  const auto add = [&](const YamlNode& child) {
    const auto weight = weigh(child);
    sum.nodes += weight.nodes;
    sum.bytes += weight.bytes;
  };
  for (const auto& item : node.items) add(item);
  for (const auto& member : node.members) {
    sum.bytes += member.key.size();
    add(member.value);
  }
  return sum;
}

size_t depth_of(const YamlNode& node) {
  size_t deepest = 0;
  for (const auto& item : node.items) deepest = std::max(deepest, depth_of(item));
  for (const auto& member : node.members) deepest = std::max(deepest, depth_of(member.value));
  return deepest + 1;
}

class TreeBuilder final : public YAML::EventHandler {
 public:
  explicit TreeBuilder(uint16_t source) : source_{source} {}

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1) throw Refused{place_of(mark), "a second document starts here", "keep one scenario in a file"};
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    YamlNode node;
    node.place = place_of(mark);
    value(std::move(node), anchor);
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& text) override {
    YamlNode node;
    node.place = place_of(mark);
    node.is_quoted = tag == "!" || tag == "tag:yaml.org,2002:str";
    const bool empty = !node.is_quoted && (text == "null" || text == "~" || text == "Null" || text == "NULL");
    // A key is text even when it reads `null`.
    node.kind = empty && !expects_key() ? YamlNode::Kind::null : YamlNode::Kind::scalar;
    node.text = text;
    value(std::move(node), anchor);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto known = anchors_.find(anchor);
    if (known == anchors_.end()) throw Refused{place_of(mark), "an alias stands inside the value it names", "copy it"};
    if (expects_key()) throw Refused{place_of(mark), "an alias is used as a key", "write the key out"};
    if (open_.size() + known->second.depth > kMaxScenarioDepth) too_deep(place_of(mark));
    charge(known->second.weight, place_of(mark));
    YamlNode copy = known->second.node;
    value(std::move(copy), 0);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    start(YamlNode::Kind::sequence, mark, anchor);
  }
  void OnSequenceEnd() override { end(); }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    start(YamlNode::Kind::mapping, mark, anchor);
  }
  void OnMapEnd() override { end(); }

  YamlNode take() { return std::move(root_); }
  int documents() const { return documents_; }

 private:
  struct Open {
    YamlNode node;
    YAML::anchor_t anchor = 0;
    bool key_read = false;
    std::string key;
    YamlPlace key_place;
  };
  struct Anchored {
    YamlNode node;
    Weight weight;
    size_t depth = 0;
  };

  YamlPlace place_of(const YAML::Mark& mark) const {
    return {source_, static_cast<uint32_t>(std::max(mark.line, 0) + 1),
            static_cast<uint32_t>(std::max(mark.column, 0) + 1)};
  }
  bool expects_key() const { return !open_.empty() && open_.back().node.is_mapping() && !open_.back().key_read; }

  [[noreturn]] static void too_deep(const YamlPlace& place) {
    throw Refused{place, fmt::format("nested deeper than {} levels", kMaxScenarioDepth), "flatten it"};
  }

  void charge(const Weight& weight, const YamlPlace& place) {
    nodes_ += weight.nodes;
    bytes_ += weight.bytes;
    if (nodes_ > kMaxScenarioNodes || bytes_ > kMaxExpandedBytes) {
      throw Refused{place, fmt::format("the document grows beyond {} values", kMaxScenarioNodes),
                    "check the aliases: they are expanded"};
    }
  }

  void start(YamlNode::Kind kind, const YAML::Mark& mark, YAML::anchor_t anchor) {
    if (expects_key()) throw Refused{place_of(mark), "a list or mapping is used as a key", "keys are plain words"};
    if (open_.size() >= kMaxScenarioDepth) too_deep(place_of(mark));
    charge({1, 0}, place_of(mark));
    open_.emplace_back();
    open_.back().node.kind = kind;
    open_.back().node.place = place_of(mark);
    open_.back().anchor = anchor;
  }

  void end() {
    Open done = std::move(open_.back());
    open_.pop_back();
    merge(done.node);
    attach(std::move(done.node), done.anchor);
  }

  void value(YamlNode node, YAML::anchor_t anchor) {
    if (node.items.empty() && node.members.empty()) charge({1, node.text.size()}, node.place);
    if (expects_key()) {
      if (!node.is_scalar()) throw Refused{node.place, "a key is missing", "write `name: value`"};
      auto& mapping = open_.back();
      mapping.key_read = true;
      mapping.key = std::move(node.text);
      mapping.key_place = node.place;
      return;
    }
    attach(std::move(node), anchor);
  }

  void attach(YamlNode node, YAML::anchor_t anchor) {
    if (anchor != 0) {
      const auto weight = weigh(node);
      charge(weight, node.place);
      anchors_[anchor] = {node, weight, depth_of(node)};
    }
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    auto& parent = open_.back();
    if (parent.node.is_sequence()) {
      parent.node.items.push_back(std::move(node));
      return;
    }
    parent.node.members.push_back({std::move(parent.key), parent.key_place, std::move(node)});
    parent.key_read = false;
  }

  /// `<<: *defaults` (a YAML 1.1 merge key): members of the merged mapping that are not there yet.
  static void merge(YamlNode& mapping) {
    if (!mapping.is_mapping()) return;
    const auto merged = std::find_if(mapping.members.begin(), mapping.members.end(),
                                     [](const YamlMember& m) { return m.key == "<<" && m.value.is_mapping(); });
    if (merged == mapping.members.end()) return;
    YamlNode defaults = std::move(merged->value);
    mapping.members.erase(merged);
    std::set<std::string> present;
    for (const auto& member : mapping.members) present.insert(member.key);
    for (auto& member : defaults.members) {
      if (!present.contains(member.key)) mapping.members.push_back(std::move(member));
    }
  }

  uint16_t source_;
  int documents_ = 0;
  size_t nodes_ = 0, bytes_ = 0;
  std::vector<Open> open_;
  std::map<YAML::anchor_t, Anchored> anchors_;
  YamlNode root_;
};

}  // namespace

const YamlNode* YamlNode::find(std::string_view key) const {
  for (const auto& member : members) {
    if (member.key == key) return &member.value;
  }
  return nullptr;
}

YamlNode* YamlNode::find(std::string_view key) {
  for (auto& member : members) {
    if (member.key == key) return &member.value;
  }
  return nullptr;
}

bool is_json_integer(std::string_view text) {
  if (text.starts_with('-')) text.remove_prefix(1);
  if (text.empty() || (text.size() > 1 && text.front() == '0')) return false;
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

bool is_json_number(std::string_view text) {
  const auto digits = [&text] {
    size_t count = 0;
    while (count < text.size() && text[count] >= '0' && text[count] <= '9') ++count;
    text.remove_prefix(count);
    return count;
  };
  if (text.starts_with('-')) text.remove_prefix(1);
  const bool zero_first = text.starts_with('0');
  const size_t whole = digits();
  if (whole == 0 || (zero_first && whole > 1)) return false;
  if (text.starts_with('.')) {
    text.remove_prefix(1);
    if (digits() == 0) return false;
  }
  if (text.starts_with('e') || text.starts_with('E')) {
    text.remove_prefix(1);
    if (text.starts_with('+') || text.starts_with('-')) text.remove_prefix(1);
    if (digits() == 0) return false;
  }
  return text.empty();
}

std::string describe(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::null:
      return "nothing";
    case YamlNode::Kind::sequence:
      return node.items.empty() ? "an empty list" : fmt::format("a list of {}", node.items.size());
    case YamlNode::Kind::mapping:
      return "a mapping";
    case YamlNode::Kind::scalar:
      break;
  }
  return fmt::format("\"{}\"", shortened(node.text));
}

YamlDocument read_yaml(std::string_view text, std::string_view file_name, uint16_t source) {
  YamlDocument document;
  const auto refuse = [&](uint32_t line, uint32_t column, std::string message, std::string hint) {
    document.root = {};
    document.diagnostics.push_back({std::string{file_name}, line, column, {}, {}, std::move(message), std::move(hint)});
  };
  if (text.size() > kMaxScenarioBytes) {
    refuse(0, 0, fmt::format("the file has {} bytes; a scenario may have {}", text.size(), kMaxScenarioBytes),
           "keep generated data out of it");
    return document;
  }
  if (text.find('\0') != std::string_view::npos) {
    refuse(0, 0, "the file is not text: it holds a zero byte", "save it as UTF-8");
    return document;
  }
  TreeBuilder builder{source};
  try {
    std::istringstream stream{std::string{text}};
    YAML::Parser parser{stream};
    while (parser.HandleNextDocument(builder)) {
    }
    document.root = builder.take();
  } catch (const Refused& refused) {
    refuse(refused.place.line, refused.place.column, refused.message, refused.hint);
  } catch (const YAML::Exception& error) {
    const bool placed = !error.mark.is_null();
    refuse(placed ? static_cast<uint32_t>(error.mark.line + 1) : 0,
           placed ? static_cast<uint32_t>(error.mark.column + 1) : 0, "not valid YAML: " + error.msg,
           "check indentation, colons and quotes here and on the line above");
  } catch (const std::exception& error) {
    refuse(0, 0, fmt::format("not readable as YAML: {}", error.what()), "check the file");
  }
  return document;
}

}  // namespace twinstorm::scenario::detail
