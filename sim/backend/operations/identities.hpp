// Device identities that come and go: one by one, or up to a hundred in one request (service.md 4).
//
// The devices of an operation are kept as numbers in its text block: taken from the list of created devices when they
// are to be deleted, newly numbered when they are to be created. At the end each goes back to that list, or not.
#pragma once

#include <vector>

#include "sim/backend/operations/procedure.hpp"

namespace twinstorm::backend {

/// What the three have in common: whose devices they make or take, and where their numbers are kept.
class IdentityProcedure : public Procedure {
 public:
  /// `behavior.append_new_device_id` is that of the back end that creates the devices.
  IdentityProcedure(const BackendBehavior& behavior, ProcedureContext& context, CreatedDevices& created)
      : behavior_{behavior}, context_{context}, created_{created} {}

  bool changes(const Operation&) const override { return true; }
  Counted counted(const Operation&) const override { return {HubCount::registry_writes}; }

 protected:
  const BackendBehavior& behavior_;
  ProcedureContext& context_;
  CreatedDevices& created_;
  std::string id_;
};

class CreateDevice final : public IdentityProcedure {
 public:
  using IdentityProcedure::IdentityProcedure;
  std::optional<metrics::ErrorClass> begin(Operation& operation) override;
  void compose(Operation& operation, Request& request) override;
  Next answered(Operation& operation, const HttpAnswer& answer) override;
  void ended(Operation& operation, metrics::OpOutcome outcome, bool unknown) override;
};

class DeleteDevice final : public IdentityProcedure {
 public:
  using IdentityProcedure::IdentityProcedure;
  std::optional<metrics::ErrorClass> begin(Operation& operation) override;
  void compose(Operation& operation, Request& request) override;
  Next answered(Operation& operation, const HttpAnswer& answer) override;
  void ended(Operation& operation, metrics::OpOutcome outcome, bool unknown) override;
};

class BulkRequest final : public IdentityProcedure {
 public:
  using IdentityProcedure::IdentityProcedure;
  std::optional<metrics::ErrorClass> begin(Operation& operation) override;
  void compose(Operation& operation, Request& request) override;
  Next answered(Operation& operation, const HttpAnswer& answer) override;
  void ended(Operation& operation, metrics::OpOutcome outcome, bool unknown) override;
  Counted counted(const Operation& operation) const override;

 private:
  void append_entry(const Operation& operation, uint64_t number, std::string& body);
  Next partly(Operation& operation, std::string_view body);
};

/// The authentication member of a device that a run creates.
std::string sas_authentication(std::string_view key);

}  // namespace twinstorm::backend
