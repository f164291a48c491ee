// nestling tokenize: ids of a text, and back.
#include <memory>

#include <CLI/CLI.hpp>

#include "command.h"
#include "model_source.h"
#include "options.h"
#include "output.h"
#include "text/checkpoint_tokenizer.h"

namespace nestling {
namespace {

struct TokenizeOptions {
  std::string model, ids;
  std::vector<std::string> prompts;
  bool bos = false, chat = false, control = false, json = false;
};

// Of a package or a checkpoint; nothing is imported for it.
Result<std::unique_ptr<Tokenizer>> load_tokenizer(const std::string& model) {
  NESTLING_TRY(const std::filesystem::path path, find_model(model));
  std::error_code error;
  std::string bytes;
  if (std::filesystem::is_directory(path, error)) {
    NESTLING_TRY(bytes, sentencepiece_from_checkpoint(path));
  } else {
    NESTLING_TRY(const Package package, Package::open(path));
    bytes = package.info().tokenizer;
  }
  if (bytes.empty())
    return fail(ErrorCode::kModel, "{}: holds no tokenizer (tokenizer.model or tokenizer.json)", path.string());
  return Tokenizer::load(bytes);
}

Result<std::vector<int32_t>> encode(const Tokenizer& tokenizer, const TokenizeOptions& options) {
  std::vector<ContentArgument> content;
  for (const std::string& prompt : options.prompts) content.push_back({ContentKind::kText, prompt});
  NESTLING_TRY(const std::vector<ContentPart> parts, read_content(content));
  const ControlText controls = options.control ? ControlText::kParsed : ControlText::kInert;
  if (options.chat || options.bos) {
    NESTLING_TRY(const Prompt prompt, options.chat ? render_chat(std::vector<Message>{{"user", parts}})
                                                   : render_raw(parts, controls));
    NESTLING_TRY(EncodedPrompt encoded, encode_prompt(tokenizer, prompt));
    return std::move(encoded.ids);
  }
  std::string text;
  for (const ContentPart& part : parts) text += part.text;
  return tokenizer.encode(text, controls);
}

std::string joined(std::span<const int32_t> ids) { return fmt::format("{}", fmt::join(ids, ",")); }

Status print_ids(const Tokenizer& tokenizer, std::span<const int32_t> ids, bool json) {
  if (!json) {
    NESTLING_TRY_VOID(write_stdout(joined(ids) + "\n"));
    return flush_stdout();
  }
  auto pieces = nlohmann::ordered_json::array();
  for (const int32_t id : ids) pieces.push_back(tokenizer.piece(id));
  return print_json({{"count", ids.size()}, {"ids", ids}, {"pieces", std::move(pieces)}});
}

Status print_text(const std::string& text, std::span<const int32_t> ids, bool json) {
  if (json) return print_json({{"count", ids.size()}, {"ids", ids}, {"text", text}});
  NESTLING_TRY_VOID(write_stdout(text + "\n"));
  return flush_stdout();
}

Result<int> tokenize(const TokenizeOptions& options) {
  if (options.prompts.empty() == options.ids.empty())
    return fail(ErrorCode::kUsage, "give -p TEXT (or -p -) for its ids, or --ids 2,5,17 for their text");
  if (options.chat && options.control)
    return fail(ErrorCode::kUsage, "--control: has no effect with --chat, whose texts are a user's");
  NESTLING_TRY(const std::unique_ptr<Tokenizer> tokenizer, load_tokenizer(options.model));
  if (options.ids.empty()) {
    NESTLING_TRY(const std::vector<int32_t> ids, encode(*tokenizer, options));
    NESTLING_TRY_VOID(print_ids(*tokenizer, ids, options.json));
    return 0;
  }
  const auto ids = parse_ids(options.ids);
  if (!ids) return fail(ErrorCode::kUsage, "--ids: {}", ids.error().message);
  NESTLING_TRY(const std::string text,
               tokenizer->decode(*ids, options.control ? ControlText::kParsed : ControlText::kInert));
  NESTLING_TRY_VOID(print_text(text, *ids, options.json));
  return 0;
}

}  // namespace

void add_tokenize(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("tokenize", "Token ids of a text, or the text of ids");
  const auto options = std::make_shared<TokenizeOptions>();
  add_text(*command, "-m,--model", options->model, "a package, a checkpoint directory, or a name such as nano")
      ->type_name("MODEL")
      ->required();
  add_texts(*command, "-p,--prompt", options->prompts, "text, - reads standard input; UTF-8, up to 16 MiB");
  add_text(*command, "--ids", options->ids, "ids separated by commas, for their text");
  add_flag(*command, "--bos", options->bos, "put <bos> first");
  add_flag(*command, "--chat", options->chat, "the ids of a whole prompt with this user message");
  add_flag(*command, "--control", options->control,
           "control names such as <start_of_turn> in the text count; for ids: are written [they are plain text]");
  add_flag(*command, "--json", options->json, "one JSON document: count, ids, and pieces or text");
  command->parse_complete_callback([options, &action] { action = [options] { return tokenize(*options); }; });
}

}  // namespace nestling
