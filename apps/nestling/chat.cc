// nestling chat: a conversation at the terminal, or line by line from a pipe.
#include <algorithm>
#include <cstdlib>
#include <memory>

#include <CLI/CLI.hpp>

#include "chat_commands.h"
#include "command.h"
#include "conversation.h"
#include "interrupt.h"
#include "line_editor.h"
#include "media/audio.h"
#include "media/image.h"
#include "media/media_file.h"
#include "model_source.h"
#include "options.h"
#include "output.h"
#include "path_completion.h"
#include "text/utf8.h"

namespace nestling {
namespace {

namespace fs = std::filesystem;

struct ChatOptions {
  ModelChoice model;
  EngineOptions engine;
  SamplingChoice sampling;
  AnswerChoice answer;
  MediaChoice media;
  std::string system, session, history;
};

// $XDG_STATE_HOME/nestling/history, or ~/.local/state/nestling/history; "" (no history) without a home.
std::string default_history() {
  if (const char* state = std::getenv("XDG_STATE_HOME"); state != nullptr && fs::path(state).is_absolute())
    return fs::path(state) / "nestling" / "history";
  if (const char* home = std::getenv("HOME"); home != nullptr && fs::path(home).is_absolute())
    return fs::path(home) / ".local" / "state" / "nestling" / "history";
  return "";
}

// Tab after /image or /audio.
std::optional<PathCompletion> completion(std::string_view line) {
  for (const std::string_view command : {"/image ", "/audio "})
    if (line.starts_with(command)) return complete_path(line.substr(command.size()));
  return std::nullopt;
}

std::string describe(const MediaReport& m) {
  const std::string time = m.cached ? "from the cache" : fmt::format("{:.0f} ms", m.encode_ms);
  if (m.kind == ContentKind::kImage)
    return fmt::format("{}: {} x {} pixels, {} tokens, {}", m.name, m.facts.width, m.facts.height, m.tokens, time);
  return fmt::format("{}: {:.1f} s, {} tokens, {}", m.name, m.facts.heard_seconds, m.tokens, time);
}

class Chat {
 public:
  Chat(const ChatOptions& options, Engine& engine)
      : options_(options), engine_(engine), conversation_(engine, options.system), editor_(options.history, completion) {
    turn_.size = engine.default_size();
    turn_.sampling = options.sampling.resolve(engine.config().generation);
    turn_.max_tokens = options.answer.max_tokens;
    turn_.stop = options.answer.stop;
    turn_.speculate = options.answer.speculate;
    turn_.on_text = [this](std::string_view piece) {
      if (written_) written_ = write_stdout(piece);
      if (written_) written_ = flush_stdout();
      if (!written_) interrupt();
    };
  }

  Result<int> run() {
    NESTLING_TRY_VOID(resume());
    if (editor_.interactive())
      fmt::print(stderr, "{}, size {}, context {} tokens. /help lists the commands.\n",
                 engine_.package().file().path().filename().string(), turn_.size.name, engine_.options().context);
    const Result<int> status = loop();
    // Saved whatever ended the chat, so that an error loses nothing.
    if (!options_.session.empty()) {
      const Status saved = save(options_.session);
      if (status && !saved) return std::unexpected(saved.error());
    }
    return status;
  }

 private:
  // A message that was refused ends a chat from a pipe, where nobody reads on; at a terminal it is only told.
  Result<int> loop() {
    while (true) {
      std::string line;
      const LineEditor::Outcome outcome = read_message(line);
      if (outcome == LineEditor::Outcome::kEnd) {
        if (editor_.interactive()) fmt::print(stderr, "\n");
        return 0;
      }
      if (outcome == LineEditor::Outcome::kInterrupted) {
        fmt::print(stderr, "\n");
        if (!editor_.interactive() || line.empty()) return exit_status(ErrorCode::kCancelled);
        clear_interrupt();
        continue;
      }
      bool quit = false;
      const Status done = handle(line, quit);
      if (quit) return 0;
      NESTLING_TRY_VOID(written_);
      if (!done && (!editor_.interactive() || done.error().code == ErrorCode::kFailed))
        return std::unexpected(done.error());
      if (!done) fmt::print(stderr, "nestling: {}\n", done.error().message);
      if (interrupted() && !editor_.interactive()) return exit_status(ErrorCode::kCancelled);
      clear_interrupt();
    }
  }

  // One message: a line, lines joined by \ at their ends, or a block between """ and """.
  LineEditor::Outcome read_message(std::string& message) {
    LineEditor::Outcome outcome = editor_.read(">>> ", message);
    if (outcome != LineEditor::Outcome::kLine) return outcome;
    const bool block = message.starts_with("\"\"\"");
    if (block) message.erase(0, 3);
    const auto complete = [&] {
      if (block) return message.ends_with("\"\"\"");
      return !message.ends_with('\\');
    };
    while (!complete()) {
      if (!block) message.pop_back();
      std::string line;
      outcome = editor_.read("... ", line);
      // Never empty, so that only this message is dropped.
      if (outcome == LineEditor::Outcome::kInterrupted) message += line + "\n";
      if (outcome != LineEditor::Outcome::kLine) return outcome;
      message += "\n" + line;
    }
    if (block) message.erase(message.size() - 3);
    return LineEditor::Outcome::kLine;
  }

  Status handle(const std::string& line, bool& quit) {
    NESTLING_TRY(const ChatInput input, parse_chat_input(line));
    switch (input.verb) {
      case ChatVerb::kMessage: return answer(input.text);
      case ChatVerb::kImage: return add_medium({ContentKind::kImage, input.text});
      case ChatVerb::kAudio: return add_medium({ContentKind::kAudio, input.text});
      case ChatVerb::kSize: return change_size(input.text);
      case ChatVerb::kStats: return print_stats();
      case ChatVerb::kClear:
        conversation_.clear();
        pending_.clear();
        pending_media_.clear();
        return {};
      case ChatVerb::kSave: return save(input.text.empty() ? options_.session : input.text);
      case ChatVerb::kHelp: fmt::print(stderr, "{}", chat_help()); return {};
      case ChatVerb::kQuit: quit = true; return {};
    }
    return {};
  }

  Status answer(const std::string& text) {
    if (strip(text).empty()) {
      if (!pending_media_.empty()) fmt::print(stderr, "The next message goes with {} media.\n", pending_media_.size());
      return {};
    }
    std::vector<ContentArgument> content = pending_;
    content.push_back({ContentKind::kText, text});
    NESTLING_TRY(last_, conversation_.answer(content, pending_media_, options_.media.options, turn_));
    pending_.clear();
    pending_media_.clear();
    if (!last_->text.ends_with('\n')) NESTLING_TRY_VOID(write_stdout("\n"));
    NESTLING_TRY_VOID(flush_stdout());
    for (const std::string& limit : last_->limits) print_note(limit);
    if (last_->finish_reason == "length")
      print_note(fmt::format("the answer was cut after {} tokens (-n)", options_.answer.max_tokens));
    warn_when_nearly_full();
    return {};
  }

  // A file that cannot be read ends no conversation at a terminal.
  Status add_medium(ContentArgument argument) {
    const Status added = read_and_show(std::move(argument));
    if (added || !editor_.interactive() || added.error().code != ErrorCode::kFailed) return added;
    fmt::print(stderr, "nestling: {}\n", added.error().message);
    return {};
  }

  // Read and encoded now: what cannot be is refused at once, and the message that follows waits for nothing.
  Status read_and_show(ContentArgument argument) {
    argument.value = expand_home(argument.value);
    if (argument.value == "-")
      return fail(ErrorCode::kUsage, "-: standard input is where this chat is typed; the name of a file is needed");
    NESTLING_TRY(std::vector<Medium> media, media_of({argument}, options_.media));
    const uint64_t most = argument.kind == ContentKind::kImage ? ImageLimits().max_encoded_bytes
                                                               : AudioLimits().max_encoded_bytes;
    NESTLING_TRY(media[0].encoded, read_media_file(media[0].path, most));
    NESTLING_TRY(const std::vector<std::string> notes, show_media(media));
    pending_.push_back(std::move(argument));
    pending_media_.push_back(std::move(media[0]));
    for (const std::string& note : notes) print_note(note);
    return {};
  }

  Result<std::vector<std::string>> show_media(const std::vector<Medium>& media) {
    const Prompt place{.segments = {{media[0].kind == ContentKind::kImage ? PromptSegment::Kind::kImage
                                                                          : PromptSegment::Kind::kAudio, ""}}};
    NESTLING_TRY(PreparedPrompt prepared, prepare_shown(engine_, place, media, options_.media.options));
    fmt::print(stderr, "{}\n", describe(prepared.media[0]));
    return std::move(prepared.limits);
  }

  Status change_size(const std::string& text) {
    if (!text.empty()) {
      NESTLING_TRY(turn_.size, engine_.size(text));
    }
    fmt::print(stderr, "size {}\n", turn_.size.name);
    return {};
  }

  Status print_stats() {
    if (!last_) {
      fmt::print(stderr, "no answer yet\n");
      return {};
    }
    const Answer& r = *last_;
    fmt::print(stderr, "prompt      {} tokens: {} from the cache, {} new in {:.0f} ms ({:.1f} tokens/s)\n",
               r.prompt_tokens, r.cached_tokens, r.prompt_tokens - r.cached_tokens, r.prefill_ms, prefill_tps(r));
    fmt::print(stderr, "answer      {} tokens in {:.0f} ms ({:.1f} tokens/s), first after {:.0f} ms, ended by {}\n",
               r.completion_tokens, r.decode_ms, decode_tps(r), r.first_token_ms, r.finish_reason);
    if (turn_.speculate > 0)
      fmt::print(stderr, "speculation {} tokens proposed, {} accepted\n", r.proposed_tokens, r.accepted_tokens);
    if (!r.media.empty())
      fmt::print(stderr, "media       {}: pictures encoded in {:.0f} ms, sounds in {:.0f} ms, {} from the cache\n",
                 r.media.size(), r.image_ms, r.audio_ms, std::ranges::count(r.media, true, &MediaReport::cached));
    fmt::print(stderr, "context     {} of {} tokens, {} turns, size {}\n", conversation_.tokens(),
               engine_.options().context, conversation_.turns(), turn_.size.name);
    fmt::print(stderr, "memory      {} resident, {} planned\n", megabytes(resident_bytes()),
               megabytes(engine_.plan().resident()));
    fmt::print(stderr, "PLE         {} rows, {} read, {} hits, {} stalls ({:.1f} ms)\n", r.ple.rows,
               megabytes(r.ple.bytes_read), r.ple.cache_hits, r.ple.stalls, r.ple.stall_ms);
    return {};
  }

  void warn_when_nearly_full() const {
    const int64_t used = conversation_.tokens(), context = engine_.options().context;
    if (used * 10 >= context * 9)
      print_note(fmt::format("{} of {} tokens of the context are used; /clear begins anew, --ctx gives more", used,
                             context));
  }

  Status resume() {
    std::error_code error;
    if (options_.session.empty() || !fs::exists(options_.session, error)) return {};
    NESTLING_TRY_VOID(conversation_.load(options_.session));
    fmt::print(stderr, "{}: resumed {} turns, {} tokens\n", options_.session, conversation_.turns(),
               conversation_.tokens());
    if (!editor_.interactive()) return {};
    for (const auto& [role, text] : conversation_.messages())
      fmt::print(stderr, "{}{}\n", role == "user" ? ">>> " : "", text);
    return {};
  }

  Status save(const std::string& path) {
    if (path.empty()) return fail(ErrorCode::kUsage, "/save needs the name of a file: the chat has no --session");
    NESTLING_TRY_VOID(conversation_.save(path));
    fmt::print(stderr, "{}: saved {} turns, {} tokens\n", path, conversation_.turns(), conversation_.tokens());
    return {};
  }

  const ChatOptions& options_;
  Engine& engine_;
  Conversation conversation_;
  LineEditor editor_;
  Turn turn_;
  Status written_;
  std::vector<ContentArgument> pending_;  // pictures and sounds that the next message goes with
  std::vector<Medium> pending_media_;
  std::optional<Answer> last_;
};

Result<int> chat(const ChatOptions& options) {
  NESTLING_TRY(const std::unique_ptr<Engine> engine, open_engine(options.model, options.engine));
  NESTLING_TRY_VOID(engine->require_tokenizer());
  return Chat(options, *engine).run();
}

}  // namespace

void add_chat(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("chat", "Talk with the model; /help lists what can be typed");
  const auto options = std::make_shared<ChatOptions>();
  options->history = default_history();
  add_model_options(*command, options->model, ModelArgument::kFlag);
  add_text(*command, "--system", options->system, "what the model is told before the conversation");
  add_text(*command, "--session", options->session,
           "resume the conversation in this file if it is there, and save it there at the end")
      ->type_name("FILE");
  add_text(*command, "--history", options->history, "keeps the lines typed, readable by you only; \"\" keeps none")
      ->type_name("FILE")
      ->capture_default_str();
  add_answer_options(*command, options->answer);
  add_sampling_options(*command, options->sampling);
  add_engine_options(*command, options->engine);
  add_chunk_option(*command, options->engine);
  add_media_options(*command, options->media);
  command->parse_complete_callback([options, &action] { action = [options] { return chat(*options); }; });
}

}  // namespace nestling
