#include "importing/plan_parts.h"

#include <algorithm>
#include <array>

namespace nestling {
namespace {

// One tensor of a multimodal embedder.
struct EmbedderTensor {
  std::string_view checkpoint;
  std::vector<int64_t> shape;
  PackageTensor target;
};

std::vector<EmbedderTensor> embedder_tensors(const ImportOptions& options, const EmbedderShape& e) {
  const auto stored = [&](const char* name, WeightType type, Layout layout, int64_t rows) {
    return package_tensor(e.package + name, type, layout, e.region, rows, e.width);
  };
  constexpr WeightType kF32 = WeightType::kF32;
  return {
      {"embedding.weight", {e.vocab, e.width},
       stored("embedding.weight", options.float_type(), Layout::kRows, e.vocab)},
      {"hard_embedding_norm.weight", {e.width}, stored("hard_emb_norm.weight", kF32, Layout::kRows, 1)},
      {"soft_embedding_norm.weight", {e.width}, stored("soft_emb_norm.weight", kF32, Layout::kRows, 1)},
      {"embedding_projection.weight", {e.text_width, e.width},
       stored("input_projection.weight", options.side_type(), Layout::kIl16, e.text_width)},
  };
}

}  // namespace

PackageTensor package_tensor(std::string name, WeightType type, Layout layout, Region region, int64_t rows,
                             int64_t cols) {
  return {.name = std::move(name),
          .type = type,
          .layout = layout,
          .region = region,
          .rows = rows,
          .cols = cols,
          .bytes = packed_bytes(type, layout, rows, cols)};
}

bool has_part(const Checkpoint& checkpoint, std::string_view prefix) {
  const auto it = checkpoint.tensors().lower_bound(prefix);
  return it != checkpoint.tensors().end() && it->first.starts_with(prefix);
}

Result<const CheckpointTensor*> find_tensor(const Checkpoint& checkpoint, std::string_view canonical_name,
                                            const std::vector<int64_t>& shape) {
  const CheckpointTensor* tensor = checkpoint.find(canonical_name);
  if (tensor == nullptr)
    return fail(ErrorCode::kModel, "{}: tensor {} is missing; config.json needs it with shape [{}]",
                checkpoint.directory().string(), canonical_name, fmt::join(shape, ", "));
  const SafetensorsEntry& entry = tensor->entry;
  if (entry.shape != shape)
    return fail(ErrorCode::kModel, "{}: tensor {} has shape [{}]; config.json needs [{}]",
                checkpoint.directory().string(), entry.name, fmt::join(entry.shape, ", "), fmt::join(shape, ", "));
  using enum SafetensorsType;
  constexpr std::array kFloats = {kF64, kF32, kF16, kBF16};
  if (std::ranges::find(kFloats, entry.type) == kFloats.end())
    return fail(ErrorCode::kModel, "{}: tensor {} has type {}; F32, F16, BF16 or F64 is allowed",
                checkpoint.directory().string(), entry.name, entry.type_name);
  return tensor;
}

EmbedderShape vision_embedder(const ModelConfig& c) {
  return {"mm.", Region::kVision, c.vision->vocab_size, c.vision->hidden_size, c.text.hidden_size};
}

EmbedderShape audio_embedder(const ModelConfig& c) {
  return {"mm.a.", Region::kAudio, c.audio->vocab_size, c.audio->hidden_size, c.text.hidden_size};
}

std::vector<PackageTensor> stored_embedder(const ImportOptions& options, const EmbedderShape& embedder) {
  std::vector<PackageTensor> tensors;
  for (EmbedderTensor& t : embedder_tensors(options, embedder)) tensors.push_back(std::move(t.target));
  return tensors;
}

Status plan_embedder(const Checkpoint& checkpoint, const ImportOptions& options, const std::string& prefix,
                     const EmbedderShape& embedder, std::vector<PlannedTensor>& plan) {
  for (EmbedderTensor& t : embedder_tensors(options, embedder)) {
    PlannedTensor planned{.target = std::move(t.target),
                          .checkpoint = prefix + std::string(t.checkpoint),
                          .shape = std::move(t.shape)};
    NESTLING_TRY(planned.source, find_tensor(checkpoint, planned.checkpoint, planned.shape));
    plan.push_back(std::move(planned));
  }
  return {};
}

Status plan_tower(const Checkpoint& checkpoint, const ImportOptions& options, const std::vector<TowerTensor>& tensors,
                  Region region, std::vector<PlannedTensor>& plan) {
  for (const TowerTensor& tensor : tensors) {
    PlannedTensor planned{.target = stored_tower_tensor(tensor, region, options),
                          .checkpoint = tensor.checkpoint,
                          .shape = tensor.shape,
                          .reorder = tensor.reorder};
    NESTLING_TRY(planned.source, find_tensor(checkpoint, tensor.checkpoint, tensor.shape));
    plan.push_back(std::move(planned));
  }
  return {};
}

}  // namespace nestling
