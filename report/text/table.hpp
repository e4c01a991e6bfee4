// Columns of text for a terminal.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace twinstorm::report {

enum class Align { left, right };

/// Rows of equal length under a heading, two blanks apart, each line indented by two. Cells may hold UTF-8 (one column
/// a code point) and ANSI colour sequences (no columns).
class TextTable {
 public:
  struct Column {
    std::string title;
    Align align = Align::right;
  };
  explicit TextTable(std::vector<Column> columns) : columns_{std::move(columns)} {}
  void add(std::vector<std::string> cells);
  bool empty() const { return rows_.empty(); }
  void append_to(std::string& out) const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

/// Columns `text` takes on a terminal.
size_t display_width(std::string_view text);
/// Breaks at blanks so that no line (indentation included) is wider than `width`, unless one word alone is.
std::string wrapped(std::string_view text, size_t width, std::string_view indent);

}  // namespace twinstorm::report
