#include "sim/hub/messaging/event_watch.hpp"

#include <fmt/format.h>

#include "sim/protocol/encoding.hpp"
#include "sim/protocol/mqtt/decoder.hpp"
#include "sim/twin/metadata.hpp"
#include "sim/twin/value.hpp"

namespace twinstorm::hub {
namespace {

/// A bag may carry any bytes; JSON may not.
void write_text(std::string_view text, std::string& out) {
  if (mqtt::check_utf8(text) != mqtt::DecodeError::invalid_utf8) {
    twin::write_string(text, out);
  } else {
    twin::write_string(protocol::percent_encode(text), out);
  }
}

void write_member(std::string_view name, std::string_view value, bool& first, std::string& out) {
  if (value.empty()) return;
  if (!first) out += ',';
  first = false;
  twin::write_string(name, out);
  out += ':';
  write_text(value, out);
}

}  // namespace

void EventWatch::add(const protocol::MessageProperties& properties, std::string_view body, WallTime now) {
  Event event{properties, body.size() <= kBodyBytesMax ? std::string{body} : std::string{}, body.size(), now, 0};
  const protocol::BagSize size = protocol::measure(properties);
  size_t of_properties = size.bytes + size.properties * sizeof(protocol::Property);
  if (of_properties > kBytesMax - kBodyBytesMax) {
    event.properties = {};
    of_properties = 0;
  }
  event.cost = event.body.size() + of_properties;
  bytes_ += event.cost;
  events_.push_back(std::move(event));
  while (events_.size() > kMessagesMax || bytes_ > kBytesMax) {
    bytes_ -= events_.front().cost;
    events_.pop_front();
  }
}

void EventWatch::take(WallTime now, std::string& out) {
  asked_ = now;
  out += '[';
  for (const Event& event : events_) {
    if (&event != &events_.front()) out += ',';
    fmt::format_to(std::back_inserter(out), R"({{"enqueuedTime":"{}","systemProperties":{{)",
                   twin::TwinTimeText{event.when}.view());
    bool first = true;
    const protocol::MessageProperties& p = event.properties;
    write_member("messageId", p.message_id, first, out);
    write_member("correlationId", p.correlation_id, first, out);
    write_member("userId", p.user_id, first, out);
    write_member("to", p.to, first, out);
    write_member("contentType", p.content_type, first, out);
    write_member("contentEncoding", p.content_encoding, first, out);
    write_member("expiry", p.expiry, first, out);
    write_member("interfaceId", p.interface_id, first, out);
    write_member("outputName", p.output, first, out);
    write_member("subject", p.subject, first, out);
    out += R"(},"properties":{)";
    first = true;
    for (const protocol::Property& property : p.application) {
      if (!first) out += ',';
      first = false;
      write_text(property.key, out);
      out += ':';
      if (property.value) {
        write_text(*property.value, out);
      } else {
        out += "null";
      }
    }
    fmt::format_to(std::back_inserter(out), R"(}},"bodySize":{})", event.body_size);
    if (event.body.size() == event.body_size) {
      fmt::format_to(std::back_inserter(out), R"(,"body":"{}")", protocol::base64_encode(event.body));
    }
    out += '}';
  }
  out += ']';
  events_.clear();
  bytes_ = 0;
}

}  // namespace twinstorm::hub
