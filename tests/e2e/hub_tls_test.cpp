// `twinstorm hub` with TLS as a user meets it: what it prints, what curl and openssl make of it, what it refuses.
#include <csignal>
#include <fstream>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/support/process.hpp"

namespace twinstorm::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

std::vector<std::string> hub_words(std::vector<std::string> more) {
  std::vector<std::string> words{TWINSTORM_BINARY, "hub"};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

/// All ports free ones, the data in `folder`.
std::vector<std::string> secure_hub(const fs::path& folder, std::vector<std::string> more) {
  std::vector<std::string> words{"--mqtt-port",  "0",
                                 "--mqtts-port", "0",
                                 "--http-port",  "0",
                                 "--https-port", "0",
                                 "--data",       (folder / "data").string()};
  words.insert(words.end(), more.begin(), more.end());
  return hub_words(words);
}

nlohmann::json wait_for(const fs::path& ready) {
  for (int i = 0; i < 500 && !fs::exists(ready); ++i) std::this_thread::sleep_for(std::chrono::milliseconds{20});
  return nlohmann::json::parse(read_file(ready));
}

std::string run(std::vector<std::string> words) {
  Process process{std::move(words)};
  process.wait();
  return process.out() + process.err();
}

TEST(HubTls, CurlAndOpensslTrustTheAuthorityOfTheReadyFile) {
  TemporaryFolder folder;
  const fs::path ready = folder.path() / "hub.json";
  Process hub{secure_hub(folder.path(), {"--ready-file", ready.string(), "--quiet", "--tls-name", "hub.lab"})};
  const auto address = wait_for(ready);
  const std::string authority = address["caFile"];
  const std::string https = std::to_string(address["httpsPort"].get<int>());
  const std::string mqtts = "127.0.0.1:" + std::to_string(address["mqttsPort"].get<int>());
  EXPECT_EQ(authority, (folder.path() / "data/ca.pem").string());
  for (const std::string host : {"localhost", "127.0.0.1", "hub.lab"}) {
    const std::string url = "https://" + host + ":" + https + "/twinstorm/health";
    EXPECT_THAT(run({"curl", "-sS", "--cacert", authority, "--resolve", "hub.lab:" + https + ":127.0.0.1", url}),
                HasSubstr("serving"));
  }
  EXPECT_THAT(run({"curl", "-sS", "https://localhost:" + https + "/twinstorm/health"}), HasSubstr("certificate"));
  for (const char* version : {"-tls1_2", "-tls1_3"}) {
    EXPECT_THAT(run({"openssl", "s_client", "-connect", mqtts, "-CAfile", authority, "-verify_return_error", version}),
                HasSubstr("Verify return code: 0 (ok)"))
        << version;
  }
  EXPECT_THAT(run({"openssl", "s_client", "-connect", mqtts, "-CAfile", authority, "-tls1_1"}),
              Not(HasSubstr("Verify return code: 0 (ok)\nExtended")));
  hub.signal(SIGINT);
  EXPECT_EQ(hub.wait(), 0);
}

TEST(HubTls, TheTerminalShowsWhatToTrustAndWhatToPaste) {
  TemporaryFolder folder;
  Process hub{secure_hub(folder.path(), {})};
  ASSERT_TRUE(hub.saw("SharedAccessKey=..."));
  const std::string out = hub.out();
  EXPECT_THAT(out, HasSubstr("MQTT over TLS     127.0.0.1:"));
  EXPECT_THAT(out, HasSubstr("/$iothub/websocket"));
  EXPECT_THAT(out, HasSubstr("NODE_EXTRA_CA_CERTS=" + (folder.path() / "data/ca.pem").string()));
  EXPECT_THAT(out, HasSubstr("setOptions({ ca: '"));
  EXPECT_THAT(out, HasSubstr("HostName=localhost;SharedAccessKeyName=iothubowner;SharedAccessKey="));
  EXPECT_EQ(hub.err(), "");

  // The printed command makes a device, as it stands.
  const size_t command = out.find("  curl -sS --cacert");
  ASSERT_NE(command, std::string::npos);
  const fs::path script = folder.path() / "make_device.sh";
  std::ofstream{script} << out.substr(command, out.find('\n', command) - command) << '\n';
  EXPECT_THAT(run({"bash", script.string()}), HasSubstr(R"("primaryKey":)"));
  hub.signal(SIGTERM);
  EXPECT_EQ(hub.wait(), 0);
}

TEST(HubTls, PortsThatAreOffAreNotInTheReadyFile) {
  TemporaryFolder folder;
  const fs::path ready = folder.path() / "hub.json";
  Process hub{hub_words({"--mqtt-port", "off", "--mqtts-port", "0", "--http-port", "0", "--https-port", "off", "--data",
                         (folder.path() / "data").string(), "--ready-file", ready.string(), "--quiet"})};
  const auto address = wait_for(ready);
  EXPECT_TRUE(address.contains("mqttsPort") && address.contains("httpPort") && address.contains("caFile"));
  EXPECT_FALSE(address.contains("mqttPort") || address.contains("httpsPort"));
}

TEST(HubTls, MistakesAreNamedWithTheWayOut) {
  TemporaryFolder folder;
  const std::string no_certificate = (folder.path() / "note.txt").string();
  std::ofstream{no_certificate} << "not a certificate";
  const struct {
    std::vector<std::string> words;
    const char* message;
  } mistakes[] = {
      {{"--mqtts-port", "ssl"}, "--mqtts-port: \"ssl\" is not a port: give 0 to 65535, or off"},
      {{"--https-port", "65536"}, "--https-port: \"65536\" is not a port"},
      {{"--tls-cert", "hub.pem"}, "--tls-key"},
      {{"--device-ca", "/nowhere.pem"}, "--device-ca: cannot read \"/nowhere.pem\": No such file or directory"},
      {{"--device-ca", no_certificate}, "holds no certificate: give a CA in PEM form"},
      {{"--mqtt-port", "off", "--mqtts-port", "off", "--http-port", "off", "--https-port", "off"}, "every port is off"},
  };
  for (const auto& [words, message] : mistakes) {
    Process hub{hub_words(words)};
    EXPECT_EQ(hub.wait(), 2) << message;
    EXPECT_THAT(hub.err(), HasSubstr(message));
  }
  fs::create_directories(folder.path() / "data");
  std::ofstream{folder.path() / "data/ca.pem"} << "somebody's notes";
  Process hub{secure_hub(folder.path(), {})};
  EXPECT_EQ(hub.wait(), 3);
  EXPECT_THAT(hub.err(), HasSubstr("ca.pem' but no '"));
  EXPECT_EQ(read_file(folder.path() / "data/ca.pem"), "somebody's notes");
}

TEST(HubTls, OnlyPlainPortsBeyondLoopbackAreWarnedOf) {
  TemporaryFolder folder;
  Process open{secure_hub(folder.path(), {"--listen", "0.0.0.0"})};
  EXPECT_TRUE(open.saw("MQTT and HTTP without TLS on 0.0.0.0"));
  Process closed{hub_words({"--listen", "0.0.0.0", "--mqtt-port", "off", "--http-port", "off", "--mqtts-port", "0",
                            "--https-port", "0", "--data", (folder.path() / "data").string()})};
  EXPECT_TRUE(closed.saw("SharedAccessKey=..."));
  EXPECT_EQ(closed.err(), "");
}

}  // namespace
}  // namespace twinstorm::testing
