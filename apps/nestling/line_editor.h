// Lines from a terminal with editing and history, or plainly from a pipe.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

namespace nestling {

class LineEditor {
 public:
  enum class Outcome {
    kLine,         // `line` holds it, without the newline
    kEnd,          // end of input (Ctrl-D)
    kInterrupted,  // Ctrl-C; `line` holds what was typed so far
  };

  // `history`: file that keeps the lines from run to run, readable by its owner only; "" keeps none.
  explicit LineEditor(std::filesystem::path history);
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
