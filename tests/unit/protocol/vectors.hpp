// Reading tests/vectors: JSON files whose byte strings are written spaced by field.
#pragma once

#include <algorithm>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace twinstorm::test {

/// Loaded once and kept, so that a range-for over a part of it is safe. A missing or broken file throws.
inline const nlohmann::json& load_vectors(const std::string& name) {
  static std::map<std::string, nlohmann::json> loaded;
  auto& file = loaded[name];
  if (file.is_null()) {
    std::ifstream stream{std::string{TWINSTORM_SOURCE_DIR} + "/tests/vectors/" + name};
    file = nlohmann::json::parse(stream);
  }
  return file;
}

/// `10 9702 | 0004 'MQTT'`: hex pairs, text between single quotes, `*N 'x'` repeats the text; blanks and bars are
/// ignored.
inline std::string bytes_of(std::string_view text) {
  std::string out;
  size_t repeat = 1;
  for (size_t i = 0; i < text.size();) {
    const char c = text[i];
    if (c == ' ' || c == '|') {
      ++i;
    } else if (c == '*') {
      const size_t end = text.find(' ', i);
      repeat = std::stoul(std::string{text.substr(i + 1, end - i - 1)});
      i = end;
    } else if (c == '\'') {
      const size_t end = text.find('\'', i + 1);
      for (; repeat != 0; --repeat) out += text.substr(i + 1, end - i - 1);
      repeat = 1;
      i = end + 1;
    } else {
      out.push_back(static_cast<char>(std::stoi(std::string{text.substr(i, 2)}, nullptr, 16)));
      i += 2;
    }
  }
  return out;
}

/// The buffer lives on the heap with exactly these bytes, so that a sanitizer sees any read outside.
class ExactBytes {
 public:
  explicit ExactBytes(std::string_view bytes) : data_{new char[bytes.size()]}, size_{bytes.size()} {
    std::copy(bytes.begin(), bytes.end(), data_.get());
  }
  std::string_view view() const { return {data_.get(), size_}; }

 private:
  std::unique_ptr<char[]> data_;
  size_t size_;
};

}  // namespace twinstorm::test
