// The whole context of 32,768 tokens. Takes a minute or two: `make test-long`.
#include <gtest/gtest.h>

#include "runtime/session.h"
#include "support/text_run.h"

namespace nestling {
namespace {

constexpr int64_t kContext = 32'768;

EngineOptions options(int64_t chunk) {
  EngineOptions o;
  o.threads = 2;
  o.context = kContext;
  o.chunk = chunk;
  return o;
}

TEST(LongContext, FillsToTheLastTokenAndEndsWithContext) {
  const TestPackage package(nano_path(), all_weights(WeightType::kQ4));
  const auto engine = package.open(options(512));
  Session session(*engine);
  GenerateRequest request;
  request.prompt.ids = some_ids(kContext - 12, engine->config().text.vocab_size_per_layer_input);
  request.size = engine->default_size();
  request.sampling.temperature = 0;
  request.use_stop_ids = false;
  const GenerateResult result = value_or_fail(session.generate(request));
  EXPECT_EQ(result.finish_reason, "context");
  EXPECT_EQ(session.position(), kContext);
  EXPECT_EQ(result.ids.size(), 13u);
}

TEST(LongContext, ChunksDoNotChangeTheLastLogits) {
  const TestPackage package(nano_path(), all_weights(WeightType::kQ4));
  const auto engine = package.open(options(512));
  const auto ids = some_ids(kContext, engine->config().text.vocab_size_per_layer_input);
  EXPECT_EQ(TextRun(*engine).last_logits(ids, 512), TextRun(*engine).last_logits(ids, 331));
}

}  // namespace
}  // namespace nestling
