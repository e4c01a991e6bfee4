// The elements of a JSON array, without building it: what a page of a query's result is.
#pragma once

#include <cstdint>
#include <string_view>

namespace twinstorm::backend {

/// Calls `row(text)` for each element of the array; false when `json` is no complete array (elements before the break
/// have been delivered). Lenient inside elements: it balances brackets and strings.
template <class Fn>
bool for_each_row(std::string_view json, Fn&& row) {
  const auto blank = [](char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; };
  size_t at = 0;
  while (at < json.size() && blank(json[at])) ++at;
  if (at == json.size() || json[at] != '[') return false;
  size_t begin = ++at;
  int depth = 0;
  bool empty = true;
  for (; at < json.size(); ++at) {
    const char c = json[at];
    if (blank(c)) continue;
    if (c == '"') {
      for (++at; at < json.size() && json[at] != '"'; ++at) {
        if (json[at] == '\\') ++at;
      }
      empty = false;
    } else if (c == '{' || c == '[') {
      ++depth;
      empty = false;
    } else if ((c == ']' || c == '}') && depth > 0) {
      --depth;
    } else if (c == ',' && depth == 0) {
      row(json.substr(begin, at - begin));
      begin = at + 1;
    } else if (c == ']') {
      if (!empty) row(json.substr(begin, at - begin));
      return true;
    } else {
      empty = false;
    }
  }
  return false;
}

/// Elements of the array; those before the break when it is broken.
inline uint64_t count_rows(std::string_view json) {
  uint64_t rows = 0;
  for_each_row(json, [&rows](std::string_view) { ++rows; });
  return rows;
}

}  // namespace twinstorm::backend
