// Bytes that a consumer has not taken yet, in a pooled block that exists only while there are some.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "sim/net/shard_io.hpp"

namespace twinstorm::net {

/// Hands `tail` + `bytes` to `consume` (view in, bytes taken out) and keeps what it leaves. `alive` is asked behind
/// the call: when it says no, `tail` may be gone and is not touched. Returns the answer of `alive`.
template <class Consume, class Alive>
bool feed_with_tail(BlockPool& blocks, std::unique_ptr<std::string>& tail, std::string_view bytes, Consume&& consume,
                    Alive&& alive) {
  if (tail == nullptr) {
    const size_t consumed = consume(bytes);
    if (!alive()) return false;
    if (consumed < bytes.size()) {
      tail = blocks.take();
      tail->assign(bytes.substr(consumed));
    }
    return true;
  }
  // The kept bytes must stand in front; the block stays ours during the call, whatever the owner does.
  auto joined = std::move(tail);
  joined->append(bytes);
  const size_t consumed = consume(std::string_view{*joined});
  if (!alive()) {
    blocks.give_back(std::move(joined));
    return false;
  }
  joined->erase(0, consumed);
  if (joined->empty()) {
    blocks.give_back(std::move(joined));
  } else {
    tail = std::move(joined);
  }
  return true;
}

}  // namespace twinstorm::net
