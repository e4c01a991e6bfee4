#include "sim/protocol/mqtt/encoder.hpp"

namespace twinstorm::mqtt {
namespace {

// Written before the length is known: the first byte, a guess of two length bytes (packets of 131 bytes to 16 KB, which
// most twin messages are) and the topic's own length.
constexpr size_t kLengthGuess = 2;
constexpr size_t kBodyOffset = 1 + kLengthGuess;
constexpr size_t kTopicOffset = kBodyOffset + 2;

}  // namespace

PublishWriter::PublishWriter(ByteWriter& out, Qos qos, uint16_t packet_id, bool retain, bool dup)
    : out_{out}, start_{out.size()}, packet_id_{packet_id}, with_id_{qos != Qos::at_most_once} {
  TS_ASSERT(!with_id_ || packet_id != 0);
  char header[kTopicOffset] = {};
  header[0] =
      static_cast<char>(static_cast<uint8_t>(PacketType::publish) << 4 | detail::publish_flags(qos, retain, dup));
  out_.append(std::string_view{header, sizeof header});
}

void PublishWriter::begin_payload() {
  if (out_.overflowed()) return;
  const size_t topic = out_.size() - start_ - kTopicOffset;
  if (topic > 0xffff) return;  // `payload_` stays 0: finish() gives up
  char* header = out_.data() + start_;
  header[kBodyOffset] = static_cast<char>(topic >> 8);
  header[kBodyOffset + 1] = static_cast<char>(topic & 0xff);
  if (with_id_) detail::put_u16(out_, packet_id_);
  payload_ = out_.size();
}

bool PublishWriter::finish() {
  const auto give_up = [this] {
    out_.rewind(start_);
    return false;
  };
  if (out_.overflowed() || payload_ == 0) return give_up();
  const size_t body = out_.size() - start_ - kBodyOffset;
  if (body > kRemainingLengthMax) return give_up();
  char length[4];
  const size_t count = detail::fill_remaining_length(length, body);
  if (count > kLengthGuess) {
    out_.append(std::string_view{length, count - kLengthGuess});  // room for the move
    if (out_.overflowed()) return give_up();
  }
  char* packet = out_.data() + start_;
  if (count != kLengthGuess) std::memmove(packet + 1 + count, packet + kBodyOffset, body);
  std::memcpy(packet + 1, length, count);
  out_.rewind(start_ + 1 + count + body);
  return true;
}

}  // namespace twinstorm::mqtt
