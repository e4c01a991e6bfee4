#include "sim/hub/frontends/http/configuration_api.hpp"

#include <utility>

#include <fmt/format.h>

#include "sim/hub/configurations/rollout.hpp"

namespace twinstorm::hub {
namespace {

using Op = protocol::ServiceOperation;

constexpr size_t kBodyMax = 256 * 1024;  // 100 of them are kept

size_t configurations_max(const Shard& shard) {
  constexpr size_t kWithoutTier = 100;  // service.md 9
  const TierPolicy* policy = shard.shared().policy.get();
  return policy == nullptr ? kWithoutTier : policy->limits().configurations_max;
}

ServiceAnswer configuration_answer(const Configuration& configuration) {
  ServiceAnswer answer;
  write_configuration(configuration, answer.body);
  answer.etag = fmt::format("\"{}\"", format_identity_etag(configuration.etag));
  return answer;
}

ServiceAnswer no_content() {
  ServiceAnswer answer;
  answer.status = 204;
  return answer;
}

std::optional<std::string_view> view(const std::optional<std::string>& text) {
  return text ? std::optional<std::string_view>{*text} : std::nullopt;
}

ServiceResult<ServiceAnswer> put(const ServiceCall& call, Shard& first) {
  if (call.body.size() > kBodyMax) {
    return http_refusal(413, fmt::format("a configuration of {} bytes is beyond {}", call.body.size(), kBodyMax));
  }
  const auto body = twin::parse_body(call.body);
  if (!body) return body.error();
  auto request = parse_configuration(call.route.configuration_id, *body);
  if (!request) return request.error();
  ConfigurationRollout& rollout = first.configurations();
  const auto written = rollout.catalog().put(call.route.configuration_id, view(call.if_match), std::move(*request),
                                             first.wall_now(), configurations_max(first));
  if (!written) return written.error();
  rollout.changed();
  first.counts().add(&HubCounts::configuration_writes);
  return configuration_answer(**written);
}

ServiceResult<ServiceAnswer> remove(const ServiceCall& call, Shard& first) {
  ConfigurationRollout& rollout = first.configurations();
  if (auto removed = rollout.catalog().remove(call.route.configuration_id, view(call.if_match)); !removed) {
    return removed.error();
  }
  rollout.changed();
  first.counts().add(&HubCounts::configuration_writes);
  return no_content();
}

ServiceResult<ServiceAnswer> get(const ServiceCall& call, Shard& first) {
  const auto found = first.configurations().catalog().get(call.route.configuration_id);
  if (!found) return found.error();
  first.counts().add(&HubCounts::configuration_reads);
  return configuration_answer(**found);
}

/// All of them: the live service does not look at `top` (service.md 3.3).
ServiceAnswer list(Shard& first) {
  ServiceAnswer answer;
  answer.body = "[";
  for (const auto& [id, configuration] : first.configurations().catalog().all()) {
    if (answer.body.size() > 1) answer.body += ',';
    write_configuration(configuration, answer.body);
  }
  answer.body += ']';
  first.counts().add(&HubCounts::configuration_reads);
  return answer;
}

ServiceResult<ServiceAnswer> test_queries(const ServiceCall& call, Shard& first) {
  const auto body = twin::parse_body(call.body);
  if (!body) return body.error();
  auto found = test_configuration_queries(*body);
  if (!found) return found.error();
  first.counts().add(&HubCounts::configuration_reads);
  ServiceAnswer answer;
  answer.body = std::move(*found);
  return answer;
}

ServiceResult<ServiceAnswer> dispatch(const ServiceCall& call, Shard& first) {
  switch (call.route.operation) {
    case Op::create_or_update_configuration:
      return put(call, first);
    case Op::get_configuration:
      return get(call, first);
    case Op::delete_configuration:
      return remove(call, first);
    case Op::list_configurations:
      return list(first);
    case Op::test_configuration_queries:
      return test_queries(call, first);
    default:
      return not_implemented(call.route.operation);
  }
}

ServiceAnswer answer_on_first(const ServiceCall& call, Shard& first) {
  auto answer = dispatch(call, first);
  if (answer) return std::move(*answer);
  count_refusal(first.counts(), call.route.operation, answer.error().status);
  return error_answer(answer.error(), first);
}

}  // namespace

void serve_configuration(ServiceCall call, Shard& origin, std::function<void(ServiceAnswer)> done) {
  Shard& first = *origin.shared().shards.front();
  if (&first == &origin) {
    done(answer_on_first(call, first));
    return;
  }
  first.post([&first, &origin, call = std::move(call), done = std::move(done)] {
    origin.post([done, answer = answer_on_first(call, first)] { done(answer); });
  });
}

ServiceResult<ServiceAnswer> apply_configuration_content(const ServiceCall& call, Shard& shard) {
  DeviceRecord* record = shard.store().find(call.route.device_id, {});
  if (record == nullptr) return device_not_found(call.route.device_id);
  if (!record->twin.iot_edge) {
    return twin::argument_invalid(
        fmt::format("'{}' is no edge device, content can be applied to devices with capabilities.iotEdge only",
                    call.route.device_id));
  }
  const auto body = twin::parse_body(call.body);
  if (!body) return body.error();
  const auto content = parse_configuration_content(&*body);
  if (!content) return content.error();
  if (content->kind == ConfigurationKind::module) {
    return ServiceError{400, 400'000, "InvalidConfigurationContent",
                        "moduleContent cannot be applied to one device, name its modules in modulesContent"};
  }
  if (auto applied = apply_content(shard, *record, *content, nullptr, shard.wall_now()); !applied) {
    return applied.error();
  }
  shard.counts().add(&HubCounts::configurations_applied);
  return no_content();
}

}  // namespace twinstorm::hub
