// The small clients `twinstorm device` and `twinstorm twin`, against a hub of their own.
#include <csignal>
#include <thread>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "sim/net/certificates.hpp"
#include "sim/protocol/connection_string.hpp"
#include "sim/protocol/encoding.hpp"
#include "sim/protocol/sas.hpp"
#include "tests/support/process.hpp"
#include "tests/support/tls_pair.hpp"

namespace twinstorm::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Words = std::vector<std::string>;

struct Outcome {
  int code;
  std::string out, err;
};

class Clients : public ::testing::Test {
 protected:
  static Words twinstorm(Words words) {
    words.insert(words.begin(), TWINSTORM_BINARY);
    return words;
  }
  static Outcome run(const Words& words) {
    Process process{twinstorm(words)};
    const int code = process.wait();
    return {code, process.out(), process.err()};
  }
  void SetUp() override {
    for (int i = 0; i < 500 && !fs::exists(ready); ++i) std::this_thread::sleep_for(std::chrono::milliseconds{20});
    ASSERT_TRUE(fs::exists(ready)) << hub.err();
    address = json::parse(read_file(ready));
  }
  Words with_hub(Words words) const {
    words.insert(words.end(), {"--ready-file", ready.string()});
    return words;
  }
  json twin(const std::string& device) const {
    const auto got = run(with_hub({"twin", "get", device}));
    EXPECT_EQ(got.code, 0) << got.err;
    return json::parse(got.out);
  }
  void create(const std::string& device) const {
    const auto made = run(with_hub({"device", "--device-id", device, "--create"}));
    ASSERT_EQ(made.code, 0) << made.err;
  }
  std::string authorization() const {
    const auto owner = protocol::parse_connection_string(address["ownerConnectionString"].get<std::string>()).value();
    return protocol::make_sas_token(owner.host_name, protocol::base64_decode(owner.shared_access_key).value(),
                                    unix_seconds(SteadyClock{}.wall()) + 600, owner.shared_access_key_name);
  }
  std::string rest(const std::string& method, const std::string& target, const std::string& body) const {
    return http_request(address["httpPort"].get<uint16_t>(), method, target, authorization(), body);
  }
  std::string port(const char* name) const { return std::to_string(address[name].get<int>()); }
  std::string ca_file() const { return address["caFile"]; }
  /// Registers the device and returns its own connection string.
  std::string device_string(const std::string& device) const {
    create(device);
    const auto known = json::parse(rest("GET", "/devices/" + device + "?api-version=2021-04-12", ""));
    return "HostName=localhost;DeviceId=" + device +
           ";SharedAccessKey=" + known["authentication"]["symmetricKey"]["primaryKey"].get<std::string>();
  }

  TemporaryFolder folder;
  fs::path ready = folder.path() / "hub.json";
  Process hub{twinstorm({"hub", "--mqtt-port", "0", "--mqtts-port", "0", "--http-port", "0", "--https-port", "0",
                         "--data", (folder.path() / "data").string(), "--ready-file", ready.string(), "--quiet"})};
  json address;
};

TEST_F(Clients, ADeviceShowsItsTwinAndReportsOverEveryTransport) {
  int report = 0;
  for (const Words& transport :
       {Words{"--transport", "mqtt"}, Words{"--transport", "mqttws"}, Words{"--transport", "mqtt", "--no-tls"},
        Words{"--transport", "mqttws", "--no-tls"}}) {
    auto words = with_hub({"device", "--device-id", "dev1", "--create", "--json", "--report",
                           R"({"n":)" + std::to_string(++report) + "}"});
    words.insert(words.end(), transport.begin(), transport.end());
    const auto got = run(words);
    ASSERT_EQ(got.code, 0) << got.err;
    std::vector<std::string> events;
    std::istringstream lines{got.out};
    for (std::string line; std::getline(lines, line);) events.push_back(json::parse(line)["event"]);
    EXPECT_EQ(events, (std::vector<std::string>{"connected", "twin", "reported"}));
    EXPECT_EQ(twin("dev1")["properties"]["reported"]["n"], report);
  }
}

TEST_F(Clients, AWatchingDeviceTellsChangesMethodsAndMessagesUntilCtrlC) {
  create("dev1");
  Process device{twinstorm(with_hub({"device", "--device-id", "dev1", "--watch"}))};
  ASSERT_TRUE(device.saw("\"reported\"")) << device.err();
  const auto patched = run(with_hub({"twin", "patch", "dev1", R"({"properties":{"desired":{"interval":30}}})"}));
  ASSERT_EQ(patched.code, 0) << patched.err;
  EXPECT_TRUE(device.saw(R"(desired      version 2  {"interval":30,"$version":2})")) << device.out();
  const auto answer = rest("POST", "/twins/dev1/methods?api-version=2021-04-12",
                           R"({"methodName":"reboot","payload":{"delay":3},"responseTimeoutInSeconds":10})");
  EXPECT_EQ(json::parse(answer), json::parse(R"({"status":200,"payload":{"delay":3}})"));
  EXPECT_TRUE(device.saw(R"(method       "reboot" {"delay":3}  answered 200 with the same)")) << device.out();
  rest("POST", "/twinstorm/devices/dev1/messages/devicebound", "hello\x1b[31m");
  EXPECT_TRUE(device.saw(R"(message      "hello\u001b[31m")")) << "raw control characters stay out: " << device.out();
  device.signal(SIGINT);
  EXPECT_EQ(device.wait(), 0) << device.err();
  EXPECT_EQ(device.err(), "");
}

TEST_F(Clients, WatchingEndsByItselfAfterTheTimeGiven) {
  const auto got = run(with_hub({"device", "--device-id", "dev1", "--create", "--for", "300ms"}));
  EXPECT_EQ(got.code, 0) << got.err;
}

TEST_F(Clients, AWatchingDeviceComesBackWhenTheHubCutsIt) {
  create("dev1");
  Process device{twinstorm(with_hub({"device", "--device-id", "dev1", "--watch"}))};
  ASSERT_TRUE(device.saw("\"reported\"")) << device.err();
  create("dev1");  // a second connection of the same device takes its place
  EXPECT_TRUE(device.saw("disconnected the hub closed the connection")) << device.out();
  EXPECT_TRUE(device.saw("next attempt in 1 s")) << device.err();
  for (int i = 0; i < 200 && twin("dev1")["connectionState"] != "Connected"; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds{20});
  }
  EXPECT_EQ(twin("dev1")["connectionState"], "Connected");
}

TEST_F(Clients, ConnectionStringsComeFromTextEnvironmentAndFiles) {
  const auto text = device_string("dev1");
  const auto file = folder.path() / "dev1.txt";
  write_file(file, text + "\n");
  ::setenv("E2E_DEVICE", text.c_str(), 1);
  for (const auto& given : {text, std::string{"env:E2E_DEVICE"}, "@" + file.string()}) {
    const auto got = run({"device", "--connection-string", given, "--port", port("mqttsPort"), "--ca-file", ca_file()});
    EXPECT_EQ(got.code, 0) << got.err;
  }
  ::setenv("IOTHUB_DEVICE_CONNECTION_STRING", text.c_str(), 1);
  EXPECT_EQ(run({"device", "--port", port("mqttPort"), "--no-tls"}).code, 0);
  ::unsetenv("IOTHUB_DEVICE_CONNECTION_STRING");
  // HostName may carry the port.
  auto with_port = protocol::parse_connection_string(text).value();
  with_port.host_name += ":" + port("mqttsPort");
  const auto got =
      run({"device", "--connection-string", protocol::format_connection_string(with_port), "--ca-file", ca_file()});
  EXPECT_EQ(got.code, 0) << got.err;
}

TEST_F(Clients, ADeviceWithACertificateNeedsNoKey) {
  const auto own = net::make_self_signed("x1", valid_today()).value();
  const auto registered =
      rest("PUT", "/devices/x1?api-version=2021-04-12",
           json{{"deviceId", "x1"},
                {"authentication",
                 {{"type", "selfSigned"},
                  {"x509Thumbprint", {{"primaryThumbprint", net::sha1_thumbprint(own.certificate_pem).value()}}}}}}
               .dump());
  ASSERT_NE(registered.find("selfSigned"), std::string::npos) << registered;
  write_file(folder.path() / "x1.pem", own.certificate_pem);
  write_file(folder.path() / "x1.key", own.key_pem);
  const Words words{"device", "--connection-string", "HostName=localhost;DeviceId=x1;x509=true",
                    "--port", port("mqttsPort"),     "--ca-file",
                    ca_file()};
  auto with_certificate = words;
  with_certificate.insert(with_certificate.end(), {"--cert", (folder.path() / "x1.pem").string(), "--key",
                                                   (folder.path() / "x1.key").string()});
  const auto got = run(with_certificate);
  EXPECT_EQ(got.code, 0) << got.err;
  const auto without = run(words);
  EXPECT_EQ(without.code, 2);
  EXPECT_NE(without.err.find("give the device's certificate with --cert and --key"), std::string::npos) << without.err;
}

TEST_F(Clients, WhatGoesWrongIsSaidWithoutSecrets) {
  const auto text = device_string("dev1");
  const auto key = text.substr(text.find("SharedAccessKey=") + 16);
  const std::string wrong_key = protocol::base64_encode(std::string(32, 'w'));
  const auto says = [](const Outcome& got, int code, const std::string& what) {
    EXPECT_EQ(got.code, code) << got.err;
    EXPECT_NE(got.err.find(what), std::string::npos) << got.err;
  };
  const auto wrong =
      run({"device", "--connection-string", "HostName=localhost;DeviceId=dev1;SharedAccessKey=" + wrong_key, "--port",
           port("mqttsPort"), "--ca-file", ca_file()});
  says(wrong, 3, "the hub refused the credentials, or does not know the device");
  EXPECT_EQ(wrong.err.find(wrong_key), std::string::npos);
  const auto untrusted = run({"device", "--connection-string", text, "--port", port("mqttsPort")});
  says(untrusted, 3, "is not trusted: self-signed certificate in certificate chain; give its CA (PEM) with --ca-file");
  EXPECT_EQ(untrusted.err.find("scenario"), std::string::npos) << "there is none here";
  EXPECT_EQ(untrusted.err.find(key), std::string::npos);
  const auto no_ca = (folder.path() / "no-ca.pem").string();
  for (const char* content : {"", "no certificate"}) {
    write_file(no_ca, content);
    says(run({"device", "--connection-string", text, "--port", port("mqttsPort"), "--ca-file", no_ca}), 2,
         "--ca-file: \"" + no_ca + "\"");
  }
  says(run({"device", "--connection-string", text, "--port", port("mqttPort"), "--ca-file", ca_file()}), 3,
       "cannot connect to localhost:" + port("mqttPort"));
  says(run({"device", "--connection-string", text, "--transport", "mqttws", "--no-tls", "--port", port("mqttPort")}), 3,
       "cannot connect to localhost:" + port("mqttPort"));
  says(run({"device"}), 2, "set TWINSTORM_DEVICE_CONNECTION_STRING or IOTHUB_DEVICE_CONNECTION_STRING");
  says(run({"device", "--connection-string", "env:NOT_SET_ANYWHERE"}), 2,
       "the environment variable NOT_SET_ANYWHERE is not set");
  says(run({"device", "--connection-string", address["ownerConnectionString"]}), 2, "names no device");
  says(run({"device", "--connection-string", text, "--report", "[1]"}), 2, "--report: this is JSON, but not an object");
  says(run({"device", "--device-id", "x"}), 2, "--device-id needs --ready-file");
  says(run(with_hub({"device", "--device-id", "nobody"})), 3, "the hub does not know the device \"nobody\": --create");
  says(run(with_hub({"twin", "get", "nobody"})), 3, "cannot get the twin of \"nobody\": the hub answered HTTP 404");
  says(run(with_hub({"twin", "patch", "dev1", R"({"tags":{"a":1}})", "--if-match", "AAAA"})), 3, "HTTP 412");
  says(run(with_hub({"twin", "patch", "dev1", "{"})), 2, "JSON: not JSON (at byte 2)");
  says(run(with_hub({"twin", "patch", "dev1", R"({"desired":{"interval":30}})"})), 2, "nothing would change");
  says(run({"twin", "get", "dev1", "--connection-string", text}), 2, "is not a service one");
}

TEST_F(Clients, TwinsArePatchedReplacedAndQueried) {
  for (const char* device : {"dev1", "dev2", "dev3"}) create(device);
  const auto file = folder.path() / "patch.json";
  write_file(file, R"({"tags": {"region": "US", "plant": "Redmond43"}})");
  ASSERT_EQ(run(with_hub({"twin", "patch", "dev1", "@" + file.string()})).code, 0);
  EXPECT_EQ(twin("dev1")["tags"], json::parse(R"({"region":"US","plant":"Redmond43"})"));
  const std::string etag = twin("dev1")["etag"];
  const auto replaced =
      run(with_hub({"twin", "replace", "dev1", R"({"tags":{"region":"EU"}})", "--if-match", etag, "--compact"}));
  ASSERT_EQ(replaced.code, 0) << replaced.err;
  EXPECT_EQ(json::parse(replaced.out)["tags"], json::parse(R"({"region":"EU"})"));

  const auto rows = [](const std::string& out) { return std::count(out.begin(), out.end(), '\n'); };
  const auto first = run(with_hub({"twin", "query", "SELECT deviceId FROM devices", "--page-size", "2"}));
  EXPECT_EQ(first.code, 0) << first.err;
  EXPECT_EQ(rows(first.out), 2);
  EXPECT_NE(first.err.find("there are more results after these 2; --all"), std::string::npos) << first.err;
  const auto all = run(with_hub({"twin", "query", "SELECT deviceId FROM devices", "--page-size", "2", "--all"}));
  EXPECT_EQ(rows(all.out), 3);
  EXPECT_EQ(all.err, "");
  const auto wrong = run(with_hub({"twin", "query", "SELEKT"}));
  EXPECT_EQ(wrong.code, 3);
  EXPECT_NE(wrong.err.find("cannot query: the hub answered HTTP 400"), std::string::npos) << wrong.err;
}

TEST_F(Clients, HelpTeachesWithExamples) {
  EXPECT_NE(run({"device", "--help"}).out.find("--device-id dev1 --create --watch"), std::string::npos);
  EXPECT_NE(run({"twin", "--help"}).out.find("twinstorm twin query"), std::string::npos);
  EXPECT_NE(run({"twin", "patch", "--help"}).out.find("--if-match"), std::string::npos);
}

}  // namespace
}  // namespace twinstorm::testing
