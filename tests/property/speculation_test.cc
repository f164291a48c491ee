// Speculation gives what plain decoding gives, bit for bit: ids, log-probabilities, text, why it ended, and the session that
// is left. Each test makes sure that proposals were accepted and others were not.
#include <gtest/gtest.h>

#include "runtime/session.h"
#include "support/chat_question.h"
#include "support/text_run.h"

namespace nestling {
namespace {

struct Tally {
  int64_t proposed = 0, accepted = 0;
  void add(const GenerateResult& r) {
    proposed += r.proposed_tokens;
    accepted += r.accepted_tokens;
  }
  void expect_both() const {
    EXPECT_GT(accepted, 0);
    EXPECT_GT(proposed, accepted);
  }
};

void expect_same(const GenerateResult& plain, const GenerateResult& result) {
  EXPECT_EQ(result.ids, plain.ids);
  EXPECT_EQ(result.text, plain.text);
  EXPECT_EQ(result.finish_reason, plain.finish_reason);
  EXPECT_EQ(result.stop_string, plain.stop_string);
  EXPECT_EQ(result.completion_tokens, plain.completion_tokens);
  EXPECT_EQ(result.cached_tokens, plain.cached_tokens);
  EXPECT_EQ(plain.proposed_tokens, 0);
  EXPECT_LE(result.accepted_tokens, result.proposed_tokens);
  ASSERT_EQ(result.logprobs.size(), plain.logprobs.size());
  for (size_t i = 0; i < plain.logprobs.size(); ++i) EXPECT_EQ(result.logprobs[i].logprob, plain.logprobs[i].logprob) << i;
}

// `request` answered in both sessions, which must have been treated alike before; returns the answer.
GenerateResult compare(Session& plain, Session& session, GenerateRequest request, int64_t speculate, Tally& tally) {
  const GenerateResult expected = value_or_fail(plain.generate(request));
  request.speculate = speculate;
  GenerateResult result = value_or_fail(session.generate(request));
  expect_same(expected, result);
  EXPECT_EQ(session.position(), plain.position());
  EXPECT_TRUE(std::ranges::equal(session.ids(), plain.ids()));
  tally.add(result);
  return result;
}

GenerateRequest request_for(const Engine& engine, std::vector<int32_t> ids, float temperature = 0) {
  GenerateRequest request;
  request.prompt.ids = std::move(ids);
  request.size = engine.default_size();
  request.sampling.temperature = temperature;
  request.use_stop_ids = false;
  return request;
}

// Ids with pieces of what stood before among them, so that proposals are made and mostly wrong.
std::vector<int32_t> repetitive_ids(int64_t count, int64_t vocabulary, uint64_t seed) {
  std::vector<int32_t> ids;
  uint64_t state = seed;
  const auto random = [&](uint64_t below) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (state >> 33) % below;
  };
  while (static_cast<int64_t>(ids.size()) < count) {
    if (ids.size() > 12 && random(2) == 0) {
      const size_t begin = random(ids.size() - 8);
      for (size_t i = begin; i < begin + 6; ++i) ids.push_back(ids[i]);
    } else {
      ids.push_back(static_cast<int32_t>(random(static_cast<uint64_t>(vocabulary))));
    }
  }
  ids.resize(static_cast<size_t>(count));
  return ids;
}

// Random weights with a window of 8: every answer runs over the edge of the rings many times, to the end of the context.
class SpeculationTest : public testing::TestWithParam<std::tuple<WeightType, KvType>> {
 protected:
  std::unique_ptr<Engine> open(int64_t context, int64_t chunk) {
    const auto [weights, kv] = GetParam();
    static std::map<WeightType, std::unique_ptr<TestPackage>> packages;
    auto& package = packages[weights];
    if (!package) package = std::make_unique<TestPackage>(golden_path("text_decode"), all_weights(weights));
    EngineOptions options;
    options.threads = 1;  // tiny steps: a second thread costs more than it gives
    options.context = context;
    options.chunk = chunk;
    options.kv = kv;
    return package->open(options);
  }
};

TEST_P(SpeculationTest, GreedyEqualsPlainDecoding) {
  for (const int64_t chunk : {8, 16}) {
    const auto engine = open(160, chunk);
    Tally tally;
    for (uint64_t seed = 1; seed <= 8; ++seed)
      for (const int64_t speculate : {1, 3, 7}) {
        Session plain(*engine), session(*engine);
        compare(plain, session, request_for(*engine, repetitive_ids(10 + 5 * static_cast<int64_t>(seed), 256, seed)),
                speculate, tally);
      }
    tally.expect_both();
  }
}

TEST_P(SpeculationTest, SampledEqualsPlainDecoding) {
  const auto engine = open(160, 16);
  Tally tally;
  for (uint64_t seed = 1; seed <= 8; ++seed)
    for (const float temperature : {0.05f, 0.3f, 1.0f}) {
      GenerateRequest request = request_for(*engine, repetitive_ids(40, 256, seed), temperature);
      request.sampling.seed = seed;
      request.sampling.top_logprobs = 2;
      if (seed % 2 == 0) {
        request.sampling.repetition_penalty = 1.05f;
        request.sampling.frequency_penalty = 0.02f;
      }
      Session plain(*engine), session(*engine);
      compare(plain, session, request, 1 + static_cast<int64_t>(seed) % 7, tally);
    }
  tally.expect_both();
}

// What speculation leaves behind is a session like any other.
TEST_P(SpeculationTest, LaterTurnsAndSavedSessionsEqualPlainOnes) {
  const auto engine = open(240, 16);
  Tally tally;
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    Session plain(*engine), session(*engine), restored(*engine);
    std::vector<int32_t> ids = repetitive_ids(40, 256, seed);
    for (int turn = 0; turn < 3; ++turn) {
      GenerateRequest request = request_for(*engine, ids);
      request.max_tokens = 31 + turn;
      const GenerateResult result = compare(plain, session, request, 7, tally);
      ids.insert(ids.end(), result.ids.begin(), result.ids.end());
      for (const int32_t id : repetitive_ids(9, 256, seed + 100)) ids.push_back(id);
    }
    const TemporaryPath file(".session");
    ok_or_fail(session.save(file.path()));
    ok_or_fail(restored.load(file.path()));
    compare(plain, restored, request_for(*engine, ids), 7, tally);
  }
  tally.expect_both();
}

INSTANTIATE_TEST_SUITE_P(Types, SpeculationTest,
                         testing::Values(std::tuple(WeightType::kF32, KvType::kF32),
                                         std::tuple(WeightType::kBF16, KvType::kBF16),
                                         std::tuple(WeightType::kQ8, KvType::kQ8),
                                         std::tuple(WeightType::kQ4, KvType::kBF16)),
                         [](const auto& info) {
                           return fmt::format("{}_kv_{}", weight_type_name(std::get<0>(info.param)),
                                              kv_type_name(std::get<1>(info.param)));
                         });

// The bundled model has words, and a conversation in which it is asked the same again.
class NanoSpeculation : public testing::Test {
 protected:
  static std::unique_ptr<Engine> open(int threads) {
    static const TestPackage package(nano_path(), {.weights = WeightType::kQ4, .head = {}, .ple = {}});
    EngineOptions options;
    options.threads = threads;
    options.context = 1024;
    return package.open(options);
  }
  static Engine& engine() {
    static const std::unique_ptr<Engine> instance = open(1);
    return *instance;
  }

  // A story, and the question for it once more: the second answer repeats the first.
  static GenerateRequest asked_again() {
    const std::string question = "Tell me a story about a fox in the forest.";
    const Message turns[] = {Message::of("user", question), Message::of("assistant", answer_to(question)),
                             Message::of("user", question)};
    GenerateRequest request = request_for(engine(), ids_of(turns));
    request.use_stop_ids = true;
    return request;
  }

  static std::vector<int32_t> ids_of(std::span<const Message> turns) {
    return value_or_fail(encode_prompt(*engine().tokenizer(), value_or_fail(render_chat(turns)))).ids;
  }

  static std::string answer_to(const std::string& question) {
    const Message turn = Message::of("user", question);
    Session session(engine());
    return greedy_answer(session, engine().default_size(), {.ids = ids_of({&turn, 1})});
  }
};

TEST_F(NanoSpeculation, MaxTokensAnywhereInAnAcceptedRun) {
  Session plain(engine()), session(engine());
  Tally tally;
  GenerateRequest request = asked_again();
  const int64_t whole = compare(plain, session, request, 7, tally).completion_tokens;
  ASSERT_GT(whole, 20);
  for (request.max_tokens = 1; request.max_tokens <= whole; ++request.max_tokens)
    compare(plain, session, request, 7, tally);
  tally.expect_both();
}

TEST_F(NanoSpeculation, StopStringsAnywhereInAnAcceptedRun) {
  Session plain(engine()), session(engine());
  Tally tally;
  GenerateRequest request = asked_again();
  const std::string text = compare(plain, session, request, 7, tally).text;
  int stopped = 0;
  for (size_t begin = 1; begin + 4 <= text.size(); begin += 3) {
    request.stop = {text.substr(begin, 4)};
    stopped += compare(plain, session, request, 7, tally).stop_string == request.stop[0];
  }
  EXPECT_GT(stopped, 10);
  tally.expect_both();
}

TEST_F(NanoSpeculation, PiecesComeInTheSameOrder) {
  const auto pieces_of = [&](int64_t speculate) {
    std::vector<std::string> pieces;
    GenerateRequest request = asked_again();
    request.speculate = speculate;
    request.on_text = [&](std::string_view piece) { pieces.emplace_back(piece); };
    Session session(engine());
    const GenerateResult result = value_or_fail(session.generate(request));
    EXPECT_EQ(result.accepted_tokens > 0, speculate > 0);
    return pieces;
  };
  const std::vector<std::string> plain = pieces_of(0);
  EXPECT_GT(plain.size(), 10u);
  EXPECT_EQ(pieces_of(3), plain);
}

TEST_F(NanoSpeculation, CancelledInTheMiddleOfAnAcceptedRun) {
  for (int after = 1; after < 30; ++after) {
    std::vector<std::vector<int32_t>> ids;
    std::vector<int64_t> positions;
    for (const int64_t speculate : {0, 7}) {
      std::atomic<bool> cancelled{false};
      int pieces = 0;
      GenerateRequest request = asked_again();
      request.speculate = speculate;
      request.cancelled = &cancelled;
      request.on_text = [&](std::string_view) { cancelled = ++pieces >= after; };
      Session session(engine());
      const GenerateResult result = value_or_fail(session.generate(request));
      EXPECT_EQ(result.finish_reason, "cancelled");
      ids.push_back(result.ids);
      positions.push_back(session.position());
    }
    EXPECT_EQ(ids[0], ids[1]);
    EXPECT_EQ(positions[0], positions[1]);
  }
}

// One row alone is divided among threads where it reads several segments of positions, rows together are not.
TEST_F(NanoSpeculation, BeyondOneSegmentWithTwoThreads) {
  const auto two = open(2);
  GenerateRequest request = asked_again();
  std::vector<int32_t>& ids = request.prompt.ids;
  const std::vector<int32_t> tail = ids;
  ids = repetitive_ids(600, two->config().text.vocab_size_per_layer_input, 3);
  ids.insert(ids.end(), tail.begin(), tail.end());
  request.max_tokens = 40;
  Session plain(*two), session(*two);
  Tally tally;
  compare(plain, session, request, 7, tally);
  EXPECT_GT(tally.accepted, 0);
}

TEST_F(NanoSpeculation, SparesPasses) {
  GenerateRequest request = asked_again();
  request.speculate = 3;
  Session session(engine());
  const GenerateResult result = value_or_fail(session.generate(request));
  EXPECT_GT(2 * result.accepted_tokens, result.completion_tokens);  // of an answer that stands in the prompt
}

TEST_F(NanoSpeculation, ValuesOutOfRangeAreRefused) {
  for (const int64_t speculate : {int64_t{-1}, Session::kMostProposals + 1}) {
    GenerateRequest request = asked_again();
    request.speculate = speculate;
    Session session(engine());
    const auto result = session.generate(request);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, ErrorCode::kUsage);
    EXPECT_NE(result.error().message.find(std::to_string(speculate)), std::string::npos) << result.error().message;
  }
}

}  // namespace
}  // namespace nestling
