#include "metrics/op.hpp"

#include <array>
#include <span>

namespace twinstorm::metrics {
namespace {

constexpr std::array<std::string_view, kOpKindCount> kOpKinds{
    "connect", "getTwin",        "report", "telemetry",    "renewToken",   "patchDesired", "patchTags", "replaceTwin",
    "query",   "backendGetTwin", "method", "createDevice", "deleteDevice", "bulk",         "job"};
constexpr std::array<std::string_view, kOpOutcomeCount> kOpOutcomes{"acknowledged", "failed", "timedOut", "dropped"};
constexpr std::array<std::string_view, kErrorClassCount> kErrorClasses{
    "refused",       "unauthorized",   "throttled",    "preconditionFailed", "notFound", "badRequest",
    "tooLarge",      "serverError",    "disconnected", "protocol",           "timeout",  "backlogFull",
    "deviceOffline", "deadlinePassed", "aborted",      "deviceError",        "jobFailed"};
constexpr std::array<std::string_view, kConvergenceOutcomeCount> kConvergenceOutcomes{
    "applied", "superseded", "lost", "unconverged", "failed", "applyFailed"};
constexpr std::array<std::string_view, kReconnectReasonCount> kReconnectReasons{
    "hubClosed", "keepAlive", "scripted", "protocol", "io", "takeOver", "renewal"};

template <class E>
std::string_view name_of(std::span<const std::string_view> names, E value) {
  const auto index = static_cast<size_t>(value);
  return index < names.size() ? names[index] : "unknown";
}

template <class E>
std::optional<E> value_of(std::span<const std::string_view> names, std::string_view text) {
  for (size_t i = 0; i < names.size(); ++i) {
    if (names[i] == text) return static_cast<E>(i);
  }
  return std::nullopt;
}

}  // namespace

std::string_view to_string(OpKind kind) { return name_of(kOpKinds, kind); }
std::string_view to_string(OpOutcome outcome) { return name_of(kOpOutcomes, outcome); }
std::string_view to_string(ErrorClass error) { return name_of(kErrorClasses, error); }
std::string_view to_string(ConvergenceOutcome outcome) { return name_of(kConvergenceOutcomes, outcome); }
std::string_view to_string(ReconnectReason reason) { return name_of(kReconnectReasons, reason); }

std::optional<OpKind> parse_op_kind(std::string_view text) {
  if (text == "reportedUpdate") return OpKind::report;
  return value_of<OpKind>(kOpKinds, text);
}
std::optional<ErrorClass> parse_error_class(std::string_view text) { return value_of<ErrorClass>(kErrorClasses, text); }

}  // namespace twinstorm::metrics
