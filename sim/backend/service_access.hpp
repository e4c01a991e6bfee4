// A back end's credentials: a shared access policy and the token made from it.
#pragma once

#include <string>
#include <string_view>

#include "sim/base/result.hpp"
#include "sim/base/time.hpp"

namespace twinstorm::backend {

/// The service side of a connection string, ready to sign. Copy one per shard; not thread-safe.
class ServiceAccess {
 public:
  /// `connection_string`: `HostName=..;SharedAccessKeyName=..;SharedAccessKey=..`. Fails with `invalid_argument`, never
  /// repeating the key.
  static Result<ServiceAccess> from_connection_string(std::string_view connection_string);

  /// The `Authorization` value. One token serves an hour and is renewed five minutes before its end (service.md 16.4
  /// allows reuse; a token per request would cost one HMAC each). Valid until the next call.
  std::string_view authorization(WallTime now);
  const std::string& host_name() const { return host_name_; }

 private:
  std::string host_name_, policy_, key_, token_;
  int64_t expires_ = 0;
};

}  // namespace twinstorm::backend
