// Names to addresses, as far as no resolver is needed.
#include "sim/net/resolve.hpp"

#include <gtest/gtest.h>

namespace twinstorm::net {
namespace {

std::string addresses(const std::string& host) {
  const auto found = resolve(host, 8883);
  if (!found) return found.error().message;
  std::string out;
  for (const Endpoint& endpoint : *found) {
    out += endpoint.address().to_string() + ' ';
    EXPECT_EQ(endpoint.port(), 8883);
  }
  return out;
}

TEST(ResolveTest, LocalhostAndNamesBelowItAreThisMachine) {
  for (const char* host : {"localhost", "LocalHost", "localhost.", "hub.localhost", "a.b.localhost."}) {
    EXPECT_EQ(addresses(host), "127.0.0.1 ::1 ") << host;
  }
}

TEST(ResolveTest, AddressesAreThemselves) {
  EXPECT_EQ(addresses("127.0.0.2"), "127.0.0.2 ");
  EXPECT_EQ(addresses("::1"), "::1 ");
}

TEST(ResolveTest, OtherNamesAreNotTakenForLocalhost) {
  const std::string label(64, 'x');  // one longer than the DNS allows: nobody is asked
  for (const std::string& host : {label + ".notlocalhost", label + ".localhost.example", std::string{".localhost"}}) {
    const auto found = resolve(host, 1);
    ASSERT_FALSE(found) << host;
    EXPECT_EQ(found.error().code, ErrorCode::unavailable);
    EXPECT_EQ(found.error().message.find("cannot resolve host \"" + host + "\" (port 1): "), 0u)
        << found.error().message;
  }
}

}  // namespace
}  // namespace twinstorm::net
