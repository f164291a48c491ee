// nestling inspect: what a model holds, what each size of it costs, and the memory a run would need.
#include <algorithm>
#include <memory>

#include <CLI/CLI.hpp>

#include "command.h"
#include "model/tensor_names.h"
#include "model_source.h"
#include "options.h"
#include "output.h"
#include "runtime/towers.h"

namespace nestling {
namespace {

using Json = nlohmann::ordered_json;

struct InspectOptions {
  ModelChoice model;
  EngineOptions engine;
  std::string modalities = "text";
  bool tensors = false, json = false;
};

// Everything the report is made of.
struct Inspection {
  Package package;
  ModelConfig config;
  MemoryRequest request;
  MemoryPlan plan;
  int64_t quantization_group = 1;
};

Status read_modalities(const std::string& text, MemoryRequest& request) {
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string word = text.substr(begin, end - begin);
    if (word == "vision") request.vision = true;
    else if (word == "audio") request.audio = true;
    else if (word != "text")
      return fail(ErrorCode::kUsage, "--modalities: \"{}\" is unknown; text, vision and audio, separated by commas, "
                  "are allowed", word);
    begin = end + 1;
  }
  return {};
}

Status check_parts(const Package& package, const MemoryRequest& request) {
  const auto missing = [&](Region region) {
    return fail(ErrorCode::kModel, "{}: holds no {} parameters", package.file().path().string(), region_name(region));
  };
  if (request.vision && !package.has_region(Region::kVision)) return missing(Region::kVision);
  if (request.audio && !package.has_region(Region::kAudio)) return missing(Region::kAudio);
  return {};
}

// Only a bound encoder knows what it needs; binding reads next to nothing. Audio layers stay on storage where the budget
// has no room for them, as in a run.
Status measure_towers(Inspection& in, const std::optional<uint64_t>& budget) {
  MemoryRequest& request = in.request;
  if (!request.vision && !request.audio) return {};
  NESTLING_TRY(const Kernels kernels, Kernels::choose());
  ThreadPool pool(request.threads, false);
  Towers towers(TowerContext{&in.package, &kernels, &pool, &in.config});
  if (request.vision) {
    NESTLING_TRY_VOID(towers.vision.load());
    request.vision_workspace = towers.vision.workspace_bytes(in.config.vision->image_size);
  }
  for (const AudioWeights weights : {AudioWeights::kResident, AudioWeights::kStreamed}) {
    if (!request.audio) break;
    towers.sound.release();
    NESTLING_TRY_VOID(towers.sound.load(weights));
    request.audio_weights = weights;
    request.audio_workspace = towers.sound.workspace_bytes();
    if (!budget || plan_memory(in.package, in.config, request).resident() <= *budget) break;
  }
  towers.release();
  return {};
}

Result<Inspection> inspect_model(const InspectOptions& options) {
  MemoryRequest request{.context = options.engine.context, .chunk = options.engine.chunk, .ple = options.engine.ple};
  NESTLING_TRY_VOID(read_modalities(options.modalities, request));
  NESTLING_TRY(const std::filesystem::path path, find_package(options.model));
  NESTLING_TRY(Package package, Package::open(path));
  NESTLING_TRY(ModelConfig config, config_from_json(package.info().config_json, path.string()));
  NESTLING_TRY_VOID(check_parts(package, request));
  Inspection in{.package = std::move(package), .config = std::move(config), .request = std::move(request)};
  if (in.request.context > in.config.text.max_position_embeddings)
    return fail(ErrorCode::kUsage, "--ctx: {} tokens; {} to {} are allowed by this model", in.request.context,
                EngineOptions::kMinContext, in.config.text.max_position_embeddings);
  in.request.chunk = std::min(in.request.chunk, in.request.context);
  const PackageTensor* down = in.package.find(package_name(LayerTensor::kDownProj, 0));
  const PackageTensor* head = in.package.find(package_name(GlobalTensor::kTokenEmbedding));
  if (down != nullptr && is_quantized(down->type)) in.quantization_group = kQuantBlock;
  const bool f32 = head != nullptr && head->type == WeightType::kF32;
  in.request.kv = options.engine.kv.value_or(f32 ? KvType::kF32 : KvType::kBF16);
  in.request.threads = options.engine.threads > 0 ? options.engine.threads : default_thread_count();
  in.request.size = full_size(in.config.text);
  NESTLING_TRY_VOID(measure_towers(in, options.engine.memory_budget));
  if (!options.engine.size.empty()) {
    std::vector<std::string> notes;
    NESTLING_TRY(in.request.size, choose_size(in.package, in.config, in.request, options.engine.size,
                                              in.quantization_group, options.engine.memory_budget, notes));
    for (const std::string& note : notes) print_note(note);
  }
  if (options.engine.memory_budget)
    NESTLING_TRY_VOID(check_budget(in.package, in.config, in.request, *options.engine.memory_budget));
  in.plan = plan_memory(in.package, in.config, in.request);
  return in;
}

// Bytes of weights in the plan: what a decoded token reads, in which sparse layers count whole (an upper bound).
uint64_t planned_weight_bytes(const MemoryPlan& plan) {
  uint64_t bytes = 0;
  for (const MemoryRegion& region : plan.regions)
    if (region.name.starts_with("weights:")) bytes += region.resident;
  return bytes;
}

uint64_t ple_row_bytes(const Package& package) {
  const PackageTensor* table = package.find(package_name(GlobalTensor::kPerLayerTokenEmbedding));
  return table == nullptr ? 0 : rows_stride_bytes(table->type, table->cols);
}

struct ParameterGroup {
  std::string name;
  int64_t parameters = 0;
  uint64_t file_bytes = 0, loaded_bytes = 0;  // loaded: in memory for this request, in full use
};

// Text core, embedding (its rows are the head too), the towers, and the PLE table.
std::vector<ParameterGroup> parameter_groups(const Inspection& in) {
  ParameterGroup groups[] = {{"text"}, {"embedding and head"}, {"vision"}, {"audio"}, {"PLE"}};
  const std::string embedding = package_name(GlobalTensor::kTokenEmbedding);
  for (const PackageTensor& tensor : in.package.tensors()) {
    const size_t group = tensor.region == Region::kText ? (tensor.name == embedding ? 1 : 0)
                                                        : 1 + static_cast<size_t>(tensor.region);
    groups[group].parameters += tensor.rows * tensor.cols;
    groups[group].file_bytes += tensor.bytes;
  }
  groups[1].loaded_bytes = groups[1].file_bytes;
  const uint64_t weights = planned_weight_bytes(in.plan);
  groups[0].loaded_bytes = weights - std::min(weights, groups[1].file_bytes);
  for (const MemoryRegion& region : in.plan.regions) {
    const bool workspace = region.name.contains("workspace");
    if (region.name.starts_with("vision") && !workspace) groups[2].loaded_bytes = region.resident;
    if (region.name.starts_with("audio") && !workspace) groups[3].loaded_bytes = region.resident;
    if (region.name.starts_with("PLE")) groups[4].loaded_bytes = region.resident;
  }
  return {std::begin(groups), std::end(groups)};
}

struct SizeRow {
  ModelSize size;
  ParameterCounts counts;
  uint64_t bytes_per_token = 0;
  const PublishedSize* published = nullptr;
};

// The published sizes this file holds; the whole file too where it is none of them.
std::vector<SizeRow> size_rows(const Inspection& in) {
  std::vector<SizeRow> rows;
  const auto add = [&](ModelSize size, const PublishedSize* published) {
    MemoryRequest request = in.request;
    request.size = size;
    const uint64_t weights = planned_weight_bytes(plan_memory(in.package, in.config, request));
    const ParameterCounts counts = count_parameters(in.config.text, size);
    rows.push_back({std::move(size), counts, weights + ple_row_bytes(in.package), published});
  };
  for (const PublishedSize& published : published_sizes())
    if (auto size = parse_size(published.slug, in.config.text, in.quantization_group)) add(*size, &published);
  const ModelSize full = full_size(in.config.text);
  const auto is_full = [&](const SizeRow& row) { return row.size.layers == full.layers; };
  if (std::ranges::none_of(rows, is_full)) add(full, nullptr);
  return rows;
}

Json widths_json(const ModelSize& size) {
  Json widths = Json::array();
  for (const LayerSize& layer : size.layers) widths.push_back(layer.skipped ? Json("skip") : Json(layer.width));
  return widths;
}

Json sizes_json(const Inspection& in) {
  Json sizes = Json::array();
  for (const SizeRow& row : size_rows(in))
    sizes.push_back({{"name", row.size.name},
                     {"official_name", row.published != nullptr ? Json(row.published->official_name) : Json()},
                     {"layers", row.size.layers_run()},
                     {"widths", widths_json(row.size)},
                     {"effective_parameters", row.counts.effective},
                     {"decode_parameters", row.counts.decode_read},
                     {"bytes_per_decoded_token", row.bytes_per_token},
                     {"prefill_parameters", row.counts.prefill_read},
                     {"published_mmlu", row.published != nullptr ? Json(row.published->mmlu) : Json()},
                     {"kv_signature", row.size.kv_signature(in.config.text)}});
  return sizes;
}

Json config_json(const TextConfig& c) {
  return {{"layers", c.num_hidden_layers},
          {"kv_shared_layers", c.num_kv_shared_layers},
          {"hidden_size", c.hidden_size},
          {"attention_heads", c.num_attention_heads},
          {"key_value_heads", c.num_key_value_heads},
          {"head_dim", c.head_dim},
          {"per_layer_input_size", c.hidden_size_per_layer_input},
          {"altup_streams", c.altup_num_inputs},
          {"laurel_rank", c.laurel_rank},
          {"sliding_window", c.sliding_window},
          {"vocabulary", c.vocab_size},
          {"max_context", c.max_position_embeddings}};
}

Json tensors_json(const Package& package) {
  Json tensors = Json::array();
  for (const PackageTensor& t : package.tensors())
    tensors.push_back({{"name", t.name},
                       {"region", region_name(t.region)},
                       {"type", weight_type_name(t.type)},
                       {"layout", layout_name(t.layout)},
                       {"rows", t.rows},
                       {"cols", t.cols},
                       {"bytes", t.bytes},
                       {"offset", t.offset}});
  return tensors;
}

Status print_inspection_json(const Inspection& in, const InspectOptions& options) {
  const ParameterCounts counts = count_parameters(in.config.text, in.request.size);
  Json groups = Json::array();
  for (const ParameterGroup& group : parameter_groups(in))
    groups.push_back({{"name", group.name},
                      {"parameters", group.parameters},
                      {"file_bytes", group.file_bytes},
                      {"loaded_bytes", group.loaded_bytes}});
  Json document = {{"file", in.package.file().path().string()},
                   {"file_bytes", in.package.file().size()},
                   {"source", in.package.info().source},
                   {"tokenizer", !in.package.info().tokenizer.empty()},
                   {"config", config_json(in.config.text)},
                   {"parameter_groups", std::move(groups)},
                   {"size", in.request.size.name},
                   {"effective_parameters", counts.effective},
                   {"context", in.request.context},
                   {"memory", memory_json(in.plan)},
                   {"sizes", sizes_json(in)}};
  if (options.tensors) document["tensors"] = tensors_json(in.package);
  return print_json(document);
}

std::string groups_table(const Inspection& in) {
  std::string text = fmt::format("{:34} {:>12} {:>12} {:>12}\n", "parameters", "count", "in file", "loaded");
  for (const ParameterGroup& group : parameter_groups(in))
    if (group.parameters > 0)
      text += fmt::format("{:34} {:>12} {:>12} {:>12}\n", group.name, group.parameters, megabytes(group.file_bytes),
                          megabytes(group.loaded_bytes));
  return text + fmt::format("{:34} {:>12}\n", fmt::format("effective at size {}", in.request.size.name),
                            count_parameters(in.config.text, in.request.size).effective);
}

std::string sizes_table(const Inspection& in) {
  constexpr int64_t kPublishedWidth = 2048;  // D of the models that MMLU was published for
  const bool published = in.config.text.hidden_size == kPublishedWidth;
  std::string text = fmt::format("{:16} {:>7} {:>14} {:>14} {:>14}{}\n", "size", "layers", "effective",
                                 "MB per token", "prefill", published ? "   MMLU" : "");
  for (const SizeRow& row : size_rows(in)) {
    text += fmt::format("{:16} {:>7} {:>14} {:>14.1f} {:>14}", row.size.name, row.size.layers_run(),
                        row.counts.effective, static_cast<double>(row.bytes_per_token) / 1e6, row.counts.prefill_read);
    text += published && row.published != nullptr ? fmt::format("   {:.1f}\n", row.published->mmlu) : "\n";
  }
  text += "MB per token: weights a decoded token reads, at most; prefill: parameters a prompt token works through\n";
  if (published) text += "MMLU: as Google published it for the pre-trained checkpoint\n";
  return text;
}

std::string tensors_table(const Package& package) {
  std::string text = fmt::format("{:40} {:7} {:5} {:12} {:>16} {:>12}\n", "tensor", "region", "type", "layout", "shape",
                                 "bytes");
  for (const PackageTensor& t : package.tensors())
    text += fmt::format("{:40} {:7} {:5} {:12} {:>16} {:>12}\n", t.name, region_name(t.region),
                        weight_type_name(t.type), layout_name(t.layout), fmt::format("{}x{}", t.rows, t.cols), t.bytes);
  return text;
}

Status print_inspection(const Inspection& in, const InspectOptions& options) {
  const TextConfig& c = in.config.text;
  std::string text = fmt::format("{}: {}, imported from {}\n", in.package.file().path().string(),
                                 megabytes(in.package.file().size()), in.package.info().source);
  text += fmt::format("{} layers ({} share K/V), width {}, {} heads over {} K/V heads of {}, vocabulary {}, ",
                      c.num_hidden_layers, c.num_kv_shared_layers, c.hidden_size, c.num_attention_heads,
                      c.num_key_value_heads, c.head_dim, c.vocab_size);
  text += fmt::format("context up to {}\n", c.max_position_embeddings);
  text += fmt::format("\n{}\n{}\n{}", groups_table(in), in.plan.table(), sizes_table(in));
  if (options.tensors) text += "\n" + tensors_table(in.package);
  NESTLING_TRY_VOID(write_stdout(text));
  return flush_stdout();
}

Result<int> inspect(const InspectOptions& options) {
  NESTLING_TRY(const Inspection inspection, inspect_model(options));
  NESTLING_TRY_VOID(options.json ? print_inspection_json(inspection, options) : print_inspection(inspection, options));
  return 0;
}

}  // namespace

void add_inspect(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("inspect", "Parameters, sizes, tensors and the memory plan of a model");
  const auto options = std::make_shared<InspectOptions>();
  add_model_options(*command, options->model, ModelArgument::kPositional);
  add_engine_options(*command, options->engine);
  add_chunk_option(*command, options->engine);
  add_text(*command, "--modalities", options->modalities, "parts the plan is made for: text, vision, audio")
      ->capture_default_str();
  add_flag(*command, "--tensors", options->tensors, "list every tensor");
  add_flag(*command, "--json", options->json, "one JSON document");
  command->parse_complete_callback([options, &action] { action = [options] { return inspect(*options); }; });
}

}  // namespace nestling
