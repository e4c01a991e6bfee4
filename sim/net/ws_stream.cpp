#include "sim/net/ws_stream.hpp"

#include "sim/base/assert.hpp"
#include "sim/net/tail.hpp"
#include "sim/protocol/ws/upgrade.hpp"

namespace twinstorm::net {
namespace {

std::string_view between(std::string_view text, std::string_view before, std::string_view after) {
  const size_t start = text.find(before) + before.size();
  return text.substr(start, text.find(after, start) - start);
}

}  // namespace

template <class Lower>
void WsStream<Lower>::connect(const StreamTarget& target, StreamEvents& events) {
  close();
  events_ = &events;
  framer_ = ws::Framer{ws::Role::client};
  std::array<uint8_t, 16> nonce;
  for (auto& byte : nonce) byte = static_cast<uint8_t>(io().masks.next());
  kept_ = io().blocks.take();
  ws::append_upgrade_request(
      *kept_, {.path = target.websocket_path, .host = target.websocket_host, .key = ws::make_key(nonce)});
  StreamEvents& own_events = *this;
  lower_.connect(target, own_events);
}

template <class Lower>
void WsStream<Lower>::on_stream_connected() {
  state_ = State::opening;
  lower_.send(*kept_);
}

template <class Lower>
size_t WsStream<Lower>::on_stream_bytes(std::string_view bytes) {
  size_t done = 0;
  const uint32_t generation = generation_;
  if (state_ == State::opening) {
    done = check_response(bytes);
    if (done == 0 || generation != generation_) return done;
  }
  for (;;) {
    const auto step = framer_.next(bytes.substr(done));
    done += step.consumed;
    switch (step.kind) {
      case ws::Step::Kind::need_more:
        return done;
      case ws::Step::Kind::data:
        if (!step.payload.empty() && !deliver(step.payload)) return done;
        break;
      case ws::Step::Kind::ping:
        // A peer that pings and does not read loses the pong, as section 5.5.3 allows.
        send_frame(ws::Opcode::pong, step.payload);
        break;
      case ws::Step::Kind::pong:
        break;
      case ws::Step::Kind::close:
        end(StreamEnd::peer_closed, "the peer closed the WebSocket");
        return done;
      case ws::Step::Kind::error:
        end(StreamEnd::protocol_error, step.problem);
        return done;
    }
  }
}

/// The bytes of the response once it is whole and right; 0 while it is not whole, or when it ended the stream.
template <class Lower>
size_t WsStream<Lower>::check_response(std::string_view bytes) {
  const auto checked = ws::check_upgrade_response(bytes, {.path = between(*kept_, "GET ", " HTTP/1.1"),
                                                          .host = {},
                                                          .key = between(*kept_, "Sec-WebSocket-Key: ", "\r\n")});
  if (!checked) return 0;
  if (!*checked) {
    end(StreamEnd::upgrade_refused, checked->error().message);
    return 0;
  }
  io().blocks.give_back(std::move(kept_));
  kept_ = nullptr;
  state_ = State::open;
  events_->on_stream_connected();
  return checked->value();
}

/// False when the owner closed the stream.
template <class Lower>
bool WsStream<Lower>::deliver(std::string_view payload) {
  return feed_with_tail(
      io().blocks, kept_, payload, [this](std::string_view bytes) { return events_->on_stream_bytes(bytes); },
      [this, generation = generation_] { return generation == generation_; });
}

template <class Lower>
void WsStream<Lower>::on_stream_ended(StreamEnd end) {
  StreamEvents* const events = events_;
  close();
  events->on_stream_ended(end);
}

template <class Lower>
void WsStream<Lower>::end(StreamEnd reason, std::string_view text) {
  StreamEvents* const events = events_;
  const std::string copy{text};  // it may point into what `close` gives back
  close();
  io().error_text = copy;
  events->on_stream_ended(reason);
}

template <class Lower>
SendResult WsStream<Lower>::send_frame(ws::Opcode opcode, std::string_view payload) {
  protocol::ByteWriter out{io().frame_buffer};
  ws::append_frame(out, opcode, payload, next_mask());
  TS_ASSERT(!out.overflowed());
  return lower_.send(out.view());
}

template <class Lower>
SendResult WsStream<Lower>::send(std::string_view bytes) {
  if (state_ != State::open) return SendResult::closed;
  return send_frame(ws::Opcode::binary, bytes);
}

template <class Lower>
void WsStream<Lower>::close(bool reset) {
  ++generation_;
  events_ = nullptr;
  if (state_ == State::open && !reset && lower_.open()) {
    // Also the answer to the peer's close frame; nobody waits for another.
    char frame[ws::kHeaderMax + ws::kControlMax];
    protocol::ByteWriter out{frame};
    ws::append_close(out, ws::CloseCode::normal, {}, next_mask());
    lower_.send(out.view());
  }
  state_ = State::closed;
  lower_.close(reset);
  io().blocks.give_back(std::move(kept_));
  kept_ = nullptr;
}

template class WsStream<TcpStream>;
template class WsStream<TlsStream>;

}  // namespace twinstorm::net
