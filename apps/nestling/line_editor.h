// Lines from a terminal with editing and history, or plainly from a pipe.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "path_completion.h"

namespace nestling {

class LineEditor {
 public:
  enum class Outcome {
    kLine,         // `line` holds it, without the newline
    kEnd,          // end of input (Ctrl-D)
    kInterrupted,  // Ctrl-C; `line` holds what was typed so far
  };

  // What the Tab key makes of the line up to the cursor; nothing where it completes nothing.
  using Completion = std::function<std::optional<PathCompletion>(std::string_view line)>;

  // `history`: file that keeps the lines from run to run, readable by its owner only; "" keeps none.
  LineEditor(std::filesystem::path history, Completion completion);
  ~LineEditor();

  bool interactive() const { return state_ != nullptr; }  // stdin is a terminal
  Outcome read(const char* prompt, std::string& line);

 private:
  struct State;
  Outcome read_plain(std::string& line);
  std::unique_ptr<State> state_;
  std::string pending_;  // bytes read from a pipe and not given out
};

}  // namespace nestling
