// The fuzz targets over their stored inputs, so that what was found once stays fixed without a fuzzer.
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>

#include <gtest/gtest.h>

using FuzzTarget = int(const uint8_t*, size_t);
// Each target's LLVMFuzzerTestOneInput, renamed by CMakeLists.txt so that all fit into one program.
extern "C" {
FuzzTarget fuzz_mqtt_decoder;
FuzzTarget fuzz_connection_string;
FuzzTarget fuzz_sas_token;
FuzzTarget fuzz_topics;
FuzzTarget fuzz_service_routes;
FuzzTarget fuzz_json_scanner;
FuzzTarget fuzz_jwt;
FuzzTarget fuzz_message_bag;
FuzzTarget fuzz_device_routes;
FuzzTarget fuzz_http_parser;
FuzzTarget fuzz_ws_framer;
}

namespace {

/// Runs the target over each file, over every prefix of it and with each byte changed once.
void replay(const char* corpus, FuzzTarget* target) {
  const auto folder = std::filesystem::path{TWINSTORM_SOURCE_DIR} / "tests/fuzz/corpus" / corpus;
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator{folder}) {
    std::ifstream file{entry.path(), std::ios::binary};
    const std::string bytes{std::istreambuf_iterator<char>{file}, {}};
    SCOPED_TRACE(entry.path().filename());
    const auto run = [&](std::string_view input) {
      // Exactly as long as the input, so that a sanitizer sees reading behind it.
      const auto exact = std::make_unique<uint8_t[]>(input.size());
      std::copy(input.begin(), input.end(), exact.get());
      EXPECT_EQ(target(exact.get(), input.size()), 0);
    };
    run(bytes);
    for (size_t i = 0; i < bytes.size(); ++i) {
      run(std::string_view{bytes}.substr(0, i));
      auto changed = bytes;
      changed[i] = static_cast<char>(changed[i] ^ (1 << i % 8));
      run(changed);
    }
    ++files;
  }
  EXPECT_GE(files, 3) << folder;
}

TEST(FuzzCorpus, MqttDecoder) { replay("mqtt_decoder", fuzz_mqtt_decoder); }
TEST(FuzzCorpus, ConnectionString) { replay("connection_string", fuzz_connection_string); }
TEST(FuzzCorpus, SasToken) { replay("sas_token", fuzz_sas_token); }
TEST(FuzzCorpus, Topics) { replay("topics", fuzz_topics); }
TEST(FuzzCorpus, ServiceRoutes) { replay("service_routes", fuzz_service_routes); }
TEST(FuzzCorpus, JsonScanner) { replay("json_scanner", fuzz_json_scanner); }
TEST(FuzzCorpus, Jwt) { replay("jwt", fuzz_jwt); }
TEST(FuzzCorpus, MessageBag) { replay("message_bag", fuzz_message_bag); }
TEST(FuzzCorpus, DeviceRoutes) { replay("device_routes", fuzz_device_routes); }
TEST(FuzzCorpus, HttpParser) { replay("http_parser", fuzz_http_parser); }
TEST(FuzzCorpus, WsFramer) { replay("ws_framer", fuzz_ws_framer); }

}  // namespace
