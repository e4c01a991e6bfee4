// HTTP from strangers, byte by byte and at once, several messages behind each other: both readings must agree.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "sim/protocol/http/http_codec.hpp"

namespace {

using namespace twinstorm;

// Headers longer than the input: how near the limit of headers is refused depends, by a few bytes, on how they are cut.
constexpr http::Limits kLimits{64 * 1024, 4096};

void note(const http::RequestParser& parser, std::string& heard) {
  heard.append(parser.method()).append(1, ' ').append(parser.target()).append(1, '\n').append(parser.body());
  for (const auto& [name, value] : parser.headers()) heard.append(name).append(1, ':').append(value);
  heard += parser.keep_alive() ? '+' : '-';
}
void note(const http::ResponseParser& parser, std::string& heard) {
  heard.append(std::to_string(parser.status())).append(1, '\n').append(parser.body());
  heard += parser.keep_alive() ? '+' : '-';
}

/// All messages of `text`, given in steps of `step` bytes. Where an error is noticed may differ, what was heard not.
template <class Parser>
std::string listen(std::string_view text, size_t step) {
  Parser parser{kLimits};
  std::string heard;
  size_t given = 0;
  size_t taken = 0;
  while (true) {
    const auto fed = parser.feed(text.substr(taken, given - taken));
    if (fed.consumed > given - taken) std::abort();
    taken += fed.consumed;
    if (fed.status == http::ParseStatus::error) return heard;
    if (fed.status == http::ParseStatus::complete) {
      note(parser, heard);
      if (!parser.keep_alive()) return heard;
      parser.next();
    } else if (given < text.size()) {
      given = given + step < text.size() ? given + step : text.size();
    } else {
      return heard;
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text{reinterpret_cast<const char*>(data), size};
  if (listen<http::RequestParser>(text, 1) != listen<http::RequestParser>(text, size + 1)) std::abort();
  if (listen<http::ResponseParser>(text, 1) != listen<http::ResponseParser>(text, size + 1)) std::abort();
  return 0;
}
