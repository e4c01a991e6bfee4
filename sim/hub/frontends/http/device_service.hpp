// The service API's operations on one identity or twin, on the shard that owns it (service.md 3 to 5). No sockets.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sim/hub/shard.hpp"
#include "sim/protocol/service_routes.hpp"

namespace twinstorm::hub {

/// A request, owning its text so that it can move to another shard. The caller has been authorised.
struct ServiceCall {
  protocol::ServiceRoute route;
  bool by_role = false;  ///< authorised by a bearer token, not by a policy
  std::optional<std::string> if_match;
  std::optional<std::string> max_item_count;  ///< x-ms-max-item-count
  std::optional<std::string> continuation;    ///< x-ms-continuation
  std::string body;
  Wanted wanted = {};  ///< asked by long work, on the shard of the connection; empty = always
};

struct ServiceAnswer {
  int status = 200;
  std::string body;                                          ///< JSON; empty with 204
  std::string error_name;                                    ///< iothub-errorcode
  std::string etag;                                          ///< ETag, with quotes
  std::string item_type;                                     ///< x-ms-item-type
  std::string continuation;                                  ///< x-ms-continuation; empty = the header is absent
  std::string content_type;                                  ///< empty = JSON
  std::vector<std::pair<std::string, std::string>> headers;  ///< further ones, as they go to the wire
  bool free_of_charge = false;                               ///< a page of jobs: not charged to the day's messages

  /// Not an answer yet: the rates of the hub's tier want the request to be served so much later, admitted then.
  struct Held {
    Nanos delay;
    OperationClass operation;
  };
  std::optional<Held> held = {};
  bool abandoned = false;  ///< not an answer: the client had left before there was one, its connection is to be closed
};

/// Counts the refusal of `operation`, also when it never reached its shard (unauthorized, unknown path).
void count_refusal(LiveCounts& counts, protocol::ServiceOperation operation, int status);
/// 501 for operations of the service API that this hub has not.
ServiceError not_implemented(protocol::ServiceOperation operation);
ServiceAnswer error_answer(const ServiceError& error, Shard& shard);

/// True for operations that concern one device and its modules only: they go to its owner.
bool concerns_one_device(protocol::ServiceOperation operation);

/// Answers such an operation; must run on the owner's thread. Unsupported operations are answered 501.
ServiceAnswer serve_device(const ServiceCall& call, Shard& shard);

/// Registers one device on its owner; shared with bulk registration and import.
ServiceResult<DeviceRecord*> register_device(Shard& shard, std::string_view device_id, std::string_view module_id,
                                             const IdentityRequest& request, WallTime now);
/// Replaces the writable part of an identity; shared with bulk updates. A disabled device loses its connection and
/// those of its modules; an edge device gets its system modules. Error: 400 for another `deviceScope` than an edge
/// device has.
ServiceResult<void> update_identity(Shard& shard, DeviceRecord& record, const IdentityRequest& request, WallTime now);
/// Removes an identity with its modules and closes their connections.
void unregister(Shard& shard, DeviceRecord& record);
/// Merges tags and desired properties and notifies the device; true when desired properties were among them. The caller
/// counts.
ServiceResult<bool> patch_twin(DeviceRecord& record, const twin::Value& body, WallTime now);

}  // namespace twinstorm::hub
