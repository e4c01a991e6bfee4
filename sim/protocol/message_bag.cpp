#include "sim/protocol/message_bag.hpp"

#include <algorithm>
#include <array>

#include "sim/protocol/encoding.hpp"
#include "sim/protocol/text.hpp"

namespace twinstorm::protocol {
namespace {

/// A system property: its name in bags behind `$.`, and its HTTP header (empty: it has none).
struct SystemProperty {
  std::string_view name;
  std::string_view header;
  std::string MessageProperties::*member;
};
// The order is that of the SDK's bags (device.md 3.5).
constexpr std::array kSystem = {
    SystemProperty{"on", {}, &MessageProperties::output},
    SystemProperty{"mid", "iothub-messageid", &MessageProperties::message_id},
    SystemProperty{"cid", "iothub-correlationid", &MessageProperties::correlation_id},
    SystemProperty{"uid", "iothub-userid", &MessageProperties::user_id},
    SystemProperty{"to", "iothub-to", &MessageProperties::to},
    SystemProperty{"ct", "iothub-contenttype", &MessageProperties::content_type},
    SystemProperty{"ce", "iothub-contentencoding", &MessageProperties::content_encoding},
    SystemProperty{"ifid", "iothub-interface-id", &MessageProperties::interface_id},
    SystemProperty{"exp", "iothub-expiry", &MessageProperties::expiry},
    SystemProperty{"sub", "dt-subject", &MessageProperties::subject},
};
constexpr std::string_view kSystemPrefix = "$.";
constexpr std::string_view kApplicationPrefix = "iothub-app-";

std::string MessageProperties::*find_system(std::string_view key) {
  if (!key.starts_with(kSystemPrefix)) return nullptr;
  key.remove_prefix(kSystemPrefix.size());
  const auto found = std::find_if(kSystem.begin(), kSystem.end(), [&](const auto& p) { return p.name == key; });
  return found == kSystem.end() ? nullptr : found->member;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = ascii_lower(c);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/// The decoded text's size, and its beginning: enough of it to know a system property by name.
struct Decoded {
  size_t size = 0;
  std::array<char, 8> front{};
  std::string_view name() const { return {front.data(), std::min(size, front.size())}; }
};
std::optional<Decoded> scan(std::string_view text) {
  Decoded out;
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '%') {
      if (i + 2 >= text.size()) return std::nullopt;
      const int high = hex_digit(text[i + 1]);
      const int low = hex_digit(text[i + 2]);
      if (high < 0 || low < 0) return std::nullopt;
      c = static_cast<char>(high * 16 + low);
      i += 2;
    }
    if (out.size < out.front.size()) out.front[out.size] = c;
    ++out.size;
  }
  return out;
}

/// RFC 9110 section 5.6.2, what may stand in a header's name.
bool is_token(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           std::string_view{"!#$%&'*+-.^_`|~"}.find(c) != std::string_view::npos;
  });
}

bool is_field_value(std::string_view text) {
  return std::none_of(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return (byte < 0x20 && c != '\t') || byte == 0x7f;
  });
}

}  // namespace

std::optional<std::string_view> MessageProperties::find(std::string_view name) const {
  for (const Property& property : application) {
    if (property.key == name && property.value) return *property.value;
  }
  return std::nullopt;
}

Result<MessageProperties> parse_message_bag(std::string_view bag) {
  auto pairs = decode_property_bag(bag);
  if (!pairs) return pairs.error();
  MessageProperties out;
  for (Property& property : *pairs) {
    if (const auto member = find_system(property.key)) {
      out.*member = property.value ? std::move(*property.value) : std::string{};
    } else {
      out.application.push_back(std::move(property));
    }
  }
  return out;
}

void append_message_bag(std::string& out, const MessageProperties& properties) {
  const size_t begin = out.size();
  const auto append = [&](std::string_view key, std::optional<std::string_view> value) {
    if (out.size() > begin) out += '&';
    append_percent_encoded(out, key);
    if (!value) return;
    out += '=';
    append_percent_encoded(out, *value);
  };
  std::string key;
  for (const SystemProperty& system : kSystem) {
    const std::string& value = properties.*system.member;
    if (!value.empty()) append(key.assign(kSystemPrefix).append(system.name), value);
  }
  for (const Property& property : properties.application) append(property.key, property.value);
}

std::string format_message_bag(const MessageProperties& properties) {
  std::string out;
  append_message_bag(out, properties);
  return out;
}

std::optional<BagSize> measure_message_bag(std::string_view bag) {
  if (!bag.empty() && bag.back() == '/') bag.remove_suffix(1);
  BagSize out;
  for (TextSplitter pairs{bag, '&'}; pairs.next();) {
    const auto pair = pairs.part();
    const size_t equals = pair.find('=');
    const auto key = scan(pair.substr(0, equals));
    const auto value = scan(equals == std::string_view::npos ? std::string_view{} : pair.substr(equals + 1));
    if (!key || !value || key->size == 0) return std::nullopt;
    const bool system = key->size <= key->front.size() && find_system(key->name()) != nullptr;
    ++out.properties;
    out.bytes += value->size + (system ? 0 : key->size);
  }
  return out;
}

BagSize measure(const MessageProperties& properties) {
  BagSize out;
  for (const SystemProperty& system : kSystem) {
    const std::string& value = properties.*system.member;
    if (value.empty()) continue;
    ++out.properties;
    out.bytes += value.size();
  }
  for (const Property& property : properties.application) {
    ++out.properties;
    out.bytes += property.key.size() + (property.value ? property.value->size() : 0);
  }
  return out;
}

bool take_message_header(MessageProperties& properties, std::string_view name, std::string_view value) {
  for (const SystemProperty& system : kSystem) {
    if (system.header.empty() || !equal_ignoring_case(system.header, name)) continue;
    properties.*system.member = value;
    return true;
  }
  if (starts_with_ignoring_case(name, kApplicationPrefix) && name.size() > kApplicationPrefix.size()) {
    properties.application.push_back(
        {std::string{name.substr(kApplicationPrefix.size())}, std::optional<std::string>{value}});
    return true;
  }
  if (equal_ignoring_case(name, kAckProperty)) {
    properties.application.push_back({std::string{kAckProperty}, std::optional<std::string>{value}});
    return true;
  }
  return false;
}

void for_each_message_header(const MessageProperties& properties,
                             const std::function<void(std::string_view, std::string_view)>& header) {
  const auto offer = [&](std::string_view name, std::string_view value) {
    if (is_token(name) && is_field_value(value)) header(name, value);
  };
  for (const SystemProperty& system : kSystem) {
    const std::string& value = properties.*system.member;
    if (!value.empty() && !system.header.empty()) offer(system.header, value);
  }
  std::string name;
  for (const Property& property : properties.application) {
    if (property.key == kAckProperty) {
      name = kAckProperty;
    } else {
      name.assign(kApplicationPrefix).append(property.key);
    }
    offer(name, property.value ? std::string_view{*property.value} : std::string_view{});
  }
}

}  // namespace twinstorm::protocol
