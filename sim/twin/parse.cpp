#include <unordered_map>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "sim/twin/value.hpp"

namespace twinstorm::twin {
namespace {

using Json = nlohmann::json;

/// Builds values bottom-up on one stack of open containers, so that each container is made once, in its final size.
class Builder final : public nlohmann::json_sax<Json> {
 public:
  explicit Builder(size_t max_depth) : max_depth_{max_depth} {}

  bool null() override { return put(Value{}); }
  bool boolean(bool value) override { return put(Value::boolean(value)); }
  // The parser hands integers over as numbers, and only a literal with a minus as signed: 0 can only have been `-0`.
  bool number_integer(number_integer_t value) override {
    return put(value == 0 ? Value::number_literal("-0") : Value::number(value));
  }
  bool number_unsigned(number_unsigned_t value) override {
    const fmt::format_int text{value};
    return put(Value::number_literal({text.data(), text.size()}));
  }
  bool number_float(number_float_t, const string_t& literal) override { return put(Value::number_literal(literal)); }
  bool string(string_t& text) override { return put(Value::string(text)); }
  bool binary(binary_t&) override { return false; }

  bool start_object(size_t) override { return open(); }
  bool key(string_t& name) override {
    keys_.push_back(Value::string(name));
    return true;
  }
  bool end_object() override {
    const size_t first = close();
    const size_t count = values_.size() - first;
    const size_t first_key = keys_.size() - count;
    Value object = Value::object();
    object.reserve(count);
    if (count <= kLinearKeys) {
      for (size_t i = 0; i < count; ++i) object.set(keys_[first_key + i].text(), std::move(values_[first + i]));
    } else {
      append_indexed(object, first_key, first, count);
    }
    keys_.resize(first_key);
    values_.resize(first);
    return put(std::move(object));
  }
  bool start_array(size_t) override { return open(); }
  bool end_array() override {
    const size_t first = close();
    Value array = Value::array();
    array.reserve(values_.size() - first);
    for (size_t i = first; i < values_.size(); ++i) array.push_back(std::move(values_[i]));
    values_.resize(first);
    return put(std::move(array));
  }
  bool parse_error(size_t position, const std::string&, const Json::exception& error) override {
    // "[json.exception.parse_error.101] parse error at line 1, column 5: syntax error while ...": keep the reason.
    std::string_view reason = error.what();
    if (const size_t colon = reason.find(": "); colon != std::string_view::npos) reason.remove_prefix(colon + 2);
    error_ = fmt::format("not JSON at byte {}: {}", position, reason);
    return false;
  }

  Result<Value> take() {
    if (!error_.empty()) return make_error(ErrorCode::invalid_argument, error_);
    return std::move(values_.front());
  }

 private:
  // Above this many members a hash index replaces comparing with every key before.
  static constexpr size_t kLinearKeys = 32;

  bool put(Value value) {
    values_.push_back(std::move(value));
    return true;
  }
  bool open() {
    if (open_.size() == max_depth_) {
      error_ = fmt::format("JSON nested deeper than {} levels", max_depth_);
      return false;
    }
    open_.push_back(values_.size());
    return true;
  }
  size_t close() {
    const size_t first = open_.back();
    open_.pop_back();
    return first;
  }
  void append_indexed(Value& object, size_t first_key, size_t first, size_t count) {
    std::unordered_map<std::string_view, size_t> places;
    places.reserve(count);
    for (size_t i = 0; i < count; ++i) {
      const std::string_view name = keys_[first_key + i].text();
      const auto [place, is_new] = places.emplace(name, object.size());
      if (is_new) {
        object.append(name, std::move(values_[first + i]));
      } else {
        object.members()[place->second].value = std::move(values_[first + i]);
      }
    }
  }

  size_t max_depth_;
  std::vector<Value> values_;  // finished children of all open containers
  std::vector<Value> keys_;
  std::vector<size_t> open_;  // where each open container's children start
  std::string error_;
};

}  // namespace

Result<Value> parse_value(std::string_view json, size_t max_depth) {
  Builder builder{max_depth};
  Json::sax_parse(json.data(), json.data() + json.size(), &builder);
  return builder.take();
}

}  // namespace twinstorm::twin
