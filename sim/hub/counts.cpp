#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "sim/hub/hub.hpp"

namespace twinstorm::hub {

const std::vector<HubCountField>& hub_count_fields() {
  using C = HubCounts;
  static const std::vector<HubCountField> fields = {
      {"connectsAccepted", "twinstorm_hub_connects_accepted_total", "MQTT connections answered with CONNACK 0.",
       &C::connects_accepted, false},
      {"connectsRefused", "twinstorm_hub_connects_refused_total",
       "MQTT connections refused or closed before an acceptable CONNECT.", &C::connects_refused, false},
      {"disconnects", "twinstorm_hub_disconnects_total", "Ends of accepted MQTT connections.", &C::disconnects, false},
      {"disconnectsClient", "twinstorm_hub_disconnects_client_total", "Ended by the device.", &C::disconnects_client,
       false},
      {"disconnectsKeepAlive", "twinstorm_hub_disconnects_keep_alive_total",
       "Ended because the device was silent for 1.5 times its keep-alive.", &C::disconnects_keep_alive, false},
      {"disconnectsTakeOver", "twinstorm_hub_disconnects_take_over_total",
       "Ended by a newer connection of the same identity.", &C::disconnects_take_over, false},
      {"disconnectsProtocol", "twinstorm_hub_disconnects_protocol_total",
       "Ended because of a malformed, oversized or forbidden packet.", &C::disconnects_protocol, false},
      {"disconnectsSlowReader", "twinstorm_hub_disconnects_slow_reader_total",
       "Ended because the device did not read what was sent to it.", &C::disconnects_slow_reader, false},
      {"disconnectsTokenExpired", "twinstorm_hub_disconnects_token_expired_total",
       "Ended because the token of the connection had expired.", &C::disconnects_token_expired, false},
      {"disconnectsHub", "twinstorm_hub_disconnects_hub_total",
       "Ended by the hub: identity deleted or disabled, or shutdown.", &C::disconnects_hub, false},
      {"disconnectsThrottled", "twinstorm_hub_disconnects_throttled_total",
       "Ended because of telemetry beyond the rate or the daily messages of the tier.", &C::disconnects_throttled,
       false},
      {"connectsDamped", "twinstorm_hub_connects_damped_total",
       "CONNECTs held back because the identity was taken over repeatedly.", &C::connects_damped, false},
      {"twinGets", "twinstorm_hub_twin_gets_total", "Twin GETs of devices answered 200.", &C::twin_gets, false},
      {"twinGetsRefused", "twinstorm_hub_twin_gets_refused_total", "Twin GETs of devices answered with an error.",
       &C::twin_gets_refused, false},
      {"reportedPatches", "twinstorm_hub_reported_patches_total", "Reported-property patches accepted.",
       &C::reported_patches, false},
      {"reportedPatchesRefused", "twinstorm_hub_reported_patches_refused_total",
       "Reported-property patches answered with an error.", &C::reported_patches_refused, false},
      {"telemetryMessages", "twinstorm_hub_telemetry_messages_total", "Device-to-cloud messages accepted.",
       &C::telemetry_messages, false},
      {"telemetryQos0", "twinstorm_hub_telemetry_qos0_total", "Of these, by MQTT with QoS 0.", &C::telemetry_qos0,
       false},
      {"telemetryQos1", "twinstorm_hub_telemetry_qos1_total", "Of these, by MQTT with QoS 1.", &C::telemetry_qos1,
       false},
      {"telemetryHttp", "twinstorm_hub_telemetry_http_total", "Of these, by HTTP.", &C::telemetry_http, false},
      {"telemetryWills", "twinstorm_hub_telemetry_wills_total", "Of these, wills of lost connections.",
       &C::telemetry_wills, false},
      {"telemetryBytes", "twinstorm_hub_telemetry_bytes_total", "Payload bytes of the accepted messages.",
       &C::telemetry_bytes, false},
      {"telemetryPropertyBytes", "twinstorm_hub_telemetry_property_bytes_total",
       "Property bytes of the accepted messages.", &C::telemetry_property_bytes, false},
      {"telemetryRefused", "twinstorm_hub_telemetry_refused_total", "Device-to-cloud messages refused over HTTP.",
       &C::telemetry_refused, false},
      {"desiredNotificationsSent", "twinstorm_hub_desired_notifications_sent_total",
       "Desired-property notifications written to subscribed devices.", &C::desired_notifications_sent, false},
      {"subscribes", "twinstorm_hub_subscribes_total", "SUBSCRIBE packets accepted.", &C::subscribes, false},
      {"unsubscribes", "twinstorm_hub_unsubscribes_total", "UNSUBSCRIBE packets accepted.", &C::unsubscribes, false},
      {"pings", "twinstorm_hub_pings_total", "PINGREQ packets answered.", &C::pings, false},
      {"methodsCalled", "twinstorm_hub_methods_called_total", "Direct methods asked for by the service.",
       &C::methods_called, false},
      {"methodsAnswered", "twinstorm_hub_methods_answered_total", "Direct methods answered by the device.",
       &C::methods_answered, false},
      {"methodsOffline", "twinstorm_hub_methods_offline_total", "Direct methods that found no device in time.",
       &C::methods_offline, false},
      {"methodsTimedOut", "twinstorm_hub_methods_timed_out_total", "Direct methods without an answer in time.",
       &C::methods_timed_out, false},
      {"methodsBadAnswers", "twinstorm_hub_methods_bad_answers_total", "Direct methods with an unusable answer.",
       &C::methods_bad_answers, false},
      {"methodsRefused", "twinstorm_hub_methods_refused_total", "Direct methods refused.", &C::methods_refused, false},
      {"methodsSent", "twinstorm_hub_methods_sent_total", "Method requests written to devices.", &C::methods_sent,
       false},
      {"methodAnswersUnused", "twinstorm_hub_method_answers_unused_total", "Method answers that no call waited for.",
       &C::method_answers_unused, false},
      {"c2dEnqueued", "twinstorm_hub_c2d_enqueued_total", "Cloud-to-device messages taken into a queue.",
       &C::c2d_enqueued, false},
      {"c2dRefused", "twinstorm_hub_c2d_refused_total", "Cloud-to-device messages refused.", &C::c2d_refused, false},
      {"c2dSent", "twinstorm_hub_c2d_sent_total", "Deliveries of cloud-to-device messages, repetitions included.",
       &C::c2d_sent, false},
      {"c2dCompleted", "twinstorm_hub_c2d_completed_total", "Cloud-to-device messages completed by devices.",
       &C::c2d_completed, false},
      {"c2dRejected", "twinstorm_hub_c2d_rejected_total", "Cloud-to-device messages rejected by devices.",
       &C::c2d_rejected, false},
      {"c2dAbandoned", "twinstorm_hub_c2d_abandoned_total", "Cloud-to-device messages given back by devices.",
       &C::c2d_abandoned, false},
      {"c2dDeliveryCountExceeded", "twinstorm_hub_c2d_delivery_count_exceeded_total",
       "Cloud-to-device messages dropped after the last permitted delivery.", &C::c2d_delivery_count_exceeded, false},
      {"c2dExpired", "twinstorm_hub_c2d_expired_total", "Cloud-to-device messages that expired.", &C::c2d_expired,
       false},
      {"c2dPurged", "twinstorm_hub_c2d_purged_total", "Cloud-to-device messages purged by the service.", &C::c2d_purged,
       false},
      {"feedbackRecords", "twinstorm_hub_feedback_records_total", "Feedback records about cloud-to-device messages.",
       &C::feedback_records, false},
      {"feedbackDropped", "twinstorm_hub_feedback_dropped_total", "Feedback records nobody fetched in time.",
       &C::feedback_dropped, false},
      {"desiredPatches", "twinstorm_hub_desired_patches_total",
       "Twin PATCHes of the service with desired properties, accepted.", &C::desired_patches, false},
      {"tagsPatches", "twinstorm_hub_tags_patches_total", "Twin PATCHes of the service with tags only, accepted.",
       &C::tags_patches, false},
      {"twinPatchesRefused", "twinstorm_hub_twin_patches_refused_total",
       "Twin PATCHes of the service answered with an error.", &C::twin_patches_refused, false},
      {"twinReplaces", "twinstorm_hub_twin_replaces_total", "Twin PUTs of the service accepted.", &C::twin_replaces,
       false},
      {"twinReplacesRefused", "twinstorm_hub_twin_replaces_refused_total",
       "Twin PUTs of the service answered with an error.", &C::twin_replaces_refused, false},
      {"twinReads", "twinstorm_hub_twin_reads_total", "Twin GETs of the service answered 200.", &C::twin_reads, false},
      {"twinReadsRefused", "twinstorm_hub_twin_reads_refused_total", "Twin GETs of the service answered with an error.",
       &C::twin_reads_refused, false},
      {"queries", "twinstorm_hub_queries_total", "Query pages answered 200.", &C::queries, false},
      {"queriesRefused", "twinstorm_hub_queries_refused_total", "Query requests answered with an error.",
       &C::queries_refused, false},
      {"queriesAbandoned", "twinstorm_hub_queries_abandoned_total", "Queries given up because their client had left.",
       &C::queries_abandoned, false},
      {"jobsCreated", "twinstorm_hub_jobs_created_total", "Jobs accepted.", &C::jobs_created, false},
      {"jobsRefused", "twinstorm_hub_jobs_refused_total", "Jobs answered with an error.", &C::jobs_refused, false},
      {"jobsCancelled", "twinstorm_hub_jobs_cancelled_total", "Jobs cancelled before they started.", &C::jobs_cancelled,
       false},
      {"jobsCompleted", "twinstorm_hub_jobs_completed_total", "Jobs that tried all of their devices.",
       &C::jobs_completed, false},
      {"jobsFailed", "twinstorm_hub_jobs_failed_total", "Jobs with an invalid condition, or that took too long.",
       &C::jobs_failed, false},
      {"jobDeviceOperationsSucceeded", "twinstorm_hub_job_device_operations_succeeded_total",
       "Twin updates and methods of jobs that went well.", &C::job_device_operations_succeeded, false},
      {"jobDeviceOperationsFailed", "twinstorm_hub_job_device_operations_failed_total",
       "Twin updates and methods of jobs that failed.", &C::job_device_operations_failed, false},
      {"registryReads", "twinstorm_hub_registry_reads_total", "Identity reads, lists and statistics answered.",
       &C::registry_reads, false},
      {"registryWrites", "twinstorm_hub_registry_writes_total",
       "Identities created, replaced or deleted; a bulk request counts each entry.", &C::registry_writes, false},
      {"registryRefused", "twinstorm_hub_registry_refused_total", "Registry requests or bulk entries refused.",
       &C::registry_refused, false},
      {"configurationReads", "twinstorm_hub_configuration_reads_total",
       "Configurations read, listed, or their queries tested.", &C::configuration_reads, false},
      {"configurationWrites", "twinstorm_hub_configuration_writes_total", "Configurations created, updated or deleted.",
       &C::configuration_writes, false},
      {"configurationsRefused", "twinstorm_hub_configurations_refused_total",
       "Requests about configurations answered with an error.", &C::configurations_refused, false},
      {"configurationsApplied", "twinstorm_hub_configurations_applied_total",
       "Contents of configurations written into twins.", &C::configurations_applied, false},
      {"configurationsNotApplied", "twinstorm_hub_configurations_not_applied_total",
       "Contents of configurations that a twin could not take.", &C::configurations_not_applied, false},
      {"throttleShaped", "twinstorm_hub_throttle_shaped_total",
       "Operations that had to wait because of the tier's rates.", &C::throttle_shaped, false},
      {"throttleRefused", "twinstorm_hub_throttle_refused_total", "Operations refused because of the tier's rates.",
       &C::throttle_refused, false},
      {"throttleAbandoned", "twinstorm_hub_throttle_abandoned_total",
       "Operations that had to wait and were not done because their client left.", &C::throttle_abandoned, false},
      {"quotaRefused", "twinstorm_hub_quota_refused_total",
       "Operations refused because the day's messages were used up.", &C::quota_refused, false},
      {"tierRefused", "twinstorm_hub_tier_refused_total",
       "Operations and identities refused because the tier does not have them.", &C::tier_refused, false},
      {"unauthorized", "twinstorm_hub_unauthorized_total", "HTTP requests answered 401.", &C::unauthorized, false},
      {"preconditionFailed", "twinstorm_hub_precondition_failed_total", "Requests of either side answered 412.",
       &C::precondition_failed, false},
      {"httpRequests", "twinstorm_hub_http_requests_total", "HTTP requests answered.", &C::http_requests, false},
      {"http2xx", "twinstorm_hub_http_2xx_total", "HTTP answers with a status of 200 to 299.", &C::http_2xx, false},
      {"http3xx", "twinstorm_hub_http_3xx_total", "HTTP answers with a status of 300 to 399.", &C::http_3xx, false},
      {"http4xx", "twinstorm_hub_http_4xx_total", "HTTP answers with a status of 400 to 499.", &C::http_4xx, false},
      {"http5xx", "twinstorm_hub_http_5xx_total", "HTTP answers with a status of 500 to 599.", &C::http_5xx, false},
      {"httpConnections", "twinstorm_hub_http_connections_total", "HTTP connections accepted.", &C::http_connections,
       false},
      {"websocketUpgrades", "twinstorm_hub_websocket_upgrades_total",
       "HTTP connections that went on as MQTT over WebSocket.", &C::websocket_upgrades, false},
      {"tlsHandshakes", "twinstorm_hub_tls_handshakes_total", "TLS handshakes finished.", &C::tls_handshakes, false},
      {"tlsSessionsResumed", "twinstorm_hub_tls_sessions_resumed_total",
       "TLS handshakes that resumed a session by its ticket.", &C::tls_sessions_resumed, false},
      {"tlsHandshakesFailed", "twinstorm_hub_tls_handshakes_failed_total",
       "TLS handshakes broken off, garbled or not finished in time.", &C::tls_handshakes_failed, false},
      {"mqttBytesIn", "twinstorm_hub_mqtt_bytes_in_total", "Bytes read from MQTT connections, after TLS.",
       &C::mqtt_bytes_in, false},
      {"mqttBytesOut", "twinstorm_hub_mqtt_bytes_out_total", "Bytes written to MQTT connections, before TLS.",
       &C::mqtt_bytes_out, false},
      {"httpBytesIn", "twinstorm_hub_http_bytes_in_total", "Bytes read from HTTP connections, after TLS.",
       &C::http_bytes_in, false},
      {"httpBytesOut", "twinstorm_hub_http_bytes_out_total", "Bytes written to HTTP connections, before TLS.",
       &C::http_bytes_out, false},
      {"connectedDevices", "twinstorm_hub_connected_devices", "Identities with a live MQTT connection.",
       &C::connected_devices, true},
      {"registeredDevices", "twinstorm_hub_registered_devices", "Device identities in the registry.",
       &C::registered_devices, true},
  };
  return fields;
}

HubCounts& HubCounts::operator+=(const HubCounts& other) {
  for (const HubCountField& field : hub_count_fields()) this->*field.member += other.*field.member;
  return *this;
}

std::string to_json(const HubCounts& counts) {
  std::string out = "{";
  for (const HubCountField& field : hub_count_fields()) {
    fmt::format_to(std::back_inserter(out), "{}\"{}\":{}", out.size() > 1 ? "," : "", field.json_name,
                   counts.*field.member);
  }
  out += '}';
  return out;
}

Result<HubCounts> parse_hub_counts(std::string_view json) {
  const auto document = nlohmann::json::parse(json, nullptr, false);
  if (!document.is_object()) {
    return make_error(ErrorCode::invalid_argument, "the hub's counts are not a JSON object");
  }
  HubCounts counts;
  for (const HubCountField& field : hub_count_fields()) {
    const auto found = document.find(field.json_name);
    if (found == document.end()) continue;
    if (!found->is_number_unsigned()) {
      return make_error(ErrorCode::invalid_argument,
                        fmt::format("the hub's count '{}' is {}, not a whole number", field.json_name, found->dump()));
    }
    counts.*field.member = found->get<uint64_t>();
  }
  return counts;
}

}  // namespace twinstorm::hub
