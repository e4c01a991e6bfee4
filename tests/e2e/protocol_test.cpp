// Whole runs over TLS and WebSocket, with certificates, token renewal, methods and messages.
#include <algorithm>
#include <csignal>
#include <fstream>
#include <thread>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "sim/protocol/connection_string.hpp"
#include "sim/protocol/encoding.hpp"
#include "sim/protocol/sas.hpp"
#include "tests/support/process.hpp"

namespace twinstorm::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using std::chrono::seconds;

std::vector<std::string> twinstorm(std::vector<std::string> words) {
  words.insert(words.begin(), TWINSTORM_BINARY);
  return words;
}

/// A scenario with these fleets and what else it needs; `target` and `phases` as YAML.
std::string scenario(const std::string& target, const std::string& fleets, const std::string& rest) {
  return "schema: twinstorm/scenario/1\nname: protocol\ncanary: false\ntarget: " + target + "\nfleets:\n" + fleets +
         rest + "invariants: [noLostUpdates, versionsMonotonic, finalStateMatches]\n";
}

const char* const kPatchA = R"(backends:
  - {name: rollout, do: patchDesired, select: a, patch: {x: {uniform: [1, 100]}}, tls: true}
phases:
  - {name: connect, connect: 100/s}
  - {name: steady, duration: 2s, load: {rollout: 50/s}}
  - {name: settle, until: {converged: 100%}, timeout: 10s}
)";

struct Ran {
  int code = -1;
  std::string out, err;
  json summary;
};

Ran run(const fs::path& folder, const std::string& text, seconds patience = seconds{90}) {
  const auto file = folder / "scenario.yaml";
  write_file(file, text);
  Process process{twinstorm({"run", file.string(), "--out", (folder / "run").string(), "--quiet"})};
  Ran ran;
  ran.code = process.wait(patience);
  ran.out = process.out();
  ran.err = process.err();
  if (fs::exists(folder / "run" / "summary.json")) {
    ran.summary = json::parse(read_file(folder / "run" / "summary.json"));
  }
  return ran;
}

void expect_passed(const Ran& ran, int devices) {
  ASSERT_EQ(ran.code, 0) << ran.err << ran.out;
  EXPECT_EQ(ran.summary["devices"]["connected"], devices);
  EXPECT_TRUE(ran.summary["hub"]["matches"].get<bool>()) << ran.summary["hub"].dump();
  for (const auto& invariant : ran.summary["invariants"]) EXPECT_EQ(invariant["status"], "held") << invariant.dump();
}

/// A hub of its own with every port and its ready file.
struct TlsHub {
  TemporaryFolder folder;
  fs::path ready = folder.path() / "hub.json";
  Process process;
  json address;
  explicit TlsHub(std::vector<std::string> more = {}) : process{words(std::move(more))} {
    for (int i = 0; i < 500 && !fs::exists(ready); ++i) std::this_thread::sleep_for(std::chrono::milliseconds{20});
    address = json::parse(read_file(ready));
  }
  std::string port(const char* name) const { return std::to_string(address[name].get<int>()); }
  /// A target as somebody would write it for a hub elsewhere.
  std::string target(const std::string& more) const {
    auto text = address["ownerConnectionString"].get<std::string>();
    return "{connectionString: '" + text + "', mqttsPort: " + port("mqttsPort") + ", httpsPort: " + port("httpsPort") +
           more + "}";
  }
  std::string owner_token() const {
    const auto owner = protocol::parse_connection_string(address["ownerConnectionString"].get<std::string>()).value();
    return protocol::make_sas_token(owner.host_name, protocol::base64_decode(owner.shared_access_key).value(),
                                    4'000'000'000, owner.shared_access_key_name);
  }

 private:
  std::vector<std::string> words(std::vector<std::string> more) {
    auto all = twinstorm({"hub", "--mqtt-port", "0", "--http-port", "0", "--mqtts-port", "0", "--https-port", "0",
                          "--data", (folder.path() / "data").string(), "--ready-file", ready.string(), "--quiet"});
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
};

TEST(Protocol, MqttOverTls) {
  TemporaryFolder folder;
  expect_passed(run(folder.path(),
                    scenario("embedded", "  - {name: a, count: 50, tls: true, onDesired: {report: echo}}\n", kPatchA)),
                50);
}

TEST(Protocol, MqttOverWebSocketWithAndWithoutTls) {
  for (const char* tls : {"false", "true", "{version: 1.2, resumption: true}"}) {
    TemporaryFolder folder;
    expect_passed(
        run(folder.path(),
            scenario("embedded",
                     std::string{"  - {name: a, count: 30, transport: mqttws, onDesired: {report: echo}, tls: "} + tls +
                         "}\n",
                     kPatchA)),
        30);
  }
}

TEST(Protocol, DevicesWithCertificates) {
  for (const char* auth : {"x509-selfsigned", "x509-ca"}) {
    TemporaryFolder folder;
    const auto ran = run(
        folder.path(),
        scenario("embedded",
                 std::string{"  - {name: a, count: 30, tls: true, onDesired: {report: echo}, auth: "} + auth + "}\n",
                 kPatchA));
    expect_passed(ran, 30);
    for (const auto& entry : fs::directory_iterator{folder.path() / "run"}) {
      EXPECT_EQ(read_file(entry.path()).find("PRIVATE KEY"), std::string::npos) << entry.path();
    }
  }
}

TEST(Protocol, DevicesWhoseCaAnotherHubTrusts) {
  TemporaryFolder folder;
  const auto certificate = (folder.path() / "ca.pem").string(), key = (folder.path() / "ca.key").string();
  Process made{{"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                "/CN=plant CA", "-keyout", key, "-out", certificate, "-days", "3"}};
  ASSERT_EQ(made.wait(), 0) << made.err();
  const TlsHub hub{{"--device-ca", certificate}};
  const auto target = hub.target(", caFile: '" + hub.address["caFile"].get<std::string>() +
                                 "', deviceCa: {certificate: '" + certificate + "', key: '" + key + "'}");
  const std::string fleet = "  - {name: a, count: 10, auth: x509-ca, onDesired: {report: echo}}\n";
  expect_passed(run(folder.path(), scenario(target, fleet, kPatchA)), 10);
}

TEST(Protocol, TokensAreRenewedWithoutLosingAnything) {
  TemporaryFolder folder;
  const auto ran = run(folder.path(), scenario("embedded", R"(
  - {name: a, count: 60, tls: true, tokenLifetime: 10s, onDesired: {report: echo}, reported: {n: 1}}
  - {name: b, count: 60, tokenLifetime: 6s, renewJitter: 0%, onDesired: {report: echo}, reported: {n: 1}}
)",
                                               R"(backends:
  - {name: pa, do: patchDesired, select: a, patch: {x: {uniform: [1, 100]}}}
  - {name: pb, do: patchDesired, select: b, patch: {x: {uniform: [1, 100]}}}
phases:
  - {name: connect, connect: 100/s}
  - {name: steady, duration: 16s, load: {pa: 60/s, pb: 60/s, a.report: 40/s, b.telemetry: 40/s}}
  - {name: settle, until: {converged: 100%}, timeout: 10s}
)"));
  expect_passed(ran, 120);
  const auto& renewals = ran.summary["operations"]["renewToken"];
  EXPECT_GE(renewals["acknowledged"].get<int>(), 60 * 2 + 60 * 3);
  EXPECT_EQ(renewals["acknowledged"], renewals["asked"]);
  EXPECT_EQ(ran.summary["devices"]["reconnects"], 0);
  EXPECT_EQ(ran.summary["convergence"]["lost"], 0);
  EXPECT_EQ(ran.summary["convergence"]["unconverged"], 0);
  for (const auto& [name, operation] : ran.summary["operations"].items()) {
    EXPECT_EQ(operation["acknowledged"], operation["asked"]) << name;
  }
}

TEST(Protocol, AHubThatIsNotTrustedEndsTheRunBeforeItStarts) {
  const TlsHub hub;
  TemporaryFolder folder;
  const std::string fleet = "  - {name: a, count: 3, onDesired: {report: echo}}\n";
  const auto ran = run(folder.path(), scenario(hub.target(""), fleet, kPatchA));
  EXPECT_EQ(ran.code, 3) << ran.out;
  EXPECT_NE(ran.err.find(":" + hub.port("mqttsPort")), std::string::npos) << ran.err;
  EXPECT_NE(ran.err.find("is not trusted"), std::string::npos) << ran.err;
  EXPECT_NE(ran.err.find("caFile"), std::string::npos) << ran.err;
  EXPECT_FALSE(fs::exists(folder.path() / "run" / "summary.json"));

  TemporaryFolder again;
  const auto trusted = hub.target(", caFile: '" + hub.address["caFile"].get<std::string>() + "'");
  expect_passed(run(again.path(), scenario(trusted, fleet, kPatchA)), 3);
}

TEST(Protocol, APortThatDoesNotSpeakTlsSaysSo) {
  const TlsHub hub;
  TemporaryFolder folder;
  const auto target = "{connectionString: '" + hub.address["ownerConnectionString"].get<std::string>() +
                      "', mqttsPort: " + hub.port("mqttsPort") + ", httpsPort: " + hub.port("httpPort") +
                      ", caFile: '" + hub.address["caFile"].get<std::string>() + "'}";
  const auto ran =
      run(folder.path(), scenario(target, "  - {name: a, count: 3, onDesired: {report: echo}}\n", kPatchA));
  EXPECT_EQ(ran.code, 3);
  EXPECT_NE(ran.err.find(":" + hub.port("httpPort")), std::string::npos) << ran.err;
  EXPECT_NE(ran.err.find("not TLS"), std::string::npos) << ran.err;
}

TEST(Protocol, AFleetWithCertificatesNeverTakesOverDevicesOfAnother) {
  const TlsHub hub;
  const auto text =
      scenario("{readyFile: '" + hub.ready.string() + "'}",
               "  - {name: a, count: 3, tls: true, auth: x509-selfsigned, onDesired: {report: echo}}\n", kPatchA);
  TemporaryFolder first, second;
  expect_passed(run(first.path(), text), 3);
  const auto ran = run(second.path(), text);
  EXPECT_EQ(ran.code, 3);
  EXPECT_NE(ran.err.find("with a certificate that is not this run's"), std::string::npos) << ran.err;
}

TEST(Protocol, DevicesAnswerMethodsAndCountMessages) {
  const TlsHub hub;
  TemporaryFolder folder;
  const auto file = folder.path() / "scenario.yaml";
  write_file(file, scenario("{readyFile: '" + hub.ready.string() + "'}",
                            "  - {name: a, count: 2, tls: true, methods: true, c2d: true, onDesired: {report: echo}}\n",
                            "phases:\n  - {name: connect, connect: 10/s}\n  - {name: hold, duration: 20s}\n"));
  Process process{twinstorm({"run", file.string(), "--out", (folder.path() / "run").string(), "--no-tui"})};
  ASSERT_TRUE(process.saw("hold (")) << process.err();
  const auto token = hub.owner_token();
  const uint16_t port = hub.address["httpPort"];
  const auto answer = http_request(port, "POST", "/twins/a-00000/methods?api-version=2021-04-12", token,
                                   R"({"methodName":"reboot","payload":{"delay":3},"responseTimeoutInSeconds":5})");
  EXPECT_EQ(json::parse(answer, nullptr, false), json::parse(R"({"status":200,"payload":{"delay":3}})")) << answer;
  for (int i = 0; i < 3; ++i) {
    http_request(port, "POST", "/twinstorm/devices/a-00001/messages/devicebound?api-version=2021-04-12", token,
                 "hello");
  }
  std::this_thread::sleep_for(seconds{1});
  process.signal(SIGINT);
  EXPECT_EQ(process.wait(), 130) << process.err();
  const auto devices = json::parse(read_file(folder.path() / "run" / "summary.json"))["devices"];
  EXPECT_EQ(devices["methodsAnswered"], 1);
  EXPECT_EQ(devices["messagesReceived"], 3);
}

TEST(Protocol, FailuresOfSimulatedWorkAreNoLoss) {
  TemporaryFolder folder;
  const auto ran = run(
      folder.path(),
      scenario("embedded", "  - {name: a, count: 20, onDesired: {apply: {delay: 5ms, failure: 20%}, report: echo}}\n",
               "backends:\n  - {name: rollout, do: patchDesired, patch: {x: {uniform: [1, 100]}}}\nphases:\n"
               "  - {name: steady, duration: 3s, load: {rollout: 100/s}}\n"
               "  - {name: settle, until: {converged: 100%}, timeout: 10s}\n"));
  ASSERT_EQ(ran.code, 0) << ran.err << ran.out;
  const auto& c = ran.summary["convergence"];
  EXPECT_GT(c["applyFailed"].get<int>(), 20);
  EXPECT_EQ(c["applyFailed"].get<int>() + c["applied"].get<int>(), 300);
  EXPECT_EQ(c["unconverged"], 0);
  EXPECT_NE(ran.out.find("failed on the device as asked"), std::string::npos) << ran.out;
}

TEST(Protocol, TheShippedTlsFleetPassesWhenShortened) {
  TemporaryFolder folder;
  Process process{twinstorm({"run", "scenarios/tls-fleet.yaml", "--out", folder.path().string(), "--quiet", "--set",
                             "fleets[thermostats].count=200", "--set", "fleets[kiosks].count=100", "--set",
                             "fleets[gateways].count=100", "--set", "phases[hold].duration=5s", "--set", "slos=[]",
                             "--set", "phases[connect].connect=100/s", "--set", "limits.scheduleLag=1s"})};
  ASSERT_EQ(process.wait(seconds{120}), 0) << process.err() << process.out();
  const auto record = json::parse(read_file(folder.path() / "summary.json"));
  EXPECT_EQ(record["operations"]["connect"]["acknowledged"], 400);
  EXPECT_EQ(record["devices"]["connected"], 400);
}

}  // namespace
}  // namespace twinstorm::testing
