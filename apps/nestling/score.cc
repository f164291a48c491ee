// nestling score: how likely a text is to the model.
#include <cmath>
#include <memory>
#include <numeric>

#include <CLI/CLI.hpp>

#include "command.h"
#include "interrupt.h"
#include "model_source.h"
#include "options.h"
#include "output.h"

namespace nestling {
namespace {

struct ScoreOptions {
  ModelChoice model;
  EngineOptions engine;
  std::vector<std::string> prompts;
  std::string ids;
  bool json = false;
};

// <bos> and the text, or the ids as given.
Result<std::vector<int32_t>> ids_to_score(const Engine& engine, const ScoreOptions& options,
                                          const std::vector<ContentPart>& parts) {
  if (!options.ids.empty()) {
    auto ids = parse_ids(options.ids);
    if (!ids) return fail(ErrorCode::kUsage, "--ids: {}", ids.error().message);
    return ids;
  }
  NESTLING_TRY(const Tokenizer* tokenizer, engine.require_tokenizer());
  NESTLING_TRY(const Prompt prompt, render_raw(parts, ControlText::kParsed));
  NESTLING_TRY(EncodedPrompt encoded, encode_prompt(*tokenizer, prompt));
  return std::move(encoded.ids);
}

struct Score {
  std::vector<int32_t> ids;
  std::vector<double> logprobs;  // of all ids but the first
  double sum() const { return std::accumulate(logprobs.begin(), logprobs.end(), 0.0); }
  double perplexity() const { return std::exp(-sum() / static_cast<double>(logprobs.size())); }
};

std::string piece_of(const Tokenizer* tokenizer, int32_t id) {
  return tokenizer == nullptr || id >= tokenizer->size() ? "" : std::string(tokenizer->piece(id));
}

// "id <tab> log-probability <tab> piece", then the perplexity.
Status print_table(const Score& score, const Tokenizer* tokenizer) {
  for (size_t i = 0; i < score.logprobs.size(); ++i)
    NESTLING_TRY_VOID(write_stdout(fmt::format("{}\t{:.6f}\t{}\n", score.ids[i + 1], score.logprobs[i],
                                               piece_of(tokenizer, score.ids[i + 1]))));
  NESTLING_TRY_VOID(write_stdout(fmt::format("perplexity {:.4f} over {} tokens\n", score.perplexity(),
                                             score.logprobs.size())));
  return flush_stdout();
}

Status print_score_json(const Engine& engine, const Score& score) {
  auto tokens = nlohmann::ordered_json::array();
  for (size_t i = 0; i < score.ids.size(); ++i)
    tokens.push_back({{"id", score.ids[i]},
                      {"piece", piece_of(engine.tokenizer(), score.ids[i])},
                      {"logprob", i == 0 ? nlohmann::ordered_json() : nlohmann::ordered_json(score.logprobs[i - 1])}});
  return print_json({{"size", engine.default_size().name},
                     {"scored_tokens", score.logprobs.size()},
                     {"logprob_sum", score.sum()},
                     {"perplexity", score.perplexity()},
                     {"tokens", std::move(tokens)},
                     {"memory", memory_json(engine.plan())},
                     {"limits", engine.notes()}});
}

Result<int> score_command(const ScoreOptions& options) {
  if (options.prompts.empty() == options.ids.empty())
    return fail(ErrorCode::kUsage, "give -p TEXT (or -p -), or --ids 2,5,17: one of the two");
  std::vector<ContentPart> parts;
  if (options.ids.empty()) {
    std::vector<ContentArgument> content;
    for (const std::string& prompt : options.prompts) content.push_back({ContentKind::kText, prompt});
    NESTLING_TRY(parts, read_content(content));
  }
  NESTLING_TRY(const std::unique_ptr<Engine> engine, open_engine(options.model, options.engine));
  Score score;
  NESTLING_TRY(score.ids, ids_to_score(*engine, options, parts));
  if (score.ids.size() < 2)
    return fail(ErrorCode::kUsage, "{} token to score; at least 2 are needed, the first has no probability",
                score.ids.size());
  Session session(*engine);
  NESTLING_TRY(score.logprobs, session.score(score.ids, engine->default_size(), interrupt_flag()));
  NESTLING_TRY_VOID(options.json ? print_score_json(*engine, score) : print_table(score, engine->tokenizer()));
  return 0;
}

}  // namespace

void add_score(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("score", "Log-probability of every token of a text, and its perplexity");
  const auto options = std::make_shared<ScoreOptions>();
  add_model_options(*command, options->model, ModelArgument::kFlag);
  add_texts(*command, "-p,--prompt", options->prompts,
            "text, - reads standard input; <bos> goes first, control names such as <start_of_turn> count");
  add_text(*command, "--ids", options->ids, "ids separated by commas instead of a text; nothing is put before them");
  add_engine_options(*command, options->engine);
  add_chunk_option(*command, options->engine);
  add_flag(*command, "--json", options->json, "one JSON document: tokens, sum and perplexity");
  command->parse_complete_callback([options, &action] { action = [options] { return score_command(*options); }; });
}

}  // namespace nestling
