#include "sim/net/tcp_stream.hpp"

#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sim/net/resolve.hpp"
#include "tests/support/event_loop.hpp"

namespace twinstorm::net {
namespace {

using namespace std::chrono_literals;

/// A peer of plain sockets: what it sends is exactly what arrives.
class Peer {
 public:
  explicit Peer(int receive_buffer = 0) : listener_{socket(AF_INET, SOCK_STREAM, 0)} {
    if (receive_buffer > 0) setsockopt(listener_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    bind(listener_, reinterpret_cast<sockaddr*>(&address), size);
    listen(listener_, 8);
    getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    endpoint_ = Endpoint{boost::asio::ip::address_v4::loopback(), ntohs(address.sin_port)};
  }
  ~Peer() {
    if (listener_ >= 0) close(listener_);
    hang_up();
  }
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  const Endpoint& endpoint() const { return endpoint_; }
  void stop_listening() {
    close(listener_);
    listener_ = -1;
  }
  void accept() { fd_ = ::accept(listener_, nullptr, nullptr); }
  /// Where the accepted connection comes from.
  std::string other_end() const {
    sockaddr_in address{};
    socklen_t size = sizeof address;
    getpeername(fd_, reinterpret_cast<sockaddr*>(&address), &size);
    char text[INET_ADDRSTRLEN];
    return inet_ntop(AF_INET, &address.sin_addr, text, sizeof text);
  }
  void send(std::string_view bytes) const {
    EXPECT_EQ(::send(fd_, bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  }
  /// What is there now; `ended` and `reset` tell how a connection went.
  std::string receive() {
    std::string buffer(1 << 20, '\0');
    const ssize_t size = recv(fd_, buffer.data(), buffer.size(), MSG_DONTWAIT);
    ended = size == 0;
    reset = size < 0 && errno == ECONNRESET;
    buffer.resize(size > 0 ? static_cast<size_t>(size) : 0);
    return buffer;
  }
  void hang_up(bool with_reset = false) {
    if (fd_ < 0) return;
    const linger now{1, 0};
    if (with_reset) setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(fd_);
    fd_ = -1;
  }
  bool ended = false, reset = false;

 private:
  int listener_ = -1, fd_ = -1;
  Endpoint endpoint_;
};

class TcpStreamTest : public ::testing::Test, protected testing::EventLoop, protected StreamEvents {
 protected:
  void connect() {
    StreamEvents& events = *this;
    stream.connect(peer.endpoint(), events);
    until([&] { return connected > 0; });
    peer.accept();
  }

  void on_stream_connected() override { ++connected; }
  size_t on_stream_bytes(std::string_view bytes) override {
    seen.emplace_back(bytes);
    return consume ? consume(bytes) : bytes.size();
  }
  void on_stream_ended(StreamEnd end) override {
    ends.push_back(end);
    told = stream.error_text();
  }

  Peer peer;
  TcpStream stream{io};
  int connected = 0;
  std::vector<std::string> seen;
  std::vector<StreamEnd> ends;
  std::string told;  // of the last end
  std::function<size_t(std::string_view)> consume;
};

TEST_F(TcpStreamTest, CarriesBytesBothWaysAndCountsThem) {
  connect();
  EXPECT_EQ(stream.send("hello"), SendResult::sent);
  EXPECT_EQ(peer.receive(), "hello");
  peer.send("world!");
  until([&] { return !seen.empty(); });
  EXPECT_EQ(seen, (std::vector<std::string>{"world!"}));
  EXPECT_EQ(io.bytes_sent, 5u);
  EXPECT_EQ(io.bytes_received, 6u);
}

TEST_F(TcpStreamTest, AnUnconsumedTailIsHandedInAgainInFrontOfNewerBytes) {
  consume = [](std::string_view bytes) { return bytes.size() / 4 * 4; };  // packets of four
  connect();
  peer.send("abcdef");
  until([&] { return seen.size() == 1; });
  peer.send("g");
  until([&] { return seen.size() == 2; });
  peer.send("hij");
  until([&] { return seen.size() == 3; });
  EXPECT_EQ(seen, (std::vector<std::string>{"abcdef", "efg", "efghij"}));
}

TEST_F(TcpStreamTest, AFailedConnectIsToldOnceAndNeverInsideTheCall) {
  peer.stop_listening();
  StreamEvents& events = *this;
  stream.connect(peer.endpoint(), events);
  EXPECT_TRUE(ends.empty());
  until([&] { return !ends.empty(); });
  settle();
  EXPECT_EQ(ends, (std::vector<StreamEnd>{StreamEnd::connect_failed}));
  EXPECT_EQ(stream.last_errno(), ECONNREFUSED);
  EXPECT_FALSE(stream.open());
}

TEST_F(TcpStreamTest, ConnectsFromTheAddressItIsGiven) {
  StreamEvents& events = *this;
  stream.connect({.endpoint = peer.endpoint(), .source = boost::asio::ip::make_address("127.0.0.7")}, events);
  until([&] { return connected > 0; });
  peer.accept();
  EXPECT_EQ(peer.other_end(), "127.0.0.7");
  EXPECT_EQ(stream.send("hello"), SendResult::sent);
  EXPECT_EQ(peer.receive(), "hello");
}

TEST_F(TcpStreamTest, AnAddressThatIsNotOfThisMachineEndsTheConnectWithTheReason) {
  StreamEvents& events = *this;
  // TEST-NET-1 (RFC 5737): nobody's.
  stream.connect({.endpoint = peer.endpoint(), .source = boost::asio::ip::make_address("192.0.2.1")}, events);
  EXPECT_TRUE(ends.empty());
  until([&] { return !ends.empty(); });
  EXPECT_EQ(ends, (std::vector<StreamEnd>{StreamEnd::connect_failed}));
  EXPECT_EQ(stream.last_errno(), EADDRNOTAVAIL);
  EXPECT_EQ(told, "no local port or address left to connect from (see twinstorm doctor)");
}

TEST_F(TcpStreamTest, TellsAnOrderlyEndFromAReset) {
  connect();
  peer.hang_up();
  until([&] { return !ends.empty(); });
  connected = 0;
  connect();
  peer.hang_up(true);
  until([&] { return ends.size() == 2; });
  EXPECT_EQ(ends, (std::vector<StreamEnd>{StreamEnd::peer_closed, StreamEnd::io_error}));
  EXPECT_EQ(stream.last_errno(), ECONNRESET);
}

TEST_F(TcpStreamTest, ClosingIsSilentAndMayHappenInsideAnyCall) {
  connect();
  consume = [&](std::string_view bytes) {
    stream.close();
    return bytes.size() - 1;  // what is left belongs to a connection that is gone
  };
  peer.send("abc");
  until([&] { return !seen.empty(); });
  settle();
  EXPECT_TRUE(ends.empty());
  EXPECT_EQ(stream.send("x"), SendResult::closed);
  // Nothing of the old connection shows up in the next.
  consume = {};
  connected = 0;
  peer.hang_up();
  connect();
  peer.send("new");
  until([&] { return seen.size() == 2; });
  EXPECT_EQ(seen[1], "new");
}

TEST_F(TcpStreamTest, CloseSaysGoodbyeAndResetDoesNot) {
  connect();
  stream.close();
  peer.receive();
  EXPECT_TRUE(peer.ended);
  peer.hang_up();
  connected = 0;
  connect();
  stream.close(true);
  peer.receive();
  EXPECT_TRUE(peer.reset);
}

TEST_F(TcpStreamTest, ReconnectingForgetsTheEarlierConnectionsEvents) {
  connect();
  peer.send("stale");
  connected = 0;
  Peer other;
  StreamEvents& events = *this;
  stream.connect(other.endpoint(), events);
  until([&] { return connected == 1; });
  settle();
  EXPECT_TRUE(seen.empty());
  EXPECT_TRUE(ends.empty());
}

TEST_F(TcpStreamTest, WhatTheKernelDoesNotTakeIsKeptAndMoreIsRefused) {
  connect();
  const std::string big(32u << 20, 'x');
  EXPECT_EQ(stream.send(big), SendResult::sent);
  EXPECT_TRUE(stream.send_pending());
  EXPECT_EQ(stream.send("y"), SendResult::would_block);
  size_t received = 0;
  until([&] {
    received += peer.receive().size();
    return received == big.size();
  });
  EXPECT_FALSE(stream.send_pending());
  EXPECT_EQ(io.bytes_sent, big.size());  // the refused byte was not taken
  EXPECT_EQ(stream.send("y"), SendResult::sent);
}

TEST_F(TcpStreamTest, MoreThanTheSharedBufferArrivesInPieces) {
  size_t total = 0;
  consume = [&](std::string_view bytes) {
    total += bytes.size();
    return bytes.size();
  };
  connect();
  std::string big(3 * ShardIo::kBufferSize, 'x');
  size_t sent = 0;
  until([&] {
    if (sent < big.size()) {
      const auto piece = std::min<size_t>(64 * 1024, big.size() - sent);
      peer.send(std::string_view{big}.substr(sent, piece));
      sent += piece;
    }
    return total == big.size();
  });
}

TEST(BlockPool, ReusesBlocksButNotHugeOnes) {
  BlockPool pool;
  auto block = pool.take();
  block->assign(1000, 'x');
  const auto* address = block.get();
  pool.give_back(std::move(block));
  block = pool.take();
  EXPECT_EQ(block.get(), address);
  EXPECT_TRUE(block->empty());
  EXPECT_GE(block->capacity(), 1000u);
  block->assign(100'000, 'x');
  pool.give_back(std::move(block));
  EXPECT_LT(pool.take()->capacity(), 100'000u);
  pool.give_back(nullptr);
}

TEST(Resolve, NamesHostAndPortOfWhatItCannotFind) {
  const auto found = resolve("127.0.0.1", 1883);
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_EQ(found->front(), (Endpoint{boost::asio::ip::address_v4::loopback(), 1883}));
  const auto missing = resolve("no such host", 1883);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::unavailable);
  EXPECT_TRUE(missing.error().message.starts_with("cannot resolve host \"no such host\" (port 1883): "))
      << missing.error().message;
}

}  // namespace
}  // namespace twinstorm::net
