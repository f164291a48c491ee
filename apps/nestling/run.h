// One prompt and its answer: what `nestling run` and `nestling transcribe` do.
#pragma once

#include <string>
#include <vector>

#include "options.h"

namespace nestling {

struct RunOptions {
  ModelChoice model;
  EngineOptions engine;
  SamplingChoice sampling;
  AnswerChoice answer;
  MediaChoice media;
  std::vector<ContentArgument> content;  // in order
  std::string system;
  bool raw = false, json = false;
};

// Streams the answer to standard output, or prints one JSON document. Returns the exit status.
Result<int> run_prompt(const RunOptions& options);

}  // namespace nestling
