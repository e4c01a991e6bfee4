// What one kind of operation does: a small state machine over HTTP answers, without sockets, clocks or ledger. The pool
// (backend_pool.hpp) sends what a procedure composes, tells it the answers, waits when it says so, and does the books.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "metrics/op.hpp"
#include "sim/backend/behavior.hpp"
#include "sim/backend/created_devices.hpp"
#include "sim/backend/http_client.hpp"
#include "sim/backend/request_books.hpp"
#include "sim/net/shard_io.hpp"

namespace twinstorm::backend {

class StalenessProbe;

/// One arrival under way. Lives in a slab; `text` is a pooled block.
struct Operation {
  MonoTime due{};
  MonoTime sent{};                    ///< of its first request
  MonoTime deadline{};                ///< for the request under way or waited for
  std::unique_ptr<std::string> text;  ///< what the procedure has to remember
  uint64_t n = 0;                     ///< number of the arrival
  FollowId follow = kNotFollowed;
  uint32_t backend = 0;
  uint32_t device = 0;
  uint32_t rows = 0;   ///< of a query so far
  uint32_t pages = 0;  ///< likewise
  uint16_t phase = 0;
  uint16_t attempts = 0;  ///< repetitions so far
  uint8_t step = 0;       ///< of the procedure
  bool was_sent = false;
  bool request_sent = false;  ///< the request under way
};

/// A request being composed; the buffers are used again and again. Members that stay empty are not sent.
struct Request {
  std::string_view method = "GET";
  std::string target, body, if_match, continuation, max_item_count;
  void clear() {
    method = "GET";
    for (auto* part : {&target, &body, &if_match, &continuation, &max_item_count}) part->clear();
  }
};

/// What follows from an answer.
struct Next {
  enum class Kind : uint8_t { done, failed, timed_out, again };
  Kind kind = Kind::done;
  metrics::ErrorClass error = metrics::ErrorClass::kCount;
  bool unknown = false;         ///< failed: the hub may have done what was asked
  bool fresh_deadline = false;  ///< again: the time-out counts from now
  Nanos wait{0};                ///< again: how long before the next request

  static Next done() { return {}; }
  static Next failed(metrics::ErrorClass error, bool unknown = false) {
    return {Kind::failed, error, unknown, false, {}};
  }
  static Next timed_out() { return {Kind::timed_out, metrics::ErrorClass::timeout, false, false, {}}; }
  static Next again(Nanos wait = Nanos{0}, bool fresh_deadline = false) {
    return {Kind::again, metrics::ErrorClass::kCount, false, fresh_deadline, wait};
  }
};

/// The class of an answer that is no success.
metrics::ErrorClass error_of(int status);

/// What procedures of one pool have in common. Outlives them.
struct ProcedureContext {
  uint64_t seed = 0;
  uint32_t shard = 0, shards = 1;
  uint32_t devices = 0;  ///< of this shard
  std::string run_tag;   ///< lower-case letters and digits: makes job ids of different runs differ
  std::function<void(uint32_t device, std::string& out)> append_device_id;
  std::function<std::string(std::string_view id)> device_key;  ///< base64, for devices that are created
  metrics::ShardRecorder& recorder;
  BackendObserver& observer;
  net::BlockPool& blocks;
  const Clock& clock;
  RequestBooks& books;
};

class Procedure {
 public:
  virtual ~Procedure() = default;

  /// A new operation. A class: it cannot be started and is dropped for that reason.
  virtual std::optional<metrics::ErrorClass> begin(Operation&) { return std::nullopt; }
  /// The request of the present step.
  virtual void compose(Operation& operation, Request& request) = 0;
  virtual void sent(Operation&, MonoTime) {}
  virtual Next answered(Operation& operation, const HttpAnswer& answer) = 0;
  /// The request had no answer although it may have arrived. Nothing: the operation ends by that.
  virtual std::optional<Next> unanswered(Operation&) { return std::nullopt; }
  /// Called once, at the end. `unknown`: the hub may or may not have done what was asked.
  virtual void ended(Operation&, metrics::OpOutcome, bool /*unknown*/) {}

  /// Whether the request of the present step changes something at the hub.
  virtual bool changes(const Operation&) const { return false; }
  /// The hub's counter that a success of the present step moves, and by how much.
  struct Counted {
    HubCount count = HubCount::kCount;
    uint64_t amount = 1;
  };
  virtual Counted counted(const Operation&) const = 0;
};

/// The procedure of a back end. `created`: of itself when it makes devices, of its creator when it deletes them, else
/// null. `probe` may be null. Everything outlives the procedure.
std::unique_ptr<Procedure> make_procedure(const BackendBehavior& behavior, ProcedureContext& context,
                                          CreatedDevices* created, StalenessProbe* probe);

}  // namespace twinstorm::backend
