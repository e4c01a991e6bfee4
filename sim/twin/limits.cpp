#include "sim/twin/limits.hpp"

#include <algorithm>
#include <stdexcept>
#include <vector>

#include <boost/throw_exception.hpp>
#include <fmt/format.h>

#include "sim/twin/detail/member_finder.hpp"

namespace twinstorm::twin {

void throw_exception_from_error(const TwinError& error, const boost::source_location& where) {
  boost::throw_with_location(std::runtime_error{error.message}, where);
}

TwinError argument_invalid(std::string message) {
  return TwinError{400, 400'004, "ArgumentInvalid", std::move(message)};
}

TwinError etag_mismatch(std::string_view device_id) {
  return TwinError{412, 412'001, "PreconditionFailed", fmt::format("ETag mismatch for device ID '{}'", device_id)};
}

TwinError version_mismatch(int64_t expected, int64_t current) {
  return TwinError{
      412, 412'001, "PreconditionFailed",
      fmt::format("Version mismatch: the reported properties are at $version {}, not {}", current, expected)};
}

const char* to_string(Section section) {
  switch (section) {
    case Section::tags:
      return "Tags";
    case Section::desired:
      return "Properties.Desired";
    case Section::reported:
      return "Properties.Reported";
  }
  return "?";
}

uint32_t TwinLimits::bytes(Section section) const {
  switch (section) {
    case Section::tags:
      return tags_bytes;
    case Section::desired:
      return desired_bytes;
    case Section::reported:
      return reported_bytes;
  }
  return 0;
}

namespace {

/// The control character (C0 or C1) that `text` has at `at`, as the number of its bytes; 0 when there is none.
size_t control_length(std::string_view text, size_t at) {
  const auto byte = static_cast<unsigned char>(text[at]);
  if (byte < 0x20) return 1;
  // U+0080 .. U+009F are C2 80 .. C2 9F in UTF-8.
  if (byte == 0xc2 && at + 1 < text.size() && static_cast<unsigned char>(text[at + 1]) < 0xa0) return 2;
  return 0;
}

uint32_t counted_text(std::string_view text) {
  size_t bytes = text.size();
  for (size_t at = 0; at < text.size(); ++at) bytes -= control_length(text, at);
  return static_cast<uint32_t>(bytes);
}

/// Walks one section's body and says what is wrong with it, naming the place.
class Checker {
 public:
  Checker(Section section, Nulls nulls, const TwinLimits& limits) : section_{section}, nulls_{nulls}, limits_{limits} {}

  TwinResult<void> object(const Value& value, int depth) {
    if (depth > limits_.depth) {
      return refuse(fmt::format("is nested deeper than {} levels of objects", limits_.depth));
    }
    for (const Member& member : value.members()) {
      path_.push_back(member.name());
      if (const auto fine = key(member.name()); !fine) return fine;
      if (const auto fine = any(member.value, depth); !fine) return fine;
      path_.pop_back();
    }
    return {};
  }

 private:
  TwinResult<void> any(const Value& value, int depth) {
    switch (value.kind()) {
      case Value::Kind::null:
        if (in_array_ > 0) return refuse("is null inside an array, which twins cannot hold");
        if (nulls_ == Nulls::refused) {
          return argument_invalid(
              fmt::format("Value of Property or Tag cannot be null. Error in Property/Tag {}", path_.back()));
        }
        return {};
      case Value::Kind::boolean:
        return {};
      case Value::Kind::number:
        return number(value);
      case Value::Kind::string:
        if (value.text().size() > limits_.string_bytes) {
          return refuse(
              fmt::format("is a string of {} bytes, longer than {}", value.text().size(), limits_.string_bytes));
        }
        return {};
      case Value::Kind::object:
        return object(value, depth + 1);
      case Value::Kind::array:
        break;
    }
    ++in_array_;
    for (const Value& element : value.elements()) {
      if (const auto fine = any(element, depth); !fine) return fine;
    }
    --in_array_;
    return {};
  }

  TwinResult<void> number(const Value& value) {
    if (value.text().find_first_of(".eE") != std::string_view::npos) return {};
    const auto integer = value.as_int();
    if (integer && *integer >= limits_.integer_min && *integer <= limits_.integer_max) return {};
    return refuse(fmt::format("is the integer {}, outside {} .. {}", abbreviated(value.text()), limits_.integer_min,
                              limits_.integer_max));
  }

  TwinResult<void> key(std::string_view name) {
    if (name.empty()) return refuse("has an empty key");
    if (name.size() > limits_.key_bytes) {
      return refuse(fmt::format("has a key of {} bytes, longer than {}", name.size(), limits_.key_bytes));
    }
    for (size_t at = 0; at < name.size(); ++at) {
      if (name[at] == '.' || name[at] == '$' || name[at] == '#' || name[at] == ' ') {
        return refuse(fmt::format("has a key with '{}', which keys cannot hold", name[at]));
      }
      if (control_length(name, at) != 0) return refuse("has a key with a control character, which keys cannot hold");
    }
    return {};
  }

  static std::string abbreviated(std::string_view text) {
    if (text.size() <= 64) return std::string{text};
    size_t end = 61;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;  // whole characters only
    return std::string{text.substr(0, end)} + "...";
  }

  TwinError refuse(std::string_view problem) const {
    std::string where = to_string(section_);
    for (const std::string_view step : path_) {
      where += '.';
      // SDKs cut a message at `;`, and a control character must not reach a log.
      for (const char c : abbreviated(step)) where += c == ';' || static_cast<unsigned char>(c) < 0x20 ? '?' : c;
    }
    return argument_invalid(fmt::format("'{}' {}.", where, problem));
  }

  Section section_;
  Nulls nulls_;
  const TwinLimits& limits_;
  std::vector<std::string_view> path_;
  int in_array_ = 0;
};

uint32_t member_size(const Member& member) { return counted_text(member.name()) + counted_size(member.value); }

}  // namespace

TwinResult<void> check_members(const Value& body, Section section, Nulls nulls, const TwinLimits& limits) {
  if (!body.is_object()) return argument_invalid(fmt::format("'{}' is not a JSON object.", to_string(section)));
  return Checker{section, nulls, limits}.object(body, 0);
}

uint32_t counted_size(const Value& value) {
  uint32_t bytes = 0;
  switch (value.kind()) {
    case Value::Kind::null:
      return 0;
    case Value::Kind::boolean:
      return 4;
    case Value::Kind::number:
      return 8;
    case Value::Kind::string:
      return counted_text(value.text());
    case Value::Kind::array:
      for (const Value& element : value.elements()) bytes += counted_size(element);
      return bytes;
    case Value::Kind::object:
      for (const Member& member : value.members()) bytes += member_size(member);
      return bytes;
  }
  return bytes;
}

uint32_t counted_size_after(const Value& target, uint32_t target_size, const Value& patch) {
  // Unsigned arithmetic wraps in between and comes back: what is taken away was counted before.
  uint32_t size = target_size;
  const detail::MemberFinder finder{target, patch};
  for (size_t i = 0; i < patch.size(); ++i) {
    const Member& member = patch.members()[i];
    const size_t at = finder.find(i);
    if (at != Value::kNone) size -= member_size(target.members()[at]);
    if (member.value.is_null()) continue;
    size += counted_text(member.name());
    if (!member.value.is_object()) {
      size += counted_size(member.value);
      continue;
    }
    static const Value kEmpty = Value::object();
    const Value& inner =
        at != Value::kNone && target.members()[at].value.is_object() ? target.members()[at].value : kEmpty;
    size += counted_size_after(inner, counted_size(inner), member.value);
  }
  return size;
}

TwinResult<void> check_growth(Section section, uint32_t before, uint32_t after, const TwinLimits& limits) {
  const uint32_t limit = limits.bytes(section);
  if (after <= limit || after <= before) return {};
  std::string message = fmt::format("'{}' size should be less than {} bytes.", to_string(section), limit);
  if (section != Section::reported) return argument_invalid(std::move(message));
  // The live service's code on the device side; no published list gives 403100 a name.
  return TwinError{403, 403'100, "TwinSizeExceeded", std::move(message)};
}

}  // namespace twinstorm::twin
