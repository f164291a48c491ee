// nestling transcribe: the words of a sound, in its language or another one.
#include <memory>

#include <CLI/CLI.hpp>

#include "command.h"
#include "run.h"

namespace nestling {
namespace {

struct TranscribeOptions {
  RunOptions run;
  std::string file, language, translate_to;
};

// The wording that transformers tests the published checkpoints with; the translation first writes down what it heard.
std::string instruction(const TranscribeOptions& options) {
  std::string text = "Transcribe the following speech segment";
  if (!options.language.empty()) text += " in " + options.language;
  if (!options.translate_to.empty()) text += ", then translate it into " + options.translate_to;
  return text + ":";
}

Status check_language(const char* flag, const std::string& language) {
  constexpr size_t kLongest = 64;  // bytes
  if (language.size() <= kLongest && language.find('\n') == std::string::npos) return {};
  return fail(ErrorCode::kUsage, "{}: found {} bytes; the name of a language of up to {}, such as English, is allowed", flag,
              language.size(), kLongest);
}

Result<int> transcribe(TranscribeOptions options) {
  NESTLING_TRY_VOID(check_language("--language", options.language));
  NESTLING_TRY_VOID(check_language("--translate-to", options.translate_to));
  options.run.content = {{ContentKind::kText, instruction(options)}, {ContentKind::kAudio, options.file}};
  if (!options.run.sampling.temperature) options.run.sampling.temperature = 0;
  return run_prompt(options.run);
}

}  // namespace

void add_transcribe(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("transcribe", "Write down the words of a sound, or translate them");
  const auto options = std::make_shared<TranscribeOptions>();
  command->footer("The sound is heard as a whole and answered in one go: there are no timestamps. The model was trained on\n"
                  "up to 30 s; longer sounds are heard to their end, for better or worse. 160 ms are a token: --ctx bounds\n"
                  "the length.");
  add_text(*command, "file", options->file,
           "WAV, FLAC, MP3, Ogg or AIFF, up to 512 MiB and 90 minutes; - reads standard input")
      ->type_name("FILE")
      ->required();
  add_model_options(*command, options->run.model, ModelArgument::kFlag);
  add_text(*command, "--language", options->language, "what is spoken, e.g. English [the model finds out]");
  add_text(*command, "--translate-to", options->translate_to, "write it down, then translate it into this language");
  add_answer_options(*command, options->run.answer);
  add_sampling_options(*command, options->run.sampling);
  add_engine_options(*command, options->run.engine);
  add_chunk_option(*command, options->run.engine);
  add_audio_options(*command, options->run.media);
  add_pcm_options(*command, options->run.media);
  add_flag(*command, "--json", options->run.json, "one JSON document, with what was heard, as run gives");
  command->parse_complete_callback([options, &action] { action = [options] { return transcribe(*options); }; });
}

}  // namespace nestling
