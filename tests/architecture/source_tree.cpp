#include "tests/architecture/source_tree.hpp"

#include <algorithm>
#include <cctype>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace twinstorm::architecture {
namespace {

namespace fs = std::filesystem;

/// Replaces comments by blanks, so that words in them are not taken for code; line breaks stay.
std::string without_comments(const std::string& text) {
  enum class In { code, line_comment, block_comment, string, character };
  std::string out = text;
  In in = In::code;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const char next = i + 1 < text.size() ? text[i + 1] : '\0';
    switch (in) {
      case In::code:
        if (c == '/' && next == '/') in = In::line_comment;
        if (c == '/' && next == '*') in = In::block_comment;
        if (c == '"') in = In::string;
        // A quote after a digit separates digits (1'000).
        if (c == '\'' && (i == 0 || std::isxdigit(static_cast<unsigned char>(text[i - 1])) == 0)) in = In::character;
        if (in == In::line_comment || in == In::block_comment) out[i] = ' ';
        break;
      case In::line_comment:
        if (c == '\n') {
          in = In::code;
        } else {
          out[i] = ' ';
        }
        break;
      case In::block_comment:
        if (c != '\n') out[i] = ' ';
        if (c == '*' && next == '/') {
          out[++i] = ' ';
          in = In::code;
        }
        break;
      case In::string:
      case In::character:
        if (c == '\\') ++i;
        if (c == '\n' || c == (in == In::string ? '"' : '\'')) in = In::code;
        break;
    }
  }
  return out;
}

}  // namespace

std::string module_of(const std::string& path) {
  const auto starts = [&](std::string_view with) { return path.starts_with(with); };
  if (starts("sim/")) {
    const auto slash = path.find('/', 4);
    return slash == std::string::npos ? std::string{} : path.substr(0, slash);
  }
  if (starts("metrics/export/")) return "metrics/export";
  if (starts("metrics/")) return "metrics";
  if (starts("report/")) return "report";
  return {};
}

SourceFile read_source(std::string path, const std::string& text) {
  SourceFile file;
  file.module = module_of(path);
  file.path = std::move(path);
  std::istringstream lines{without_comments(text)};
  for (std::string line; std::getline(lines, line);) {
    file.code.push_back(line);
    const auto hash = line.find_first_not_of(" \t");
    if (hash == std::string::npos || line[hash] != '#') continue;
    const auto word = line.find_first_not_of(" \t", hash + 1);
    if (word == std::string::npos || line.compare(word, 7, "include") != 0) continue;
    const auto open = line.find_first_of("<\"", word);
    if (open == std::string::npos) continue;
    const bool quoted = line[open] == '"';
    const auto close = line.find(quoted ? '"' : '>', open + 1);
    if (close == std::string::npos) continue;
    file.includes.push_back({file.code.size(), line.substr(open + 1, close - open - 1), quoted});
  }
  return file;
}

const std::vector<SourceFile>& source_tree() {
  static const std::vector<SourceFile> files = [] {
    std::vector<SourceFile> found;
    const fs::path root{TWINSTORM_SOURCE_DIR};
    for (const char* top : {"sim", "metrics", "report"}) {
      auto walk = fs::recursive_directory_iterator{root / top};
      for (auto entry = fs::begin(walk); entry != fs::end(walk); ++entry) {
        if (entry->path().filename() == "node_modules") entry.disable_recursion_pending();
        const auto extension = entry->path().extension();
        if (!entry->is_regular_file() || (extension != ".hpp" && extension != ".cpp")) continue;
        found.push_back(read_source(fs::relative(entry->path(), root).generic_string(), read_text(entry->path())));
      }
    }
    std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.path < b.path; });
    return found;
  }();
  return files;
}

std::string read_text(const fs::path& file) {
  std::ifstream in{file, std::ios::binary};
  if (!in) throw std::runtime_error("cannot read " + file.string());
  std::ostringstream text;
  text << in.rdbuf();
  return std::move(text).str();
}

}  // namespace twinstorm::architecture
