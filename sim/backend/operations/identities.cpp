#include "sim/backend/operations/identities.hpp"

#include <algorithm>
#include <cstring>

#include "sim/backend/json_rows.hpp"
#include "sim/protocol/json_scanner.hpp"
#include "sim/protocol/service_routes.hpp"
#include "sim/twin/value.hpp"

namespace twinstorm::backend {

using metrics::ErrorClass;
using metrics::OpOutcome;

namespace {

// The numbers of an operation's devices, 8 bytes each.
size_t count_of(const Operation& operation) { return operation.text ? operation.text->size() / sizeof(uint64_t) : 0; }
uint64_t number_at(const Operation& operation, size_t i) {
  uint64_t number = 0;
  std::memcpy(&number, operation.text->data() + i * sizeof number, sizeof number);
  return number;
}
void add_number(Operation& operation, uint64_t number) {
  operation.text->append(reinterpret_cast<const char*>(&number), sizeof number);
}
void drop_numbers(Operation& operation) { operation.text->clear(); }

bool take_new(Operation& operation, CreatedDevices& created, size_t count) {
  if (!created.room_for(count)) return false;
  for (size_t i = 0; i < count; ++i) add_number(operation, created.next_number());
  return true;
}

template <class Fn>
void for_each_number(const Operation& operation, Fn&& fn) {
  for (size_t i = 0; i < count_of(operation); ++i) fn(number_at(operation, i));
}

}  // namespace

std::string sas_authentication(std::string_view key) {
  std::string out = R"({"type":"sas","symmetricKey":{"primaryKey":")";
  out += key;
  out += R"(","secondaryKey":")";
  out += key;
  return out + "\"}}";
}

// --- one device
// -----------------------------------------------------------------------------------------------------

std::optional<ErrorClass> CreateDevice::begin(Operation& operation) {
  operation.text = context_.blocks.take();
  return take_new(operation, created_, 1) ? std::nullopt : std::optional{ErrorClass::backlog_full};
}

void CreateDevice::compose(Operation& operation, Request& request) {
  id_.clear();
  behavior_.append_new_device_id(id_, number_at(operation, 0));
  request.method = "PUT";
  request.target = protocol::service_target::device(id_);
  request.body = "{\"deviceId\":";
  twin::write_string(id_, request.body);
  request.body += ",\"status\":\"enabled\",\"authentication\":" + sas_authentication(context_.device_key(id_)) + '}';
}

Next CreateDevice::answered(Operation&, const HttpAnswer& answer) {
  return answer.status == 200 ? Next::done() : Next::failed(error_of(answer.status));
}

void CreateDevice::ended(Operation& operation, OpOutcome outcome, bool unknown) {
  for_each_number(operation, [&](uint64_t number) {
    if (outcome == OpOutcome::acknowledged) created_.created(number);
    if (unknown) created_.uncertain(number);
  });
}

std::optional<ErrorClass> DeleteDevice::begin(Operation& operation) {
  const auto number = created_.take_oldest();
  if (!number) return ErrorClass::not_found;
  operation.text = context_.blocks.take();
  add_number(operation, *number);
  return std::nullopt;
}

void DeleteDevice::compose(Operation& operation, Request& request) {
  id_.clear();
  behavior_.append_new_device_id(id_, number_at(operation, 0));
  request.method = "DELETE";
  request.target = protocol::service_target::device(id_);
  request.if_match = "\"*\"";
}

Next DeleteDevice::answered(Operation& operation, const HttpAnswer& answer) {
  if (answer.status == 204 || answer.status == 200) return Next::done();
  if (answer.status == 404) drop_numbers(operation);  // gone, whoever did it
  return Next::failed(error_of(answer.status));
}

void DeleteDevice::ended(Operation& operation, OpOutcome outcome, bool unknown) {
  if (outcome == OpOutcome::acknowledged) return;
  for_each_number(operation,
                  [&](uint64_t number) { unknown ? created_.uncertain(number) : created_.give_back(number); });
}

// --- many at once
// ---------------------------------------------------------------------------------------------------

std::optional<ErrorClass> BulkRequest::begin(Operation& operation) {
  operation.text = context_.blocks.take();
  if (behavior_.creates) {
    return take_new(operation, created_, behavior_.size) ? std::nullopt : std::optional{ErrorClass::backlog_full};
  }
  for (uint32_t i = 0; i < behavior_.size; ++i) {
    const auto number = created_.take_oldest();
    if (!number) break;
    add_number(operation, *number);
  }
  return count_of(operation) > 0 ? std::nullopt : std::optional{ErrorClass::not_found};
}

void BulkRequest::compose(Operation& operation, Request& request) {
  request.method = "POST";
  request.target = protocol::service_target::devices();
  request.body = "[";
  for_each_number(operation, [&](uint64_t number) {
    if (request.body.size() > 1) request.body += ',';
    append_entry(operation, number, request.body);
  });
  request.body += ']';
}

void BulkRequest::append_entry(const Operation& operation, uint64_t number, std::string& body) {
  id_.clear();
  behavior_.append_new_device_id(id_, number);
  body += "{\"id\":";
  twin::write_string(id_, body);
  if (!behavior_.creates) {
    body += ",\"importMode\":\"delete\"}";
    return;
  }
  body += ",\"importMode\":\"create\",\"status\":\"enabled\",\"authentication\":" +
          sas_authentication(context_.device_key(id_));
  if (behavior_.tags) {
    Rng rng{context_.seed, behavior_.name, (uint64_t{operation.phase} << 48) + number};
    body += ",\"tags\":";
    behavior_.tags(rng, number, body);
  }
  body += '}';
}

Next BulkRequest::answered(Operation& operation, const HttpAnswer& answer) {
  if (answer.status == 200) return Next::done();
  if (answer.status == 400) return partly(operation, answer.body);
  return Next::failed(error_of(answer.status));
}

/// A bulk request is carried out entry by entry: those that the answer names failed, the others are done.
Next BulkRequest::partly(Operation& operation, std::string_view body) {
  const auto errors = protocol::find_member(body, "errors");
  if (!errors) return Next::failed(ErrorClass::bad_request);
  std::vector<std::string> failed;
  const bool whole = for_each_row(*errors, [&](std::string_view entry) {
    if (const auto id = protocol::find_plain_string(entry, "deviceId")) failed.emplace_back(*id);
  });
  if (!whole || failed.empty()) return Next::failed(ErrorClass::protocol, true);
  uint64_t done = 0;
  for_each_number(operation, [&](uint64_t number) {
    id_.clear();
    behavior_.append_new_device_id(id_, number);
    if (std::find(failed.begin(), failed.end(), id_) == failed.end()) {
      ++done;
      if (behavior_.creates) created_.created(number);
    } else if (!behavior_.creates) {
      created_.uncertain(number);
    }
  });
  context_.books.answered(HubCount::registry_writes, done);
  drop_numbers(operation);
  return Next::failed(ErrorClass::bad_request);
}

void BulkRequest::ended(Operation& operation, OpOutcome outcome, bool unknown) {
  for_each_number(operation, [&](uint64_t number) {
    if (unknown) {
      created_.uncertain(number);
    } else if (outcome == OpOutcome::acknowledged) {
      if (behavior_.creates) created_.created(number);
    } else if (!behavior_.creates) {
      created_.give_back(number);
    }
  });
}

Procedure::Counted BulkRequest::counted(const Operation& operation) const {
  return {HubCount::registry_writes, count_of(operation)};
}

}  // namespace twinstorm::backend
