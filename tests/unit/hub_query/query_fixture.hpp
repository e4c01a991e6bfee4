// The twins, modules and jobs of tests/vectors/query-cases.json, spread over a few shards as a hub would hold them.
#pragma once

#include <fstream>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "sim/hub/query/page.hpp"

namespace twinstorm::hub::query {

using Json = nlohmann::json;

struct Answer {
  std::vector<Json> rows;
  std::vector<size_t> page_rows;
};

class QueryFixture {
 public:
  static constexpr size_t kShards = 3;

  QueryFixture() {
    std::ifstream file{TWINSTORM_SOURCE_DIR "/tests/vectors/query-cases.json"};
    document_ = Json::parse(file);
    for (const Json& twin : document_["twins"]) add(devices_, twin);
    for (const Json& twin : document_["modules"]) add(modules_, twin);
    for (const Json& job : document_["deviceJobs"]) {
      jobs_[jobs_added_++ % kShards].push_back(twin::parse_value(job.dump()).value());
    }
  }

  const Json& document() const { return document_; }
  const std::vector<twin::TwinDocument>& devices(size_t shard) const { return devices_[shard]; }

  /// Reads every page, each through a token as a client would.
  Answer run(const Query& query, size_t page_size = 100) const {
    Answer answer;
    Cursor cursor;
    for (;;) {
      const Page page = one_page(query, cursor, page_size);
      const Json rows = Json::parse(page.body);
      answer.page_rows.push_back(rows.size());
      answer.rows.insert(answer.rows.end(), rows.begin(), rows.end());
      if (!page.next) return answer;
      cursor = decode_cursor(encode_cursor(*page.next, query), query).value();
    }
  }

  Page one_page(const Query& query, const Cursor& cursor, size_t page_size) const {
    if (query.aggregates()) {
      Aggregation total{query};
      for (size_t shard = 0; shard < kShards; ++shard) {
        Aggregation part{query};
        for (const twin::TwinDocument& twin : devices_[shard]) part.add(twin);
        total.merge(std::move(part));
      }
      return assemble_page(query, cursor, page_size, total);
    }
    std::vector<std::vector<Row>> parts;
    for (size_t shard = 0; shard < kShards; ++shard) {
      PageCollector collector{query, cursor, page_size};
      switch (query.source()) {
        case Source::devices:
          for (const twin::TwinDocument& twin : devices_[shard]) collector.offer(twin);
          break;
        case Source::modules:
          for (const twin::TwinDocument& twin : modules_[shard]) collector.offer(twin);
          break;
        case Source::jobs:
          for (const twin::Value& row : jobs_[shard]) collector.offer(row);
          break;
      }
      parts.push_back(collector.take_rows());
    }
    return assemble_page(query, cursor, page_size, std::move(parts));
  }

 private:
  using Shards = std::vector<std::vector<twin::TwinDocument>>;
  static void add(Shards& shards, const Json& json) {
    twin::TwinDocument twin = twin::TwinDocument::from_json(twin::parse_value(json.dump()).value()).value();
    const size_t shard = std::hash<std::string>{}(twin.device_id) % kShards;
    shards[shard].push_back(std::move(twin));
  }

  Json document_;
  Shards devices_{kShards};
  Shards modules_{kShards};
  std::vector<std::vector<twin::Value>> jobs_{kShards};
  size_t jobs_added_ = 0;
};

}  // namespace twinstorm::hub::query
