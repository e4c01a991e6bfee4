// WebSocket framing: the RFC's examples, its rules one by one, and any fragmentation giving the same bytes.
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "sim/base/rng.hpp"
#include "sim/protocol/ws/framer.hpp"

namespace twinstorm::ws {
namespace {

using Kind = Step::Kind;

std::string bytes(std::initializer_list<int> values) {
  std::string out;
  for (const int value : values) out.push_back(static_cast<char>(value));
  return out;
}

struct Seen {
  std::string data;
  int messages = 0;
  std::vector<std::string> controls;
  Step last;
};

/// Feeds in pieces of `piece` bytes, keeping what the framer leaves, as a stream does.
Seen read_all(Framer& framer, const std::string& input, size_t piece) {
  Seen seen;
  std::string kept;
  for (size_t at = 0; at < input.size(); at += piece) {
    kept += input.substr(at, piece);
    std::span<char> rest{kept};
    for (;;) {
      const auto step = framer.next(rest);
      seen.last = step;
      if (step.kind == Kind::data) {
        seen.data += step.payload;
        seen.messages += step.message_end;
      } else if (step.kind == Kind::ping) {
        seen.controls.push_back("ping " + std::string{step.payload});
      } else if (step.kind == Kind::pong) {
        seen.controls.push_back("pong " + std::string{step.payload});
      } else if (step.kind == Kind::close) {
        seen.controls.push_back("close " + std::to_string(static_cast<int>(step.code)) + ' ' +
                                std::string{step.payload});
      } else if (step.kind == Kind::error) {
        seen.controls.push_back("error " + std::to_string(static_cast<int>(step.code)) + ' ' +
                                std::string{step.problem});
        return seen;
      }
      rest = rest.subspan(step.consumed);
      if (step.kind == Kind::need_more) break;
    }
    kept.assign(rest.begin(), rest.end());
  }
  return seen;
}
std::string verdict(Role role, const std::string& input, uint32_t message_max = kMessageMaxDefault) {
  Framer framer{role, message_max};
  const auto seen = read_all(framer, input, input.size());
  return seen.controls.empty() ? "no complaint" : seen.controls.back();
}

// RFC 6455 section 5.7, with the text opcode replaced by binary.
TEST(WsFramerTest, ExamplesOfTheRfc) {
  const std::string hello = "Hello";
  Framer client{Role::client};
  EXPECT_EQ(read_all(client, bytes({0x82, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f}), 100).data, hello);
  Framer server{Role::server};
  const auto masked = bytes({0x82, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58});
  EXPECT_EQ(read_all(server, masked, 100).data, hello);
  std::string written;
  append_frame(written, Opcode::binary, hello, 0x37fa213d);
  EXPECT_EQ(written, masked);
  Framer fragments{Role::client};
  const auto seen = read_all(fragments, bytes({0x02, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f}), 100);
  EXPECT_EQ(seen.data, hello);
  EXPECT_EQ(seen.messages, 1);
  Framer ping{Role::client};
  EXPECT_EQ(read_all(ping, bytes({0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f}), 100).controls,
            std::vector<std::string>{"ping Hello"});
  Framer pong{Role::server};
  EXPECT_EQ(read_all(pong, bytes({0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58}), 100).controls,
            std::vector<std::string>{"pong Hello"});
  for (const size_t size : {256u, 65536u}) {
    std::string frame;
    append_frame(frame, Opcode::binary, std::string(size, 'x'), std::nullopt);
    EXPECT_EQ(frame.substr(0, size == 256 ? 4 : 10),
              size == 256 ? bytes({0x82, 0x7e, 0x01, 0x00}) : bytes({0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0}));
    Framer reader{Role::client};
    EXPECT_EQ(read_all(reader, frame, 1000).data, std::string(size, 'x'));
  }
}

TEST(WsFramerTest, LengthsAtTheirBorders) {
  for (const size_t size : {0u, 1u, 125u, 126u, 127u, 65535u, 65536u, 65537u}) {
    for (const bool masked : {false, true}) {
      std::string payload(size, '\0');
      for (size_t i = 0; i < size; ++i) payload[i] = static_cast<char>(i * 7);
      std::string frame;
      append_frame(frame, Opcode::binary, payload, masked ? std::optional<uint32_t>{0x01020304} : std::nullopt);
      Framer framer{masked ? Role::server : Role::client};
      const auto seen = read_all(framer, frame, frame.size());
      EXPECT_EQ(seen.data, payload) << size;
      EXPECT_EQ(seen.messages, 1) << size;
    }
  }
}

TEST(WsFramerTest, ControlFramesStandBetweenFragments) {
  std::string input;
  append_frame(input, Opcode::binary, "one ", std::nullopt, false);
  append_frame(input, Opcode::ping, "p", std::nullopt);
  append_frame(input, Opcode::continuation, "two ", std::nullopt, false);
  append_frame(input, Opcode::pong, "", std::nullopt);
  append_frame(input, Opcode::continuation, "three", std::nullopt);
  append_close(input, CloseCode::normal, "bye", std::nullopt);
  for (size_t piece = 1; piece <= input.size(); ++piece) {
    Framer framer{Role::client};
    const auto seen = read_all(framer, input, piece);
    EXPECT_EQ(seen.data, "one two three");
    EXPECT_EQ(seen.messages, 1);
    EXPECT_EQ(seen.controls, (std::vector<std::string>{"ping p", "pong ", "close 1000 bye"}));
    EXPECT_TRUE(framer.closed());
  }
}

TEST(WsFramerTest, WhatAPeerMayNotSend) {
  EXPECT_EQ(verdict(Role::client, bytes({0xc2, 0x00})),
            "error 1002 a reserved bit is set, but no extension was agreed on");
  EXPECT_EQ(verdict(Role::client, bytes({0x83})), "error 1002 a frame with a reserved opcode");
  EXPECT_EQ(verdict(Role::client, bytes({0x8b})), "error 1002 a frame with a reserved opcode");
  EXPECT_EQ(verdict(Role::client, bytes({0x81, 0x00})), "error 1003 a text message; only binary ones are spoken here");
  EXPECT_EQ(verdict(Role::client, bytes({0x80, 0x00})),
            "error 1002 a continuation frame without a message to continue");
  EXPECT_EQ(verdict(Role::client, bytes({0x02, 0x00, 0x82, 0x00})), "error 1002 a new message inside a fragmented one");
  EXPECT_EQ(verdict(Role::client, bytes({0x09, 0x00})), "error 1002 a fragmented control frame");
  EXPECT_EQ(verdict(Role::client, bytes({0x89, 0x7e, 0, 126})), "error 1002 a control frame over 125 bytes");
  EXPECT_EQ(verdict(Role::client, bytes({0x82, 0x80})), "error 1002 a masked frame from a server");
  EXPECT_EQ(verdict(Role::server, bytes({0x82, 0x00})), "error 1002 a frame without mask from a client");
  EXPECT_EQ(verdict(Role::client, bytes({0x82, 0x7e, 0, 125})),
            "error 1002 a frame length that is not in its shortest form");
  EXPECT_EQ(verdict(Role::client, bytes({0x82, 0x7f, 0, 0, 0, 0, 0, 0, 0xff, 0xff})),
            "error 1002 a frame length that is not in its shortest form");
  EXPECT_EQ(verdict(Role::client, bytes({0x82, 0x7f, 0x80, 0, 0, 0, 0, 0, 0, 0})),
            "error 1002 a frame length that is not in its shortest form");
  EXPECT_EQ(verdict(Role::client, bytes({0x82, 0x7f, 0x7f, 0, 0, 0, 0, 0, 0, 0})),
            "error 1009 the message is too long");
}

TEST(WsFramerTest, LongMessagesAreRefusedHoweverTheyAreCut) {
  std::string fits, whole, fragments;
  append_frame(fits, Opcode::binary, std::string(1000, 'x'), std::nullopt);
  append_frame(whole, Opcode::binary, std::string(1001, 'x'), std::nullopt);
  append_frame(fragments, Opcode::binary, std::string(600, 'x'), std::nullopt, false);
  append_frame(fragments, Opcode::continuation, std::string(401, 'x'), std::nullopt);
  EXPECT_EQ(verdict(Role::client, fits + fits + fits, 1000), "no complaint");
  EXPECT_EQ(verdict(Role::client, whole, 1000), "error 1009 the message is too long");
  EXPECT_EQ(verdict(Role::client, fragments, 1000), "error 1009 the message is too long");
}

TEST(WsFramerTest, CloseFramesAreCheckedAndEndEverything) {
  EXPECT_EQ(verdict(Role::client, bytes({0x88, 0x00})), "close 1005 ");
  EXPECT_EQ(verdict(Role::client, bytes({0x88, 0x02, 0x03, 0xe8})), "close 1000 ");
  EXPECT_EQ(verdict(Role::client, bytes({0x88, 0x01, 0x03})), "error 1002 a close frame with half a status code");
  for (const int code : {0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65535}) {
    EXPECT_EQ(verdict(Role::client, bytes({0x88, 0x02, code >> 8, code & 0xff})),
              "error 1002 a close frame with a code that is not allowed")
        << code;
  }
  EXPECT_EQ(verdict(Role::client, bytes({0x88, 0x04, 0x03, 0xe8, 0xc3, 0x28})),
            "error 1007 a close reason that is not UTF-8");
  std::string masked;
  append_close(masked, CloseCode::going_away, "see you", 0xdeadbeef);
  EXPECT_EQ(verdict(Role::server, masked), "close 1001 see you");

  Framer framer{Role::client};
  read_all(framer, bytes({0x88, 0x00}), 2);
  std::string more(10, 'x');
  const auto step = framer.next(std::span<char>{more});
  EXPECT_EQ(step.kind, Kind::need_more);
  EXPECT_EQ(step.consumed, more.size());
}

TEST(WsFramerTest, IncompleteHeadersAndControlFramesStayWithTheCaller) {
  std::string frame;
  append_frame(frame, Opcode::ping, "payload", 0x11223344);
  for (size_t size = 0; size < frame.size(); ++size) {
    Framer framer{Role::server};
    std::string part = frame.substr(0, size);
    const auto step = framer.next(std::span<char>{part});
    EXPECT_EQ(step.kind, Kind::need_more);
    EXPECT_EQ(step.consumed, 0u);
    EXPECT_EQ(part, frame.substr(0, size)) << "nothing is unmasked before it is consumed";
  }
}

TEST(WsFramerTest, AReasonTooLongIsCut) {
  std::string out;
  append_close(out, CloseCode::normal, std::string(500, 'r'), std::nullopt);
  EXPECT_EQ(verdict(Role::client, out), "close 1000 " + std::string(kCloseReasonMax, 'r'));
}

TEST(WsFramerTest, MaskingTwiceIsNothing) {
  Rng rng{7};
  for (size_t size = 0; size < 40; ++size) {
    std::string text(size, '\0');
    for (char& c : text) c = static_cast<char>(rng.next());
    const auto key = static_cast<uint32_t>(rng.next());
    std::string whole = text, pieces = text;
    apply_mask(whole, key);
    for (size_t i = 0; i < size; ++i) {
      EXPECT_EQ(static_cast<uint8_t>(whole[i]), static_cast<uint8_t>(text[i]) ^ (key >> (24 - i % 4 * 8) & 0xff));
    }
    const size_t cut = size / 3;
    apply_mask(std::span<char>{pieces}.first(cut), key);
    apply_mask(std::span<char>{pieces}.subspan(cut), key, cut);
    EXPECT_EQ(pieces, whole);
    apply_mask(whole, key);
    EXPECT_EQ(whole, text);
  }
}

TEST(WsFramerTest, AnyFragmentationGivesTheSameBytes) {
  Rng rng{2026, "frames"};
  for (int round = 0; round < 400; ++round) {
    const bool to_server = rng.chance(0.5);
    const auto mask = [&] {
      return to_server ? std::optional<uint32_t>{static_cast<uint32_t>(rng.next())} : std::nullopt;
    };
    std::string expected, input;
    std::vector<std::string> controls;
    int messages = 0;
    for (uint64_t message = rng.next() % 4 + 1; message > 0; --message, ++messages) {
      for (uint64_t fragment = rng.next() % 4, first = 1;; --fragment, first = 0) {
        std::string payload(rng.next() % (rng.chance(0.1) ? 70'000 : 300), '\0');
        for (char& c : payload) c = static_cast<char>(rng.next());
        append_frame(input, first != 0 ? Opcode::binary : Opcode::continuation, payload, mask(), fragment == 0);
        expected += payload;
        if (rng.chance(0.3)) {
          const std::string text(rng.next() % 126, 'c');
          const bool ping = rng.chance(0.5);
          append_frame(input, ping ? Opcode::ping : Opcode::pong, text, mask());
          controls.push_back((ping ? "ping " : "pong ") + text);
        }
        if (fragment == 0) break;
      }
    }
    Framer framer{to_server ? Role::server : Role::client};
    const auto seen = read_all(framer, input, rng.next() % 2000 + 1);
    ASSERT_EQ(seen.data, expected) << "round " << round;
    ASSERT_EQ(seen.messages, messages);
    ASSERT_EQ(seen.controls, controls);
  }
}

}  // namespace
}  // namespace twinstorm::ws
