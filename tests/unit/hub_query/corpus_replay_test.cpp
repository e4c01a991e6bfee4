// The fuzz targets over their stored inputs, so that what was found once stays fixed without a fuzzer.
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include <gtest/gtest.h>

using FuzzTarget = int(const uint8_t*, size_t);
// Each target's LLVMFuzzerTestOneInput, renamed by CMakeLists.txt so that both fit into one program.
extern "C" {
FuzzTarget fuzz_query_parser;
FuzzTarget fuzz_query_evaluate;
}

namespace {

/// Runs the target over each file, over prefixes of it and with bytes changed.
void replay(const char* corpus, FuzzTarget* target) {
  const auto folder = std::filesystem::path{TWINSTORM_SOURCE_DIR} / "tests/fuzz/corpus" / corpus;
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator{folder}) {
    std::ifstream file{entry.path(), std::ios::binary};
    const std::string bytes{std::istreambuf_iterator<char>{file}, {}};
    SCOPED_TRACE(entry.path().filename());
    const auto run = [&](std::string_view input) {
      EXPECT_EQ(target(reinterpret_cast<const uint8_t*>(input.data()), input.size()), 0);
    };
    run(bytes);
    for (size_t i = 0; i < bytes.size(); i += 1 + bytes.size() / 200) {
      run(std::string_view{bytes}.substr(0, i));
      auto changed = bytes;
      changed[i] = static_cast<char>(changed[i] ^ (1 << i % 8));
      run(changed);
    }
    ++files;
  }
  EXPECT_GE(files, 6) << folder;
}

TEST(QueryFuzzCorpus, Parser) { replay("query_parser", fuzz_query_parser); }
TEST(QueryFuzzCorpus, Evaluate) { replay("query_evaluate", fuzz_query_evaluate); }

}  // namespace
