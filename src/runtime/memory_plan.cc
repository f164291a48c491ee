#include "runtime/memory_plan.h"

#include <algorithm>
#include <fstream>
#include <map>

#include "base/checked.h"
#include "model/tensor_names.h"
#include "model/text/kv_cache.h"
#include "model/text/workspace.h"
#include "runtime/engine.h"

namespace nestling {
namespace {

// Code, libraries, stacks and small tables of the program: about 19 MB measured with the command line.
constexpr uint64_t kProgramBytes = 20u << 20;
// SentencePiece holds the pieces, their strings and a trie: measured multiple of the model file's bytes.
constexpr uint64_t kTokenizerFactor = 16;

const char* group_of(LayerTensor tensor) {
  switch (tensor) {
    case LayerTensor::kQProj:
    case LayerTensor::kKProj:
    case LayerTensor::kVProj:
    case LayerTensor::kOProj:
    case LayerTensor::kQNorm:
    case LayerTensor::kKNorm: return "weights: attention";
    case LayerTensor::kGateProj:
    case LayerTensor::kUpProj:
    case LayerTensor::kDownProj: return "weights: feed-forward";
    case LayerTensor::kPerLayerInputGate:
    case LayerTensor::kPerLayerProjection: return "weights: per-layer inputs";
    default: return "weights: AltUp, LAuReL, norms";
  }
}

const char* group_of(GlobalTensor tensor) {
  switch (tensor) {
    case GlobalTensor::kTokenEmbedding: return "weights: embedding and head";
    case GlobalTensor::kPerLayerModelProjection:
    case GlobalTensor::kPerLayerProjectionNorm: return "weights: per-layer inputs";
    default: return "weights: AltUp, LAuReL, norms";
  }
}

// Bytes of a stored tensor that a size touches: a prefix of the rows of gate and up, of the inputs of down (whole tiles).
uint64_t used_bytes(const PackageTensor& stored, const TextTensor& tensor, const ModelSize& size) {
  if (tensor.global) return stored.bytes;
  const LayerSize& layer = size.layers[static_cast<size_t>(tensor.layer)];
  if (layer.skipped) return 0;
  if (tensor.layer_tensor == LayerTensor::kGateProj || tensor.layer_tensor == LayerTensor::kUpProj)
    return packed_bytes(stored.type, stored.layout, layer.width, stored.cols);
  if (tensor.layer_tensor != LayerTensor::kDownProj) return stored.bytes;
  int64_t inputs = layer.width;
  if (stored.layout == Layout::kIl16Tiled) inputs = std::min(stored.cols, round_up(inputs, kTileInputs));
  return packed_bytes(stored.type, stored.layout, stored.rows, inputs);
}

uint64_t ple_bytes(const Package& package, const TextConfig& config, const MemoryRequest& request) {
  const PackageTensor* table = package.find(package_name(GlobalTensor::kPerLayerTokenEmbedding));
  if (table == nullptr) return 0;
  if (request.ple.mode == PleMode::kResident) return table->bytes;
  // Per ticket one chunk of rows, each read as whole 4 KiB blocks.
  const uint64_t row = rows_stride_bytes(table->type, config.num_hidden_layers * config.hidden_size_per_layer_input);
  return request.ple.cache_bytes +
         static_cast<uint64_t>(PleStore::kTickets * request.chunk) * *checked_round_up(row + 4096, 4096);
}

uint64_t status_field(const char* name) {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    if (word != name) continue;
    uint64_t kib = 0;
    status >> kib;
    return kib * 1024;
  }
  return 0;
}

std::string megabytes(uint64_t bytes) { return fmt::format("{:.1f} MB", static_cast<double>(bytes) / 1e6); }

// The largest of a few contexts, and the largest published size, that fit.
std::string what_would_fit(const Package& package, const ModelConfig& config, MemoryRequest request, uint64_t budget) {
  const MemoryRequest asked = request;
  for (int64_t context = asked.context / 2; context >= Engine::kMinPlannedContext; context /= 2) {
    request.context = context;
    if (plan_memory(package, config, request).resident() <= budget)
      return fmt::format("a context of {} would fit", context);
  }
  request = asked;
  for (auto row = published_sizes().rbegin(); row != published_sizes().rend(); ++row) {
    auto size = parse_size(row->slug, config.text, 1);
    if (!size) continue;
    request.size = *size;
    if (plan_memory(package, config, request).resident() <= budget)
      return fmt::format("the size {} would fit", row->slug);
  }
  const PackageTensor* gate = package.find(package_name(LayerTensor::kGateProj, 0));
  const bool can_shrink = gate != nullptr && gate->type != WeightType::kQ4;
  return fmt::format("no smaller context or published size fits alone{}", can_shrink ? "; q4 weights are smaller" : "");
}

// The embedder of a tower whose layers are streamed: all of the region that is mapped for long.
uint64_t embedder_bytes(const Package& package, std::string_view prefix) {
  uint64_t bytes = 0;
  for (const PackageTensor& tensor : package.tensors())
    if (tensor.name.starts_with(prefix)) bytes += tensor.bytes;
  return bytes;
}

void add_towers(const Package& package, const MemoryRequest& request, MemoryPlan& plan) {
  const auto add = [&](std::string name, uint64_t resident, uint64_t reserved) {
    plan.regions.push_back({std::move(name), reserved, resident});
  };
  if (request.vision) {
    const uint64_t weights = package.region_bytes(Region::kVision);
    add("vision", weights, weights);
    add("vision workspace", request.vision_workspace, request.vision_workspace);
  }
  if (request.audio) {
    const uint64_t weights = package.region_bytes(Region::kAudio);
    const bool streamed = request.audio_weights == AudioWeights::kStreamed;
    add(streamed ? "audio (layers stay on storage)" : "audio", streamed ? embedder_bytes(package, "mm.a.") : weights,
        weights);
    add(streamed ? "audio workspace and layer buffers" : "audio workspace", request.audio_workspace,
        request.audio_workspace);
  }
}

}  // namespace

uint64_t MemoryPlan::resident() const {
  uint64_t total = 0;
  for (const MemoryRegion& region : regions) total += region.resident;
  return total;
}

std::string MemoryPlan::table() const {
  std::string text = fmt::format("{:34} {:>12} {:>12}\n", "memory", "resident", "reserved");
  for (const MemoryRegion& region : regions)
    text += fmt::format("{:34} {:>12} {:>12}\n", region.name, megabytes(region.resident), megabytes(region.reserved));
  return text + fmt::format("{:34} {:>12}\n", "total when in full use", megabytes(resident()));
}

MemoryPlan plan_memory(const Package& package, const ModelConfig& config, const MemoryRequest& request) {
  MemoryPlan plan;
  std::map<std::string, MemoryRegion> groups;
  for (const TextTensor& tensor : text_tensors(config.text)) {
    const PackageTensor* stored = package.find(tensor.package);
    if (stored == nullptr || stored->region != Region::kText) continue;
    MemoryRegion& group = groups[tensor.global ? group_of(*tensor.global) : group_of(tensor.layer_tensor)];
    group.reserved += stored->bytes;
    group.resident += used_bytes(*stored, tensor, request.size);
  }
  for (auto& [name, region] : groups) {
    region.name = name;
    plan.regions.push_back(region);
  }
  const auto add = [&](std::string name, uint64_t resident, uint64_t reserved) {
    plan.regions.push_back({std::move(name), reserved, resident});
  };
  add_towers(package, request, plan);
  const KvCacheOptions kv{.type = request.kv, .context = request.context, .max_chunk = request.chunk};
  add(fmt::format("K/V cache ({}, {} tokens)", kv_type_name(request.kv), request.context),
      KvCache::bytes_used(config.text, kv, request.context), KvCache::bytes_needed(config.text, kv));
  const uint64_t workspace = Workspace::bytes_needed(config.text, request.chunk, request.threads);
  add(fmt::format("workspace ({} tokens a pass)", request.chunk), workspace, workspace);
  const uint64_t logits = static_cast<uint64_t>(Engine::kLogitRows * config.text.vocab_size) * sizeof(float);
  add("logits", logits, logits);
  const uint64_t ple = ple_bytes(package, config.text, request);
  add(request.ple.mode == PleMode::kResident ? "PLE table (resident)" : "PLE rows and cache (table on storage)", ple, ple);
  const uint64_t tokenizer = package.info().tokenizer.size() * kTokenizerFactor;
  add("tokenizer", tokenizer, tokenizer);
  add("program", kProgramBytes, kProgramBytes);
  return plan;
}

Status check_budget(const Package& package, const ModelConfig& config, const MemoryRequest& request, uint64_t budget) {
  const MemoryPlan plan = plan_memory(package, config, request);
  if (plan.resident() <= budget) return {};
  return fail(ErrorCode::kBudget, "{} needs {}, the memory budget is {}: {}\n{}", request.size.name,
              megabytes(plan.resident()), megabytes(budget), what_would_fit(package, config, request, budget),
              plan.table());
}

Result<ModelSize> choose_size(const Package& package, const ModelConfig& config, MemoryRequest request,
                              const std::string& text, int64_t group, std::optional<uint64_t> budget,
                              std::vector<std::string>& notes) {
  if (text.empty() || text == "full") return full_size(config.text);
  if (text != "auto") return parse_size(text, config.text, group);
  const uint64_t limit = budget.value_or(available_memory_bytes());
  std::vector<ModelSize> candidates{full_size(config.text)};
  for (auto row = published_sizes().rbegin(); row != published_sizes().rend(); ++row)
    if (auto size = parse_size(row->slug, config.text, group)) candidates.push_back(*std::move(size));
  for (ModelSize& size : candidates) {
    request.size = size;
    const uint64_t needed = plan_memory(package, config, request).resident();
    if (needed > limit) continue;
    notes.push_back(fmt::format("size auto: {} needs {} of the {} {}", size.name, megabytes(needed), megabytes(limit),
                                budget ? "budgeted" : "available"));
    return std::move(size);
  }
  NESTLING_TRY_VOID(check_budget(package, config, request, limit));
  return request.size;
}

uint64_t resident_bytes() { return status_field("VmRSS:"); }
uint64_t peak_resident_bytes() { return status_field("VmHWM:"); }

uint64_t available_memory_bytes() {
  std::ifstream info("/proc/meminfo");
  for (std::string word; info >> word;) {
    if (word != "MemAvailable:") continue;
    uint64_t kib = 0;
    info >> kib;
    return kib * 1024;
  }
  return 0;
}

}  // namespace nestling
