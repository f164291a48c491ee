// Ends a streamed text at the first of some strings, without ever giving out a part of one.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace nestling {

// The stop string that is complete first ends the text; of two complete at the same byte, the longer one. Where the
// text is cut into pieces makes no difference.
class StopStrings {
 public:
  // kUsage: an empty stop string, one that is not valid UTF-8, or more than kMaxStops.
  static Result<StopStrings> create(std::vector<std::string> stops);
  static constexpr size_t kMaxStops = 64;
  StopStrings() = default;  // never stops

  // Takes the next piece of text; returns what may be given out. What could be the beginning of a stop string is held
  // back. After a match: "" for ever.
  std::string feed(std::string_view piece);
  // The text held back, at the end of a text without a match.
  std::string flush();

  bool stopped() const { return stopped_; }
  const std::string& matched() const { return matched_; }  // the stop string found, "" before

 private:
  struct Stop {
    std::string text;
    std::vector<size_t> failure;  // Knuth-Morris-Pratt: longest proper border of each prefix
    size_t state = 0;             // bytes of `text` that end the text so far
    void advance(char c);
  };
  std::vector<Stop> stops_;
  std::string held_;
  std::string matched_;
  bool stopped_ = false;
};

}  // namespace nestling
