// The vocabulary of what is counted: operations, how they end, and why they did not succeed. All of it is enums,
// because these become array indices on the hot path and label values in exports; texts exist only where something is
// printed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace twinstorm::metrics {

/// One kind of operation, device side first, then back-end side. `getTwin` is a device asking for its own twin;
/// `backendGetTwin` is a service asking for a device's; `renewToken` is the clean reconnect of a device whose SAS token
/// is about to expire. `method` is a direct method called by a service, until the device's answer came back; `bulk`
/// creates or deletes many identities in one request; `job` runs from its PUT until its end was seen.
enum class OpKind : uint8_t {
  connect,
  get_twin,
  report,
  telemetry,
  renew_token,
  patch_desired,
  patch_tags,
  replace_twin,
  query,
  backend_get_twin,
  method,
  create_device,
  delete_device,
  bulk,
  job,
  kCount
};
inline constexpr size_t kOpKindCount = static_cast<size_t>(OpKind::kCount);

/// `connect getTwin report telemetry renewToken patchDesired patchTags replaceTwin query backendGetTwin method
/// createDevice deleteDevice bulk job`. Static storage.
std::string_view to_string(OpKind kind);
/// The inverse; `reportedUpdate` is accepted for `report`.
std::optional<OpKind> parse_op_kind(std::string_view text);

/// How an operation ended. Exactly one of these for every operation that ended; `dropped` = the generator itself did
/// not send it, so the peer never saw it.
enum class OpOutcome : uint8_t { acknowledged, failed, timed_out, dropped, kCount };
inline constexpr size_t kOpOutcomeCount = static_cast<size_t>(OpOutcome::kCount);
/// `acknowledged failed timedOut dropped`.
std::string_view to_string(OpOutcome outcome);

/// Why an operation did not succeed. Few and stable: they become JUnit, chart and label names.
enum class ErrorClass : uint8_t {
  refused,              ///< TCP connect refused, or CONNACK with a code other than credentials
  unauthorized,         ///< 401, 403, CONNACK 4 or 5
  throttled,            ///< 429
  precondition_failed,  ///< 412
  not_found,            ///< 404; dropped: there was nothing to work on, such as no device left to delete
  bad_request,          ///< any other 4xx
  too_large,            ///< 413, or a documented size limit
  server_error,         ///< 5xx
  disconnected,         ///< the connection ended before the answer
  protocol,             ///< the peer's bytes made no sense
  timeout,              ///< no answer before the deadline (the only class of `timed_out`), or 504 of a direct method
  backlog_full,         ///< dropped: too much work open already
  device_offline,   ///< dropped: the device had no connection when the operation was due; failed: 404103 of a method
  deadline_passed,  ///< dropped: not started before its deadline
  aborted,          ///< the run ended first
  device_error,     ///< a direct method was answered by the device with a status of 400 or more
  job_failed,       ///< the hub carried a job to an end that is not `completed`
  kCount
};
inline constexpr size_t kErrorClassCount = static_cast<size_t>(ErrorClass::kCount);
/// lowerCamel: `preconditionFailed`. Static storage.
std::string_view to_string(ErrorClass error);
std::optional<ErrorClass> parse_error_class(std::string_view text);

/// How one desired-property update ended (docs/measuring.md). Each started update ends in exactly one of them.
enum class ConvergenceOutcome : uint8_t {
  applied,       ///< the device was notified, applied and reported the value, and the report was acknowledged
  superseded,    ///< the device holds this or a newer version, but learnt it from a read, not from this notification
  lost,          ///< the hub accepted the patch, the device stayed connected, and nothing arrived before the deadline
  unconverged,   ///< not done before the deadline for any other reason (device away, report not acknowledged)
  failed,        ///< the patch itself was not accepted, so there was nothing to converge
  apply_failed,  ///< the notification arrived and the device's simulated work failed, as the scenario asked
  kCount
};
inline constexpr size_t kConvergenceOutcomeCount = static_cast<size_t>(ConvergenceOutcome::kCount);
/// `applied superseded lost unconverged failed applyFailed`.
std::string_view to_string(ConvergenceOutcome outcome);

/// Why a device had to connect again.
enum class ReconnectReason : uint8_t {
  hub_closed,  ///< the hub ended the connection
  keep_alive,  ///< no PINGRESP in time
  scripted,    ///< the scenario cut it
  protocol,    ///< the hub's bytes made no sense
  io,          ///< reset, broken pipe
  take_over,   ///< another connection used the same device id
  renewal,     ///< the clean reconnect of a token renewal did not succeed
  kCount
};
inline constexpr size_t kReconnectReasonCount = static_cast<size_t>(ReconnectReason::kCount);
/// lowerCamel: `hubClosed keepAlive scripted protocol io takeOver renewal`.
std::string_view to_string(ReconnectReason reason);

}  // namespace twinstorm::metrics
