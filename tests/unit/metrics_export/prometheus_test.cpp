#include <fstream>
#include <iterator>
#include <set>
#include <sstream>

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>
#include <sys/socket.h>
#include <unistd.h>

#include "metrics/export/metrics_endpoint.hpp"
#include "metrics/export/prometheus_collector.hpp"

namespace twinstorm::metrics {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::Not;

struct SmallRun {
  RecorderLayout layout{
      {{"therm.connect", OpKind::connect, "therm", "mqtt"}, {"rollout", OpKind::patch_desired, "rollout", "http"}},
      {{"warmup", false}, {"steady", true}}};
  ShardRecorder a{layout}, b{layout};
  PrometheusCollector collector{
      {"run-1", "rollout-5k", "0.1.0", "embedded", 5000, {"worker-1", "worker-2"}}, layout, {&a, &b}};

  SmallRun() {
    for (auto* shard : {&a, &b}) {
      for (const PhaseIndex phase : {0u, 1u}) {
        shard->asked(1, phase);
        shard->sent(1, phase);
        shard->acknowledged(1, phase, 3ms, 700us);
        shard->convergence_started(phase);
        shard->convergence_ended(phase, ConvergenceOutcome::applied, {40ms, 3ms, 4ms, 31ms, 2ms});
      }
    }
    a.asked(1, 1);
    a.dropped(1, 1, ErrorClass::backlog_full);
    b.asked(1, 1);
    b.sent(1, 1);
    a.set_devices({1, 2, 2400, 3});
    b.set_devices({0, 0, 2500, 0});
    collector.set_phase(1);
    collector.set_target_rate(1, 50);
    collector.set_processes({{"worker-1", 1.5, 64 << 20}, {"run", 0.5, 10 << 20}});
    collector.set_verdict(VerdictStatus::invalid);
    collector.set_slo(*parse_slo("convergence p99 < 500ms during steady"), SloStatus::undecided);
  }

  std::string text() const {
    std::ostringstream out;
    prometheus::TextSerializer().Serialize(out, collector.Collect());
    return out.str();
  }
};

std::string file(const std::string& path) {
  std::ifstream in(std::string(TWINSTORM_SOURCE_DIR) + "/" + path);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::set<std::string> exported_names() {
  std::set<std::string> names;
  for (const auto& family : SmallRun().collector.Collect()) names.insert(family.name);
  return names;
}

TEST(PrometheusCollector, SumsShardsPhaseByPhase) {
  const auto text = SmallRun().text();
  const std::string labels = R"(op="patchDesired",stream="rollout",owner="rollout",protocol="http")";
  const std::string warmup = labels + R"(,phase="warmup")", steady = labels + R"(,phase="steady")";
  EXPECT_THAT(text, HasSubstr("twinstorm_ops_asked_total{" + warmup + "} 2\n"));
  EXPECT_THAT(text, HasSubstr("twinstorm_ops_asked_total{" + steady + "} 4\n"));
  EXPECT_THAT(text, HasSubstr("twinstorm_ops_sent_total{" + steady + "} 3\n"));
  EXPECT_THAT(text, HasSubstr("twinstorm_ops_total{" + steady +
                              R"(,result="acknowledged"} 2)"
                              "\n"));
  EXPECT_THAT(text, HasSubstr("twinstorm_ops_total{" + steady +
                              R"(,result="dropped"} 1)"
                              "\n"));
  EXPECT_THAT(text, HasSubstr("twinstorm_ops_in_flight{" + labels + "} 1\n"));
  EXPECT_THAT(text, HasSubstr("twinstorm_op_errors_total{" + labels +
                              R"(,reason="backlogFull"} 1)"
                              "\n"));
  EXPECT_THAT(text, HasSubstr("twinstorm_op_errors_total{" + labels +
                              R"(,reason="throttled"} 0)"
                              "\n"));
  EXPECT_THAT(text, HasSubstr("twinstorm_twin_updates_total{phase=\"steady\",outcome=\"applied\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("twinstorm_devices{state=\"online\"} 4900\n"));
  EXPECT_THAT(text, HasSubstr("twinstorm_devices_target 5000\n"));
}

TEST(PrometheusCollector, HasClassicBucketsThatAreSumsOfOurs) {
  const auto text = SmallRun().text();
  const std::string series =
      R"(twinstorm_op_duration_seconds_bucket{op="patchDesired",stream="rollout",owner="rollout",protocol="http",)"
      R"(phase="steady",le=")";
  EXPECT_THAT(text, HasSubstr(series + "0.002\"} 0\n"));
  EXPECT_THAT(text, HasSubstr(series + "0.005\"} 2\n"));
  EXPECT_THAT(text, HasSubstr(series + "+Inf\"} 2\n"));
  EXPECT_THAT(text, HasSubstr(R"(protocol="http",phase="steady"} 0.006)"));
  EXPECT_THAT(text, HasSubstr("twinstorm_convergence_seconds_count{phase=\"steady\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("twinstorm_convergence_leg_seconds_bucket{leg=\"system\",le=\"0.01\"} 4\n"));
}

TEST(PrometheusCollector, BucketsAreLogSpacedFromFiftyMicrosecondsToAMinuteAndNeverDecrease) {
  const auto& bounds = classic_buckets_seconds();
  EXPECT_EQ(bounds.front(), 0.00005);
  EXPECT_EQ(bounds.back(), 60);
  for (size_t i = 1; i < bounds.size(); ++i) {
    EXPECT_GE(bounds[i] / bounds[i - 1], 1.99);
    EXPECT_LE(bounds[i] / bounds[i - 1], 3.01);
  }
  for (const auto& family : SmallRun().collector.Collect()) {
    if (family.type != prometheus::MetricType::Histogram) continue;
    for (const auto& metric : family.metric) {
      uint64_t before = 0;
      for (const auto& bucket : metric.histogram.bucket) {
        EXPECT_GE(bucket.cumulative_count, before);
        before = bucket.cumulative_count;
      }
      EXPECT_LE(before, metric.histogram.sample_count);
    }
  }
}

TEST(PrometheusCollector, TellsRunPhaseTargetsAndObjectives) {
  const auto text = SmallRun().text();
  EXPECT_THAT(
      text, HasSubstr(R"(twinstorm_run_info{run="run-1",scenario="rollout-5k",version="0.1.0",target="embedded"} 1)"));
  EXPECT_THAT(text, HasSubstr("twinstorm_phase{phase=\"warmup\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("twinstorm_phase{phase=\"steady\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("twinstorm_target_rate{stream=\"rollout\"} 50\n"));
  EXPECT_THAT(text, HasSubstr("twinstorm_worker_cpu_seconds_total{worker=\"worker-1\"} 1.5\n"));
  EXPECT_THAT(text, HasSubstr("twinstorm_worker_busy_seconds_total{worker=\"worker-2\",shard=\"1\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("twinstorm_run_verdict{status=\"passed\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("twinstorm_run_verdict{status=\"invalid\"} 1\n"));
  EXPECT_THAT(text,
              HasSubstr(R"(twinstorm_slo_state{slo="convergence p99 < 500ms during steady",state="undecided"} 1)"));
}

TEST(PrometheusCollector, ExplainsEachMetricAndFollowsTheNamingRules) {
  for (const auto& family : SmallRun().collector.Collect()) {
    EXPECT_GT(family.help.size(), 20u) << family.name;
    EXPECT_THAT(family.name, testing::StartsWith("twinstorm_"));
    const bool total = family.name.ends_with("_total");
    EXPECT_EQ(family.type == prometheus::MetricType::Counter, total) << family.name;
    if (family.type == prometheus::MetricType::Histogram) {
      EXPECT_THAT(family.name, testing::EndsWith("_seconds"));
    }
  }
}

TEST(MetricNames, AreTheOnesOnRecord) {
  std::string now;
  for (const auto& name : exported_names()) now += name + "\n";
  EXPECT_EQ(now, file("tests/golden/metric_names.txt"))
      << "names are an interface: dashboards and alerts of other people use them";
}

TEST(MetricNames, AreAllDocumented) {
  const auto documentation = file("docs/metrics.md");
  for (const auto& name : exported_names()) EXPECT_THAT(documentation, HasSubstr("| `" + name + "` |"));
}

int listening_socket(uint16_t& port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* plain = static_cast<sockaddr*>(static_cast<void*>(&address));
  EXPECT_EQ(::bind(fd, plain, sizeof address), 0);
  EXPECT_EQ(::listen(fd, 1), 0);
  socklen_t size = sizeof address;
  ::getsockname(fd, plain, &size);
  port = ntohs(address.sin_port);
  return fd;
}

std::string get(uint16_t port, const std::string& path) {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  EXPECT_EQ(::connect(fd, static_cast<sockaddr*>(static_cast<void*>(&address)), sizeof address), 0);
  const auto request = "GET " + path + " HTTP/1.0\r\nHost: localhost\r\n\r\n";
  EXPECT_EQ(::write(fd, request.data(), request.size()), static_cast<ssize_t>(request.size()));
  std::string answer;
  char block[4096];
  for (ssize_t got = 0; (got = ::read(fd, block, sizeof block)) > 0;) answer.append(block, static_cast<size_t>(got));
  ::close(fd);
  return answer;
}

TEST(MetricsEndpoint, ServesTheCollectorOnAFreePortOfTheLoopback) {
  const auto run = std::make_shared<SmallRun>();
  const std::shared_ptr<prometheus::Collectable> collector(run, &run->collector);
  auto endpoint = MetricsEndpoint::start(":0", {collector});
  ASSERT_TRUE(endpoint) << endpoint.error().message;
  EXPECT_NE(endpoint->port(), 0);
  EXPECT_EQ(endpoint->url(), "http://127.0.0.1:" + std::to_string(endpoint->port()) + "/metrics");
  const auto answer = get(endpoint->port(), "/metrics");
  EXPECT_THAT(answer, HasSubstr("200 OK"));
  EXPECT_THAT(answer, HasSubstr("twinstorm_devices{state=\"online\"} 4900\n"));
}

TEST(MetricsEndpoint, SaysWhyItCannotListen) {
  uint16_t port = 0;
  const int fd = listening_socket(port);
  const auto taken = MetricsEndpoint::start("127.0.0.1:" + std::to_string(port), {});
  ::close(fd);
  ASSERT_FALSE(taken);
  EXPECT_EQ(taken.error().code, ErrorCode::unavailable);
  EXPECT_EQ(taken.error().message, "cannot serve metrics on 127.0.0.1:" + std::to_string(port) +
                                       ": Address already in use (choose another address, or port 0 for any free one)");
}

TEST(MetricsEndpoint, RefusesWhatIsNoAddress) {
  for (const auto* text : {"", "localhost", "127.0.0.1:", "127.0.0.1:99999", "::1:80", "127.0.0.1:80x"}) {
    const auto endpoint = MetricsEndpoint::start(text, {});
    ASSERT_FALSE(endpoint) << text;
    EXPECT_EQ(endpoint.error().code, ErrorCode::invalid_argument) << text;
    EXPECT_THAT(endpoint.error().message, HasSubstr("is not an address to listen on (try 127.0.0.1:9464")) << text;
  }
}

}  // namespace
}  // namespace twinstorm::metrics
