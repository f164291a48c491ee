// MatFormer sizes: one set of weights, any size per request, exactly the model that exporting the slice would give.
#include <gtest/gtest.h>

#include "importing/export.h"
#include "runtime/session.h"
#include "support/text_run.h"

namespace nestling {
namespace {

EngineOptions options() {
  EngineOptions o;
  o.threads = 1;
  o.context = 96;
  o.chunk = 32;
  return o;
}

std::vector<int32_t> prompt(const Engine& engine) {
  return some_ids(60, engine.config().text.vocab_size_per_layer_input);
}

std::string weight_name(const testing::TestParamInfo<WeightType>& info) {
  return std::string(weight_type_name(info.param));
}

// The bundled model has E4B's topology: every published row applies to it.
class SizeTest : public testing::TestWithParam<WeightType> {
 protected:
  static const TestPackage& nano() {
    static std::map<WeightType, TestPackage> packages;
    return packages.try_emplace(GetParam(), nano_path(), all_weights(GetParam())).first->second;
  }
};
INSTANTIATE_TEST_SUITE_P(Weights, SizeTest,
                         testing::Values(WeightType::kF32, WeightType::kBF16, WeightType::kQ8, WeightType::kQ4),
                         weight_name);

TEST_P(SizeTest, SliceEqualsTheExportedSliceBitForBit) {
  const auto engine = nano().open(options());
  const Checkpoint source = value_or_fail(Checkpoint::open(nano_path()));
  // The last list skips layers that are no aligned block and cuts widths unevenly.
  for (const std::string text : {"e2b", "e3.18b-layer", "uneven"}) {
    std::string list = text;
    if (text == "uneven") {
      list.clear();
      for (int64_t l = 0; l < engine->config().text.num_hidden_layers; ++l)
        list += (l > 0 ? "," : "") + (l == 3 || l == 22 || l == 26
                                          ? std::string("skip")
                                          : std::to_string(engine->config().text.intermediate_size[l] - 32 * (l % 4)));
    }
    const ModelSize size = value_or_fail(engine->size(list));
    const TemporaryPath exported("");
    ok_or_fail(export_slice(source, engine->config(), size, exported.path(), {}));
    const TestPackage alone(exported.path(), all_weights(GetParam()));
    const auto alone_engine = alone.open(options());
    EXPECT_EQ(alone_engine->config().text.num_hidden_layers, size.layers_run());
    TextRun slice(*engine, size), own(*alone_engine);
    EXPECT_EQ(slice.all_logits(prompt(*engine), 32), own.all_logits(prompt(*engine), 32)) << text;
    EXPECT_EQ(slice.last_logits(some_ids(9, 50), 4), own.last_logits(some_ids(9, 50), 4)) << text << ", continued";
  }
}

TEST_P(SizeTest, RequestsOfTwoSizesAlternate) {
  const auto engine = nano().open(options());
  const ModelSize small = value_or_fail(engine->size("e2b")), full = engine->default_size();
  const auto ids = prompt(*engine);
  const std::vector<float> expected_small = TextRun(*engine, small).last_logits(ids, 32);
  const std::vector<float> expected_full = TextRun(*engine, full).last_logits(ids, 32);
  EXPECT_NE(expected_small, expected_full);
  TextRun a(*engine, small), b(*engine, full);
  std::vector<float> last_a, last_b;
  for (size_t i = 0; i < ids.size(); i += 10) {
    const auto part = std::span(ids).subspan(i, 10);
    last_a = a.pass(part, 1);
    last_b = b.pass(part, 1);
  }
  EXPECT_EQ(last_a, expected_small);
  EXPECT_EQ(last_b, expected_full);
}

// Sizes with equal widths below the last K/V producer write the same K/V and continue each other's.
TEST_P(SizeTest, SizesOfOneKvFamilySwitchForFree) {
  const auto engine = nano().open(options());
  const auto ids = prompt(*engine);
  const ModelSize a = value_or_fail(engine->size("e2b")), b = value_or_fail(engine->size("e2.49b-block"));
  ASSERT_EQ(a.kv_signature(engine->config().text), b.kv_signature(engine->config().text));
  TextRun run_a(*engine, a), run_b(*engine, b);
  run_a.last_logits(std::span(ids).first(50), 32);
  run_b.last_logits(std::span(ids).first(50), 32);
  EXPECT_EQ(run_a.kv_bytes(), run_b.kv_bytes());
  run_a.use(b);
  EXPECT_EQ(run_a.last_logits(std::span(ids).subspan(50), 5), run_b.last_logits(std::span(ids).subspan(50), 5));
}

TEST_P(SizeTest, SizesOfOtherFamiliesDoNot) {
  const auto engine = nano().open(options());
  const auto ids = prompt(*engine);
  const ModelSize a = value_or_fail(engine->size("e2b")), b = value_or_fail(engine->size("e1.96b-layer"));
  ASSERT_NE(a.kv_signature(engine->config().text), b.kv_signature(engine->config().text));
  TextRun run_a(*engine, a), run_b(*engine, b);
  run_a.last_logits(ids, 32);
  run_b.last_logits(ids, 32);
  EXPECT_NE(run_a.kv_bytes(), run_b.kv_bytes());
}

TEST(SizeSession, SwitchingInMidConversation) {
  const TestPackage package(nano_path(), all_weights(WeightType::kQ4));
  const auto engine = package.open(options());
  const auto generate = [&](Session& session, std::vector<int32_t> ids, const char* size) {
    GenerateRequest request;
    request.prompt.ids = std::move(ids);
    request.size = value_or_fail(engine->size(size));
    request.sampling.temperature = 0;
    request.max_tokens = 4;
    request.use_stop_ids = false;
    return value_or_fail(session.generate(request));
  };
  const auto ids = prompt(*engine);
  const std::vector<int32_t> start(ids.begin(), ids.begin() + 40);
  Session free_switch(*engine), costly_switch(*engine), fresh(*engine);
  generate(free_switch, start, "e2b");
  const auto inside = generate(free_switch, ids, "e2.49b-block");
  EXPECT_EQ(inside.cached_tokens, 40);
  EXPECT_TRUE(inside.limits.empty());
  EXPECT_EQ(inside.ids, generate(fresh, ids, "e2.49b-block").ids);

  generate(costly_switch, start, "e2b");
  const auto across = generate(costly_switch, ids, "e4b");
  EXPECT_EQ(across.cached_tokens, 0);
  ASSERT_EQ(across.limits.size(), 1u);
  EXPECT_NE(across.limits[0].find("read again"), std::string::npos);
  fresh.clear();
  EXPECT_EQ(across.ids, generate(fresh, ids, "e4b").ids);
}

}  // namespace
}  // namespace nestling
