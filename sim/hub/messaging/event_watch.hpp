// Telemetry of one identity as somebody at a keyboard or a test wants to see it: kept from the first
// `GET /twinstorm/devices/{id}/messages/events` on, handed out with the next. An identity nobody watches pays nothing.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>

#include "sim/base/time.hpp"
#include "sim/protocol/message_bag.hpp"

namespace twinstorm::hub {

class EventWatch {
 public:
  static constexpr size_t kMessagesMax = 64;                   ///< the oldest go first
  static constexpr size_t kBodyBytesMax = 4 * 1024;            ///< of a longer body only the size is kept
  static constexpr size_t kBytesMax = 256 * 1024;              ///< of all; properties beyond it are not kept
  static constexpr Nanos kPatience = std::chrono::minutes{1};  ///< ends when nobody has asked for so long

  explicit EventWatch(WallTime now) : asked_{now} {}

  void add(const protocol::MessageProperties& properties, std::string_view body, WallTime now);
  bool forgotten(WallTime now) const { return now - asked_ > kPatience; }
  /// Appends a JSON array of `{"enqueuedTime","properties":{...},"systemProperties":{...},"bodySize","body"}` (body in
  /// base64, absent when it was too long) and starts anew.
  void take(WallTime now, std::string& out);

 private:
  struct Event {
    protocol::MessageProperties properties;
    std::string body;
    size_t body_size;
    WallTime when;
    size_t cost;  // bytes of memory, about
  };
  std::deque<Event> events_;
  size_t bytes_ = 0;  // cost of all
  WallTime asked_;
};

}  // namespace twinstorm::hub
