// The bundled model answers questions it never saw, at its full size, as its E2B slice and at a mixed row.
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "runtime/session.h"
#include "support/test_package.h"
#include "support/tolerances.h"
#include "text/chat_template.h"

namespace nestling {
namespace {

struct Question {
  std::string prompt, answer;
};

std::vector<Question> held_out_questions() {
  std::vector<Question> questions;
  std::istringstream lines(value_or_fail(read_text_file(nano_path() / "heldout.jsonl", 1 << 20)));
  for (std::string line; std::getline(lines, line);) {
    const auto json = nlohmann::json::parse(line);
    questions.push_back({json.at("prompt"), json.at("answer")});
  }
  return questions;
}

GenerateRequest request_for(const Engine& engine, const ModelSize& size, const std::string& question) {
  const Message message = Message::of("user", question);
  const Prompt prompt = value_or_fail(render_chat({&message, 1}));
  GenerateRequest request;
  request.prompt.ids = value_or_fail(encode_prompt(*engine.tokenizer(), prompt)).ids;
  request.size = size;
  request.sampling.temperature = 0;
  request.max_tokens = 96;
  return request;
}

double accuracy(WeightType weights, const char* size_name) {
  const TestPackage package(nano_path(), {.weights = weights, .head = {}, .ple = {}});
  EngineOptions options;
  options.threads = 1;  // tiny steps: a second thread costs more than it gives
  options.context = 256;
  const auto engine = package.open(options);
  const ModelSize size = value_or_fail(engine->size(size_name));
  Session session(*engine);
  int right = 0, total = 0;
  for (const Question& q : held_out_questions()) {
    right += value_or_fail(session.generate(request_for(*engine, size, q.prompt))).text == q.answer;
    ++total;
  }
  const double share = static_cast<double>(right) / total;
  fmt::print("[ MEASURED ] {} weights, {}: {} of {} right ({:.3f})\n", weight_type_name(weights), size_name, right,
             total, share);
  return share;
}

// Speculation answers every question as plain decoding does; how often its proposals are right is only told.
TEST(NanoAnswers, SpeculationChangesNone) {
  const TestPackage package(nano_path(), {.weights = WeightType::kQ4, .head = {}, .ple = {}});
  EngineOptions options;
  options.threads = 1;
  options.context = 256;
  const auto engine = package.open(options);
  Session session(*engine);
  int64_t tokens = 0, proposed = 0, accepted = 0;
  for (const Question& q : held_out_questions()) {
    GenerateRequest request = request_for(*engine, engine->default_size(), q.prompt);
    const GenerateResult plain = value_or_fail(session.generate(request));
    request.speculate = 3;
    const GenerateResult result = value_or_fail(session.generate(request));
    EXPECT_EQ(result.ids, plain.ids) << q.prompt;
    tokens += result.completion_tokens;
    proposed += result.proposed_tokens;
    accepted += result.accepted_tokens;
  }
  fmt::print("[ MEASURED ] prompt lookup, up to 3 a pass: {} tokens, {} proposed, {} accepted\n", tokens, proposed, accepted);
  EXPECT_GT(accepted, 0);
}

TEST(NanoAnswers, E4b) { EXPECT_GE(accuracy(WeightType::kBF16, "e4b"), kNanoAccuracyE4b); }
TEST(NanoAnswers, E2b) { EXPECT_GE(accuracy(WeightType::kBF16, "e2b"), kNanoAccuracySlices); }
TEST(NanoAnswers, MixedRow) { EXPECT_GE(accuracy(WeightType::kBF16, "e3.18b-layer"), kNanoAccuracySlices); }
// The weights users get by default: a broken quantised path would not answer.
TEST(NanoAnswers, Q4AtE4b) { EXPECT_GE(accuracy(WeightType::kQ4, "e4b"), kNanoAccuracySlices); }

}  // namespace
}  // namespace nestling
