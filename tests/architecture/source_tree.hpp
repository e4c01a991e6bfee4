// The C++ sources of the product, read once: which module each belongs to, what it includes, and its code without
// comments.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace twinstorm::architecture {

struct Include {
  size_t line = 0;
  std::string header;
  bool quoted = false;  ///< `"..."` rather than `<...>`
};

struct SourceFile {
  std::string path;    ///< from the repository root
  std::string module;  ///< `sim/twin`, `metrics/export`, ...
  std::vector<Include> includes;
  std::vector<std::string> code;  ///< lines, comments blanked
};

/// `sim/<name>`, `metrics/export`, `metrics` or `report`; empty for anything else.
std::string module_of(const std::string& path);

/// Splits a text into lines with comments blanked and reads its includes. String literals stay as they are.
SourceFile read_source(std::string path, const std::string& text);

/// Every .hpp and .cpp below sim/, metrics/ and report/ of the tree these tests were built from.
const std::vector<SourceFile>& source_tree();

std::string read_text(const std::filesystem::path& file);

}  // namespace twinstorm::architecture
