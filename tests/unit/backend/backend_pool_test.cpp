#include "sim/backend/backend_pool.hpp"

#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "sim/protocol/encoding.hpp"
#include "sim/protocol/sas.hpp"
#include "tests/support/ledger.hpp"
#include "tests/support/loopback_server.hpp"

namespace twinstorm::backend {
namespace {

using metrics::ErrorClass;
using metrics::OpKind;
using twinstorm::testing::errors_of;
using twinstorm::testing::expect_ledger_adds_up;
using twinstorm::testing::Ledger;
using twinstorm::testing::ledger_of;
using twinstorm::testing::LoopbackServer;
using namespace std::chrono_literals;

using Lines = std::vector<std::string>;

const std::string kKey = protocol::base64_encode("0123456789abcdef");

std::string twin(int64_t version, std::string_view etag = "AAAAAAAAAAE=") {
  return R"({"deviceId":"d","etag":")" + std::string{etag} + R"(","properties":{"desired":{"a":1,"$version":)" +
         std::to_string(version) + R"(},"reported":{"$version":1}}})";
}

class BackendPoolTest : public ::testing::Test, protected BackendObserver {
 protected:
  BackendPoolTest() {
    server.watched = {"Authorization", "If-Match", "Content-Type", "x-ms-max-item-count", "x-ms-continuation"};
    behavior.name = "rollout";
    behavior.connections = 2;
    behavior.desired = [](Rng&, uint64_t n, std::string& out) { out += R"({"a":)" + std::to_string(n) + "}"; };
  }
  ~BackendPoolTest() override {
    if (pool_) expect_ledger_adds_up(recorder, pool_->open());
  }

  BackendPool& pool() {
    if (!pool_) {
      BackendPool::Config config;
      config.backends = {&behavior};
      config.endpoint = endpoint.value_or(server.endpoint());
      config.operations_max = operations_max;
      config.devices = 4;
      config.seed = 9;
      config.append_device_id = [](uint32_t device, std::string& out) { out += "dev " + std::to_string(device); };
      config.device_key = [](std::string_view id) { return "key of " + std::string{id}; };
      auto access = ServiceAccess::from_connection_string(
          "HostName=hub.localhost;SharedAccessKeyName=service;SharedAccessKey=" + kKey);
      BackendObserver& observer = *this;
      pool_ = std::make_unique<BackendPool>(config, *access, io, wheel, 0, clock, recorder, observer);
    }
    return *pool_;
  }
  void start(uint64_t n, uint32_t device = 0, FollowId follow = 5) {
    recorder.asked(0, 0);
    pool().start(0, 0, clock.mono(), n, device, follow);
  }
  void until(const std::function<bool()>& done) {
    for (int i = 0; i < 2000 && !done(); ++i) io.context.run_one_for(2ms);
    EXPECT_TRUE(done());
  }
  /// Starts one operation and waits for its end.
  LoopbackServer::Request once(uint64_t n = 1, uint32_t device = 0) {
    start(n, device);
    until([&] { return pool().open() == 0; });
    return server.requests.empty() ? LoopbackServer::Request{} : server.requests.back();
  }
  void pass(Nanos time) {
    clock.advance(time);
    wheel.advance(clock.mono(), [&](TimerWheel::TimerId id) { pool().on_timer(id); });
  }
  Ledger ledger() const { return ledger_of(recorder, 0); }

  void on_patch_sent(FollowId follow, MonoTime) override { heard.push_back("sent " + std::to_string(follow)); }
  void on_patch_accepted(FollowId follow, uint32_t device, int64_t version, std::string_view desired, bool replaced,
                         MonoTime) override {
    heard.push_back((replaced ? "replaced " : "accepted ") + std::to_string(follow) + " device " +
                    std::to_string(device) + " v" + std::to_string(version) + ' ' + std::string{desired});
  }
  void on_patch_failed(FollowId follow, uint32_t, std::string_view desired, bool unknown) override {
    heard.push_back((unknown ? "unknown " : "failed ") + std::to_string(follow) + ' ' + std::string{desired});
  }

  ManualClock clock;
  net::ShardIo io;
  TimerWheel wheel{64, clock.mono()};
  LoopbackServer server{io.context};
  BackendBehavior behavior;
  uint32_t operations_max = 8;
  std::optional<net::Endpoint> endpoint;
  metrics::ShardRecorder recorder{{{{"rollout", OpKind::patch_desired, "rollout", "http"}}, {{"steady", true}}}};
  Lines heard;

 private:
  std::unique_ptr<BackendPool> pool_;
};

TEST_F(BackendPoolTest, PatchDesiredSendsTheDocumentedRequest) {
  server.reply = [](const auto&) { return LoopbackServer::response(200, twin(7)); };
  const auto request = once(3, 1);
  EXPECT_EQ(request.method, "PATCH");
  EXPECT_TRUE(request.target.starts_with("/twins/dev%201?api-version=")) << request.target;
  EXPECT_EQ(request.body, R"({"properties":{"desired":{"a":3}}})");
  EXPECT_EQ(request.headers.at("If-Match"), "\"*\"");
  EXPECT_TRUE(request.headers.at("Content-Type").starts_with("application/json"));
  EXPECT_EQ(heard, (Lines{"sent 5", R"(accepted 5 device 1 v7 {"a":3})"}));
  EXPECT_EQ(ledger(), (Ledger{1, 1, 1, 0, 0, 0}));
}

TEST_F(BackendPoolTest, TheTokenIsThePolicysAndServesAnHour) {
  server.reply = [](const auto&) { return LoopbackServer::response(200, twin(7)); };
  const auto first = once().headers.at("Authorization");
  const auto token = protocol::parse_sas_token(first);
  ASSERT_TRUE(token) << token.error().message;
  EXPECT_EQ(token->skn, "service");
  EXPECT_EQ(token->se, unix_seconds(clock.wall()) + 3600);
  EXPECT_TRUE(protocol::signature_matches(*token, "0123456789abcdef"));
  pass(54min);
  EXPECT_EQ(once().headers.at("Authorization"), first);
  pass(2min);  // within five minutes of its end
  EXPECT_NE(once().headers.at("Authorization"), first);
}

TEST_F(BackendPoolTest, TagsAndDesiredGoInOnePatch) {
  behavior.tags = [](Rng&, uint64_t, std::string& out) { out += R"({"plant":"R43"})"; };
  server.reply = [](const auto&) { return LoopbackServer::response(200, twin(7)); };
  EXPECT_EQ(once().body, R"({"tags":{"plant":"R43"},"properties":{"desired":{"a":1}}})");
}

TEST_F(BackendPoolTest, PatchTagsSendsTagsOnlyAndIsNotFollowed) {
  behavior.op = OpKind::patch_tags;
  behavior.tags = [](Rng&, uint64_t, std::string& out) { out += R"({"plant":"R43"})"; };
  server.reply = [](const auto&) { return LoopbackServer::response(200, twin(7)); };
  EXPECT_EQ(once().body, R"({"tags":{"plant":"R43"}})");
  EXPECT_TRUE(heard.empty());
}

TEST_F(BackendPoolTest, ReplaceIsAPut) {
  behavior.op = OpKind::replace_twin;
  server.reply = [](const auto&) { return LoopbackServer::response(200, twin(8)); };
  const auto request = once(2);
  EXPECT_EQ(request.method, "PUT");
  EXPECT_EQ(request.body, R"({"properties":{"desired":{"a":2}}})");
  EXPECT_EQ(heard.back(), R"(replaced 5 device 0 v8 {"a":2})");
}

TEST_F(BackendPoolTest, ReadingATwinSendsNoBodyAndNoCondition) {
  behavior.op = OpKind::backend_get_twin;
  server.reply = [](const auto&) { return LoopbackServer::response(200, twin(8)); };
  const auto request = once();
  EXPECT_EQ(request.method, "GET");
  EXPECT_EQ(request.body, "");
  EXPECT_FALSE(request.headers.contains("If-Match"));
  EXPECT_EQ(ledger(), (Ledger{1, 1, 1, 0, 0, 0}));
}

TEST_F(BackendPoolTest, RandomValuesDependOnTheArrivalNotOnTheOrder) {
  behavior.desired = [](Rng& rng, uint64_t, std::string& out) {
    out += "{\"r\":" + std::to_string(rng.below(1'000'000)) + "}";
  };
  server.reply = [](const auto&) { return LoopbackServer::response(200, twin(8)); };
  const auto five = once(5).body;
  const auto six = once(6).body;
  EXPECT_NE(five, six);
  EXPECT_EQ(once(5).body, five);
}

TEST_F(BackendPoolTest, LastSeenETagsAreKeptPerDeviceAndForgottenWhenTheyAreStale) {
  behavior.if_match = IfMatch::last_seen;
  int answered = 0;
  server.reply = [&](const auto&) {
    ++answered;
    return answered == 3 ? LoopbackServer::response(412, "{}")
                         : LoopbackServer::response(200, twin(7, "E" + std::to_string(answered)));
  };
  EXPECT_EQ(once(1, 0).headers.at("If-Match"), "\"*\"");   // nothing seen yet
  EXPECT_EQ(once(2, 1).headers.at("If-Match"), "\"*\"");   // nor of the other device
  EXPECT_EQ(once(3, 0).headers.at("If-Match"), "\"E1\"");  // 412: somebody else has changed it
  EXPECT_EQ(errors_of(recorder, 0, ErrorClass::precondition_failed), 1u);
  EXPECT_EQ(once(4, 0).headers.at("If-Match"), "\"*\"");
  EXPECT_EQ(once(5, 0).headers.at("If-Match"), "\"E4\"");
  EXPECT_EQ(once(6, 1).headers.at("If-Match"), "\"E2\"");
  EXPECT_EQ(ledger(), (Ledger{6, 6, 5, 1, 0, 0}));
}

TEST_F(BackendPoolTest, AQueryAsksForPagesUntilThereIsNoContinuation) {
  behavior.op = OpKind::query;
  behavior.query = "SELECT * FROM devices WHERE tags.name = \"a\\b\"\n";
  behavior.page_size = 50;
  server.reply = [&](const auto&) {
    return server.requests.size() < 3
               ? LoopbackServer::response(200, "[]",
                                          {{"x-ms-continuation", "page" + std::to_string(server.requests.size())}})
               : LoopbackServer::response(200, "[]");
  };
  once();
  ASSERT_EQ(server.requests.size(), 3u);
  for (const auto& request : server.requests) {
    EXPECT_EQ(request.method, "POST");
    EXPECT_TRUE(request.target.starts_with("/devices/query?api-version=")) << request.target;
    EXPECT_EQ(request.headers.at("x-ms-max-item-count"), "50");
    EXPECT_EQ(nlohmann::json::parse(request.body).at("query"), behavior.query);
  }
  EXPECT_FALSE(server.requests[0].headers.contains("x-ms-continuation"));
  EXPECT_EQ(server.requests[1].headers.at("x-ms-continuation"), "page1");
  EXPECT_EQ(server.requests[2].headers.at("x-ms-continuation"), "page2");
  EXPECT_EQ(pool().books().of(HubCount::queries).answered, 3u);
  EXPECT_EQ(ledger(), (Ledger{1, 1, 1, 0, 0, 0}));  // one operation, three requests
}

TEST_F(BackendPoolTest, AQueryOfTheFirstPageStopsThere) {
  behavior.op = OpKind::query;
  behavior.query = "SELECT * FROM devices";
  behavior.all_pages = false;
  server.reply = [](const auto&) { return LoopbackServer::response(200, "[]", {{"x-ms-continuation", "more"}}); };
  once();
  EXPECT_EQ(server.requests.size(), 1u);
  EXPECT_EQ(pool().books().of(HubCount::queries).answered, 1u);
}

TEST_F(BackendPoolTest, AFurtherPageThatIsRefusedFailsTheWholeQuery) {
  behavior.op = OpKind::query;
  behavior.query = "SELECT * FROM devices";
  server.reply = [&](const auto&) {
    return server.requests.size() == 1 ? LoopbackServer::response(200, "[]", {{"x-ms-continuation", "more"}})
                                       : LoopbackServer::response(429, "{}");
  };
  once();
  EXPECT_EQ(ledger(), (Ledger{1, 1, 0, 1, 0, 0}));
  EXPECT_EQ(errors_of(recorder, 0, ErrorClass::throttled), 1u);
}

TEST_F(BackendPoolTest, StatusesBecomeErrorClassesAndTheObserverHearsTheFate) {
  const std::pair<int, ErrorClass> expected[] = {
      {400, ErrorClass::bad_request}, {401, ErrorClass::unauthorized},        {403, ErrorClass::unauthorized},
      {404, ErrorClass::not_found},   {412, ErrorClass::precondition_failed}, {413, ErrorClass::too_large},
      {429, ErrorClass::throttled},   {500, ErrorClass::server_error},        {503, ErrorClass::server_error}};
  for (const auto& [status, error] : expected) {
    server.reply = [&](const auto&) { return LoopbackServer::response(status, "{}"); };
    const auto before = errors_of(recorder, 0, error);
    heard.clear();
    once();
    EXPECT_EQ(errors_of(recorder, 0, error), before + 1) << status;
    EXPECT_EQ(heard, (Lines{"sent 5", R"(failed 5 {"a":1})"}));
  }
}

TEST_F(BackendPoolTest, AnAcceptedPatchWithoutVersionIsAProtocolErrorOfUnknownFate) {
  server.reply = [](const auto&) { return LoopbackServer::response(200, "{}"); };
  once();
  EXPECT_EQ(errors_of(recorder, 0, ErrorClass::protocol), 1u);
  EXPECT_EQ(heard.back(), R"(unknown 5 {"a":1})");
}

TEST_F(BackendPoolTest, NoAnswerInTimeIsATimeoutOfUnknownFate) {
  start(1);
  until([&] { return server.requests.size() == 1; });
  pass(11s);
  EXPECT_EQ(ledger(), (Ledger{1, 1, 0, 0, 1, 0}));
  EXPECT_EQ(heard.back(), R"(unknown 5 {"a":1})");
}

TEST_F(BackendPoolTest, TheTimeoutCountsFromWhenTheOperationWasDue) {
  recorder.asked(0, 0);
  const MonoTime due = clock.mono();
  clock.advance(9s);  // started late
  pool().start(0, 0, due, 1, 0, 5);
  until([&] { return server.requests.size() == 1; });
  pass(2s);
  EXPECT_EQ(ledger().timed_out, 1u);
}

TEST_F(BackendPoolTest, OneThatNeverGotAConnectionTimedOutAndItsFateIsKnown) {
  behavior.connections = 1;
  start(1, 0, 1);
  until([&] { return server.requests.size() == 1; });
  recorder.asked(0, 0);
  pool().start(0, 0, clock.mono() - 5s, 2, 0, 2);  // due earlier, so its deadline comes first
  pass(6s);
  EXPECT_EQ(ledger().timed_out, 1u);
  EXPECT_EQ(ledger().dropped, 0u);
  EXPECT_EQ(heard.back(), R"(failed 2 {"a":2})");  // never sent, so its fate is known
}

TEST_F(BackendPoolTest, ARefusedConnectIsTheHubsFailureNotTheGenerators) {
  endpoint = LoopbackServer::dead_endpoint(io.context);
  once();
  EXPECT_EQ(ledger(), (Ledger{1, 1, 0, 1, 0, 0}));
  EXPECT_EQ(errors_of(recorder, 0, ErrorClass::refused), 1u);
  EXPECT_EQ(heard, (Lines{"sent 5", R"(failed 5 {"a":1})"}));
}

TEST_F(BackendPoolTest, ALostConnectionIsAFailureOfUnknownFate) {
  start(1);
  until([&] { return server.requests.size() == 1; });
  server.close(0);
  until([&] { return pool().open() == 0; });
  EXPECT_EQ(errors_of(recorder, 0, ErrorClass::disconnected), 1u);
  EXPECT_EQ(heard.back(), R"(unknown 5 {"a":1})");
}

TEST_F(BackendPoolTest, OperationsBeyondTheLimitAreDropped) {
  operations_max = 2;
  for (FollowId follow = 1; follow <= 3; ++follow) start(follow, 0, follow);
  EXPECT_EQ(errors_of(recorder, 0, ErrorClass::backlog_full), 1u);
  EXPECT_EQ(heard, (Lines{"failed 3 "}));
  until([&] { return server.requests.size() == 2; });
}

TEST_F(BackendPoolTest, ClosingTellsTheFateOfWhatIsOpen) {
  behavior.connections = 1;
  start(1, 0, 1);
  start(2, 0, 2);
  until([&] { return server.requests.size() == 1; });
  pool().close();
  EXPECT_EQ(pool().open(), 0u);
  EXPECT_EQ(heard, (Lines{"sent 1", R"(unknown 1 {"a":1})", R"(failed 2 {"a":2})"}));
  // In the recorder one stays in flight and one not started.
  EXPECT_EQ(ledger(), (Ledger{2, 1, 0, 0, 0, 0}));
  recorder.failed(0, 0, ErrorClass::aborted, 0s);
  recorder.dropped(0, 0, ErrorClass::aborted);
}

TEST_F(BackendPoolTest, EveryEndIsToldToClosedLoads) {
  int ended = 0;
  pool().on_operation_ended = [&](metrics::StreamIndex, metrics::PhaseIndex) { ++ended; };
  server.reply = [](const auto&) { return LoopbackServer::response(200, twin(7)); };
  once();
  server.reply = [](const auto&) { return LoopbackServer::response(500, "{}"); };
  once();
  EXPECT_EQ(ended, 2);
}

TEST(ServiceAccess, RefusesWhatIsNoServiceConnectionString) {
  const auto refusal = [](std::string_view text) {
    const auto result = ServiceAccess::from_connection_string(text);
    return result ? std::string{"accepted"} : result.error().message;
  };
  EXPECT_EQ(refusal("HostName=h;DeviceId=d;SharedAccessKey=" + kKey),
            "the connection string is not a service one: it needs SharedAccessKeyName and SharedAccessKey");
  const auto broken = refusal("HostName=h;SharedAccessKeyName=service;SharedAccessKey=se*cret");
  EXPECT_NE(broken, "accepted");
  EXPECT_EQ(broken.find("se*cret"), std::string::npos) << "a key must not be printed: " << broken;
}

}  // namespace
}  // namespace twinstorm::backend
