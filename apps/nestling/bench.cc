// nestling bench: how fast a model runs on this machine, beside what the machine can do.
#include "bench.h"

#include <algorithm>
#include <cctype>
#include <memory>

#include <CLI/CLI.hpp>

#include "bench_synthetic.h"
#include "command.h"
#include "model_source.h"
#include "output.h"
#include "runtime/media_reader.h"

namespace nestling {
namespace {

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

Status check_options(const BenchOptions& options) {
  if (!options.model.empty() && !options.synthetic.empty())
    return fail(ErrorCode::kUsage, "--model and --synthetic: one of them is allowed");
  if (options.model.empty() && options.synthetic.empty() && !options.check)
    return fail(ErrorCode::kUsage, "--model or --synthetic is needed (or --check, for the kernels alone)");
  for (const int64_t size : options.image_sizes)
    if (!is_image_size(size))
      return fail(ErrorCode::kUsage, "--image-size {}: 256, 512 and 768 are allowed", size);
  return {};
}

Result<std::filesystem::path> package_of(const BenchOptions& options) {
  if (options.synthetic.empty()) return find_package({options.model, options.weights});
  return synthetic_package(options.synthetic, options.weights,
                           {.text = !options.media(), .vision = !options.image_sizes.empty(),
                            .audio = !options.audio_seconds.empty()});
}

// "q4, head q6, PLE q8", as the package has them.
Result<std::string> weight_types_of(const std::filesystem::path& path) {
  NESTLING_TRY(const Package package, Package::open(path));
  const auto type = [&](const char* name) {
    const PackageTensor* tensor = package.find(name);
    return tensor == nullptr ? "none" : weight_type_name(tensor->type);
  };
  return fmt::format("{}, head {}, PLE {}", type("blk.0.attn_q.weight"), type("token_embd.weight"),
                     type("per_layer_token_embd.weight"));
}

Status bench_model(const BenchOptions& options, const Probe& probe, BenchReport& report) {
  NESTLING_TRY(const std::filesystem::path package, package_of(options));
  report.model = options.synthetic.empty() ? options.model : "synthetic " + options.synthetic;
  if (options.media()) return measure_media(package, options, probe, report);
  NESTLING_TRY(report.weights, weight_types_of(package));
  report.ple = options.engine.ple.mode == PleMode::kStream ? "stream" : "resident";
  const auto sizes = options.sizes.empty() ? std::vector{options.engine.size} : split(options.sizes);
  for (const std::string& size : sizes) NESTLING_TRY_VOID(measure_size(package, options, size, probe, report));
  return {};
}

Result<int> bench(const BenchOptions& options) {
  NESTLING_TRY_VOID(check_options(options));
  NESTLING_TRY(const Kernels kernels, Kernels::choose());
  const int threads = options.engine.threads > 0 ? options.engine.threads : default_thread_count();
  const Probe probe;
  BenchReport report;
  NESTLING_TRY(report.machine, probe.machine(kernels, threads));
  if (options.check) NESTLING_TRY_VOID(measure_products(probe, kernels, threads, options.repeat, report));
  if (!options.model.empty() || !options.synthetic.empty()) NESTLING_TRY_VOID(bench_model(options, probe, report));
  if (!options.compare_to.empty()) NESTLING_TRY_VOID(compare_to(report, options.compare_to));
  if (!options.csv.empty()) NESTLING_TRY_VOID(write_csv(report, options.csv));
  NESTLING_TRY_VOID(options.json ? print_report_json(report, options) : print_report(report));
  if (!options.check) return 0;
  NESTLING_TRY(const bool passed, check_floors(report));
  return passed ? 0 : 1;
}

// A flag that takes whole numbers separated by commas.
void add_counts(CLI::App& app, const std::string& name, std::vector<int64_t>& target, int64_t low,
                const std::string& help, int64_t most = 1 << 20) {
  const auto parse = [&target, name, low, most](const std::string& text) {
    target.clear();
    for (const std::string& part : split(text)) {
      const auto count = parse_whole(part, low, most);
      if (!count) throw CLI::ValidationError(name, count.error().message);
      target.push_back(*count);
    }
  };
  std::string twin = "NESTLING_" + name.substr(2);
  std::ranges::transform(twin, twin.begin(),
                         [](unsigned char c) { return c == '-' ? '_' : static_cast<char>(std::toupper(c)); });
  app.add_option_function<std::string>(name, parse, help)->type_name("N,...")->envname(twin);
}

}  // namespace

void add_bench(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("bench", "Measure prefill, decode, memory and storage traffic");
  const auto options = std::make_shared<BenchOptions>();
  add_text(*command, "-m,--model", options->model,
           "a package, a checkpoint directory (imported once into the cache), or a name such as nano")
      ->type_name("MODEL");
  add_text(*command, "--synthetic", options->synthetic,
           "random weights of the real shapes, written once into the cache: e2b, e4b or any other size")
      ->type_name("SIZE");
  add_weight_options(*command, options->weights);
  add_counts(*command, "--prompt-tokens", options->prompts, 1,
             "lengths of prompts, 1 or more [those of 32,128,512,2048 that fit the context]");
  add_whole(*command, "--gen-tokens", options->gen_tokens, 2, 1 << 20, "tokens decoded, 2 or more [64]");
  add_counts(*command, "--depth", options->depths, 0, "tokens in the context before decoding, 0 or more [0]");
  add_counts(*command, "--image-size", options->image_sizes, 256,
             "measure the encoder of pictures of 256, 512 or 768 pixels a side, and not the text model", 768);
  add_counts(*command, "--audio-seconds", options->audio_seconds, 1,
             "measure the encoder of sounds of so many seconds, 1 to 5400, and not the text model", 5400);
  add_whole(*command, "--repeat", options->repeat, 1, 1000, "runs, of which the median counts, 1 to 1000 [5]");
  add_engine_options(*command, options->engine);
  add_chunk_option(*command, options->engine);
  add_text(*command, "--sizes", options->sizes, "sizes measured one after another, separated by commas [--size]")
      ->type_name("SIZE,...");
  add_text(*command, "--csv", options->csv, "write the figures to this file as well")->type_name("FILE");
  add_text(*command, "--compare-to", options->compare_to, "show the change since this earlier --json document")
      ->type_name("FILE");
  add_flag(*command, "--check", options->check,
           "measure the weight products as well; status 1 when they or decode fall below the floors for this machine");
  add_flag(*command, "--json", options->json, "one JSON document");
  command->parse_complete_callback([options, &action] { action = [options] { return bench(*options); }; });
}

}  // namespace nestling
