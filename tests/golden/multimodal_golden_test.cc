// A whole model against Hugging Face transformers: a picture and a sound in one prompt, tap by tap, with greedy tokens.
#include <filesystem>

#include <gtest/gtest.h>

#include "golden/golden.h"
#include "media/image.h"
#include "support/test_package.h"
#include "support/tolerances.h"

namespace nestling {
namespace {

namespace fs = std::filesystem;

TraceMedia media_of(const fs::path& directory, const SafetensorsFile& golden) {
  const Image picture = value_or_fail(load_image(directory / "input_256.png"));
  const SafetensorsEntry* entry = golden.find("input.waveform");
  std::vector<float> waveform(static_cast<size_t>(entry->elements()));
  EXPECT_TRUE(golden.read_floats(*entry, 0, waveform));
  return {.pictures = {{picture.width, pixel_values(picture)}}, .waveforms = {std::move(waveform)}, .mels = {}};
}

TEST(MultimodalGolden, PictureAndSoundInOnePrompt) {
  const fs::path directory = golden_path("multimodal_small");
  if (!fs::exists(directory)) GTEST_SKIP() << directory << " is not here (NESTLING_GOLDENS names the larger goldens)";
  const SafetensorsFile golden = value_or_fail(SafetensorsFile::open(directory / "expected.safetensors"));
  const TestPackage package(directory, all_weights(WeightType::kF32));
  TraceRequest request;
  for (const int64_t id : value_or_fail(golden.read_integers(*golden.find("input.ids"))))
    request.ids.push_back(static_cast<int32_t>(id));
  request.generate = golden.find("generated_ids")->elements();
  EngineOptions options;
  options.threads = 2;
  options.worth_sharing = 0;
  options.context = options.chunk = 512;
  const auto engine = package.open(options);
  request.size = engine->default_size();
  TraceRecorder recorder("");
  request.media = value_or_fail(trace_media(engine->towers(), media_of(directory, golden), recorder));
  ok_or_fail(trace_text(*engine, request, recorder));
  const auto difference = first_difference(golden, recorder.tensors(), kGoldenRelative);
  EXPECT_FALSE(difference) << *difference;
}

}  // namespace
}  // namespace nestling
