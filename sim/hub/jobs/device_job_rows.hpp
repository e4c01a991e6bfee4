// The rows of `devices.jobs` whose devices live on one shard: one for every device of every job that has started, and
// those of the import file. Belongs to the shard's thread.
//
// A row is some 80 bytes; its JSON is made when a query looks at it, in slices (`DeviceJobScan`), so that neither a job
// over 100,000 devices nor a query over its rows holds the shard up.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sim/base/time.hpp"
#include "sim/hub/jobs/job.hpp"
#include "sim/hub/messaging/method_calls.hpp"
#include "sim/hub/query/page.hpp"
#include "sim/hub/query/query.hpp"
#include "sim/twin/value.hpp"

namespace twinstorm::hub::jobs {

enum class DeviceJobStatus : uint8_t { pending, running, completed, failed };
const char* to_string(DeviceJobStatus status);

struct DeviceJobRow {
  std::string device_id;
  DeviceJobStatus status = DeviceJobStatus::pending;
  WallTime started = twin::kNever;
  WallTime updated = twin::kNever;  ///< of an ended row: when it ended
  /// What a method returned, or why the device failed; null for a twin update that went well.
  std::unique_ptr<MethodOutcome> outcome;
};

/// The rows of one job on one shard, by deviceId in ascending order.
struct DeviceJobPart {
  JobSpecPtr spec;
  std::vector<DeviceJobRow> rows;
};

class DeviceJobRows {
 public:
  /// Rows of an import file: any objects with `jobId` and `deviceId`. Once, before the shard runs.
  void import(std::vector<twin::Value> rows);
  /// `device_ids` in ascending order.
  std::shared_ptr<DeviceJobPart> add(JobSpecPtr spec, std::vector<std::string> device_ids);
  /// Drops a job's rows, if this shard has any.
  void forget(uint64_t number);
  size_t size() const;

  /// Payloads of method answers that rows hold. Beyond the budget an answer is kept without its payload.
  static constexpr size_t kPayloadBytesMax = 32 * 1024 * 1024;
  /// Ends a row of `part`.
  void finish(DeviceJobPart& part, DeviceJobRow& row, MethodOutcome outcome, WallTime now);
  size_t payload_bytes() const { return payload_bytes_; }

 private:
  friend class DeviceJobScan;
  std::vector<twin::Value> imported_;                                         // by (jobId, deviceId)
  std::map<std::string, std::shared_ptr<DeviceJobPart>, std::less<>> parts_;  // by jobId
  size_t payload_bytes_ = 0;
};

/// One shard's part of a page of a `devices.jobs` query, found in slices; rows may come, change and go between them.
///
///   DeviceJobScan scan{query, cursor, page_size};
///   while (!scan.step(store.device_jobs, 1000)) { ... let others in ... }
///   std::vector<query::Row> rows = scan.take_rows();
class DeviceJobScan {
 public:
  DeviceJobScan(query::Query query, const query::Cursor& cursor, size_t page_size);
  /// Looks at up to `count` further rows; true when nothing is left to look at or the page is full.
  bool step(const DeviceJobRows& rows, size_t count);
  /// At most page size + 1, in ascending order.
  std::vector<query::Row> take_rows() { return std::move(found_); }

 private:
  void offer(const twin::Value& row, std::string_view job_id, std::string_view device_id);

  query::Query query_;
  std::optional<std::string> only_job_;  // what the condition demands of every row; nullopt: anything
  std::optional<std::string> only_device_;
  size_t capacity_;
  bool started_;
  std::string job_;  // the last row looked at
  std::string device_;
  std::vector<query::Row> found_;
};

/// A row's JSON.
twin::Value device_job_json(const JobSpec& spec, const DeviceJobRow& row);

}  // namespace twinstorm::hub::jobs
