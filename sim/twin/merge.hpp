// JSON merge patch, the way twins are changed (device.md 7.2, service.md 5.2; RFC 7396 for everything they leave open).
#pragma once

#include "sim/twin/value.hpp"

namespace twinstorm::twin {

/// Objects merge recursively, null removes the member (no error when it is missing), everything else, arrays included,
/// replaces. `{}` onto an object changes nothing and onto anything else makes an empty object.
/// A non-object `patch` replaces `target` whole.
void merge_patch(Value& target, const Value& patch);

/// True when `patch` neither sets anything nor removes anything that exists: such a desired patch gives no notification
/// (device.md 7.4). A patch without members is one; `{"a":{}}` is not, it names `a`.
bool only_removes_missing(const Value& target, const Value& patch);

/// What a device has to be told when `before` is replaced by `after`: `after` with null for every member that vanished,
/// at every level (device.md 7.4: a difference of existence, not of values). Both must be objects.
Value replacement_patch(const Value& before, const Value& after);

}  // namespace twinstorm::twin
