#include "sim/hub/query_service.hpp"

#include <algorithm>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "sim/hub/jobs/device_job_rows.hpp"
#include "sim/hub/query/aggregation.hpp"
#include "sim/hub/query/detail/plan.hpp"
#include "sim/hub/query/page.hpp"
#include "sim/hub/token_seal.hpp"

namespace twinstorm::hub {
namespace {

constexpr std::string_view kTokenPurpose = "query";
constexpr size_t kRowWeight = Slice::kStepsPerLook;  // a row takes some microseconds to write
constexpr size_t kJobRowsPerStep = 64;               // each of them is made to be looked at

// --- Scans -----------------------------------------------------------------------------------------------------------

/// Where a scan has come to. It holds the key, nothing that lives in the store.
class TwinScan {
 public:
  TwinScan(const query::Query& query, std::string after) : query_{query}, after_{std::move(after)} {}

  /// Goes on for one slice: `visit(twin)` for each twin, until it returns false. True when the scan is at its end.
  template <class Visit>
  bool run(const DeviceStore& store, Slice& slice, Visit&& visit) {
    const RecordTable& table = query_.source() == query::Source::modules ? store.modules : store.devices;
    if (const auto only = query_.only_device_ids(); only && query_.source() == query::Source::devices) {
      for (auto id = std::upper_bound(only->begin(), only->end(), after_); id != only->end(); ++id) {
        if (!slice.step()) return false;
        after_ = *id;
        const twin::TwinDocument* twin = table.find_queried(*id);
        if (twin != nullptr && !visit(*twin)) break;
      }
      return true;
    }
    bool over = true;
    const twin::TwinDocument* last = nullptr;
    table.visit_queried(after_, [&](const twin::TwinDocument& twin) {
      if (!slice.step()) return over = false;
      last = &twin;
      return visit(twin);
    });
    if (!over && last != nullptr) after_ = key_of(*last);
    return over;
  }

  static std::string key_of(const twin::TwinDocument& twin) {
    return twin.module_id.empty() ? twin.device_id : twin.device_id + '/' + twin.module_id;
  }

 private:
  query::Query query_;
  std::string after_;
};

/// One shard's scan: adds what it finds to its part; true at the end.
template <class Part>
using ScanSlice = std::function<bool(Slice&, Part&)>;

/// Every shard makes its part in slices; `done(parts by shard)` runs on `origin`'s thread.
template <class Part>
void gather_in_slices(Shard& origin, const std::function<ScanSlice<Part>(Shard&)>& scan_of,
                      std::function<void(std::vector<Part>)> done) {
  struct Gathered {
    std::vector<Part> parts;
    size_t missing;
    std::function<void(std::vector<Part>)> done;
  };
  const size_t count = origin.shared().shards.size();
  // Only the origin's thread touches it; the others carry the pointer.
  auto gathered = std::make_shared<Gathered>(Gathered{std::vector<Part>(count), count, std::move(done)});
  for (const auto& each : origin.shared().shards) {
    Shard* const shard = each.get();
    const auto begin = [&origin, shard, gathered, scan_of] {
      shard->slices().start(
          [&origin, shard, gathered, scan = scan_of(*shard), part = std::make_shared<Part>()](Slice& slice) {
            if (!scan(slice, *part)) return false;
            const auto deliver = [gathered, part, index = shard->id()] {
              gathered->parts[index] = std::move(*part);
              if (--gathered->missing == 0) std::exchange(gathered->done, nullptr)(std::move(gathered->parts));
            };
            if (shard == &origin) {
              deliver();
            } else {
              origin.post(deliver);
            }
            return true;
          });
    };
    if (shard == &origin) {
      begin();
    } else {
      shard->post(begin);
    }
  }
}

// --- Requests and answers --------------------------------------------------------------------------------------------

ServiceResult<query::Cursor> open_cursor(const HubShared& shared, std::string_view token, const query::Query& query) {
  const auto cursor = open_token(shared.token_key, kTokenPurpose, token);
  if (!cursor) return twin::argument_invalid("x-ms-continuation is not a token of this hub");
  return query::decode_cursor(*cursor, query);
}

struct QueryRequest {
  query::Query query;
  query::Cursor cursor;
  size_t page_size;
};

ServiceResult<QueryRequest> parse_query(const ServiceCall& call, const Shard& origin) {
  const auto body = twin::parse_body(call.body);
  if (!body) return body.error();
  const twin::Value* text = body->find("query");
  if (text == nullptr || !text->is_string()) {
    return twin::argument_invalid("the body must be {\"query\": \"SELECT ...\"}");
  }
  auto query = query::Query::parse(text->text());
  if (!query) return query.error();
  const HubConfig& config = origin.config();
  const auto size = query::read_page_size(call.max_item_count, config.query_page_default, config.query_page_max);
  if (!size) return size.error();
  query::Cursor cursor;
  if (call.continuation && !call.continuation->empty()) {
    auto opened = open_cursor(origin.shared(), *call.continuation, *query);
    if (!opened) return opened.error();
    cursor = std::move(*opened);
  }
  return QueryRequest{std::move(*query), std::move(cursor), *size};
}

using Rows = std::vector<query::Row>;
using RequestPtr = std::shared_ptr<const QueryRequest>;

/// Rows one shard has to find: a page, and one more that tells whether there is a next one, unless TOP has already said
/// that there is none.
size_t rows_to_find(const QueryRequest& request) {
  if (const auto top = request.query.top()) {
    const size_t left = *top - std::min(*top, request.cursor.delivered);
    if (left < request.page_size) return left;
  }
  return request.page_size + 1;
}

/// How much a query may have in memory, in rows. Totals of groups are as many as the twins make them.
size_t rows_held(const QueryRequest& request) {
  if (!request.query.aggregates()) return std::min(request.page_size, rows_to_find(request));
  return request.query.plan().group_by ? SIZE_MAX : 1;
}

ScanSlice<Rows> scan_rows(const RequestPtr& request, Shard& shard) {
  if (request->query.source() == query::Source::jobs) {
    auto scan = std::make_shared<jobs::DeviceJobScan>(request->query, request->cursor, request->page_size);
    return [scan, &shard](Slice& slice, Rows& rows) {
      while (slice.step(kRowWeight)) {
        if (!scan->step(shard.store().device_jobs, kJobRowsPerStep)) continue;
        rows = scan->take_rows();
        return true;
      }
      return false;
    };
  }
  std::string after = request->cursor.first;
  if (request->query.source() == query::Source::modules && request->cursor.started) {
    after += '/' + request->cursor.second;
  }
  return [request, &shard, wanted = rows_to_find(*request), scan = TwinScan{request->query, std::move(after)}](
             Slice& slice, Rows& rows) mutable {
    if (wanted == 0) return true;
    return scan.run(shard.store(), slice, [&](const twin::TwinDocument& twin) {
      if (!request->query.matches(twin)) return true;
      slice.step(kRowWeight);
      query::Row& row = rows.emplace_back();
      row.first = twin.device_id;
      row.second = twin.module_id;
      request->query.write_row(twin, row.json);
      return rows.size() < wanted;
    });
  };
}

using Totals = std::optional<query::Aggregation>;

ScanSlice<Totals> scan_totals(const query::Query& query, Shard& shard) {
  return [query, &shard, scan = TwinScan{query, {}}](Slice& slice, Totals& totals) mutable {
    if (!totals) totals.emplace(query);
    return scan.run(shard.store(), slice, [&totals](const twin::TwinDocument& twin) {
      totals->add(twin);
      return true;
    });
  };
}

query::Aggregation sum_of(std::vector<Totals> parts) {
  query::Aggregation total = std::move(*parts.front());
  for (size_t i = 1; i < parts.size(); ++i) total.merge(std::move(*parts[i]));
  return total;
}

void finish_query(const QueryRequest& request, Shard& origin, query::Page page,
                  const std::function<void(ServiceAnswer)>& done) {
  ServiceAnswer answer;
  answer.body = std::move(page.body);
  answer.item_type = to_string(request.query.item_type());
  answer.free_of_charge = request.query.source() == query::Source::jobs;
  if (page.next) {
    answer.continuation =
        seal_token(origin.shared().token_key, kTokenPurpose, query::encode_cursor(*page.next, request.query));
  }
  origin.counts().add(&HubCounts::queries);
  done(std::move(answer));
}

}  // namespace

void serve_query(ServiceCall call, Shard& origin, std::function<void(ServiceAnswer)> done) {
  auto parsed = parse_query(call, origin);
  if (!parsed) {
    count_refusal(origin.counts(), call.route.operation, parsed.error().status);
    done(error_answer(parsed.error(), origin));
    return;
  }
  const auto request = std::make_shared<const QueryRequest>(std::move(*parsed));
  QueryLane& lane = origin.query_lane(rows_held(*request));
  const auto answer = std::make_shared<const std::function<void(ServiceAnswer)>>(std::move(done));
  const auto drop = [&origin, answer] {
    origin.counts().add(&HubCounts::queries_abandoned);
    ServiceAnswer nothing;
    nothing.abandoned = true;
    (*answer)(std::move(nothing));
  };
  const auto end_with = [&origin, &lane, request, answer](auto parts) {
    query::Page page = query::assemble_page(request->query, request->cursor, request->page_size, std::move(parts));
    lane.leave();
    finish_query(*request, origin, std::move(page), *answer);
  };
  const auto begin = [&origin, request, end_with] {
    if (request->query.aggregates()) {
      gather_in_slices<Totals>(
          origin, [request](Shard& shard) { return scan_totals(request->query, shard); },
          [end_with](std::vector<Totals> parts) { end_with(sum_of(std::move(parts))); });
      return;
    }
    gather_in_slices<Rows>(
        origin, [request](Shard& shard) { return scan_rows(request, shard); },
        [end_with](std::vector<Rows> parts) { end_with(std::move(parts)); });
  };
  lane.enter(std::move(call.wanted), begin, drop);
}

void select_twins(Shard& origin, query::Query condition, std::function<void(KeysByShard)> done) {
  if (condition.source() == query::Source::jobs || condition.aggregates()) {
    done(KeysByShard(origin.shared().shards.size()));
    return;
  }
  using Keys = std::vector<std::string>;
  gather_in_slices<Keys>(
      origin,
      [condition = std::move(condition)](Shard& shard) -> ScanSlice<Keys> {
        return [&shard, condition, scan = TwinScan{condition, {}}](Slice& slice, Keys& keys) mutable {
          return scan.run(shard.store(), slice, [&](const twin::TwinDocument& twin) {
            if (condition.matches(twin)) keys.push_back(TwinScan::key_of(twin));
            return true;
          });
        };
      },
      std::move(done));
}

void count_rows(Shard& origin, query::Query query, std::function<void(uint64_t)> done) {
  if (query.aggregates()) {
    gather_in_slices<Totals>(
        origin, [query](Shard& shard) { return scan_totals(query, shard); },
        [done = std::move(done)](std::vector<Totals> parts) { done(sum_of(std::move(parts)).rows().size()); });
    return;
  }
  const uint64_t most = query.top().value_or(UINT32_MAX);
  const auto scan_of = [query](Shard& shard) -> ScanSlice<uint64_t> {
    if (query.source() == query::Source::jobs) {
      return [&shard, query, scan = std::optional<jobs::DeviceJobScan>{}, cursor = query::Cursor{}](
                 Slice& slice, uint64_t& rows) mutable {
        // Page after page, as a client would count them.
        while (slice.step(kRowWeight)) {
          if (!scan) scan.emplace(query, cursor, size_t{1000});
          if (!scan->step(shard.store().device_jobs, kJobRowsPerStep)) continue;
          const Rows page = scan->take_rows();
          scan.reset();
          rows += page.size();
          cursor.delivered += static_cast<uint32_t>(page.size());
          if (page.empty() || (query.top() && cursor.delivered >= *query.top())) return true;
          cursor.started = true;
          cursor.first = page.back().first;
          cursor.second = page.back().second;
        }
        return false;
      };
    }
    return [&shard, query, scan = TwinScan{query, {}}](Slice& slice, uint64_t& rows) mutable {
      return scan.run(shard.store(), slice, [&](const twin::TwinDocument& twin) {
        rows += query.matches(twin) ? 1 : 0;
        return true;
      });
    };
  };
  gather_in_slices<uint64_t>(origin, scan_of, [most, done = std::move(done)](std::vector<uint64_t> parts) {
    uint64_t rows = 0;
    for (const uint64_t part : parts) rows += part;
    done(std::min(rows, most));
  });
}

}  // namespace twinstorm::hub
