// `twinstorm hub --issue-dev-token`: a token from one process opens a hub that runs in another.
#include <csignal>
#include <thread>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/support/process.hpp"

namespace twinstorm::testing {
namespace {

namespace fs = std::filesystem;

std::string token(const fs::path& data, std::vector<std::string> more) {
  std::vector<std::string> words{TWINSTORM_BINARY, "hub", "--issue-dev-token", "--data", data.string()};
  words.insert(words.end(), more.begin(), more.end());
  Process issue{words};
  EXPECT_EQ(issue.wait(), 0) << issue.err();
  std::string text = issue.out();
  EXPECT_EQ(text.find('\n'), text.size() - 1);  // the token and nothing else
  text.pop_back();
  return text;
}

TEST(DevToken, OpensAHubThatRunsAlreadyWithinItsRole) {
  TemporaryFolder folder;
  const fs::path data = folder.path() / "data";
  const fs::path ready = folder.path() / "hub.json";
  Process hub{{TWINSTORM_BINARY, "hub", "--mqtt-port", "off", "--http-port", "0", "--mqtts-port", "off", "--https-port",
               "off", "--data", data.string(), "--ready-file", ready.string(), "--quiet"}};
  for (int i = 0; i < 500 && !fs::exists(ready); ++i) std::this_thread::sleep_for(std::chrono::milliseconds{20});
  const auto port = nlohmann::json::parse(read_file(ready))["httpPort"].get<uint16_t>();
  const auto ask = [&](const std::string& method, const std::string& target, const std::string& bearer) {
    const std::string body = method == "GET" ? "" : "{}";
    return http_request(port, method, target + "?api-version=2021-04-12", "Bearer " + bearer, body);
  };
  const auto contains = [](const std::string& text, const char* part) { return text.find(part) != std::string::npos; };
  EXPECT_PRED2(contains, ask("PUT", "/devices/d", token(data, {})), "generationId");
  const std::string reader = token(data, {"--role", "IoT Hub Data Reader", "--valid", "5m"});
  EXPECT_PRED2(contains, ask("GET", "/twins/d", reader), "\"deviceId\":\"d\"");
  EXPECT_PRED2(contains, ask("PATCH", "/twins/d", reader), "is not authorized for PATCH on /twins/d");
  const std::string stranger = token(folder.path() / "another", {});
  EXPECT_PRED2(contains, ask("GET", "/twins/d", stranger), "ErrorCode:IotHubUnauthorizedAccess");
  hub.signal(SIGTERM);
  EXPECT_EQ(hub.wait(), 0);
  EXPECT_EQ(hub.out() + hub.err(), "");
}

TEST(DevToken, NamesTheRolesItKnows) {
  TemporaryFolder folder;
  Process issue{{TWINSTORM_BINARY, "hub", "--issue-dev-token", "--data", folder.path().string(), "--role", "King"}};
  EXPECT_EQ(issue.wait(), 2);
  EXPECT_EQ(issue.out(), "");
  EXPECT_NE(issue.err().find("role 'King' is not known, give one of 'IoT Hub Data Contributor'"), std::string::npos)
      << issue.err();
}

}  // namespace
}  // namespace twinstorm::testing
