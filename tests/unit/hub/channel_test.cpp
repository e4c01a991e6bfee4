// What a connection leaves when it moves to another event loop.
#include <utility>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include "sim/hub/connection.hpp"

namespace twinstorm::hub {
namespace {

bool is_open(int descriptor) { return fcntl(descriptor, F_GETFD) != -1; }

TEST(Channel, IsClosedWhenNoLoopTakesItUp) {
  const int descriptor = socket(AF_INET, SOCK_STREAM, 0);
  {
    Channel::Parked parked{Channel::Descriptor{descriptor}, boost::asio::ip::tcp::v4(), {}, {}};
    const auto work = [moved = std::move(parked)] {};  // posted to a loop that never runs it
    EXPECT_TRUE(is_open(descriptor));
  }
  EXPECT_FALSE(is_open(descriptor));
}

TEST(Channel, GoesOnInTheLoopThatTakesItUp) {
  const int descriptor = socket(AF_INET, SOCK_STREAM, 0);
  net::IoContext io;
  {
    const Channel channel =
        Channel::Parked{Channel::Descriptor{descriptor}, boost::asio::ip::tcp::v4(), {}, {}}.revive(io);
    EXPECT_TRUE(is_open(descriptor));
  }
  EXPECT_FALSE(is_open(descriptor));
}

}  // namespace
}  // namespace twinstorm::hub
