#include "sim/hub/service_error.hpp"

#include <ctime>

#include <fmt/format.h>

#include "sim/twin/value.hpp"

namespace twinstorm::hub {

ServiceError unauthorized(std::string message) {
  return {401, 401'002, "IotHubUnauthorizedAccess", std::move(message)};
}
ServiceError principal_unauthorized(std::string_view principal, std::string_view method, std::string_view path) {
  return {401, 401'003, "IotHubUnauthorized",
          fmt::format("Principal {} is not authorized for {} on {} due to no assigned permissions", principal, method,
                      path)};
}
ServiceError invalid_protocol_version(std::optional<std::string_view> version) {
  std::string message = "BadRequest, ";
  message += version ? fmt::format("this hub does not know api-version '{}'", *version)
                     : std::string{"the query parameter api-version is missing"};
  return {400, 400'001, "InvalidProtocolVersion", message.append(", send api-version=2021-04-12")};
}
ServiceError device_not_found(std::string_view device_id) {
  return {404, 404'001, "DeviceNotFound", std::string{device_id}};
}
ServiceError module_not_found(std::string_view module_id) {
  return {404, 404'010, "ModuleNotFound", std::string{module_id}};
}
ServiceError device_already_exists(std::string_view device_id) {
  return {409, 409'001, "DeviceAlreadyExists", fmt::format("A device with ID '{}' is already registered.", device_id)};
}
ServiceError module_already_exists(std::string_view module_id) {
  return {409, 409'301, "ModuleAlreadyExistsOnDevice",
          fmt::format("A module with ID '{}' is already registered.", module_id)};
}
ServiceError identity_precondition_failed(std::string message) {
  return {412, 412'001, "PreconditionFailed",
          message.empty() ? std::string{"PreconditionFailed, ETag may be invalid."} : std::move(message)};
}
ServiceError path_not_found(std::string_view target) {
  return {404, 404'000, "ResourceNotFound", fmt::format("there is no resource '{}' in this API", target)};
}
ServiceError method_not_allowed(std::string_view method, std::string_view target) {
  return {405, 405'000, "OperationNotAllowedInCurrentState",
          fmt::format("{} is not supported by '{}'", method, target)};
}

ServiceError http_refusal(int status, std::string message) {
  switch (status) {
    case 408:
      return {408, 408'000, "GenericTimeout", std::move(message)};
    case 413:
      return {413, 413'001, "MessageTooLarge", std::move(message)};
    case 503:
      return {503, 503'001, "ServiceUnavailable", std::move(message)};
    default:
      return {status, status * 1000 + 4, "ArgumentInvalid", std::move(message)};
  }
}

void write_error_body(const ServiceError& error, std::string_view tracking_id, WallTime now, std::string& out) {
  const std::time_t seconds = unix_seconds(now);
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  out += R"({"Message":)";
  twin::write_string(fmt::format("ErrorCode:{};{}", error.name, error.message), out);
  fmt::format_to(std::back_inserter(out),
                 R"(,"ExceptionMessage":"Tracking ID:{}-G:0-TimeStamp:{:02}/{:02}/{:04} {:02}:{:02}:{:02}"}})",
                 tracking_id, utc.tm_mon + 1, utc.tm_mday, utc.tm_year + 1900, utc.tm_hour, utc.tm_min, utc.tm_sec);
}

}  // namespace twinstorm::hub
