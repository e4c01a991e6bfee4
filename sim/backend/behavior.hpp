// What one back end does, as plain values and functions: made once per run, shared by all shards, read-only.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "metrics/shard_recorder.hpp"
#include "sim/base/rng.hpp"
#include "sim/base/time.hpp"

namespace twinstorm::backend {

/// Appends JSON text for arrival `n`; draws from `rng`.
using Renderer = std::function<void(Rng& rng, uint64_t n, std::string& out)>;

/// With which ETag a twin is written.
enum class IfMatch : uint8_t {
  any,                ///< `*`
  last_seen,          ///< of the last answer for that twin; `*` before the first and after a 412
  read_modify_write,  ///< of a GET just before; both again after a 412, as `Retries` says
};

/// Repetitions after a 412: the k-th waits a random part (or all) of min(longest, initial * 2^k).
struct Retries {
  uint32_t max = 5;
  Nanos initial = std::chrono::milliseconds{10};
  Nanos longest = std::chrono::seconds{1};
  bool full_jitter = true;
};

/// Writes that are followed until queries show them.
struct Staleness {
  double share = 0;  ///< of the acknowledged writes; 0: none
  Nanos every = std::chrono::milliseconds{50};
  Nanos timeout = std::chrono::seconds{60};
};

struct BackendBehavior {
  std::string name;
  metrics::OpKind op = metrics::OpKind::patch_desired;
  metrics::StreamIndex stream = 0;
  Renderer desired;  ///< patch_desired, replace_twin, job: the value of `properties.desired`
  Renderer tags;     ///< patch_tags, replace_twin, job, bulk; with patch_desired both go in one patch
  IfMatch if_match = IfMatch::any;
  Retries retries;      ///< read_modify_write
  Staleness staleness;  ///< writes of twins

  std::string query;  ///< query: the text
  uint32_t page_size = 100;
  bool all_pages = true;

  std::string method_name;  ///< method; job: not empty = a job of direct methods
  Renderer payload;         ///< method, job; none = null
  Nanos response_timeout = std::chrono::seconds{30};
  Nanos connect_timeout{0};

  std::function<void(std::string& out, uint64_t number)> append_new_device_id;  ///< create_device, bulk that creates
  uint32_t creator = 0;  ///< delete_device, bulk that deletes: position of the back end whose devices it deletes
  bool creates = false;  ///< bulk
  uint32_t size = 100;   ///< bulk: identities of one request

  std::string condition = "*";  ///< job
  Nanos poll = std::chrono::seconds{1};
  Nanos max_execution_time = std::chrono::hours{1};

  Nanos timeout = std::chrono::seconds{10};  ///< of an operation; of a query, for each page
  uint32_t connections = 8;
  bool tls = false;

  bool changes_desired() const { return op == metrics::OpKind::patch_desired || op == metrics::OpKind::replace_twin; }
  bool makes_devices() const {
    return op == metrics::OpKind::create_device || (op == metrics::OpKind::bulk && creates);
  }
};

/// Reference to whatever the caller follows the operation with.
using FollowId = uint32_t;
inline constexpr FollowId kNotFollowed = 0xffffffff;

/// What the run learns about desired patches; called on the shard's thread.
class BackendObserver {
 public:
  /// The write was sent; again for each repetition of a conditional one.
  virtual void on_patch_sent(FollowId follow, MonoTime at) = 0;
  /// Accepted as desired `$version`; `desired` is the text that was merged (or, `replaced`, that took its place).
  virtual void on_patch_accepted(FollowId follow, uint32_t device, int64_t version, std::string_view desired,
                                 bool replaced, MonoTime at) = 0;
  /// Not accepted. `unknown`: sent, but no answer came, so the hub may have accepted it.
  virtual void on_patch_failed(FollowId follow, uint32_t device, std::string_view desired, bool unknown) = 0;

 protected:
  ~BackendObserver() = default;
};

}  // namespace twinstorm::backend
