#include "sim/run/oracle.hpp"

#include <algorithm>

#include "sim/twin/merge.hpp"

namespace twinstorm::run {

using twin::Value;

namespace {

std::string shown(const Value* value) {
  if (value == nullptr) return "absent";
  auto text = twin::write(*value);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return text;
}

/// Without `$version` and `$metadata`.
Value properties_of(const Value* section) {
  Value result = Value::object();
  if (section == nullptr) return result;
  for (const auto& member : section->members()) {
    if (!member.name().starts_with('$')) result.append(member.name(), member.value);
  }
  return result;
}

/// Whether one of the unanswered patches may have put `actual` at this place.
bool possible(const std::vector<const Value*>& unknown, const Value* actual) {
  return std::any_of(unknown.begin(), unknown.end(), [&](const Value* value) {
    return actual == nullptr ? value->is_null() : equal_by_value(*value, *actual);
  });
}

/// The first difference that `unknown` does not explain, as a path with both values; empty when there is none.
std::string difference(const std::string& path, const Value* expected, const Value* actual,
                       const std::vector<const Value*>& unknown) {
  if (expected == nullptr && actual == nullptr) return {};
  if (expected != nullptr && actual != nullptr && equal_by_value(*expected, *actual)) return {};
  if (possible(unknown, actual)) return {};
  const bool below = (expected == nullptr || expected->is_object()) && (actual == nullptr || actual->is_object());
  const bool explained_below = expected != nullptr && actual != nullptr;
  if (below && (explained_below || !unknown.empty())) {
    const auto visit = [&](const std::string_view key) {
      std::vector<const Value*> inner;
      for (const Value* value : unknown) {
        if (const Value* found = value->find(key)) inner.push_back(found);
      }
      return difference(path + '.' + std::string{key}, expected ? expected->find(key) : nullptr,
                        actual ? actual->find(key) : nullptr, inner);
    };
    bool any = false;
    for (const Value* side : {expected, actual}) {
      if (side == nullptr) continue;
      for (const auto& member : side->members()) {
        any = true;
        if (auto text = visit(member.name()); !text.empty()) return text;
      }
    }
    if (any) return {};
  }
  return path + " is " + shown(actual) + ", expected " + shown(expected);
}

}  // namespace

bool Oracle::seed(uint32_t device, std::string_view text) {
  const auto parsed = twin::parse_value(text);
  if (!parsed) return false;
  auto& state = devices_[device];
  const Value* desired = parsed->find_path("properties.desired");
  state.desired = properties_of(desired);
  state.reported = properties_of(parsed->find_path("properties.reported"));
  const Value* version = desired != nullptr ? desired->find("$version") : nullptr;
  state.version = version != nullptr ? version->as_int().value_or(1) : 1;
  return true;
}

void Oracle::desired_accepted(uint32_t device, int64_t version, std::string_view desired, bool replaced, WallTime at) {
  auto value = twin::parse_value(desired);
  auto& state = devices_[device];
  if (version >= state.desired_last.version) state.desired_last = {version, at};
  if (!value) {
    state.unchecked = true;
    return;
  }
  state.pending.push_back({version, replaced, std::move(*value)});
  merge_pending(state, false);
}

void Oracle::merge_pending(Device& state, bool over_gaps) {
  std::sort(state.pending.begin(), state.pending.end(),
            [](const Pending& a, const Pending& b) { return a.version < b.version; });
  size_t merged = 0;
  // A gap closes when the overtaken answer comes; one that belongs to an unanswered patch never does.
  const size_t patience = state.desired_unknown.empty() ? 64 : 8;
  for (auto& next : state.pending) {
    // Only the oldest go over the gap: newer ones may still be waiting for an answer that they overtook.
    const bool skip_gap = over_gaps || state.pending.size() - merged > patience;
    if (next.version > state.version + 1 && !skip_gap) break;
    if (next.replaced) state.desired = Value::object();
    twin::merge_patch(state.desired, next.value);
    state.version = std::max(state.version, next.version);
    ++merged;
  }
  state.pending.erase(state.pending.begin(), state.pending.begin() + static_cast<std::ptrdiff_t>(merged));
}

void Oracle::desired_unknown(uint32_t device, std::string_view desired) {
  keep_unknown(devices_[device], devices_[device].desired_unknown, desired);
}

void Oracle::reported_accepted(uint32_t device, std::string_view patch, int64_t version, WallTime at) {
  if (version >= devices_[device].reported_last.version) devices_[device].reported_last = {version, at};
  if (const auto value = twin::parse_value(patch)) {
    twin::merge_patch(devices_[device].reported, *value);
  } else {
    devices_[device].unchecked = true;
  }
}

void Oracle::reported_unknown(uint32_t device, std::string_view patch) {
  keep_unknown(devices_[device], devices_[device].reported_unknown, patch);
}

void Oracle::keep_unknown(Device& state, std::vector<Value>& list, std::string_view patch) {
  auto value = twin::parse_value(patch);
  if (!value || list.size() >= kUnknownMax) {
    state.unchecked = true;
  } else {
    list.push_back(std::move(*value));
  }
}

Oracle::Comparison Oracle::compare(uint32_t device, std::string_view text) {
  auto& state = devices_[device];
  if (state.unchecked) return {Verdict::unchecked, {}};
  merge_pending(state, true);
  const auto actual = twin::parse_value(text);
  if (!actual) return {Verdict::differs, "the hub's answer is not JSON"};
  const auto section = [&](const char* path, const Value& expected, const std::vector<Value>& unknown,
                           const Acknowledged& last) {
    std::vector<const Value*> candidates;
    for (const auto& value : unknown) candidates.push_back(&value);
    const Value* const twin_section = actual->find_path(path);
    const Value held = properties_of(twin_section);
    auto found = difference(path, &expected, &held, candidates);
    if (found.empty() || last.version == 0) return found;
    const Value* const version = twin_section != nullptr ? twin_section->find("$version") : nullptr;
    return found + "; the last change was acknowledged as version " + std::to_string(last.version) + " at " +
           format_iso8601(last.at) + ", the hub holds version " + shown(version);
  };
  auto text_of_difference = section("properties.desired", state.desired, state.desired_unknown, state.desired_last);
  if (text_of_difference.empty()) {
    text_of_difference = section("properties.reported", state.reported, state.reported_unknown, state.reported_last);
  }
  if (text_of_difference.empty()) return {};
  return {Verdict::differs, std::move(text_of_difference)};
}

}  // namespace twinstorm::run
