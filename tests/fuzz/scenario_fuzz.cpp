// The scenario loader, resolver and plan on arbitrary text: no crash, no hang, and a scenario that loads can be planned
// and written out again.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "sim/scenario/loader.hpp"
#include "sim/scenario/plan.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace twinstorm::scenario;
  // The first line may carry an override, so that its path grammar is exercised too.
  std::string_view text{reinterpret_cast<const char*>(data), size};
  std::vector<std::string> overrides;
  if (text.starts_with("--set ")) {
    const auto end = text.find('\n');
    overrides.emplace_back(text.substr(6, end == std::string_view::npos ? end : end - 6));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
  const auto loaded = load_scenario(text, "fuzz.yaml", overrides);
  if (loaded.ok() == !loaded.diagnostics.empty()) std::abort();
  if (!loaded.ok()) return 0;
  const auto plan = make_plan(*loaded.scenario, 2);
  const auto written = resolved_yaml(plan.scenario);
  if (!load_scenario(written, "resolved.yaml").ok()) std::abort();
  return plan_json(plan).empty() ? 1 : 0;
}
