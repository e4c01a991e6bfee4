// Any bytes into the WebSocket framer, in both roles and cut in two at any place: payload lies inside the input, the
// cut changes nothing, and the upgrade checks stand any text.
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>

#include "sim/protocol/ws/framer.hpp"
#include "sim/protocol/ws/upgrade.hpp"

namespace {

using namespace twinstorm;

void require(bool condition) {
  if (!condition) std::abort();
}

struct Outcome {
  std::string data, controls;
  bool failed = false;
  friend bool operator==(const Outcome&, const Outcome&) = default;
};

/// Takes the steps out of `bytes`; what the framer leaves stays in it.
void take(ws::Framer& framer, std::string& bytes, Outcome& outcome) {
  std::span<char> rest{bytes};
  while (!outcome.failed) {
    const auto step = framer.next(rest);
    require(step.consumed <= rest.size());
    if (!step.payload.empty()) {
      require(step.payload.data() >= rest.data());
      require(step.payload.data() + step.payload.size() <= rest.data() + rest.size());
    }
    if (step.kind == ws::Step::Kind::need_more) {
      rest = rest.subspan(step.consumed);
      break;
    }
    if (step.kind == ws::Step::Kind::data) {
      outcome.data += step.payload;
    } else {
      outcome.controls += static_cast<char>(step.kind);
      outcome.controls += step.payload;
    }
    outcome.failed = step.kind == ws::Step::Kind::error;
    rest = rest.subspan(step.consumed);
  }
  bytes.assign(rest.begin(), rest.end());
}

Outcome read(ws::Role role, std::string_view input, size_t cut) {
  ws::Framer framer{role, 1 << 20};
  Outcome outcome;
  std::string kept{input.substr(0, cut)};
  take(framer, kept, outcome);
  kept += input.substr(cut);
  take(framer, kept, outcome);
  return outcome;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input{reinterpret_cast<const char*>(data), size};
  const size_t cut = size == 0 ? 0 : data[0] % size;
  for (const auto role : {ws::Role::client, ws::Role::server}) {
    const auto whole = read(role, input, size);
    require(whole == read(role, input, cut));
    // What came out goes in again.
    std::string frame;
    const bool from_client = role == ws::Role::server;
    ws::append_frame(frame, ws::Opcode::binary, whole.data,
                     from_client ? std::optional<uint32_t>{0x1234abcd} : std::nullopt);
    require(read(role, frame, cut % (frame.size() + 1)).data == whole.data);
  }
  (void)ws::check_upgrade_response(input, {.host = "hub", .key = "dGhlIHNhbXBsZSBub25jZQ=="});
  const auto part = [&](size_t i) { return input.substr(size * i / 6, size / 6); };
  (void)ws::check_upgrade_request({.method = "GET",
                                   .upgrade = part(1),
                                   .connection = part(2),
                                   .version = "13",
                                   .key = part(4),
                                   .subprotocols = input});
  return 0;
}
