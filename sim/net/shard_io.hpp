// What all connections of one shard share: the loop, the big buffers, and a pool for the rare leftovers.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "sim/base/rng.hpp"
#include "sim/net/asio.hpp"
#include "sim/protocol/ws/frame.hpp"

namespace twinstorm::net {

/// Recycled text blocks for incomplete packets and unsent bytes. A connection holds one only while it needs it.
class BlockPool {
 public:
  std::unique_ptr<std::string> take() {
    if (free_.empty()) return std::make_unique<std::string>();
    auto block = std::move(free_.back());
    free_.pop_back();
    return block;
  }
  void give_back(std::unique_ptr<std::string> block) {
    if (block == nullptr || free_.size() >= kKept || block->capacity() > kLargest) return;
    block->clear();
    free_.push_back(std::move(block));
  }

 private:
  static constexpr size_t kKept = 256;           // blocks kept for reuse; more are returned to the heap
  static constexpr size_t kLargest = 64 * 1024;  // a block that grew beyond this is not kept
  std::vector<std::unique_ptr<std::string>> free_;
};

/// Owned by a shard, outlives every stream of it. Single thread.
struct ShardIo {
  static constexpr size_t kBufferSize = 256 * 1024;

  IoContext context{1};
  std::vector<char> read_buffer = std::vector<char>(kBufferSize);   ///< valid only inside one `on_bytes` call
  std::vector<char> write_buffer = std::vector<char>(kBufferSize);  ///< scratch for encoding one message
  std::vector<char> frame_buffer =
      std::vector<char>(kBufferSize + ws::kHeaderMax);  ///< scratch for its WebSocket frame
  BlockPool blocks;
  std::string error_text;             ///< about the end a stream is telling, during its `on_stream_ended`
  Rng masks{std::random_device{}()};  ///< keys of WebSocket masks
  uint64_t bytes_received = 0;        ///< as the streams' owners see them: before TLS and framing
  uint64_t bytes_sent = 0;
};

}  // namespace twinstorm::net
