#include "sim/cli/live_display.hpp"

#include <ostream>

#include <fmt/format.h>

#include "sim/base/units.hpp"

namespace twinstorm::cli {
namespace {

constexpr double kLineEvery = 5;  // seconds between plain lines; a new phase always gets one

uint64_t sum(const metrics::IntervalSnapshot& interval, uint64_t metrics::IntervalSnapshot::Stream::*member) {
  uint64_t total = 0;
  for (const auto& stream : interval.streams) total += stream.*member;
  return total;
}

std::string latency(const metrics::IntervalLatency& value) {
  if (value.count == 0) return "-";
  return fmt::format("p50 {} p99 {}", format_duration(value.p50), format_duration(value.p99));
}

std::string rate(double per_second) { return format_rate(Rate{per_second}); }

std::string errors(const metrics::IntervalSnapshot& interval) {
  std::string text;
  for (size_t i = 0; i < interval.errors.size(); ++i) {
    if (interval.errors[i] == 0) continue;
    if (!text.empty()) text += ", ";
    text +=
        fmt::format("{} {}", metrics::to_string(static_cast<metrics::ErrorClass>(i)), format_count(interval.errors[i]));
  }
  return text.empty() ? "none" : text;
}

double busiest(const metrics::IntervalSnapshot& interval) {
  double busy = 0;
  for (const double share : interval.busy_shares) busy = std::max(busy, share);
  return busy;
}

}  // namespace

LiveDisplay::~LiveDisplay() = default;

void LiveDisplay::step(std::string_view text) {
  if (mode_ == Mode::quiet) return;
  erase_block();
  out_ << "twinstorm: " << text << '\n' << std::flush;
}

void LiveDisplay::progress(std::string_view what, uint64_t done, uint64_t total) {
  if (mode_ != Mode::block) return;
  erase_block();
  out_ << fmt::format("  {} {} of {}\n", what, format_count(done), format_count(total)) << std::flush;
  block_lines_ = 1;
}

void LiveDisplay::live(const Live& live) {
  if (mode_ == Mode::lines) line(live);
  if (mode_ == Mode::block) block(live);
}

void LiveDisplay::line(const Live& live) {
  const auto& now = live.interval;
  if (last_phase_ == live.phase && now.at_seconds - last_line_at_ < kLineEvery - 0.5) return;
  last_phase_ = live.phase;
  last_line_at_ = now.at_seconds;
  std::string text = fmt::format("{:6.1f}s {} ", now.at_seconds, live.phase);
  text += live.left_seconds ? fmt::format("({:.0f}s left)", *live.left_seconds)
                            : fmt::format("({:.0f}s)", live.elapsed_seconds);
  text += fmt::format(" | devices {}/{}", format_count(now.devices.online), format_count(live.devices_target));
  text +=
      fmt::format(" | asked {} done {}",
                  rate(static_cast<double>(sum(now, &metrics::IntervalSnapshot::Stream::asked)) / now.seconds),
                  rate(static_cast<double>(sum(now, &metrics::IntervalSnapshot::Stream::acknowledged)) / now.seconds));
  if (now.convergence.total.count > 0) text += fmt::format(" | convergence {}", latency(now.convergence.total));
  if (now.convergence.backlog > 0) text += fmt::format(" backlog {}", format_count(now.convergence.backlog));
  const auto problems = errors(now);
  if (problems != "none") text += " | errors: " + problems;
  text += fmt::format(" | lag p99 {} busy {:.0f}%", format_duration(now.schedule_lag.p99), busiest(now) * 100);
  out_ << text << '\n' << std::flush;
}

void LiveDisplay::erase_block() {
  for (; block_lines_ > 0; --block_lines_) out_ << "\033[1A\033[2K";
}

void LiveDisplay::block(const Live& live) {
  const auto& now = live.interval;
  erase_block();
  const auto strong = [&](const std::string& text) { return color_ ? "\033[1m" + text + "\033[0m" : text; };
  const auto alarm = [&](const std::string& text, bool bad) {
    return color_ && bad ? "\033[31m" + text + "\033[0m" : text;
  };
  std::string text;
  int lines = 0;
  const auto add = [&](const std::string& line) {
    text += line + '\n';
    ++lines;
  };
  add(strong(fmt::format("phase {}/{} {}", live.phase_number, live.phases, live.phase)) +
      (live.left_seconds ? fmt::format("   {:.0f} s, {:.0f} s left", live.elapsed_seconds, *live.left_seconds)
                         : fmt::format("   {:.0f} s, ends on its condition", live.elapsed_seconds)));
  add(fmt::format("  devices      {} of {} up, {} connecting, {} waiting to reconnect",
                  format_count(now.devices.online), format_count(live.devices_target),
                  format_count(now.devices.connecting), format_count(now.devices.waiting)));
  for (const auto& stream : now.streams) {
    if (stream.asked == 0 && stream.acknowledged == 0 && stream.in_flight == 0) continue;
    const uint64_t bad = stream.failed + stream.timed_out + stream.dropped;
    add(fmt::format("  {:<24} asked {:>9} done {:>9}   {:<28}", stream.name,
                    rate(static_cast<double>(stream.asked) / now.seconds), rate(stream.rate_per_second),
                    latency(stream.intended)) +
        (bad > 0 ? alarm(fmt::format(" {} not ok", format_count(bad)), true) : ""));
  }
  add(fmt::format("  convergence  {}   backlog {}   lost {} unconverged {}", latency(now.convergence.total),
                  format_count(now.convergence.backlog), now.convergence.lost, now.convergence.unconverged));
  const auto problems = errors(now);
  add("  errors       " + alarm(problems, problems != "none"));
  add(fmt::format("  generator    schedule lag p99 {}   busiest shard {:.0f} %   memory {}",
                  format_duration(now.schedule_lag.p99), busiest(now) * 100,
                  format_size(now.resident_bytes.value_or(0))));
  out_ << text << std::flush;
  block_lines_ = lines;
}

}  // namespace twinstorm::cli
