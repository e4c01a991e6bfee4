// JSON with random parts. A template is JSON-like YAML in which a mapping with one of these as its only key is a
// generator:
//
//   {uniform: [60, 70]}                   an integer when both ends are integers (ends included), else a real in [lo,
//   hi) {normal: {mean: 21, stddev: 2}}       a real {oneOf: [US, Europe]}                 one of the values, which may
//   be templates themselves {weighted: {cellular: 3, wifi: 7}}    one of the names, by weight {sequence: {start: 100,
//   step: 5}}     start + step * n (both optional: 0 and 1) {pattern: "rev-{index:05}"}           text with n in it
//   {literal: ...}                        the value as it stands, generators inside not looked at
//
// It is compiled once into a run of literal text and generators, so rendering builds no DOM.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "sim/base/result.hpp"
#include "sim/base/rng.hpp"

namespace twinstorm::scenario {

namespace detail {
struct TemplatePart;
}

/// A compiled template. A cheap value: copies share the immutable compiled parts, so any thread may render.
class ValueTemplate {
 public:
  ValueTemplate() = default;  ///< empty: renders nothing
  /// Parses YAML or JSON text; the error is the first mistake with its place. Scenarios go through the loader instead,
  /// which reports every mistake.
  static Result<ValueTemplate> parse(std::string_view text);

  /// Appends JSON text. `n` is the arrival number for patches and the device's index in its fleet for tags and
  /// reported. The same `rng` state and `n` give the same text.
  void render(Rng& rng, uint64_t n, std::string& out) const;
  std::string render(Rng& rng, uint64_t n) const;

  bool empty() const { return parts_ == nullptr; }
  /// Whether every rendering is the same text.
  bool is_constant() const;
  /// No rendering is longer than this many bytes of JSON text.
  size_t max_rendered_bytes() const { return max_rendered_bytes_; }
  /// Largest size as the service counts it: UTF-8 of keys and strings, 8 per number, 4 per boolean.
  size_t max_twin_bytes() const { return max_twin_bytes_; }
  /// The template itself as JSON, generators included; parsing it again gives an equal template.
  const std::string& source() const { return source_; }
  friend bool operator==(const ValueTemplate& a, const ValueTemplate& b) { return a.source_ == b.source_; }

 private:
  friend class TemplateCompiler;
  std::shared_ptr<const std::vector<detail::TemplatePart>> parts_;
  std::string source_;
  size_t max_rendered_bytes_ = 0;
  size_t max_twin_bytes_ = 0;
};

}  // namespace twinstorm::scenario
