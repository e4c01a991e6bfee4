// HTTP bytes from strangers: the request parser in one piece and cut in two must agree, and any target may be routed.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "sim/protocol/http/http_codec.hpp"
#include "sim/protocol/service_routes.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace twinstorm;
  const std::string_view text{reinterpret_cast<const char*>(data), size};
  (void)protocol::parse_service_route("GET", text);

  const http::Limits limits{1024, 4096};
  http::RequestParser whole{limits};
  const auto once = whole.feed(text);
  if (once.consumed > size) std::abort();
  http::RequestParser pieces{limits};
  const auto first = pieces.feed(text.substr(0, size / 2));
  if (first.status == http::ParseStatus::need_more) {
    const auto second = pieces.feed(text.substr(first.consumed));
    if (once.status == http::ParseStatus::complete &&
        (second.status != once.status || first.consumed + second.consumed != once.consumed ||
         pieces.body() != whole.body() || pieces.target() != whole.target())) {
      std::abort();
    }
  }
  if (once.status == http::ParseStatus::complete) {
    (void)protocol::parse_service_route(whole.method(), whole.target());
    (void)whole.header("If-Match");
  }
  return 0;
}
