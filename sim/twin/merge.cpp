#include "sim/twin/merge.hpp"

#include <algorithm>
#include <vector>

#include "sim/base/assert.hpp"
#include "sim/twin/detail/member_finder.hpp"
#include "sim/twin/metadata.hpp"

namespace twinstorm::twin {
namespace {

using detail::MemberFinder;

/// `metadata` mirrors `target`, or is nullptr when nobody keeps stamps.
void merge_members(Value& target, Metadata* metadata, const Value& patch, Stamp stamp) {
  const MemberFinder finder{target, patch};
  std::vector<size_t> removed;
  for (size_t i = 0; i < patch.size(); ++i) {
    const Member& member = patch.members()[i];
    size_t at = finder.find(i);
    if (member.value.is_null()) {
      if (at != Value::kNone) removed.push_back(at);
      continue;
    }
    if (at == Value::kNone) {
      at = target.size();
      target.append(member.name(), Value{});
      if (metadata != nullptr) metadata->append(Metadata{});
    }
    Value& value = target.members()[at].value;
    Metadata* entry = metadata != nullptr ? &metadata->child(at) : nullptr;
    if (!member.value.is_object()) {
      value = member.value;
      if (entry != nullptr) *entry = Metadata{stamp};
      continue;
    }
    if (!value.is_object()) {
      value = Value::object();
      if (entry != nullptr) *entry = Metadata{};
    }
    merge_members(value, entry, member.value, stamp);
  }
  if (!removed.empty()) {
    std::sort(removed.begin(), removed.end());
    target.erase_many(removed);
    if (metadata != nullptr) metadata->erase_many(removed);
  }
  if (metadata != nullptr) metadata->set(stamp);
}

}  // namespace

void merge_patch(Value& target, const Value& patch) {
  if (!patch.is_object()) {
    target = patch;
    return;
  }
  if (!target.is_object()) target = Value::object();
  merge_members(target, nullptr, patch, Stamp{});
}

void merge_patch(Value& target, Metadata& metadata, const Value& patch, Stamp stamp) {
  TS_ASSERT(target.is_object() && patch.is_object());
  merge_members(target, &metadata, patch, stamp);
}

bool only_removes_missing(const Value& target, const Value& patch) {
  const MemberFinder finder{target, patch};
  for (size_t i = 0; i < patch.size(); ++i) {
    const Value& change = patch.members()[i].value;
    const size_t at = finder.find(i);
    if (change.is_null()) {
      if (at != Value::kNone) return false;
      continue;
    }
    if (!change.is_object() || change.empty() || at == Value::kNone) return false;
    const Value& existing = target.members()[at].value;
    if (!existing.is_object() || !only_removes_missing(existing, change)) return false;
  }
  return true;
}

Value replacement_patch(const Value& before, const Value& after) {
  const MemberFinder now{after, before};
  const MemberFinder then{before, after};
  Value patch = Value::object();
  patch.reserve(after.size());
  for (size_t i = 0; i < before.size(); ++i) {
    const Member& member = before.members()[i];
    const size_t at = now.find(i);
    if (at == Value::kNone) {
      patch.append(member.name(), Value{});
      continue;
    }
    const Value& value = after.members()[at].value;
    patch.append(member.name(),
                 value.is_object() && member.value.is_object() ? replacement_patch(member.value, value) : value);
  }
  for (size_t i = 0; i < after.size(); ++i) {
    const Member& member = after.members()[i];
    if (then.find(i) == Value::kNone) patch.append(member.name(), member.value);
  }
  return patch;
}

}  // namespace twinstorm::twin
