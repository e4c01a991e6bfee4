// The laws of docs/architecture.md, checked against the #include lines and the code of the tree.
#include <algorithm>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/architecture/rules.hpp"
#include "tests/architecture/source_tree.hpp"

namespace twinstorm::architecture {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

std::string place(const SourceFile& file, size_t line) { return file.path + ":" + std::to_string(line); }

bool below(const std::string& path, const std::vector<std::string>& folders) {
  return std::any_of(folders.begin(), folders.end(), [&](const std::string& each) { return path.starts_with(each); });
}

/// `prefix` names a folder (`boost/asio/`) or, without a slash at its end, one header (`thread`).
bool names(const std::string& prefix, const std::string& header) {
  return prefix.ends_with('/') ? header.starts_with(prefix) : header == prefix;
}

std::string joined(const std::set<std::string>& words) {
  std::string text;
  for (const auto& word : words) text += (text.empty() ? "" : ", ") + word;
  return text.empty() ? "nothing" : text;
}

std::vector<std::string> wrong_edges(const std::vector<SourceFile>& files) {
  std::vector<std::string> wrong;
  for (const auto& file : files) {
    for (const auto& include : file.includes) {
      if (!include.quoted) continue;
      const auto target = module_of(include.header);
      const auto row = kAllowedEdges.find(file.module);
      if (row == kAllowedEdges.end()) {
        wrong.push_back(file.path + ": module " + file.module + " is not in the table of kAllowedEdges");
      } else if (target.empty()) {
        wrong.push_back(place(file, include.line) + ": \"" + include.header +
                        "\" is not written from the repository root (\"sim/...\", \"metrics/...\", \"report/...\")");
      } else if (target != file.module && !row->second.contains(target)) {
        wrong.push_back(place(file, include.line) + ": " + file.module + " must not include " + include.header +
                        " (it may use " + joined(row->second) + ")");
      }
    }
  }
  return wrong;
}

// --- Module edges
// ------------------------------------------------------------------------------------------------------

TEST(ModuleEdges, AreOnlyThoseOfTheTable) { EXPECT_THAT(wrong_edges(source_tree()), IsEmpty()); }

TEST(ModuleEdges, AreReportedWithPlaceAndChoice) {
  const auto file =
      read_source("sim/twin/merge.cpp", "#include \"sim/twin/merge.hpp\"\n#include \"sim/net/asio.hpp\"\n");
  EXPECT_THAT(wrong_edges({file}),
              ElementsAre("sim/twin/merge.cpp:2: sim/twin must not include sim/net/asio.hpp (it may use sim/base)"));
}

TEST(ModuleEdges, AreNotReadFromComments) {
  const auto file =
      read_source("sim/base/a.cpp", "// #include \"sim/run/b.hpp\"\n/*\n#include \"sim/run/c.hpp\"\n*/ int x;\n");
  EXPECT_THAT(file.includes, IsEmpty());
  EXPECT_EQ(file.code[3], "   int x;");
}

TEST(ModuleEdges, MakeNoCycle) {
  // Repeatedly takes away the modules that use nothing that is left.
  auto left = kAllowedEdges;
  for (bool progress = true; progress;) {
    progress = false;
    for (auto row = left.begin(); row != left.end();) {
      const auto& uses = row->second;
      if (std::any_of(uses.begin(), uses.end(), [&](const std::string& each) { return left.contains(each); })) {
        ++row;
      } else {
        row = left.erase(row);
        progress = true;
      }
    }
  }
  std::string cycle;
  for (const auto& [module, uses] : left) cycle += module + " ";
  EXPECT_EQ(cycle, "");
}

TEST(ModuleEdges, CoverEveryModuleOfTheTree) {
  std::set<std::string> with_code, in_table;
  for (const auto& file : source_tree()) with_code.insert(file.module);
  for (const auto& [module, uses] : kAllowedEdges) in_table.insert(module);
  EXPECT_EQ(with_code, in_table);
}

TEST(ModuleEdges, OfTheBuildAreThoseOfTheTable) {
  std::vector<std::string> wrong;
  const auto module_of_target = [](std::string target) {
    if (target == "metrics_export") return std::string{"metrics/export"};
    if (target.starts_with("sim_")) return "sim/" + target.substr(4);
    return target;
  };
  for (const auto& [module, uses] : kAllowedEdges) {
    const auto list = module + "/CMakeLists.txt";
    std::string text = read_text(std::filesystem::path{TWINSTORM_SOURCE_DIR} / list);
    const auto begin = text.find("twinstorm_module(");
    ASSERT_NE(begin, std::string::npos) << list;
    text = text.substr(begin, text.find(')', begin) - begin);
    for (size_t at = 0; (at = text.find("twinstorm::", at)) != std::string::npos;) {
      at += 11;
      const auto target = module_of_target(text.substr(at, text.find_first_of(" \n", at) - at));
      if (!uses.contains(target)) wrong.push_back(list + ": " + module + " must not link " + target);
    }
  }
  EXPECT_THAT(wrong, IsEmpty());
}

TEST(ModuleEdges, InTheDocumentationAreThoseOfTheTable) {
  // Rows of the module table: | `sim/twin` | what it does | `sim/base` |
  std::map<std::string, std::set<std::string>> documented;
  std::istringstream lines{read_text(std::filesystem::path{TWINSTORM_SOURCE_DIR} / "docs/architecture.md")};
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("| `")) continue;
    const auto name_end = line.find('`', 3);
    const auto module = line.substr(3, name_end - 3);
    if (!kAllowedEdges.contains(module)) continue;
    auto& uses = documented[module];
    std::string last = line.substr(line.rfind('|', line.rfind('|') - 1));
    for (size_t open = 0; (open = last.find('`', open)) != std::string::npos;) {
      const auto close = last.find('`', open + 1);
      uses.insert(last.substr(open + 1, close - open - 1));
      open = close + 1;
    }
  }
  EXPECT_EQ(documented, kAllowedEdges);
}

// --- Laws
// --------------------------------------------------------------------------------------------------------------

using Files = std::vector<SourceFile>;
using Complaints = std::vector<std::string>;

Complaints io_in_sans_io_modules(const Files& files) {
  Complaints wrong;
  for (const auto& file : files) {
    if (!kSansIo.contains(file.module)) continue;
    for (const auto& include : file.includes) {
      if (kIoHeaderExceptions.contains(include.header)) continue;
      const bool io = std::any_of(kIoHeaders.begin(), kIoHeaders.end(),
                                  [&](const std::string& each) { return names(each, include.header); });
      if (!io) continue;
      wrong.push_back(place(file, include.line) + ": " + file.module + " is sans-I/O and must not include <" +
                      include.header + ">");
    }
  }
  return wrong;
}

Complaints client_seeing_server(const Files& files) {
  Complaints wrong;
  for (const auto& file : files) {
    for (const auto& include : file.includes) {
      const auto target = module_of(include.header);
      const bool server_to_client = file.module == "sim/hub" && kClientModules.contains(target);
      const bool client_to_server = kClientModules.contains(file.module) && target == "sim/hub";
      if (!server_to_client && !client_to_server) continue;
      wrong.push_back(place(file, include.line) + ": hub and client share only base, twin, protocol and net, not " +
                      include.header);
    }
  }
  return wrong;
}

Complaints misplaced_headers(const Files& files) {
  Complaints wrong;
  for (const auto& file : files) {
    for (const auto& include : file.includes) {
      for (const auto& rule : kPlaces) {
        if (include.quoted || !names(rule.header, include.header) || below(file.path, rule.folders)) continue;
        wrong.push_back(place(file, include.line) + ": <" + include.header + "> does not belong here (" + rule.why +
                        ")");
      }
    }
  }
  return wrong;
}

Complaints misplaced_code(const Files& files) {
  Complaints wrong;
  for (const auto& file : files) {
    for (size_t line = 0; line < file.code.size(); ++line) {
      for (const auto& rule : kCodePlaces) {
        if (file.code[line].find(rule.code) == std::string::npos || below(file.path, rule.folders)) continue;
        wrong.push_back(place(file, line + 1) + ": " + rule.code + " does not belong here (" + rule.why + ")");
      }
    }
  }
  return wrong;
}

Complaints foreign_details(const Files& files) {
  Complaints wrong;
  for (const auto& file : files) {
    for (const auto& include : file.includes) {
      if (!include.quoted || include.header.find("/detail/") == std::string::npos) continue;
      if (module_of(include.header) == file.module) continue;
      wrong.push_back(place(file, include.line) + ": " + include.header + " is private to its module");
    }
  }
  return wrong;
}

Complaints unguarded_headers(const Files& files) {
  Complaints wrong;
  for (const auto& file : files) {
    if (!file.path.ends_with(".hpp")) continue;
    const bool guarded = std::count(file.code.begin(), file.code.end(), "#pragma once") == 1;
    if (!guarded) wrong.push_back(file.path + ": #pragma once is missing");
  }
  return wrong;
}

TEST(Laws, SansIoModulesUseNoLoopNoSocketsAndNoThreads) {
  EXPECT_THAT(io_in_sans_io_modules(source_tree()), IsEmpty());
}
TEST(Laws, ClientAndServerNeverSeeEachOther) { EXPECT_THAT(client_seeing_server(source_tree()), IsEmpty()); }
TEST(Laws, HeadersOfOthersAreIncludedOnlyInTheirPlaces) { EXPECT_THAT(misplaced_headers(source_tree()), IsEmpty()); }
TEST(Laws, ClocksAreReadAndWaitedForOnlyAtTheTop) { EXPECT_THAT(misplaced_code(source_tree()), IsEmpty()); }
TEST(Laws, DetailHeadersStayInsideTheirModule) { EXPECT_THAT(foreign_details(source_tree()), IsEmpty()); }
TEST(Laws, EveryHeaderIsGuardedOnce) { EXPECT_THAT(unguarded_headers(source_tree()), IsEmpty()); }

TEST(Laws, AreBrokenByWhatTheyForbid) {
  const auto breaks = [](const char* path, const char* text) { return Files{read_source(path, text)}; };
  EXPECT_THAT(io_in_sans_io_modules(breaks("sim/twin/a.cpp", "#include <thread>\n")),
              ElementsAre("sim/twin/a.cpp:1: sim/twin is sans-I/O and must not include <thread>"));
  EXPECT_THAT(io_in_sans_io_modules(breaks("sim/protocol/http/a.cpp", "#include <boost/asio/buffer.hpp>\n")),
              IsEmpty());
  EXPECT_THAT(client_seeing_server(breaks("sim/hub/a.cpp", "#include \"sim/device/behavior.hpp\"\n")), SizeIs(1));
  EXPECT_THAT(client_seeing_server(breaks("sim/run/a.cpp", "#include \"sim/hub/hub.hpp\"\n")), SizeIs(1));
  EXPECT_THAT(misplaced_headers(breaks("metrics/a.cpp", "#include <prometheus/counter.h>\n")), SizeIs(1));
  EXPECT_THAT(misplaced_headers(breaks("sim/device/a.cpp", "#include <nlohmann/json.hpp>\n")), SizeIs(1));
  EXPECT_THAT(misplaced_code(breaks("sim/device/a.cpp", "auto t = std::chrono::steady_clock::now();\n")), SizeIs(1));
  EXPECT_THAT(misplaced_code(breaks("sim/device/a.cpp", "// never calls ::now()\n")), IsEmpty());
  EXPECT_THAT(foreign_details(breaks("sim/hub/a.cpp", "#include \"sim/twin/detail/member_finder.hpp\"\n")), SizeIs(1));
  EXPECT_THAT(unguarded_headers(breaks("sim/twin/a.hpp", "int x;\n")), SizeIs(1));
}

}  // namespace
}  // namespace twinstorm::architecture
