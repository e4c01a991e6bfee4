// GET of a device's twin.
#pragma once

#include "sim/backend/operations/procedure.hpp"
#include "sim/protocol/service_routes.hpp"

namespace twinstorm::backend {

class TwinRead final : public Procedure {
 public:
  explicit TwinRead(ProcedureContext& context) : context_{context} {}

  void compose(Operation& operation, Request& request) override {
    id_.clear();
    context_.append_device_id(operation.device, id_);
    protocol::service_target::append_twin(request.target, id_);
  }
  Next answered(Operation&, const HttpAnswer& answer) override {
    return answer.status == 200 ? Next::done() : Next::failed(error_of(answer.status));
  }
  Counted counted(const Operation&) const override { return {HubCount::twin_reads}; }

 private:
  ProcedureContext& context_;
  std::string id_;
};

}  // namespace twinstorm::backend
