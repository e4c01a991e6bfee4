// What a twin may hold, and the documented error when it may not (service.md 5.4 and 14, device.md 7.3 and 7.5).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include <boost/system/result.hpp>

#include "sim/twin/value.hpp"

namespace twinstorm::twin {

/// A refusal as the service words it. HTTP: `status`, header `iothub-errorcode: <name>`; MQTT and AMQP: `error_code`
/// and `message` in the JSON body. The message never holds `;`: SDKs cut there.
struct TwinError {
  TwinError() = default;
  TwinError(int http_status, int code, std::string code_name, std::string text)
      : status{http_status}, error_code{code}, name{std::move(code_name)}, message{std::move(text)} {}

  int status = 400;          ///< HTTP status, also the one in the MQTT topic
  int error_code = 400'004;  ///< status x 1000 + detail
  std::string name = "ArgumentInvalid";
  std::string message;
};

[[noreturn]] void throw_exception_from_error(const TwinError& error, const boost::source_location& where);

template <class T>
using TwinResult = boost::system::result<T, TwinError>;

/// 400 / 400004 ArgumentInvalid.
TwinError argument_invalid(std::string message);
/// 412 / 412001 PreconditionFailed: the ETag of a service write did not match.
TwinError etag_mismatch(std::string_view device_id);
/// 412 / 412001 PreconditionFailed: the `$version` a device sent with its patch is not the current one.
TwinError version_mismatch(int64_t expected, int64_t current);

/// The three parts of a twin that have limits of their own.
enum class Section : uint8_t { tags, desired, reported };
/// `Tags`, `Properties.Desired`, `Properties.Reported`: the names of the service's error texts.
const char* to_string(Section section);

struct TwinLimits {
  uint32_t tags_bytes = 8 * 1024;
  uint32_t desired_bytes = 32 * 1024;
  uint32_t reported_bytes = 32 * 1024;
  uint32_t key_bytes = 1024;
  uint32_t string_bytes = 4 * 1024;
  int depth = 10;  ///< objects nested below the section
  int64_t integer_min = -4'503'599'627'370'496;
  int64_t integer_max = 4'503'599'627'370'495;

  uint32_t bytes(Section section) const;
};

/// Whether null may stand for "remove" (a patch) or is an error (a replacement).
enum class Nulls : bool { refused, remove };

/// Checks keys (UTF-8 of at most 1 KB without control characters, `.`, `$`, `#`, space), strings, integers, nesting and
/// arrays (no null inside) of a section's body. Sizes are checked when the change is applied. `body` must be an object.
/// Errors: 400 ArgumentInvalid naming the path.
TwinResult<void> check_members(const Value& body, Section section, Nulls nulls, const TwinLimits& limits = {});

/// Size the limits speak of: keys and strings in UTF-8 bytes without C0/C1 control characters, number 8, boolean 4,
/// objects and arrays the sum of what they hold.
uint32_t counted_size(const Value& value);
/// counted_size of `target` after merge_patch(target, patch), found without merging; `target_size` is its size before.
uint32_t counted_size_after(const Value& target, uint32_t target_size, const Value& patch);

/// Only growth beyond the limit is refused: a section already over it may still shrink or stay. The device side
/// (`reported`) answers 403 / 403100, the service side 400 ArgumentInvalid, both with the live text
/// `'Properties.Reported' size should be less than 32768 bytes.`
TwinResult<void> check_growth(Section section, uint32_t before, uint32_t after, const TwinLimits& limits = {});

}  // namespace twinstorm::twin
