#include "metrics/shard_recorder.hpp"

namespace twinstorm::metrics {
namespace {

template <class Specs>
std::optional<uint32_t> find_by_name(const Specs& specs, std::string_view name) {
  for (uint32_t i = 0; i < specs.size(); ++i) {
    if (specs[i].name == name) return i;
  }
  return std::nullopt;
}

}  // namespace

std::optional<StreamIndex> RecorderLayout::find_stream(std::string_view name) const {
  return find_by_name(streams, name);
}
std::optional<PhaseIndex> RecorderLayout::find_phase(std::string_view name) const { return find_by_name(phases, name); }

ShardRecorder::ShardRecorder(RecorderLayout layout)
    : layout_{std::move(layout)},
      streams_{layout_.streams.size()},
      cells_{layout_.phases.size() * layout_.streams.size()},
      phases_{layout_.phases.size()},
      health_{1} {}

void ShardRecorder::set_devices(const DeviceCounts& now) {
  health().devices[0].set(now.offline);
  health().devices[1].set(now.connecting);
  health().devices[2].set(now.online);
  health().devices[3].set(now.waiting);
}

DeviceCounts ShardRecorder::devices() const {
  const auto at = [this](size_t i) { return static_cast<uint32_t>(health().devices[i].get()); };
  return {at(0), at(1), at(2), at(3)};
}

}  // namespace twinstorm::metrics
