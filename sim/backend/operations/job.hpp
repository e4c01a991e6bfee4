// A scheduled job (service.md 8): PUT it, then look at its status until it has ended.
#pragma once

#include "sim/backend/operations/procedure.hpp"

namespace twinstorm::backend {

class JobRun final : public Procedure {
 public:
  JobRun(const BackendBehavior& behavior, ProcedureContext& context);

  std::optional<metrics::ErrorClass> begin(Operation& operation) override;
  void compose(Operation& operation, Request& request) override;
  Next answered(Operation& operation, const HttpAnswer& answer) override;
  std::optional<Next> unanswered(Operation& operation) override;
  bool changes(const Operation& operation) const override { return operation.step == kCreate; }
  Counted counted(const Operation& operation) const override;

 private:
  enum Step : uint8_t { kCreate, kPoll };

  Next look_again(Operation& operation);

  const BackendBehavior& behavior_;
  ProcedureContext& context_;
  std::string prefix_;  // of job ids
  uint64_t next_;       // number of the next job
};

}  // namespace twinstorm::backend
