// Questions to the bundled model, alone or about a picture or sound.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "runtime/media_prompt.h"
#include "support/test_package.h"
#include "text/chat_template.h"

namespace nestling {

struct MediaQuestion {
  std::string file, question, answer;
};

// models/nano/heldout_*.jsonl: {"file", "question", "answer"} a line.
inline std::vector<MediaQuestion> media_questions(const std::filesystem::path& list) {
  std::vector<MediaQuestion> questions;
  std::istringstream lines(value_or_fail(read_text_file(list, 1 << 20)));
  for (std::string line; std::getline(lines, line);) {
    const auto json = nlohmann::json::parse(line);
    questions.push_back({json.at("file"), json.at("question"), json.at("answer")});
  }
  return questions;
}

inline PreparedPrompt prepare_question(Engine& engine, const Medium& medium, const std::string& question,
                                       const MediaOptions& options = {}) {
  // A picture and what is asked about it; what is to be done, and a sound (as `transcribe` puts it).
  Message message{"user", {{medium.kind, ""}, {ContentKind::kText, question}}};
  if (medium.kind == ContentKind::kAudio) std::swap(message.content[0], message.content[1]);
  const Prompt prompt = value_or_fail(render_chat({&message, 1}));
  return value_or_fail(prepare_prompt(engine, prompt, {&medium, 1}, options));
}

inline std::string greedy_answer(Session& session, const ModelSize& size, PromptInput prompt) {
  GenerateRequest request;
  request.prompt = std::move(prompt);
  request.size = size;
  request.sampling.temperature = 0;
  request.max_tokens = 96;
  return value_or_fail(session.generate(request)).text;
}

}  // namespace nestling
