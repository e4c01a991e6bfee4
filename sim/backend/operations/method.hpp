// A direct method on one device (service.md 7): HTTP 200 only says that the device answered; its own status decides.
#pragma once

#include "sim/backend/operations/procedure.hpp"

namespace twinstorm::backend {

/// Appends `"methodName":..,"payload":..,"responseTimeoutInSeconds":..,"connectTimeoutInSeconds":..`.
void append_method(const BackendBehavior& behavior, Rng& rng, uint64_t n, std::string& out);

class MethodCall final : public Procedure {
 public:
  MethodCall(const BackendBehavior& behavior, ProcedureContext& context) : behavior_{behavior}, context_{context} {}

  void compose(Operation& operation, Request& request) override;
  Next answered(Operation& operation, const HttpAnswer& answer) override;
  Counted counted(const Operation&) const override { return {HubCount::methods_answered}; }

 private:
  const BackendBehavior& behavior_;
  ProcedureContext& context_;
  std::string id_;
};

}  // namespace twinstorm::backend
