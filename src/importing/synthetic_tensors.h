// What a synthetic model is written from: tensors as they are stored, and what their values are drawn from. Private to
// importing.
#pragma once

#include <compare>
#include <vector>

#include "importing/weight_plan.h"
#include "model/config.h"

namespace nestling {

// What the values of a tensor are drawn from.
struct Distribution {
  bool ones = false;
  float std = 0;
  // Values of their own: gates that repeated rows of the embedding would stand out for the tokens that have these rows,
  // and sparse layers would keep fewer neurons than those of a real model do.
  bool embedding = false;
  auto operator<=>(const Distribution&) const = default;
};

struct SyntheticTensor {
  PackageTensor target;
  Distribution distribution;
};

// A tower: vectors are ones, products and kernels normal with standard deviation 1 / sqrt(inputs of an output).
void append_synthetic_tower(const std::vector<TowerTensor>& tower, Region region, const ImportOptions& options,
                            std::vector<SyntheticTensor>& tensors);

// The towers of `config`, with their embedders; the section must be there.
void append_synthetic_vision(const ModelConfig& config, const ImportOptions& options,
                             std::vector<SyntheticTensor>& tensors);
void append_synthetic_audio(const ModelConfig& config, const ImportOptions& options,
                            std::vector<SyntheticTensor>& tensors);

}  // namespace nestling
