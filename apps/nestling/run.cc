// nestling run: one answer, streamed.
#include "run.h"

#include <algorithm>
#include <memory>

#include <CLI/CLI.hpp>

#include "command.h"
#include "interrupt.h"
#include "model_source.h"
#include "options.h"
#include "output.h"

namespace nestling {
namespace {

Result<Prompt> render(const RunOptions& options, std::vector<ContentPart> parts) {
  if (options.raw && !options.system.empty())
    return fail(ErrorCode::kUsage, "--system: has no place with --raw, which uses no chat template");
  // The whole text is the user's own with --raw, so control names written in it count.
  if (options.raw) return render_raw(parts, ControlText::kParsed);
  std::vector<Message> messages;
  if (!options.system.empty()) messages.push_back(Message::of("system", options.system));
  messages.push_back({"user", std::move(parts)});
  return render_chat(messages);
}

// Per generated id: its log-probability and the likeliest alternatives.
nlohmann::ordered_json logprobs_json(const Engine& engine, const std::vector<Sampled>& sampled) {
  const auto entry = [&](int32_t id, float logprob) -> nlohmann::ordered_json {
    nlohmann::ordered_json json = {{"id", id}, {"logprob", logprob}};
    if (engine.tokenizer() != nullptr) json["piece"] = engine.tokenizer()->piece(id);
    return json;
  };
  auto list = nlohmann::ordered_json::array();
  for (const Sampled& s : sampled) {
    nlohmann::ordered_json json = entry(s.id, s.logprob);
    for (const TokenLogprob& t : s.top) json["top"].push_back(entry(t.id, t.logprob));
    list.push_back(std::move(json));
  }
  return list;
}

nlohmann::ordered_json result_json(const Engine& engine, const GenerateRequest& request, const GenerateResult& result,
                                   const PreparedPrompt& prepared, const std::vector<std::string>& limits) {
  nlohmann::ordered_json memory = memory_json(engine.plan());
  memory["modalities"] = modalities_json(engine.towers());
  nlohmann::ordered_json json =
         {{"text", result.text},
          {"ids", result.ids},
          {"finish_reason", result.finish_reason},
          {"stop_string", result.stop_string},
          {"size", request.size.name},
          {"seed", request.sampling.seed},
          {"sampling", sampling_json(request.sampling)},
          {"usage",
           {{"prompt_tokens", result.prompt_tokens},
            {"completion_tokens", result.completion_tokens},
            {"cached_tokens", result.cached_tokens},
            {"proposed_tokens", result.proposed_tokens},
            {"accepted_tokens", result.accepted_tokens},
            {"media_tokens", prepared.media_tokens},
            {"cached_media", std::ranges::count(prepared.media, true, &MediaReport::cached)}}},
          {"timings", timings_json(engine.load_ms(), result, prepared.image_ms, prepared.audio_ms)},
          {"media", media_json(prepared.media)},
          {"memory", std::move(memory)},
          {"ple", ple_json(engine.options().ple, result.ple)},
          {"limits", limits}};
  if (request.sampling.top_logprobs > 0) json["logprobs"] = logprobs_json(engine, result.logprobs);
  return json;
}

// Ends an answer on the terminal: a newline of its own, and in words whatever was cut.
Status finish_text(const GenerateResult& result, const std::vector<std::string>& limits) {
  if (!result.text.ends_with('\n')) NESTLING_TRY_VOID(write_stdout("\n"));
  for (const std::string& limit : limits) print_note(limit);
  return flush_stdout();
}

}  // namespace

Result<int> run_prompt(const RunOptions& options) {
  NESTLING_TRY(std::vector<ContentPart> parts, read_content(options.content));
  NESTLING_TRY(const Prompt prompt, render(options, std::move(parts)));
  NESTLING_TRY(const std::vector<Medium> media, media_of(options.content, options.media));
  EngineOptions engine_options = options.engine;
  expect_media(media, options.media.options, engine_options);
  NESTLING_TRY(const std::unique_ptr<Engine> engine, open_engine(options.model, engine_options));
  NESTLING_TRY(PreparedPrompt prepared, prepare_shown(*engine, prompt, media, options.media.options));

  GenerateRequest request{.prompt = std::move(prepared.input),
                          .size = engine->default_size(),
                          .sampling = options.sampling.resolve(engine->config().generation),
                          .max_tokens = options.answer.max_tokens,
                          .stop = options.answer.stop,
                          .speculate = options.answer.speculate,
                          .cancelled = interrupt_flag()};
  Status written;
  if (!options.json)
    request.on_text = [&written](std::string_view piece) {
      if (written) written = write_stdout(piece);
      if (written) written = flush_stdout();
      if (!written) interrupt();
    };
  Session session(*engine);
  NESTLING_TRY(const GenerateResult result, session.generate(request));
  NESTLING_TRY_VOID(written);

  std::vector<std::string> limits = prompt.notes;
  limits.insert(limits.end(), prepared.limits.begin(), prepared.limits.end());
  limits.insert(limits.end(), result.limits.begin(), result.limits.end());
  if (result.finish_reason == "length")
    limits.push_back(fmt::format("the answer was cut after {} tokens (-n)", options.answer.max_tokens));
  if (options.json) {
    limits.insert(limits.begin(), engine->notes().begin(), engine->notes().end());  // else the log has them
    NESTLING_TRY_VOID(print_json(result_json(*engine, request, result, prepared, limits)));
  } else {
    NESTLING_TRY_VOID(finish_text(result, limits));
  }
  return result.finish_reason == "cancelled" ? exit_status(ErrorCode::kCancelled) : 0;
}

void add_run(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("run", "Answer one prompt, streamed to standard output");
  const auto options = std::make_shared<RunOptions>();
  const auto content = std::make_shared<ContentChoice>();
  add_model_options(*command, options->model, ModelArgument::kFlag);
  add_content_options(*command, *content);
  add_text(*command, "--system", options->system, "what the model is told before the prompt");
  add_flag(*command, "--raw", options->raw,
           "no chat template: <bos> and the prompt; control names such as <start_of_turn> in it count");
  add_answer_options(*command, options->answer);
  add_sampling_options(*command, options->sampling);
  add_engine_options(*command, options->engine);
  add_chunk_option(*command, options->engine);
  add_media_options(*command, options->media);
  add_pcm_options(*command, options->media);
  add_whole(*command, "--logprobs", options->sampling.top_logprobs, 0, SamplingParams::kMaxTopLogprobs,
            "with --json: log-probability of every token and of the N likeliest, 0 to 20 [0]");
  add_flag(*command, "--json", options->json, "one JSON document when the answer is complete");
  command->parse_complete_callback([command, options, content, &action] {
    options->content = content->in_order(*command);
    action = [options] { return run_prompt(*options); };
  });
}

}  // namespace nestling
