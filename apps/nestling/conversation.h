// The conversation of a chat: its messages, its ids, and the session whose K/V hold a prefix of them, so that a turn
// prefills only what is new.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "media_input.h"
#include "options.h"
#include "runtime/engine.h"
#include "runtime/session.h"

namespace nestling {

struct Turn {
  ModelSize size;
  SamplingParams sampling;  // the seed moves on with every turn
  int64_t max_tokens = 0;
  std::vector<std::string> stop;
  int64_t speculate = 0;
  std::function<void(std::string_view)> on_text;
};

struct Answer : GenerateResult {
  std::vector<MediaReport> media;     // of the question
  double image_ms = 0, audio_ms = 0;  // encoding them
};

class Conversation {
 public:
  Conversation(Engine& engine, std::string system) : engine_(engine), session_(engine), system_(std::move(system)) {}

  // Answers `content`, whose pictures and sounds are `media`, and which becomes the user's next message. After an error, or when interrupted before the first
  // token, the conversation is as it was.
  Result<Answer> answer(const std::vector<ContentArgument>& content, const std::vector<Medium>& media,
                        const MediaOptions& options, const Turn& turn);
  void clear();

  int64_t turns() const { return static_cast<int64_t>(messages_.size()) / 2; }
  int64_t tokens() const { return static_cast<int64_t>(held_.ids.size()); }
  struct Line {
    std::string role, text;
  };
  const std::vector<Line>& messages() const { return messages_; }  // user and assistant in turns, without the system's

  // Saves K/V, ids and messages; load() refuses what does not fit this engine or was begun with another --system.
  Status save(const std::filesystem::path& path) const;
  Status load(const std::filesystem::path& path);

 private:
  Result<Prompt> render(const std::vector<ContentPart>& parts) const;
  void drop_last_stop_id();

  Engine& engine_;
  Session session_;
  std::string system_;
  std::vector<Line> messages_;
  PromptInput held_;           // prompt and answers so far
  bool reply_closed_ = false;  // they end with <end_of_turn>
};

}  // namespace nestling
