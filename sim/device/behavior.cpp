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
  append_token(out, device_id, {}, now, token_lifetime_);
}

void Authority::append_token(std::string& out, std::string_view device_id, std::string_view key, WallTime now) const {
  append_token(out, device_id, key, now, token_lifetime_);
}

void Authority::append_token(std::string& out, std::string_view device_id, std::string_view key, WallTime now,
                             Nanos lifetime) const {
  std::string resource = host_name_;
  resource += "/devices/";
  resource += device_id;
  const auto derived = key.empty() ? protocol::derive_device_key(group_key_, device_id) : protocol::Sha256Digest{};
  out += protocol::make_sas_token(resource, key.empty() ? bytes_of(derived) : key, unix_seconds(now + lifetime));
}

}  // namespace twinstorm::device
