// Properties of the text model that hold bit for bit on one machine, for every weight type: how a prompt is cut, what is
// skipped, how many threads run and where PLE rows come from never changes an answer.
#include <gtest/gtest.h>

#include "support/text_run.h"

namespace nestling {
namespace {

EngineOptions small_options(int threads = 2) {
  EngineOptions options;
  options.threads = threads;
  options.worth_sharing = 0;
  options.context = 96;
  options.chunk = 32;
  return options;
}

// text_decode: 10 layers, 5 of them sharing K/V, window 8, 3 sparse.
class TextProperty : public testing::TestWithParam<WeightType> {
 protected:
  static const TestPackage& package() {
    static std::map<WeightType, TestPackage> packages;
    return packages.try_emplace(GetParam(), golden_path("text_decode"), all_weights(GetParam())).first->second;
  }
  static std::vector<int32_t> prompt() { return some_ids(75, 96); }
};

INSTANTIATE_TEST_SUITE_P(Weights, TextProperty,
                         testing::Values(WeightType::kF32, WeightType::kBF16, WeightType::kQ8, WeightType::kQ6,
                                         WeightType::kQ4),
                         [](const auto& info) { return std::string(weight_type_name(info.param)); });

TEST_P(TextProperty, PrefillEqualsStepwiseWhateverTheChunk) {
  const auto engine = package().open(small_options());
  TextRun whole(*engine);
  const std::vector<float> expected = whole.last_logits(prompt(), 32);
  for (const size_t chunk : {1, 5, 7, 31}) {
    TextRun run(*engine);
    EXPECT_EQ(run.last_logits(prompt(), chunk), expected) << "chunk " << chunk;
    EXPECT_EQ(run.kv_bytes(), whole.kv_bytes()) << "chunk " << chunk;
  }
}

TEST_P(TextProperty, SkippingLayersForPromptTokensIsExact) {
  const auto engine = package().open(small_options());
  const auto V = static_cast<size_t>(engine->config().text.vocab_size);
  TextRun skipping(*engine), running_everything(*engine);
  const std::vector<float> all = running_everything.all_logits(prompt(), 32);
  EXPECT_EQ(skipping.last_logits(prompt(), 32), std::vector<float>(all.end() - static_cast<int64_t>(V), all.end()));
  EXPECT_EQ(skipping.kv_bytes(), running_everything.kv_bytes());
}

TEST_P(TextProperty, ThreadsDoNotChangeBits) {
  const auto one = package().open(small_options(1));
  TextRun single(*one);
  const std::vector<float> expected = single.all_logits(prompt(), 20);
  for (const int threads : {2, 3, 5}) {
    const auto engine = package().open(small_options(threads));
    EXPECT_EQ(TextRun(*engine).all_logits(prompt(), 20), expected) << threads << " threads";
  }
}

TEST_P(TextProperty, PleStreamResidentAndCachedAgree) {
  EngineOptions options = small_options();
  const auto streamed = package().open(options);
  const std::vector<float> expected = TextRun(*streamed).all_logits(prompt(), 16);
  options.ple.mode = PleMode::kResident;
  EXPECT_EQ(TextRun(*package().open(options)).all_logits(prompt(), 16), expected);
  options.ple.mode = PleMode::kStream;
  for (const uint64_t cache_bytes : {4'096, 20'000, 1'000'000}) {
    options.ple.cache_bytes = cache_bytes;
    const auto cached = package().open(options);
    EXPECT_EQ(TextRun(*cached).all_logits(prompt(), 16), expected) << cache_bytes;
    EXPECT_EQ(TextRun(*cached).all_logits(prompt(), 16), expected) << cache_bytes << ", second time";
  }
}

TEST_P(TextProperty, QuantisedKvIsDeterministicToo) {
  for (const KvType kv : {KvType::kBF16, KvType::kQ8}) {
    EngineOptions options = small_options();
    options.kv = kv;
    const auto engine = package().open(options);
    EXPECT_EQ(TextRun(*engine).last_logits(prompt(), 3), TextRun(*engine).last_logits(prompt(), 32)) << kv_type_name(kv);
  }
}

// The comparison itself must be able to fail.
TEST_P(TextProperty, AnotherPromptGivesOtherLogits) {
  const auto engine = package().open(small_options());
  std::vector<int32_t> other = prompt();
  other[40] ^= 1;
  EXPECT_NE(TextRun(*engine).last_logits(prompt(), 32), TextRun(*engine).last_logits(other, 32));
}

}  // namespace
}  // namespace nestling
