#include "sim/protocol/device_routes.hpp"

#include <array>
#include <optional>
#include <span>
#include <vector>

#include <fmt/format.h>

#include "sim/protocol/encoding.hpp"
#include "sim/protocol/text.hpp"
#include "sim/protocol/topics.hpp"

namespace twinstorm::protocol {
namespace {

constexpr size_t kSegmentsMax = 8;

/// A path's decoded segments and the target's query.
struct Target {
  std::vector<std::string> segments;
  std::string_view query;

  bool is(size_t place, std::string_view literal) const {
    return place < segments.size() && equal_ignoring_case(segments[place], literal);
  }
};

Error route_error(ErrorCode code, std::string_view method, std::string_view target, std::string_view why) {
  return make_error(code, fmt::format("{} {}: {}", method, target.substr(0, target.find('?')), why));
}

Result<Target> split(std::string_view method, std::string_view target) {
  Target out;
  std::string_view path = target.substr(0, target.find('?'));
  out.query = path.size() == target.size() ? std::string_view{} : target.substr(path.size() + 1);
  if (!path.starts_with('/')) return route_error(ErrorCode::not_found, method, target, "no such resource");
  path.remove_prefix(1);
  if (path.ends_with('/')) path.remove_suffix(1);
  for (TextSplitter parts{path, '/'}; parts.next();) {
    if (out.segments.size() == kSegmentsMax || parts.part().empty()) {
      return route_error(ErrorCode::not_found, method, target, "no such resource");
    }
    auto decoded = percent_decode(parts.part());
    if (!decoded) return route_error(ErrorCode::invalid_argument, method, target, decoded.error().message);
    out.segments.push_back(std::move(*decoded));
  }
  return out;
}

/// Takes `devices/{id}` or `devices/{id}/modules/{mid}` at `place`; nullopt when it is not there.
template <class Route>
std::optional<size_t> take_identity(Target& target, size_t place, Route& route) {
  if (!target.is(place, "devices") || target.segments.size() < place + 2) return std::nullopt;
  route.device_id = target.segments[place + 1];
  if (!target.is(place + 2, "modules") || target.segments.size() < place + 4) return place + 2;
  route.module_id = target.segments[place + 3];
  return place + 4;
}

std::string identity_path(std::string_view device_id, std::string_view module_id) {
  std::string out = "/devices/" + percent_encode(device_id);
  if (!module_id.empty()) out += "/modules/" + percent_encode(module_id);
  return out;
}

std::string with_version(std::string target) { return target.append("?api-version=").append(kApiVersion); }

}  // namespace

const char* to_string(DeviceOperation operation) {
  switch (operation) {
    case DeviceOperation::send_events:
      return "sendEvents";
    case DeviceOperation::receive_message:
      return "receiveMessage";
    case DeviceOperation::complete_message:
      return "completeMessage";
    case DeviceOperation::reject_message:
      return "rejectMessage";
    case DeviceOperation::abandon_message:
      return "abandonMessage";
    case DeviceOperation::initiate_file_upload:
      return "initiateFileUpload";
    case DeviceOperation::complete_file_upload:
      return "completeFileUpload";
  }
  return "unknown";
}

Result<DeviceRoute> parse_device_route(std::string_view method, std::string_view target) {
  using Op = DeviceOperation;
  auto parts = split(method, target);
  if (!parts) return parts.error();
  const auto unknown = [&] { return route_error(ErrorCode::not_found, method, target, "no such resource"); };
  DeviceRoute route;
  const auto at = take_identity(*parts, 0, route);
  if (!at) return unknown();
  const size_t left = parts->segments.size() - *at;

  bool rejected = false;
  for (TextSplitter pairs{parts->query, '&'}; pairs.next();) {
    const auto pair = pairs.part();
    const auto name = pair.substr(0, pair.find('='));
    if (equal_ignoring_case(name, "reject")) rejected = true;
    if (equal_ignoring_case(name, "api-version") && pair.size() > name.size()) {
      auto version = percent_decode(pair.substr(name.size() + 1));
      if (!version) return route_error(ErrorCode::invalid_argument, method, target, version.error().message);
      route.api_version = std::move(*version);
    }
  }

  std::string_view expected;
  const bool device_bound = parts->is(*at, "messages") && parts->is(*at + 1, "devicebound");
  if (left == 2 && parts->is(*at, "messages") && parts->is(*at + 1, "events")) {
    route.operation = Op::send_events;
    expected = "POST";
  } else if (left == 2 && device_bound) {
    route.operation = Op::receive_message;
    expected = "GET";
  } else if (left == 3 && device_bound) {
    route.operation = rejected ? Op::reject_message : Op::complete_message;
    expected = "DELETE";
  } else if (left == 4 && device_bound && parts->is(*at + 3, "abandon")) {
    route.operation = Op::abandon_message;
    expected = "POST";
  } else if (left == 1 && parts->is(*at, "files") && route.module_id.empty()) {
    route.operation = Op::initiate_file_upload;
    expected = "POST";
  } else if ((left == 2 || left == 3) && parts->is(*at, "files") && parts->is(*at + 1, "notifications") &&
             route.module_id.empty()) {
    route.operation = Op::complete_file_upload;
    expected = "POST";
  } else {
    return unknown();
  }
  if (method != expected) {
    return route_error(ErrorCode::precondition_failed, method, target, "the resource exists, but not with this method");
  }
  if (device_bound && left >= 3) route.lock_token = std::move(parts->segments[*at + 2]);
  return route;
}

Result<ExtensionRoute> parse_extension_route(std::string_view method, std::string_view target) {
  using Op = ExtensionOperation;
  auto parts = split(method, target);
  if (!parts) return parts.error();
  ExtensionRoute route;
  const auto at = parts->is(0, "twinstorm") ? take_identity(*parts, 1, route) : std::nullopt;
  if (!at) return route_error(ErrorCode::not_found, method, target, "no such resource");
  const size_t left = parts->segments.size() - *at;
  std::string_view expected = "POST";
  if (left == 2 && parts->is(*at, "messages") && parts->is(*at + 1, "devicebound") && route.module_id.empty()) {
    route.operation = Op::enqueue_message;
  } else if (left == 2 && parts->is(*at, "inputs") && !route.module_id.empty()) {
    route.operation = Op::send_input;
    route.input = std::move(parts->segments[*at + 1]);
  } else if (left == 2 && parts->is(*at, "messages") && parts->is(*at + 1, "events")) {
    route.operation = Op::watch_events;
    expected = "GET";
  } else if (left == 1 && parts->is(*at, "disconnect")) {
    route.operation = Op::disconnect;
  } else {
    return route_error(ErrorCode::not_found, method, target, "no such resource");
  }
  if (method != expected) {
    return route_error(ErrorCode::precondition_failed, method, target, "the resource exists, but not with this method");
  }
  return route;
}

namespace device_target {

std::string events(std::string_view device_id, std::string_view module_id) {
  return with_version(identity_path(device_id, module_id) + "/messages/events");
}
std::string messages(std::string_view device_id, std::string_view module_id) {
  return with_version(identity_path(device_id, module_id) + "/messages/devicebound");
}
std::string complete(std::string_view device_id, std::string_view lock_token, std::string_view module_id) {
  return with_version(identity_path(device_id, module_id) + "/messages/devicebound/" + percent_encode(lock_token));
}
std::string reject(std::string_view device_id, std::string_view lock_token, std::string_view module_id) {
  return complete(device_id, lock_token, module_id) + "&reject";
}
std::string abandon(std::string_view device_id, std::string_view lock_token, std::string_view module_id) {
  return with_version(identity_path(device_id, module_id) + "/messages/devicebound/" + percent_encode(lock_token) +
                      "/abandon");
}

}  // namespace device_target

namespace extension_target {

std::string enqueue(std::string_view device_id) {
  return "/twinstorm" + identity_path(device_id, {}) + "/messages/devicebound";
}
std::string input(std::string_view device_id, std::string_view module_id, std::string_view input) {
  return "/twinstorm" + identity_path(device_id, module_id) + "/inputs/" + percent_encode(input);
}
std::string watch_events(std::string_view device_id, std::string_view module_id) {
  return "/twinstorm" + identity_path(device_id, module_id) + "/messages/events";
}
std::string disconnect(std::string_view device_id, std::string_view module_id) {
  return "/twinstorm" + identity_path(device_id, module_id) + "/disconnect";
}

}  // namespace extension_target

}  // namespace twinstorm::protocol
