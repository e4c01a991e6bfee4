// From a YAML tree to a ValueTemplate, reporting every mistake on the way.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "sim/scenario/detail/yaml_tree.hpp"
#include "sim/scenario/value_template.hpp"

namespace twinstorm::scenario {

namespace detail {

/// What a template is for decides which limits of the service it must keep (service.md 5.4).
struct TemplateRules {
  bool twin_section = false;  ///< root must be an object and keys, strings, integers and nesting within twin limits
  std::string_view section;   ///< `tags`, `desired properties`, `reported properties`: for messages
  size_t max_twin_bytes = 0;  ///< 0: unlimited
};
inline constexpr size_t kMaxTagBytes = 8 * 1024;
inline constexpr size_t kMaxPropertyBytes = 32 * 1024;

/// Called with the place, the path, the offending text, the message and the hint.
using TemplateSink = std::function<void(const YamlPlace&, const std::string& path, std::string value,
                                        std::string message, std::string hint)>;

/// Generator names.
const std::vector<std::string>& generator_names();

}  // namespace detail

class TemplateCompiler {
 public:
  TemplateCompiler(detail::TemplateRules rules, detail::TemplateSink sink) : rules_{rules}, sink_{std::move(sink)} {}
  /// Mistakes go to the sink; the result is only good if there were none.
  ValueTemplate compile(const detail::YamlNode& node, const std::string& path);

 private:
  using Node = detail::YamlNode;
  using Parts = std::vector<detail::TemplatePart>;
  void value(const Node& node, const std::string& path, size_t level, bool literal, Parts& out);
  void scalar(const Node& node, const std::string& path, Parts& out);
  bool generator(const Node& node, const std::string& path, size_t level, Parts& out);
  void uniform(const Node& node, const std::string& path, Parts& out);
  void normal(const Node& node, const std::string& path, Parts& out);
  void one_of(const Node& node, const std::string& path, size_t level, Parts& out);
  void weighted(const Node& node, const std::string& path, Parts& out);
  void sequence(const Node& node, const std::string& path, Parts& out);
  void pattern(const Node& node, const std::string& path, Parts& out);
  void check_key(const detail::YamlMember& member, const std::string& path);
  void fail(const detail::YamlPlace& place, const std::string& path, const Node& node, std::string message,
            std::string hint);
  static bool renders_object(const Node& node);
  static size_t twin_bytes(const Node& node, bool literal);
  static void write_source(const Node& node, std::string& out);

  detail::TemplateRules rules_;
  detail::TemplateSink sink_;
};

}  // namespace twinstorm::scenario
