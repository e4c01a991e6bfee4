// Identities inside one process. Text names live once in a table; hot code carries these.
#pragma once

#include <cstdint>

namespace twinstorm {

using DeviceIndex = uint32_t;  ///< 0-based position of a device in the whole run, over all fleets
using ShardId = uint16_t;      ///< device i belongs to shard i mod N, and so does every arrival about it

}  // namespace twinstorm
