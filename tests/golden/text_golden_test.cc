// The text model against Hugging Face transformers, tap by tap.
#include <filesystem>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "golden/golden.h"
#include "runtime/trace.h"
#include "support/test_package.h"
#include "support/tolerances.h"

namespace nestling {
namespace {

namespace fs = std::filesystem;

MediaFeatures features(const SafetensorsFile& golden, const char* rows, const char* valid) {
  MediaFeatures result;
  const SafetensorsEntry* entry = golden.find(rows);
  result.rows.resize(static_cast<size_t>(entry->elements()));
  EXPECT_TRUE(golden.read_floats(*entry, 0, result.rows));
  if (valid != nullptr)
    for (const int64_t v : value_or_fail(golden.read_integers(*golden.find(valid)))) result.valid.push_back(v != 0);
  return result;
}

std::vector<TraceTensor> trace(const fs::path& checkpoint, const SafetensorsFile& golden, const std::string& size,
                               int threads = 2) {
  const TestPackage package(checkpoint, all_weights(WeightType::kF32));
  TraceRequest request;
  for (const int64_t id : value_or_fail(golden.read_integers(*golden.find("input.ids"))))
    request.ids.push_back(static_cast<int32_t>(id));
  if (const SafetensorsEntry* ids = golden.find("generated_ids")) request.generate = ids->elements();
  if (golden.find("input.image_encoder_out"))
    request.media.images = {features(golden, "input.image_encoder_out", nullptr)};
  if (golden.find("input.audio_encoder_out"))
    request.media.sounds = {features(golden, "input.audio_encoder_out", "input.audio_valid")};
  EngineOptions options;
  options.threads = threads;
  options.worth_sharing = 0;
  options.context = 64;
  options.chunk = 64;
  options.size = size;
  const auto engine = package.open(options);
  request.size = engine->default_size();
  TraceRecorder recorder("");
  const Status traced = trace_text(*engine, request, recorder);
  EXPECT_TRUE(traced) << traced.error().message;
  return std::move(recorder.tensors());
}

void expect_same(const fs::path& checkpoint, const std::string& golden_file, const std::string& size) {
  const SafetensorsFile golden = value_or_fail(SafetensorsFile::open(golden_path(golden_file)));
  const auto difference = first_difference(golden, trace(checkpoint, golden, size), kGoldenRelative);
  EXPECT_FALSE(difference) << *difference;
}

void expect_agreement(const std::string& checkpoint, const std::string& golden_file, const std::string& size = "") {
  const fs::path directory = golden_path(checkpoint);
  if (!fs::exists(directory)) GTEST_SKIP() << directory << " is not here (NESTLING_GOLDENS names the larger goldens)";
  expect_same(directory, golden_file, size);
}

TEST(TextGolden, EveryTapOfASmallModel) { expect_agreement("text_small", "text_small/expected.safetensors"); }
TEST(TextGolden, E4bTopology) { expect_agreement("text_e4b_topology", "text_e4b_topology/expected.safetensors"); }
TEST(TextGolden, GreedyDecoding) { expect_agreement("text_decode", "text_decode/expected.safetensors"); }
TEST(TextGolden, MultimodalIds) {
  expect_agreement("text_multimodal_ids", "text_multimodal_ids/expected.safetensors");
}

// A MatFormer slice of text_e4b_topology, as its list of widths.
void expect_slice_agreement(const std::string& name) {
  const fs::path file = golden_path(name) / "slice.json";
  if (!fs::exists(file)) GTEST_SKIP() << file << " is not here";
  const auto slice = nlohmann::json::parse(value_or_fail(read_text_file(file, 1 << 24)));
  std::string widths;
  for (const auto& width : slice.at("widths"))
    widths += (widths.empty() ? "" : ",") + (width.is_null() ? "skip" : std::to_string(width.get<int64_t>()));
  expect_agreement("text_e4b_topology", name + "/expected.safetensors", widths);
}
TEST(TextGolden, SliceE2b) { expect_slice_agreement("text_mixnmatch/e2b"); }
TEST(TextGolden, SliceE3_18bLayer) { expect_slice_agreement("text_mixnmatch/e3.18b_layer"); }

// The bundled model, whose weights are trained, not random: transformers ran each slice as a model of its own.
void expect_nano_agreement(const std::string& size) {
  expect_same(nano_path(), "nano/" + size + "/expected.safetensors", size);
}
TEST(TextGolden, NanoE4b) { expect_nano_agreement("e4b"); }
TEST(TextGolden, NanoE2b) { expect_nano_agreement("e2b"); }
TEST(TextGolden, NanoE3_18bLayer) { expect_nano_agreement("e3.18b-layer"); }

// The comparator must be able to fail.
TEST(TextGolden, ComparatorSeesADifference) {
  const SafetensorsFile golden = value_or_fail(SafetensorsFile::open(golden_path("text_decode/expected.safetensors")));
  std::vector<TraceTensor> traced = trace(golden_path("text_decode"), golden, "");
  for (TraceTensor& tensor : traced)
    if (tensor.name == "logits") tensor.floats[5] *= -1;
  const auto difference = first_difference(golden, traced, kGoldenRelative);
  ASSERT_TRUE(difference);
  EXPECT_NE(difference->find("logits: element 5"), std::string::npos) << *difference;
  std::erase_if(traced, [](const TraceTensor& t) { return t.name == "logits"; });
  EXPECT_NE(first_difference(golden, traced, kGoldenRelative)->find("missing"), std::string::npos);
}

}  // namespace
}  // namespace nestling
