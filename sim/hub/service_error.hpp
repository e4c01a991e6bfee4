// Refusals of the hub that are not about twin content, in the same shape as those that are (twin::TwinError), and the
// JSON body the service API answers them with (service.md 14).
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "sim/base/time.hpp"
#include "sim/twin/limits.hpp"

namespace twinstorm::hub {

using ServiceError = twin::TwinError;
template <class T>
using ServiceResult = twin::TwinResult<T>;

ServiceError unauthorized(std::string message);  ///< 401002 IotHubUnauthorizedAccess
/// 401003 IotHubUnauthorized: the roles of a bearer token's principal do not suffice.
ServiceError principal_unauthorized(std::string_view principal, std::string_view method, std::string_view path);
/// 400001 InvalidProtocolVersion: `api-version` is missing (nullopt) or none that this hub knows.
ServiceError invalid_protocol_version(std::optional<std::string_view> version);
ServiceError device_not_found(std::string_view device_id);            ///< 404001
ServiceError module_not_found(std::string_view module_id);            ///< 404010
ServiceError device_already_exists(std::string_view device_id);       ///< 409001
ServiceError module_already_exists(std::string_view module_id);       ///< 409301
ServiceError identity_precondition_failed(std::string message = {});  ///< 412001
ServiceError path_not_found(std::string_view target);                 ///< 404: no such resource in the API
ServiceError method_not_allowed(std::string_view method, std::string_view target);  ///< 405
/// The HTTP layer's own refusals: 400, 408, 413, 431, 503.
ServiceError http_refusal(int status, std::string message);

/// Form A: `{"Message":"ErrorCode:<Name>;<text>","ExceptionMessage":"Tracking ID:<hex>-G:0-TimeStamp:<time>"}`.
/// `tracking_id` is 32 hex digits.
void write_error_body(const ServiceError& error, std::string_view tracking_id, WallTime now, std::string& out);

}  // namespace twinstorm::hub
