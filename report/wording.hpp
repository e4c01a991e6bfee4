// Sentences and figures that the page and the terminal share, so that both say the same.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "metrics/capacity.hpp"
#include "metrics/run_record.hpp"

namespace twinstorm::report {

/// `61.3 ms`; `-` where there is nothing (no sample, or too few for a percentile).
std::string duration_text(std::optional<double> seconds);
/// `0.832 %`. What is not complete is never rounded up to 100 %, what is not nothing never down to 0 %.
std::string percent_text(double share);
/// `1 device`, `5,000 devices`: `plural` if `n` is not 1.
std::string counted(uint64_t n, std::string_view singular, std::string_view plural);

/// Text from outside (names, messages) for a terminal or a log: control characters and those that change the writing
/// direction become `\u{202E}`, line breaks and tabs a blank, invalid UTF-8 `\x{FF}`; cut after `limit` characters.
std::string printable(std::string_view text, size_t limit = 400);

/// A record's target with its comparison: `< 250 ms`. Falls back to the plain number if the objective's text is not one
/// of ours.
std::string target_text(const metrics::SloRecord& slo);
std::string actual_text(const metrics::SloRecord& slo);
/// `all recorded phases`, or `phase "steady"`.
std::string judged_over(const metrics::SloRecord& slo);

/// One stream or operation, summed over all phases, recorded or not. Latencies are left empty: distributions can't be
/// added from their percentiles.
metrics::OperationRecord over_all_phases(const metrics::RunRecord& record, const std::string& kind,
                                         const std::string& stream = {});

/// Whether what was asked was delivered and, if not, who was slow, with the numbers. Empty if nothing was asked.
std::string delivery_note(const metrics::OperationRecord& stream);
inline bool delivered(const metrics::OperationRecord& stream) { return stream.acknowledged == stream.asked; }

/// Whether anything was answered 412 or sent again because of it, in the recorded phases.
bool met_conflicts(const metrics::RunRecord& record);
/// Whether the hub has a tier, or anything was answered 429 in any phase.
bool was_throttled(const metrics::RunRecord& record);
/// Answers 429 that ended an operation.
uint64_t throttled_count(const metrics::OperationRecord& op);
/// What the tables print for shares of a few: `0.27`, `1.5`, `12`; `-` where there is nothing.
std::string ratio_text(std::optional<double> value);

/// The run in one paragraph of plain words: the verdict, what happened, whether the figures can be trusted.
std::string reading(const metrics::RunRecord& record);
/// What a search for capacity found, in one paragraph.
std::string capacity_reading(const metrics::CapacityRecord& record);
/// The independent client measured other latencies: a warning wherever figures are shown.
bool canary_disagrees(const metrics::RunRecord& record);

}  // namespace twinstorm::report
