#include "sim/protocol/connection_string.hpp"

#include <array>
#include <vector>

#include <fmt/format.h>

#include "sim/protocol/encoding.hpp"
#include "sim/protocol/sas.hpp"
#include "sim/protocol/text.hpp"

namespace twinstorm::protocol {
namespace {

Error bad(std::string why) { return make_error(ErrorCode::invalid_argument, "connection string: " + std::move(why)); }

struct TextMember {
  std::string_view name;
  std::string ConnectionString::*member;
};
constexpr std::array kTextMembers = {
    TextMember{"HostName", &ConnectionString::host_name},
    TextMember{"DeviceId", &ConnectionString::device_id},
    TextMember{"ModuleId", &ConnectionString::module_id},
    TextMember{"SharedAccessKeyName", &ConnectionString::shared_access_key_name},
    TextMember{"SharedAccessKey", &ConnectionString::shared_access_key},
    TextMember{"SharedAccessSignature", &ConnectionString::shared_access_signature},
    TextMember{"GatewayHostName", &ConnectionString::gateway_host_name},
};

/// Names are case-sensitive, so a wrong case is the usual reason for a "missing" member.
const TextMember* find_text_member(std::string_view name, bool ignoring_case) {
  for (const auto& candidate : kTextMembers) {
    if (ignoring_case ? equal_ignoring_case(name, candidate.name) : name == candidate.name) return &candidate;
  }
  return nullptr;
}

/// `{host}/devices/{device}[/modules/{module}]` of a ready token.
Result<void> fill_from_signature(ConnectionString& out) {
  const auto token = parse_sas_token(out.shared_access_signature);
  if (!token) return bad("SharedAccessSignature: " + token.error().message);
  const auto resource = percent_decode(token->sr);
  if (!resource) return bad("SharedAccessSignature: sr: " + resource.error().message);
  if (resource->find(';') != std::string::npos) {
    return bad("SharedAccessSignature: sr names a host or device with \";\", which a connection string cannot hold");
  }
  std::vector<std::string_view> segments;
  for (TextSplitter parts{*resource, '/'}; parts.next();) segments.push_back(parts.part());
  if (out.host_name.empty() && !segments.empty()) out.host_name = segments[0];
  if (out.device_id.empty() && segments.size() >= 3 && segments[1] == "devices") out.device_id = segments[2];
  if (out.module_id.empty() && segments.size() >= 5 && segments[3] == "modules") out.module_id = segments[4];
  return {};
}

bool is_letter(char c) { return ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z'; }

}  // namespace

Result<ConnectionString> parse_connection_string(std::string_view text) {
  ConnectionString out;
  std::string_view miscased;
  std::string_view miscased_right;
  bool x509_seen = false;
  for (TextSplitter pairs{text, ';'}; pairs.next();) {
    const auto pair = pairs.part();
    if (pair.empty()) continue;
    const size_t equals = pair.find('=');
    // The text of a pair is not repeated: it may be the tail of a key.
    if (equals == std::string_view::npos) {
      return bad("a part between \";\" has no \"=\" (write Name=value;Name=value)");
    }
    const auto name = pair.substr(0, equals);
    const auto value = pair.substr(equals + 1);
    if (const auto* known = find_text_member(name, false)) {
      auto& member = out.*(known->member);
      if (!member.empty()) return bad(fmt::format("{} stands twice", name));
      member = value;
    } else if (name == "x509") {
      if (x509_seen) return bad("x509 stands twice");
      x509_seen = true;
      if (value != "true" && value != "false") return bad("x509 wants true or false");
      out.x509 = value == "true";
    } else if (const auto* near = find_text_member(name, true)) {
      miscased = name;
      miscased_right = near->name;
    }
  }
  const auto hint = miscased.empty()
                        ? std::string{}
                        : fmt::format("; names are case-sensitive, {} is not {}", miscased, miscased_right);

  if (!out.shared_access_signature.empty()) {
    if (const auto filled = fill_from_signature(out); !filled) return filled.error();
  }
  if (out.host_name.empty()) return bad("HostName is missing" + hint);
  if (const auto host = split_host_port(out.host_name, 1); !host) return bad("HostName: " + host.error().message);
  if (!out.gateway_host_name.empty()) {
    if (const auto host = split_host_port(out.gateway_host_name, 1); !host) {
      return bad("GatewayHostName: " + host.error().message);
    }
  }
  if (!out.module_id.empty() && out.device_id.empty()) return bad("ModuleId without DeviceId" + hint);
  if (out.x509 && (!out.shared_access_key.empty() || !out.shared_access_signature.empty())) {
    return bad("x509=true together with a key or signature (keep one of them)");
  }
  if (!out.x509 && out.shared_access_key.empty() && out.shared_access_signature.empty()) {
    return bad("SharedAccessKey, SharedAccessSignature or x509=true is missing" + hint);
  }
  if (!out.shared_access_key.empty()) {
    if (const auto key = base64_decode(out.shared_access_key); !key) {
      return bad("SharedAccessKey is " + key.error().message);
    }
  }
  return out;
}

std::string format_connection_string(const ConnectionString& value) {
  std::string out;
  const auto add = [&](std::string_view name, std::string_view text) {
    if (text.empty()) return;
    if (!out.empty()) out += ';';
    out.append(name).append("=").append(text);
  };
  for (const auto& known : kTextMembers) add(known.name, value.*(known.member));
  if (value.x509) add("x509", "true");
  return out;
}

std::string redact_connection_string(std::string_view text) {
  struct Secret {
    std::string_view name;
    std::string_view ends;  // characters that end the value
  };
  static constexpr std::array kSecrets = {
      Secret{"SharedAccessKey=", ";\"'\n\r\t "},
      Secret{"SharedAccessSignature=", ";\"'\n\r"},  // the value itself has a blank behind its scheme word
      Secret{"sig=", "&;\"'\n\r\t "},
  };
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const Secret* found = nullptr;
    if (i == 0 || !is_letter(text[i - 1])) {  // not in the middle of another name
      for (const auto& secret : kSecrets) {
        if (starts_with_ignoring_case(text.substr(i), secret.name)) found = &secret;
      }
    }
    if (found == nullptr) {
      out.push_back(text[i++]);
      continue;
    }
    out.append(text.substr(i, found->name.size())).append("***");
    i = text.find_first_of(found->ends, i + found->name.size());
    if (i == std::string_view::npos) break;
  }
  return out;
}

Result<HostPort> split_host_port(std::string_view text, uint16_t default_port) {
  const auto fail = [&](std::string_view why) {
    return make_error(ErrorCode::invalid_argument, fmt::format("\"{}\" {}", text, why));
  };
  HostPort out{text, default_port};
  std::string_view port;
  bool has_port = false;
  if (!text.empty() && text.front() == '[') {
    const size_t close = text.find(']');
    if (close == std::string_view::npos) return fail("has no \"]\" behind its IPv6 address");
    out.host = text.substr(1, close - 1);
    auto rest = text.substr(close + 1);
    if (!rest.empty() && rest.front() != ':') return fail("is not [address]:port");
    has_port = !rest.empty();
    port = has_port ? rest.substr(1) : rest;
  } else if (const size_t colon = text.find(':'); colon != std::string_view::npos) {
    if (text.find(':', colon + 1) != std::string_view::npos) return fail("is an IPv6 address: write it in [brackets]");
    out.host = text.substr(0, colon);
    port = text.substr(colon + 1);
    has_port = true;
  }
  if (out.host.empty()) return fail("has no host name");
  if (has_port) {
    const auto number = parse_decimal<uint16_t>(port);
    if (!number || *number == 0) return fail("has a port that is not a number from 1 to 65535");
    out.port = *number;
  }
  return out;
}

}  // namespace twinstorm::protocol
