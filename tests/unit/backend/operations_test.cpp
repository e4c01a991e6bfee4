// What each kind of operation asks of the hub and makes of its answers.
#include <functional>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "sim/backend/backend_pool.hpp"
#include "sim/backend/json_rows.hpp"
#include "sim/protocol/encoding.hpp"
#include "tests/support/ledger.hpp"
#include "tests/support/loopback_server.hpp"

namespace twinstorm::backend {
namespace {

using metrics::ErrorClass;
using metrics::OpKind;
using metrics::StalenessOutcome;
using twinstorm::testing::errors_of;
using twinstorm::testing::expect_ledger_adds_up;
using twinstorm::testing::Ledger;
using twinstorm::testing::ledger_of;
using twinstorm::testing::LoopbackServer;
using namespace std::chrono_literals;

using Lines = std::vector<std::string>;
using Request = LoopbackServer::Request;

std::string answer(int status, const std::string& body = "{}") { return LoopbackServer::response(status, body); }

std::string twin(int64_t version, const std::string& etag) {
  return answer(200, R"({"deviceId":"d","etag":")" + etag + R"(","version":)" + std::to_string(version) +
                         R"(,"properties":{"desired":{"$version":)" + std::to_string(version) + "}}}");
}

/// Two back ends of one pool, the second for operations that need a first.
class OperationsTest : public ::testing::Test, protected BackendObserver {
 protected:
  OperationsTest() {
    server.watched = {"If-Match", "Content-Type", "x-ms-continuation"};
    for (size_t i = 0; i < 2; ++i) {
      behaviors[i].name = i == 0 ? "first" : "second";
      behaviors[i].stream = static_cast<metrics::StreamIndex>(i);
      behaviors[i].connections = 2;
      behaviors[i].append_new_device_id = [](std::string& out, uint64_t number) {
        out += "new-" + std::to_string(number);
      };
    }
  }
  ~OperationsTest() override {
    if (pool_) expect_ledger_adds_up(recorder, pool_->in_flight());
  }

  BackendPool& pool() {
    if (!pool_) {
      BackendPool::Config config;
      config.backends = {&behaviors[0], &behaviors[1]};
      config.endpoint = server.endpoint();
      config.operations_max = 8;
      config.devices = 4;
      config.shard = 1;
      config.shards = 3;
      config.seed = 9;
      config.run_tag = "r1";
      config.append_device_id = [](uint32_t device, std::string& out) { out += "dev-" + std::to_string(device); };
      config.device_key = [](std::string_view id) { return "key-of-" + std::string{id}; };
      auto access = ServiceAccess::from_connection_string("HostName=h;SharedAccessKeyName=service;SharedAccessKey=" +
                                                          protocol::base64_encode("0123456789abcdef"));
      pool_ = std::make_unique<BackendPool>(config, *access, io, wheel, 0, clock, recorder,
                                            static_cast<BackendObserver&>(*this));
    }
    return *pool_;
  }
  void start(uint64_t n = 1, uint32_t backend = 0, uint32_t device = 0) {
    recorder.asked(backend, 0);
    pool().start(backend, 0, clock.mono(), n, device, 5);
  }
  /// Starts one operation and lets time pass until it has ended.
  void once(uint64_t n = 1, uint32_t backend = 0, uint32_t device = 0) {
    start(n, backend, device);
    settle([&] { return pool().open() == 0; });
  }
  void settle(const std::function<bool()>& done) {
    for (int i = 0; i < 4000 && !done(); ++i) {
      io.context.run_one_for(1ms);
      if (i % 4 == 3) pass(10ms);  // for those that wait
    }
    EXPECT_TRUE(done());
  }
  void pass(Nanos time) {
    clock.advance(time);
    wheel.advance(clock.mono(), [&](TimerWheel::TimerId id) { pool().on_timer(id); });
  }
  Ledger ledger(uint32_t stream = 0) const { return ledger_of(recorder, stream); }
  uint64_t errors(ErrorClass error, uint32_t stream = 0) const { return errors_of(recorder, stream, error); }
  const metrics::ShardRecorder::Cell& cell() const { return recorder.cell(0, 0); }
  Lines asked() const {
    Lines lines;
    for (const auto& request : server.requests) {
      lines.push_back(request.method + ' ' + request.target.substr(0, request.target.find('?')));
    }
    return lines;
  }
  static nlohmann::json body_of(const Request& request) { return nlohmann::json::parse(request.body); }
  uint64_t answered(HubCount count) { return pool().books().of(count).answered; }
  uint64_t unknown(HubCount count) { return pool().books().of(count).unknown; }

  void on_patch_sent(FollowId, MonoTime) override { heard.emplace_back("sent"); }
  void on_patch_accepted(FollowId, uint32_t, int64_t version, std::string_view desired, bool, MonoTime) override {
    heard.push_back("accepted v" + std::to_string(version) + ' ' + std::string{desired});
  }
  void on_patch_failed(FollowId, uint32_t, std::string_view desired, bool is_unknown) override {
    heard.push_back((is_unknown ? "unknown " : "failed ") + std::string{desired});
  }

  ManualClock clock;
  net::ShardIo io;
  TimerWheel wheel{64, clock.mono()};
  LoopbackServer server{io.context};
  BackendBehavior behaviors[2];
  BackendBehavior& behavior = behaviors[0];
  metrics::ShardRecorder recorder{
      {{{"first", OpKind::patch_desired, "first", "http"}, {"second", OpKind::delete_device, "second", "http"}},
       {{"steady", true}}}};
  Lines heard;

 private:
  std::unique_ptr<BackendPool> pool_;
};

// --- reading before writing
// ----------------------------------------------------------------------------------------

class ReadModifyWrite : public OperationsTest {
 protected:
  ReadModifyWrite() {
    behavior.if_match = IfMatch::read_modify_write;
    behavior.retries = {2, 10ms, 1s, false};
    behavior.desired = [](Rng& rng, uint64_t, std::string& out) {
      out += R"({"a":)" + std::to_string(rng.below(1000)) + "}";
    };
  }
};

TEST_F(ReadModifyWrite, WritesWithTheETagItJustReadAndIsOneOperation) {
  server.reply = [](const Request& r) { return r.method == "GET" ? twin(3, "E3") : twin(4, "E4"); };
  once();
  EXPECT_EQ(asked(), (Lines{"GET /twins/dev-0", "PATCH /twins/dev-0"}));
  EXPECT_EQ(server.requests[1].headers.at("If-Match"), "\"E3\"");
  EXPECT_EQ(ledger(), (Ledger{1, 1, 1, 0, 0, 0}));
  EXPECT_EQ(answered(HubCount::twin_reads), 1u);
  EXPECT_EQ(answered(HubCount::desired_patches), 1u);
  ASSERT_EQ(heard.size(), 2u);
  EXPECT_EQ(heard[0], "sent");
}

TEST_F(ReadModifyWrite, TriesAgainAfterAConflictWithTheSameValues) {
  int patches = 0;
  server.reply = [&](const Request& r) {
    if (r.method == "GET") return twin(3, "E" + std::to_string(patches));
    return ++patches < 3 ? answer(412) : twin(9, "E9");
  };
  once();
  EXPECT_EQ(asked(), (Lines{"GET /twins/dev-0", "PATCH /twins/dev-0", "GET /twins/dev-0", "PATCH /twins/dev-0",
                            "GET /twins/dev-0", "PATCH /twins/dev-0"}));
  EXPECT_EQ(server.requests[1].body, server.requests[5].body);
  EXPECT_EQ(server.requests[5].headers.at("If-Match"), "\"E2\"");
  EXPECT_EQ(ledger(), (Ledger{1, 1, 1, 0, 0, 0}));
  EXPECT_EQ(cell().conflicts.get(), 2u);
  EXPECT_EQ(cell().retries.get(), 2u);
  EXPECT_EQ(answered(HubCount::desired_patches), 1u);
}

TEST_F(ReadModifyWrite, GivesUpWhenTheRetriesAreUsedUp) {
  server.reply = [&](const Request& r) { return r.method == "GET" ? twin(3, "E") : answer(412); };
  once();
  EXPECT_EQ(ledger(), (Ledger{1, 1, 0, 1, 0, 0}));
  EXPECT_EQ(errors(ErrorClass::precondition_failed), 1u);
  EXPECT_EQ(cell().conflicts.get(), 3u);
  EXPECT_EQ(cell().retries.get(), 2u);
  EXPECT_TRUE(heard.back().starts_with("failed {\"a\":")) << heard.back();
}

TEST_F(ReadModifyWrite, TheTimeoutCoversTheWholeOperation) {
  behavior.retries = {1000, 100ms, 100ms, false};
  behavior.timeout = 1s;
  server.reply = [&](const Request& r) { return r.method == "GET" ? twin(3, "E") : answer(412); };
  once();
  EXPECT_EQ(ledger(), (Ledger{1, 1, 0, 0, 1, 0}));
  EXPECT_LE(cell().conflicts.get(), 11u);
}

TEST_F(ReadModifyWrite, ALostReadChangedNothingForSure) {
  start();
  settle([&] { return server.requests.size() == 1; });
  server.close(0);
  settle([&] { return pool().open() == 0; });
  EXPECT_TRUE(heard.back().starts_with("failed")) << heard.back();
  EXPECT_EQ(unknown(HubCount::twin_reads), 1u);
  EXPECT_EQ(unknown(HubCount::desired_patches), 0u);
}

TEST_F(OperationsTest, AConflictWithTheLastSeenETagIsCountedAndFails) {
  behavior.op = OpKind::patch_tags;
  behavior.tags = [](Rng&, uint64_t, std::string& out) { out += "{}"; };
  behavior.if_match = IfMatch::last_seen;
  server.reply = [](const Request&) { return answer(412); };
  once();
  EXPECT_EQ(errors(ErrorClass::precondition_failed), 1u);
  EXPECT_EQ(cell().conflicts.get(), 1u);
  EXPECT_EQ(cell().retries.get(), 0u);
}

// --- queries
// -------------------------------------------------------------------------------------------------------

TEST_F(OperationsTest, PagesAndRowsOfAQueryAreCounted) {
  behavior.op = OpKind::query;
  behavior.query = "SELECT * FROM devices";
  server.reply = [&](const Request&) {
    return server.requests.size() == 1
               ? LoopbackServer::response(200, R"([{"a":[1,2,{"b":"]"}]},{"c":"\"],"}])", {{"x-ms-continuation", "m"}})
               : answer(200, "[{}]");
  };
  once();
  EXPECT_EQ(cell().pages.get(), 2u);
  EXPECT_EQ(cell().rows.get(), 3u);
  EXPECT_EQ(cell().pages_max.get(), 2u);
  EXPECT_EQ(cell().rows_max.get(), 3u);
  EXPECT_EQ(server.requests[1].headers.at("x-ms-continuation"), "m");
}

TEST(JsonRows, AreTheElementsOfTheOuterArrayOnly) {
  EXPECT_EQ(count_rows("[]"), 0u);
  EXPECT_EQ(count_rows(" [ ] "), 0u);
  EXPECT_EQ(count_rows("[1]"), 1u);
  EXPECT_EQ(count_rows(R"([[1,2],{"a":[3,4]},"x,]"])"), 3u);
  EXPECT_EQ(count_rows("{}"), 0u);
  std::vector<std::string> rows;
  EXPECT_FALSE(for_each_row(R"([1,{"a")", [&](std::string_view row) { rows.emplace_back(row); }));
  EXPECT_EQ(rows, std::vector<std::string>{"1"});
}

// --- direct methods
// ------------------------------------------------------------------------------------------------

class Methods : public OperationsTest {
 protected:
  Methods() {
    behavior.op = OpKind::method;
    behavior.method_name = "reboot";
    behavior.response_timeout = 20s;
    behavior.connect_timeout = 5s;
    behavior.timeout = 30s;
  }
};

TEST_F(Methods, SendTheDocumentedRequest) {
  behavior.payload = [](Rng&, uint64_t n, std::string& out) { out += R"({"delay":)" + std::to_string(n) + "}"; };
  server.reply = [](const Request&) { return answer(200, R"({"status":200,"payload":{"status":500}})"); };
  once(7, 0, 3);
  EXPECT_EQ(asked(), Lines{"POST /twins/dev-3/methods"});
  EXPECT_EQ(body_of(server.requests[0]), nlohmann::json::parse(R"({"methodName":"reboot","payload":{"delay":7},
      "responseTimeoutInSeconds":20,"connectTimeoutInSeconds":5})"));
  EXPECT_EQ(ledger(), (Ledger{1, 1, 1, 0, 0, 0}));
  EXPECT_EQ(answered(HubCount::methods_answered), 1u);
}

TEST_F(Methods, WithoutPayloadSendNull) {
  server.reply = [](const Request&) { return answer(200, R"({"status":200,"payload":null})"); };
  once();
  EXPECT_TRUE(body_of(server.requests[0]).at("payload").is_null());
}

TEST_F(Methods, EndAsTheDeviceOrTheHubSays) {
  const auto nested = [](const std::string& code) {
    return R"({"Message":"{\"errorCode\":)" + code + R"(,\"trackingId\":\"x\"}","ExceptionMessage":""})";
  };
  const struct {
    int status;
    std::string body;
    ErrorClass error;
  } cases[] = {{200, R"({"status":400})", ErrorClass::device_error},
               {200, R"({"status":500})", ErrorClass::device_error},
               {200, "{}", ErrorClass::protocol},
               {404, nested("404103"), ErrorClass::device_offline},
               {404, nested("404001"), ErrorClass::not_found},
               {504, nested("504101"), ErrorClass::timeout},
               {502, "{}", ErrorClass::server_error},
               {429, "{}", ErrorClass::throttled}};
  for (const auto& each : cases) {
    server.reply = [&](const Request&) { return answer(each.status, each.body); };
    const auto before = errors(each.error);
    once();
    EXPECT_EQ(errors(each.error), before + 1) << each.status << ' ' << each.body;
  }
  EXPECT_EQ(ledger(), (Ledger{8, 8, 0, 7, 1, 0}));  // a time-out of the device is one of the operation
  EXPECT_EQ(answered(HubCount::methods_answered), 3u);
}

// --- devices that come and go
// --------------------------------------------------------------------------------------

class Identities : public OperationsTest {
 protected:
  Identities() {
    behavior.op = OpKind::create_device;
    behaviors[1].op = OpKind::delete_device;
    behaviors[1].creator = 0;
  }
  std::vector<uint64_t> known() {
    const auto& all = pool().created_devices(0)->known();
    return {all.begin(), all.end()};
  }
};

TEST_F(Identities, AreCreatedUnderNamesOfTheirOwnWithTheRunsKey) {
  server.reply = [](const Request&) { return answer(200); };
  once(40);
  once(40);  // the number of the arrival is not what names them: phases begin again
  EXPECT_EQ(asked(), (Lines{"PUT /devices/new-1", "PUT /devices/new-4"}));  // shard 1 of 3
  const auto body = body_of(server.requests[0]);
  EXPECT_EQ(body.at("deviceId"), "new-1");
  EXPECT_EQ(body.at("authentication").at("symmetricKey").at("primaryKey"), "key-of-new-1");
  EXPECT_FALSE(server.requests[0].headers.contains("If-Match"));
  EXPECT_EQ(known(), (std::vector<uint64_t>{1, 4}));
  EXPECT_EQ(answered(HubCount::registry_writes), 2u);
}

TEST_F(Identities, OfSomebodyElseAreNotRememberedForRemoval) {
  server.reply = [](const Request&) { return answer(409); };
  once();
  EXPECT_EQ(errors(ErrorClass::bad_request), 1u);
  EXPECT_TRUE(known().empty());
  EXPECT_TRUE(pool().created_devices(0)->uncertain().empty());
}

TEST_F(Identities, WhoseCreationHadNoAnswerAreUncertain) {
  start();
  settle([&] { return server.requests.size() == 1; });
  server.close(0);
  settle([&] { return pool().open() == 0; });
  EXPECT_TRUE(known().empty());
  EXPECT_EQ(pool().created_devices(0)->uncertain(), std::vector<uint64_t>{1});
  EXPECT_EQ(unknown(HubCount::registry_writes), 1u);
}

TEST_F(Identities, AreDeletedOldestFirstAndAnArrivalWithoutOneIsDropped) {
  server.reply = [](const Request& r) { return answer(r.method == "DELETE" ? 204 : 200, ""); };
  once();
  once();
  once(1, 1);
  EXPECT_EQ(asked().back(), "DELETE /devices/new-1");
  EXPECT_EQ(server.requests.back().headers.at("If-Match"), "\"*\"");
  EXPECT_EQ(known(), std::vector<uint64_t>{4});
  once(1, 1);
  once(1, 1);
  EXPECT_EQ(ledger(1), (Ledger{3, 2, 2, 0, 0, 1}));
  EXPECT_EQ(errors(ErrorClass::not_found, 1), 1u);
}

TEST_F(Identities, WhoseDeletionIsRefusedStay) {
  server.reply = [](const Request& r) { return answer(r.method == "DELETE" ? 429 : 200); };
  once();
  once(1, 1);
  EXPECT_EQ(known(), std::vector<uint64_t>{1});
  server.reply = [](const Request&) { return answer(404); };
  once(1, 1);
  EXPECT_TRUE(known().empty());  // gone, whoever did it
}

TEST_F(Identities, OfWhatIsOpenAtTheEndAreUncertainOrStay) {
  server.reply = [](const Request& r) { return r.method == "PUT" ? answer(200) : std::string{}; };
  once();
  start(1, 1);
  settle([&] { return server.requests.size() == 2; });
  pool().close();
  EXPECT_EQ(pool().created_devices(0)->uncertain(), std::vector<uint64_t>{1});
  recorder.failed(1, 0, ErrorClass::aborted, 0s);
}

class Bulk : public Identities {
 protected:
  Bulk() {
    behavior.op = OpKind::bulk;
    behavior.creates = true;
    behavior.size = 3;
    behaviors[1].op = OpKind::bulk;
    behaviors[1].size = 2;
  }
};

TEST_F(Bulk, CreatesAndDeletesInOneRequestEach) {
  behavior.tags = [](Rng&, uint64_t n, std::string& out) { out += R"({"n":)" + std::to_string(n) + "}"; };
  server.reply = [](const Request&) { return answer(200, R"({"isSuccessful":true,"errors":[],"warnings":[]})"); };
  once();
  const auto body = body_of(server.requests[0]);
  ASSERT_EQ(body.size(), 3u);
  EXPECT_EQ(body[1].at("id"), "new-4");
  EXPECT_EQ(body[1].at("importMode"), "create");
  EXPECT_EQ(body[1].at("tags").at("n"), 4);
  EXPECT_EQ(known(), (std::vector<uint64_t>{1, 4, 7}));
  once(1, 1);
  EXPECT_EQ(body_of(server.requests[1]),
            nlohmann::json::parse(R"([{"id":"new-1","importMode":"delete"},{"id":"new-4","importMode":"delete"}])"));
  once(1, 1);  // what is left
  EXPECT_EQ(body_of(server.requests[2]).size(), 1u);
  EXPECT_TRUE(known().empty());
  EXPECT_EQ(answered(HubCount::registry_writes), 6u);
}

TEST_F(Bulk, ThatIsRefusedInPartKeepsTheBooksByEntry) {
  server.reply = [](const Request&) {
    return answer(400, R"({"isSuccessful":false,"errors":[{"deviceId":"new-4","errorCode":"DeviceAlreadyExists"}]})");
  };
  once();
  EXPECT_EQ(errors(ErrorClass::bad_request), 1u);
  EXPECT_EQ(known(), (std::vector<uint64_t>{1, 7}));  // the other is somebody else's
  EXPECT_EQ(answered(HubCount::registry_writes), 2u);
}

// --- jobs
// ----------------------------------------------------------------------------------------------------------

class Jobs : public OperationsTest {
 protected:
  Jobs() {
    behavior.op = OpKind::job;
    behavior.name = "Fw_Update";
    behavior.condition = "tags.plant = 'A'";
    behavior.poll = 20ms;
    behavior.timeout = 60s;
    behavior.max_execution_time = 10min;
    behavior.tags = [](Rng&, uint64_t, std::string& out) { out += R"({"ring":2})"; };
  }
};

TEST_F(Jobs, LastUntilTheirEndIsSeen) {
  const char* states[] = {"queued", "running", "running", "completed"};
  server.reply = [&](const Request&) {
    return answer(200, std::string{R"({"jobId":"x","status":")"} + states[server.requests.size() - 1] + "\"}");
  };
  once();
  ASSERT_EQ(asked(), (Lines{"PUT /jobs/v2/fw-update-r1-1", "GET /jobs/v2/fw-update-r1-1", "GET /jobs/v2/fw-update-r1-1",
                            "GET /jobs/v2/fw-update-r1-1"}));
  EXPECT_EQ(body_of(server.requests[0]), nlohmann::json::parse(R"({"jobId":"fw-update-r1-1",
      "type":"scheduleUpdateTwin","updateTwin":{"etag":"*","tags":{"ring":2}},"maxExecutionTimeInSeconds":600,
      "queryCondition":"tags.plant = 'A'"})"));
  EXPECT_EQ(ledger(), (Ledger{1, 1, 1, 0, 0, 0}));
  EXPECT_GE(cell().intended.snapshot().max(), 60ms);
  EXPECT_EQ(answered(HubCount::jobs_created), 1u);
}

TEST_F(Jobs, OfMethodsSayWhatToCall) {
  behavior.tags = {};
  behavior.method_name = "reboot";
  server.reply = [](const Request& r) { return answer(200, r.method == "PUT" ? "{}" : R"({"status":"completed"})"); };
  once();
  once();
  const auto body = body_of(server.requests[0]);
  EXPECT_EQ(body.at("type"), "scheduleDeviceMethod");
  EXPECT_EQ(body.at("cloudToDeviceMethod").at("methodName"), "reboot");
  EXPECT_EQ(body_of(server.requests[2]).at("jobId"), "fw-update-r1-4");  // never an id twice
}

TEST_F(Jobs, EndAsTheHubSays) {
  const std::pair<const char*, ErrorClass> cases[] = {{R"({"status":"failed"})", ErrorClass::job_failed},
                                                      {R"({"status":"cancelled"})", ErrorClass::job_failed},
                                                      {R"({"status":"unknown"})", ErrorClass::not_found},
                                                      {"[]", ErrorClass::protocol}};
  for (const auto& [text, error] : cases) {
    server.reply = [&, body = std::string{text}](const Request& r) {
      return answer(200, r.method == "PUT" ? "{}" : body);
    };
    const auto before = errors(error);
    once();
    EXPECT_EQ(errors(error), before + 1) << text;
  }
}

TEST_F(Jobs, ThatTheHubHasNoRoomForAreThrottled) {
  server.reply = [](const Request&) { return answer(429); };
  once();
  EXPECT_EQ(errors(ErrorClass::throttled), 1u);
  EXPECT_EQ(server.requests.size(), 1u);
}

TEST_F(Jobs, GoOnWhateverBecomesOfAQuestion) {
  server.reply = [&](const Request& r) {
    if (r.method == "PUT") return answer(200);
    if (server.requests.size() == 2) return answer(429);
    if (server.requests.size() == 3) {
      server.close(r.connection);
      return std::string{};
    }
    return answer(200, R"({"status":"completed"})");
  };
  once();
  EXPECT_EQ(ledger(), (Ledger{1, 1, 1, 0, 0, 0}));
  EXPECT_EQ(cell().retries.get(), 2u);
}

TEST_F(Jobs, ThatTakeTooLongTimeOut) {
  behavior.timeout = 200ms;
  server.reply = [](const Request&) { return answer(200, R"({"status":"running"})"); };
  once();
  EXPECT_EQ(ledger(), (Ledger{1, 1, 0, 0, 1, 0}));
}

// --- a 429 that ends the connection
// --------------------------------------------------------------------------------

TEST_F(OperationsTest, AThrottledConnectionIsReplacedAndTheLoadGoesOn) {
  behavior.op = OpKind::backend_get_twin;
  behavior.connections = 1;
  server.reply = [&](const Request& r) {
    if (server.requests.size() % 2 == 0) return twin(1, "E");
    return LoopbackServer::response(429, "{}", {{"Connection", r.connection < 100 ? "close" : ""}});
  };
  for (uint64_t n = 0; n < 6; ++n) once(n);
  EXPECT_EQ(ledger(), (Ledger{6, 6, 3, 3, 0, 0}));
  EXPECT_EQ(errors(ErrorClass::throttled), 3u);
  EXPECT_EQ(answered(HubCount::twin_reads), 3u);
  EXPECT_EQ(server.connections(), 4u);
}

// --- staleness
// -----------------------------------------------------------------------------------------------------

class StalenessTest : public OperationsTest {
 protected:
  StalenessTest() {
    behavior.op = OpKind::patch_tags;
    behavior.tags = [](Rng&, uint64_t, std::string& out) { out += "{}"; };
    behavior.staleness = {1, 50ms, 2s};
  }
  uint64_t ended(StalenessOutcome outcome) const {
    return recorder.phase(0).staleness_ended[static_cast<size_t>(outcome)].get();
  }
};

TEST_F(StalenessTest, IsTheTimeUntilAQueryShowsTheVersionOrALaterOne) {
  size_t queries = 0;
  server.reply = [&](const Request& r) {
    if (r.method == "PATCH") return twin(7, "E");
    return answer(200, R"([{"deviceId":"dev-2","version":)" + std::to_string(++queries < 3 ? 6 : 8) + "}]");
  };
  once(1, 0, 2);
  settle([&] { return pool().probes_open() == 0; });
  EXPECT_EQ(queries, 3u);
  EXPECT_EQ(body_of(server.requests.back()).at("query"),
            "SELECT deviceId, version FROM devices WHERE deviceId IN ['dev-2']");
  EXPECT_EQ(recorder.phase(0).staleness_started.get(), 1u);
  EXPECT_EQ(ended(StalenessOutcome::visible), 1u);
  EXPECT_GE(recorder.phase(0).staleness.snapshot().max(), 150ms);
  EXPECT_EQ(answered(HubCount::queries), 3u);
  EXPECT_EQ(ledger(), (Ledger{1, 1, 1, 0, 0, 0}));  // the queries are in nobody's books
}

TEST_F(StalenessTest, ManyWritesAreLookedForAtOnce) {
  server.reply = [](const Request& r) {
    return r.method == "PATCH"
               ? twin(7, "E")
               : answer(200, R"([{"deviceId":"dev-3","version":7},{"deviceId":"dev-0","version":7},{"deviceId":"x"}])");
  };
  start(1, 0, 0);
  start(2, 0, 3);
  start(3, 0, 0);
  settle([&] { return pool().open() == 0 && pool().probes_open() == 0; });
  EXPECT_EQ(ended(StalenessOutcome::visible), 3u);
  const auto text = body_of(server.requests.back()).at("query").get<std::string>();
  EXPECT_TRUE(text.ends_with("['dev-0', 'dev-3']") || text.ends_with("['dev-3', 'dev-0']")) << text;
}

TEST_F(StalenessTest, AWriteThatNoQueryShowsIsNotVisibleAndOneNobodyCouldLookForIsUnknown) {
  server.reply = [](const Request& r) { return r.method == "PATCH" ? twin(7, "E") : answer(200, "[]"); };
  once();
  settle([&] { return pool().probes_open() == 0; });
  EXPECT_EQ(ended(StalenessOutcome::not_visible), 1u);
  server.reply = [](const Request& r) { return r.method == "PATCH" ? twin(7, "E") : answer(429); };
  once();
  settle([&] { return pool().probes_open() == 0; });
  EXPECT_EQ(ended(StalenessOutcome::unknown), 1u);
}

TEST_F(StalenessTest, OnlyTheAskedShareIsFollowedAndWhatIsOpenAtTheEndIsUnknown) {
  behavior.staleness.share = 0.25;
  server.reply = [](const Request& r) { return r.method == "PATCH" ? twin(7, "E") : answer(200, "[]"); };
  for (uint64_t n = 0; n < 100; ++n) {
    start(n);
    for (int i = 0; i < 400 && pool().open() > 0; ++i) io.context.run_one_for(1ms);
  }
  const auto started = recorder.phase(0).staleness_started.get();
  EXPECT_GT(started, 10u);
  EXPECT_LT(started, 40u);
  EXPECT_EQ(pool().probes_open(), started);
  pool().close();
  EXPECT_EQ(ended(StalenessOutcome::unknown), started);
}

}  // namespace
}  // namespace twinstorm::backend
