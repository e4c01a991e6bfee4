// An event loop that a test drives by hand.
#pragma once

#include <chrono>
#include <functional>

#include <gtest/gtest.h>

#include "sim/net/shard_io.hpp"

namespace twinstorm::testing {

class EventLoop {
 protected:
  /// Runs handlers until `done`; fails the test when nothing brings that about.
  void until(const std::function<bool()>& done) {
    for (int i = 0; i < 2000 && !done(); ++i) {
      io.context.restart();
      io.context.run_one_for(std::chrono::milliseconds{2});
    }
    EXPECT_TRUE(done());
  }
  /// Runs what is due or about to be: for what must not happen.
  void settle() {
    for (int i = 0; i < 5; ++i) {
      io.context.restart();
      io.context.run_one_for(std::chrono::milliseconds{3});
    }
  }

  net::ShardIo io;
};

}  // namespace twinstorm::testing
