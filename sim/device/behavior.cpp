#include "sim/device/behavior.hpp"

#include <algorithm>

#include "sim/protocol/encoding.hpp"

namespace twinstorm::device {
namespace {

std::string_view bytes_of(const protocol::Sha256Digest& digest) {
  return {reinterpret_cast<const char*>(digest.data()), digest.size()};
}

}  // namespace

Nanos RetryPolicy::delay(uint32_t attempt, Rng& rng) const {
  const uint32_t doublings = std::min<uint32_t>(attempt, 20);
  const Nanos wait = std::min(max, initial * (int64_t{1} << doublings));
  return full_jitter ? from_seconds(to_seconds(wait) * rng.uniform()) : wait;
}

std::string Authority::device_key(std::string_view device_id) const {
  return protocol::base64_encode(protocol::derive_device_key(group_key_, device_id));
}

void Authority::append_token(std::string& out, std::string_view device_id, WallTime now) const {
  append_token(out, device_id, bytes_of(protocol::derive_device_key(group_key_, device_id)), now);
}

void Authority::append_token(std::string& out, std::string_view device_id, std::string_view key, WallTime now) const {
  std::string resource = host_name_;
  resource += "/devices/";
  resource += device_id;
  out += protocol::make_sas_token(resource, key, unix_seconds(now + token_lifetime_));
}

}  // namespace twinstorm::device
