// The order of identities: by device, then by module, each byte-wise. Keys are `deviceId` or `deviceId/moduleId`; the
// slash, which no id may contain, comes before every other character.
#pragma once

#include <algorithm>
#include <string_view>

namespace twinstorm::hub {

struct KeyOrder {
  using is_transparent = void;
  bool operator()(std::string_view a, std::string_view b) const {
    const auto [x, y] = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
    if (y == b.end()) return false;
    return x == a.end() || weight(*x) < weight(*y);
  }

 private:
  static int weight(char c) { return c == '/' ? 0 : 1 + static_cast<unsigned char>(c); }
};

}  // namespace twinstorm::hub
