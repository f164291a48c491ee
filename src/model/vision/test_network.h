// Small random vision towers as packages, for the tests of this folder.
#pragma once

#include <functional>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/pack.h"
#include "model/vision/vision_encoder.h"
#include "model/vision_tensors.h"
#include "storage/package.h"
#include "storage/test_directory.h"

namespace nestling {

// Every kind of block, at widths that are no multiples of 16.
inline VisionArchitecture small_architecture() {
  using enum VisionBlockKind;
  VisionArchitecture a{.stem = 6, .fusion = 22, .width = 20};
  a.blocks = {{.kind = kEdgeResidual, .stage = 0, .index = 0, .stride = 2, .in = 6, .out = 10, .mid = 24},
              {.kind = kEdgeResidual, .stage = 0, .index = 1, .in = 10, .out = 10, .mid = 20},
              {.kind = kInvertedResidual, .stage = 1, .index = 0, .stride = 2, .in = 10, .out = 12, .mid = 40,
               .start_kernel = 3, .mid_kernel = 5},
              {.kind = kInvertedResidual, .stage = 1, .index = 1, .in = 12, .out = 12, .mid = 24, .start_kernel = 5},
              {.kind = kInvertedResidual, .stage = 2, .index = 0, .stride = 2, .in = 12, .out = 18, .mid = 24,
               .mid_kernel = 3},
              {.kind = kAttention, .stage = 2, .index = 1, .in = 18, .out = 18, .mid = 24,
               .head_dim = 8, .kv_kernel = 3},
              {.kind = kInvertedResidual, .stage = 2, .index = 2, .in = 18, .out = 18, .mid = 36},
              {.kind = kInvertedResidual, .stage = 3, .index = 0, .stride = 2, .in = 18, .out = 14, .mid = 30,
               .start_kernel = 5, .mid_kernel = 5},
              {.kind = kAttention, .stage = 3, .index = 1, .in = 14, .out = 14, .mid = 20,
               .head_dim = 10},
              {.kind = kInvertedResidual, .stage = 3, .index = 2, .in = 14, .out = 16, .mid = 28}};
  return a;
}

struct TestTower {
  WeightType weights = WeightType::kF32;
  uint32_t seed = 1;
  // Changes the list before it is written: to leave out, rename or reshape.
  std::function<void(std::vector<TowerTensor>&)> edit = [](auto&) {};
  // Changes values [rows, cols] of a tensor, by timm's name.
  std::function<void(const std::string&, std::vector<float>&)> fill = [](const auto&, auto&) {};
};

inline PackageTensor stored(const TowerTensor& t, WeightType weights) {
  const bool matrix = t.role == TowerRole::kMatrix;
  const WeightType type = matrix ? weights : WeightType::kF32;
  const Layout layout = matrix ? Layout::kIl16 : Layout::kRows;
  return {.name = t.package, .type = type, .layout = layout, .region = Region::kVision, .rows = t.rows, .cols = t.cols,
          .bytes = packed_bytes(type, layout, t.rows, t.cols)};
}

// The package of a tower, its vision region loaded.
inline Package write_tower(const TestDirectory& directory, const VisionArchitecture& architecture,
                           const TestTower& tower = {}) {
  std::vector<TowerTensor> list = vision_tensors(architecture);
  tower.edit(list);
  std::vector<PackageTensor> tensors;
  for (const TowerTensor& t : list) tensors.push_back(stored(t, tower.weights));
  auto writer = PackageWriter::create(directory / "tower.nest", {.config_json = "{}"}, tensors);
  EXPECT_TRUE(writer) << writer.error().message;
  std::mt19937 random(tower.seed);
  for (size_t i = 0; i < list.size(); ++i) {
    const PackageTensor& t = tensors[i];
    const bool vector = list[i].role == TowerRole::kVector;
    const float std = vector ? 0.2f : 1 / std::sqrt(static_cast<float>(t.layout == Layout::kRows ? t.rows : t.cols));
    std::normal_distribution<float> normal(vector ? 1.0f : 0.0f, std);
    std::vector<float> values(static_cast<size_t>(t.rows * t.cols));
    for (float& v : values) v = normal(random);
    tower.fill(vision_timm_name(t.name), values);
    std::vector<std::byte> packed(t.bytes);
    pack_matrix(t.type, t.layout, t.rows, t.cols, values.data(), packed.data());
    EXPECT_TRUE(writer->write(i, 0, packed));
  }
  EXPECT_TRUE(writer->commit());
  auto package = Package::open(directory / "tower.nest");
  EXPECT_TRUE(package) << package.error().message;
  EXPECT_TRUE(package->load_region(Region::kVision));
  return std::move(*package);
}

}  // namespace nestling
