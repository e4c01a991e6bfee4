// What devices and modules do over HTTPS: telemetry, single and in batches, and polling for cloud-to-device messages
// (device.md 5). No sockets.
#pragma once

#include <optional>
#include <string>

#include "sim/hub/frontends/http/device_service.hpp"
#include "sim/hub/shard.hpp"
#include "sim/net/certificates.hpp"
#include "sim/protocol/device_routes.hpp"
#include "sim/protocol/message_bag.hpp"

namespace twinstorm::hub {

/// A request, owning its text so that it can move to another shard. Not authorised yet: the keys are on the owner.
struct DeviceCall {
  protocol::DeviceRoute route;
  std::string authorization;
  std::optional<net::PeerCertificate> certificate;
  std::optional<std::string> if_match;
  std::string content_type;
  protocol::MessageProperties properties;  ///< of the message headers
  std::string body;
  bool admitted = false;  ///< has waited for its turn already
};

/// Authorises and answers; must run on the thread of the shard that owns the device.
ServiceAnswer serve_device_api(const DeviceCall& call, Shard& owner);

}  // namespace twinstorm::hub
