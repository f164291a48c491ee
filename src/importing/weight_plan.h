// What an import stores: for every tensor its weight type, layout and region, in package order. The policy is the table
// in weight_plan.cc; one function per region, so that a region can grow without touching the others.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "model/config.h"
#include "model/tensor_names.h"
#include "model/tower_tensor.h"
#include "storage/checkpoint.h"
#include "storage/package.h"
#include "tensor/weight.h"

namespace nestling {

struct ImportOptions {
  WeightType weights = WeightType::kQ4;
  std::optional<WeightType> head;  // embed_tokens; by default q6, or `weights` when those are floats
  std::optional<WeightType> ple;   // the PLE table; by default q8, or `weights` when those are floats

  WeightType head_type() const { return head.value_or(is_quantized(weights) ? WeightType::kQ6 : weights); }
  WeightType ple_type() const { return ple.value_or(is_quantized(weights) ? WeightType::kQ8 : weights); }
  // AltUp, LAuReL and per-layer-model projections and the multimodal ones are kept at 8 bits at least.
  WeightType side_type() const { return is_quantized(weights) ? WeightType::kQ8 : weights; }
  // What is kept as floats beside quantised weights.
  WeightType float_type() const { return weights == WeightType::kF32 ? WeightType::kF32 : WeightType::kBF16; }
  // Products of the vision and audio towers.
  WeightType tower_type() const { return is_quantized(weights) ? WeightType::kI8 : weights; }
  // Those of them that need more than int8; rows longer than i16 may have stay bf16.
  WeightType fine_tower_type(int64_t cols) const {
    return is_quantized(weights) && cols <= kMaxI16Inputs ? WeightType::kI16 : float_type();
  }
};

struct PlannedTensor {
  PackageTensor target;        // everything but the offset
  std::string checkpoint;      // canonical name
  std::vector<int64_t> shape;  // in the checkpoint, checked to be so
  Reorder reorder = Reorder::kNone;
  const CheckpointTensor* source = nullptr;
};

// How a text tensor is stored; `head_rows`: the rows of embed_tokens that are kept.
PackageTensor stored_text_tensor(const TextTensor& tensor, const TextConfig& config, const ImportOptions& options,
                                 int64_t head_rows);

// How a tower tensor is stored in `region`.
PackageTensor stored_tower_tensor(const TowerTensor& tensor, Region region, const ImportOptions& options);

// The tensors of one part of the model, checked against the checkpoint; empty when it holds none of that part. A part
// that is there only partly, another shape or a type that is no float: kModel naming tensor, what was found and needed.
Result<std::vector<PlannedTensor>> plan_text(const Checkpoint& checkpoint, const ModelConfig& config,
                                             const ImportOptions& options);
Result<std::vector<PlannedTensor>> plan_vision(const Checkpoint& checkpoint, const ModelConfig& config,
                                               const ImportOptions& options);
Result<std::vector<PlannedTensor>> plan_audio(const Checkpoint& checkpoint, const ModelConfig& config,
                                              const ImportOptions& options);

// All parts in the order of the regions. A checkpoint without any of them: kModel.
Result<std::vector<PlannedTensor>> plan_import(const Checkpoint& checkpoint, const ModelConfig& config,
                                               const ImportOptions& options);

// The tensor, checked to be there with this shape and as floats.
Result<const CheckpointTensor*> find_tensor(const Checkpoint& checkpoint, std::string_view canonical_name,
                                            const std::vector<int64_t>& shape);

}  // namespace nestling
