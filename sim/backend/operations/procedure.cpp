#include "sim/backend/operations/procedure.hpp"

#include "sim/backend/operations/identities.hpp"
#include "sim/backend/operations/job.hpp"
#include "sim/backend/operations/method.hpp"
#include "sim/backend/operations/query.hpp"
#include "sim/backend/operations/twin_read.hpp"
#include "sim/backend/operations/twin_write.hpp"

namespace twinstorm::backend {

using metrics::ErrorClass;
using metrics::OpKind;

ErrorClass error_of(int status) {
  switch (status) {
    case 401:
    case 403:
      return ErrorClass::unauthorized;
    case 404:
      return ErrorClass::not_found;
    case 412:
      return ErrorClass::precondition_failed;
    case 413:
      return ErrorClass::too_large;
    case 429:
      return ErrorClass::throttled;
    default:
      return status >= 500 ? ErrorClass::server_error : ErrorClass::bad_request;
  }
}

std::unique_ptr<Procedure> make_procedure(const BackendBehavior& behavior, ProcedureContext& context,
                                          CreatedDevices* created, StalenessProbe* probe) {
  switch (behavior.op) {
    case OpKind::query:
      return std::make_unique<QueryProcedure>(behavior, context);
    case OpKind::backend_get_twin:
      return std::make_unique<TwinRead>(context);
    case OpKind::method:
      return std::make_unique<MethodCall>(behavior, context);
    case OpKind::create_device:
      return std::make_unique<CreateDevice>(behavior, context, *created);
    case OpKind::delete_device:
      return std::make_unique<DeleteDevice>(behavior, context, *created);
    case OpKind::bulk:
      return std::make_unique<BulkRequest>(behavior, context, *created);
    case OpKind::job:
      return std::make_unique<JobRun>(behavior, context);
    default:
      return std::make_unique<TwinWrite>(behavior, context, probe);
  }
}

}  // namespace twinstorm::backend
