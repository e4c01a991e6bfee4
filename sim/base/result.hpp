// Errors as values. `Result<T>` is for what can happen (a peer, a file, a person); `TS_ASSERT` is for what can't.
#pragma once

#include <boost/system/result.hpp>
#include <string>
#include <utility>

namespace twinstorm {

/// Few and stable: they become exit codes and chart names, never free text.
enum class ErrorCode : uint8_t {
  invalid_argument,     ///< malformed text or value handed in
  not_found,            ///< the thing asked for does not exist
  already_exists,       ///< creation of something that is there
  precondition_failed,  ///< ETag or version did not match
  unauthorized,         ///< credentials missing, wrong, expired or without the permission
  too_large,            ///< a documented size limit was exceeded
  throttled,            ///< the peer asked to slow down
  unavailable,          ///< could not connect, or the peer is not serving
  timed_out,            ///< nothing came before the deadline
  protocol,             ///< the peer broke the protocol
  io,                   ///< file or socket failure of this machine
  corrupt,              ///< stored data is not what was written
  internal,             ///< a defect
};

/// `invalid_argument`, `not_found`, ... exactly as the enumerators are spelt.
const char* to_string(ErrorCode code);

struct Error {
  ErrorCode code = ErrorCode::internal;
  std::string message;  ///< names the thing, its value and, where there is one, the way to fix it
};

[[noreturn]] void throw_exception_from_error(const Error& error, const boost::source_location& where);

template <class T>
using Result = boost::system::result<T, Error>;

inline Error make_error(ErrorCode code, std::string message) { return Error{code, std::move(message)}; }

}  // namespace twinstorm
