// Readers of values that several parts of a scenario have in common: templates, distributions, backoff, device ids.
#pragma once

#include <string>
#include <string_view>

#include "sim/base/distribution.hpp"
#include "sim/scenario/detail/reader.hpp"
#include "sim/scenario/detail/template_compiler.hpp"
#include "sim/scenario/scenario.hpp"

namespace twinstorm::scenario::detail {

ValueTemplate read_template(Complaints& complaints, const YamlNode& node, const std::string& path,
                            const TemplateRules& rules);
/// The template of a twin's section under `key`; empty when it is not there. `what` is `tags`, `desired properties` or
/// `reported properties`, and decides the size it may have.
ValueTemplate read_template(const Section& section, std::string_view key, std::string_view what);

/// A duration or `{uniform: [10ms, 50ms]}` and the like. `pattern` is in the key table, as are its children.
Distribution read_distribution(Complaints& complaints, const YamlNode& node, const std::string& path,
                               const std::string& pattern);

/// `{initial, max, jitter}`; keeps what is not written.
void read_backoff(const Section& section, Nanos& initial, Nanos& longest, Reconnect::Jitter& jitter);

/// The duration of `key`, which must be whole seconds from `low` to `high`; `usual` is what the hint shows.
std::optional<Nanos> read_whole_seconds(const Section& section, std::string_view key, Nanos low, Nanos high,
                                        std::string_view usual);

/// Complains when `id` is no device id that the service accepts.
void check_device_id(const Section& section, std::string_view key, const std::string& id);

}  // namespace twinstorm::scenario::detail
