// Connection strings as people paste them: what is accepted survives a round trip, and redaction never fails.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "sim/protocol/connection_string.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace twinstorm::protocol;
  const std::string_view text{reinterpret_cast<const char*>(data), size};
  if (const auto parsed = parse_connection_string(text)) {
    const auto again = parse_connection_string(format_connection_string(*parsed));
    if (!again || *again != *parsed) std::abort();
    const auto redacted = redact_connection_string(text);
    // The same text may stand in a member that nobody knows to be secret.
    const std::string& key = parsed->shared_access_key;
    const bool only_there = text.find(key) == text.rfind(key);
    if (key.size() > 8 && only_there && redacted.find(key) != std::string::npos) std::abort();
  } else {
    (void)redact_connection_string(text);
  }
  (void)split_host_port(text, 1);
  return 0;
}
