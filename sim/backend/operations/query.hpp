// A query: its first page, or page after page until there is no more.
#pragma once

#include "sim/backend/json_rows.hpp"
#include "sim/backend/operations/procedure.hpp"
#include "sim/protocol/service_routes.hpp"
#include "sim/twin/value.hpp"

namespace twinstorm::backend {

class QueryProcedure final : public Procedure {
 public:
  QueryProcedure(const BackendBehavior& behavior, ProcedureContext& context) : behavior_{behavior}, context_{context} {}

  void compose(Operation&, Request& request) override {
    request.method = "POST";
    request.target = protocol::service_target::query();
    request.body = "{\"query\":";
    twin::write_string(behavior_.query, request.body);
    request.body += '}';
    request.max_item_count = std::to_string(behavior_.page_size);
    request.continuation.swap(continuation_);  // of the page just answered
    continuation_.clear();
  }
  Next answered(Operation& operation, const HttpAnswer& answer) override {
    if (answer.status != 200) return Next::failed(error_of(answer.status));
    const auto rows = static_cast<uint32_t>(count_rows(answer.body));
    operation.rows += rows;
    ++operation.pages;
    context_.recorder.page(behavior_.stream, operation.phase, rows);
    const auto continuation = answer.header("x-ms-continuation");
    if (behavior_.all_pages && continuation && !continuation->empty()) {
      continuation_ = *continuation;
      return Next::again(Nanos{0}, true);
    }
    context_.recorder.query_ended(behavior_.stream, operation.phase, operation.pages, operation.rows);
    return Next::done();
  }
  Counted counted(const Operation&) const override { return {HubCount::queries}; }

 private:
  const BackendBehavior& behavior_;
  ProcedureContext& context_;
  std::string continuation_;  // between an answer and the request that follows at once
};

}  // namespace twinstorm::backend
