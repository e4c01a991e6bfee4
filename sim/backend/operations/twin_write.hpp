// PATCH or PUT of a twin: unconditional, with the ETag last seen, or reading it first.
#pragma once

#include <vector>

#include "sim/backend/operations/procedure.hpp"

namespace twinstorm::backend {

class TwinWrite final : public Procedure {
 public:
  TwinWrite(const BackendBehavior& behavior, ProcedureContext& context, StalenessProbe* probe);

  std::optional<metrics::ErrorClass> begin(Operation& operation) override;
  void compose(Operation& operation, Request& request) override;
  void sent(Operation& operation, MonoTime at) override;
  Next answered(Operation& operation, const HttpAnswer& answer) override;
  void ended(Operation& operation, metrics::OpOutcome outcome, bool unknown) override;
  bool changes(const Operation& operation) const override { return operation.step == kWrite; }
  Counted counted(const Operation& operation) const override;

 private:
  enum Step : uint8_t { kWrite, kRead };

  void append_body(Operation& operation, std::string& body);
  Next read_answered(Operation& operation, const HttpAnswer& answer);
  Next conflict(Operation& operation);
  void follow(const Operation& operation, std::string_view body);

  const BackendBehavior& behavior_;
  ProcedureContext& context_;
  StalenessProbe* probe_;
  std::vector<std::string> etags_;  // by device, only with last_seen
  std::string etag_;                // just read; used by the request that follows at once
  std::string id_, desired_;
};

}  // namespace twinstorm::backend
