// Where the members of one object are in another. Comparing names one by one is best for the few members a twin has; a
// patch of thousands of members onto an object of thousands (both can be within the limits) would take long that way,
// so beyond that the patch's names are hashed once.
#pragma once

#include <string_view>
#include <unordered_map>
#include <vector>

#include "sim/twin/value.hpp"

namespace twinstorm::twin::detail {

class MemberFinder {
 public:
  /// Looks members of `patch` up in `target`, as `target` is now. Both must outlive this; `target` may get more members
  /// later, but must not lose any.
  MemberFinder(const Value& target, const Value& patch) : target_{target}, patch_{patch} {
    if (target.size() * patch.size() <= kComparisons) return;
    std::unordered_map<std::string_view, size_t> names;
    names.reserve(patch.size());
    for (const Member& member : patch.members()) names.emplace(member.name(), names.size());
    places_.assign(patch.size(), Value::kNone);
    for (size_t at = 0; at < target.size(); ++at) {
      if (const auto found = names.find(target.members()[at].name()); found != names.end()) places_[found->second] = at;
    }
  }

  /// The place in the target of the patch's member number `index`, or Value::kNone.
  size_t find(size_t index) const {
    return places_.empty() ? target_.index_of(patch_.members()[index].name()) : places_[index];
  }

 private:
  static constexpr size_t kComparisons = 64 * 1024;
  const Value& target_;
  const Value& patch_;
  std::vector<size_t> places_;
};

}  // namespace twinstorm::twin::detail
