// The run on the terminal: a block that redraws itself, or plain lines when nobody watches a terminal.
#pragma once

#include <iosfwd>
#include <string>

#include "sim/run/runner.hpp"

namespace twinstorm::cli {

class LiveDisplay final : public run::RunUi {
 public:
  enum class Mode : uint8_t { quiet, lines, block };
  LiveDisplay(std::ostream& out, Mode mode, bool color) : out_{out}, mode_{mode}, color_{color} {}
  ~LiveDisplay() override;

  void step(std::string_view text) override;
  void progress(std::string_view what, uint64_t done, uint64_t total) override;
  void live(const Live& live) override;

 private:
  void line(const Live& live);
  void block(const Live& live);
  void erase_block();

  std::ostream& out_;
  Mode mode_;
  bool color_;
  int block_lines_ = 0;
  std::string last_phase_;
  double last_line_at_ = -1e9;
};

}  // namespace twinstorm::cli
