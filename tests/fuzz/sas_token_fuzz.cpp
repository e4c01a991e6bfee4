// Tokens from strangers: parsing, verifying and scope checks of any text.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "sim/protocol/sas.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace twinstorm::protocol;
  const std::string_view text{reinterpret_cast<const char*>(data), size};
  if (const auto token = parse_sas_token(text)) {
    (void)signature_matches(*token, "key");
    if (const auto resource = percent_decode(token->sr)) (void)covers(*resource, "hub.example/devices/d1");
  }
  // A token made of any resource must be read back and verify.
  if (text.empty()) return 0;
  const auto made = make_sas_token(text, "key", 1'700'003'600, "policy");
  const auto token = parse_sas_token(made);
  if (!token || !signature_matches(*token, "key") || token->skn != "policy") std::abort();
  const auto resource = percent_decode(token->sr);
  if (!resource || *resource != text) std::abort();
  (void)base64_decode(text);
  return 0;
}
