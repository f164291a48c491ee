// Sessions: reuse of a conversation's K/V, saving and restoring, limits, and that decoding allocates nothing.
#include <atomic>
#include <cstdlib>
#include <new>

#include <gtest/gtest.h>

#include "runtime/session.h"
#include "support/text_run.h"

namespace {
std::atomic<int64_t> allocations{0};
}

void* operator new(size_t bytes) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* p = std::malloc(bytes)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, size_t) noexcept { std::free(p); }

namespace nestling {
namespace {

class SessionTest : public testing::Test {
 protected:
  static const TestPackage& package() {
    static const TestPackage instance(golden_path("text_decode"), all_weights(WeightType::kQ4));
    return instance;
  }
  static EngineOptions options(int64_t context = 96) {
    EngineOptions o;
    o.threads = 2;
    o.worth_sharing = 0;
    o.context = context;
    o.chunk = 16;
    return o;
  }
  static GenerateRequest greedy(const Engine& engine, std::vector<int32_t> ids, int64_t max_tokens) {
    GenerateRequest request;
    request.prompt.ids = std::move(ids);
    request.size = engine.default_size();
    request.sampling.temperature = 0;
    request.max_tokens = max_tokens;
    request.use_stop_ids = false;
    return request;
  }
};

TEST_F(SessionTest, SecondTurnReadsOnlyWhatIsNew) {
  const auto engine = package().open(options());
  Session session(*engine), fresh(*engine);
  std::vector<int32_t> ids = some_ids(30, 96);
  const GenerateResult first = value_or_fail(session.generate(greedy(*engine, ids, 6)));
  EXPECT_EQ(first.cached_tokens, 0);
  ids.insert(ids.end(), first.ids.begin(), first.ids.end());
  for (const int32_t id : some_ids(9, 50)) ids.push_back(id);
  const GenerateResult second = value_or_fail(session.generate(greedy(*engine, ids, 8)));
  EXPECT_EQ(second.cached_tokens, 35);  // the last id generated was never fed
  EXPECT_EQ(second.ids, value_or_fail(fresh.generate(greedy(*engine, ids, 8))).ids);
}

TEST_F(SessionTest, SamePromptAgainNeedsOneToken) {
  const auto engine = package().open(options());
  Session session(*engine);
  const auto ids = some_ids(20, 96);
  const auto first = value_or_fail(session.generate(greedy(*engine, ids, 1)));
  const auto again = value_or_fail(session.generate(greedy(*engine, ids, 1)));
  EXPECT_EQ(again.cached_tokens, 19);
  EXPECT_EQ(again.ids, first.ids);
}

TEST_F(SessionTest, PromptThatDepartsFarBackIsReadAgain) {
  const auto engine = package().open(options());
  Session session(*engine), fresh(*engine);
  auto ids = some_ids(80, 96);
  value_or_fail(session.generate(greedy(*engine, ids, 1)));
  ids[3] ^= 1;
  const auto result = value_or_fail(session.generate(greedy(*engine, ids, 5)));
  EXPECT_EQ(result.cached_tokens, 0);
  ASSERT_FALSE(result.limits.empty());
  EXPECT_EQ(result.ids, value_or_fail(fresh.generate(greedy(*engine, ids, 5))).ids);
}

TEST_F(SessionTest, PromptThatDepartsNearTheEndIsRewound) {
  const auto engine = package().open(options());
  Session session(*engine), fresh(*engine);
  auto ids = some_ids(80, 96);
  value_or_fail(session.generate(greedy(*engine, ids, 1)));
  ids[75] ^= 1;
  const auto result = value_or_fail(session.generate(greedy(*engine, ids, 5)));
  EXPECT_EQ(result.cached_tokens, 75);
  EXPECT_EQ(result.ids, value_or_fail(fresh.generate(greedy(*engine, ids, 5))).ids);
}

// A ring has lost what the farthest token ever written lies on, however short the conversation is by now.
TEST_F(SessionTest, RewoundTwiceIsReadAgainWhereTheRingLostIt) {
  const auto engine = package().open(options(128));
  const TemporaryPath file(".session");
  for (const bool saved : {false, true}) {
    Session session(*engine), restored(*engine), fresh(*engine);
    auto ids = some_ids(100, 96);
    for (const size_t length : {size_t{100}, size_t{76}}) {  // a window of 8 and chunks of 16: rings of 32
      ids.resize(length);
      ids.back() ^= 1;
      value_or_fail(session.generate(greedy(*engine, ids, 1)));
    }
    EXPECT_EQ(session.position(), 76);
    if (saved) {
      ok_or_fail(session.save(file.path()));
      ok_or_fail(restored.load(file.path()));
    }
    ids.resize(56);
    ids.back() ^= 1;
    const auto result = value_or_fail((saved ? restored : session).generate(greedy(*engine, ids, 5)));
    EXPECT_EQ(result.cached_tokens, 0);
    EXPECT_EQ(result.ids, value_or_fail(fresh.generate(greedy(*engine, ids, 5))).ids);
  }
}

TEST_F(SessionTest, SavedAndRestoredEqualsUninterrupted) {
  const auto engine = package().open(options());
  const TemporaryPath file(".session");
  auto ids = some_ids(60, 96);
  Session first(*engine);
  const auto start = value_or_fail(first.generate(greedy(*engine, ids, 4)));
  ok_or_fail(first.save(file.path(), "what the chat keeps"));
  ids.insert(ids.end(), start.ids.begin(), start.ids.end());
  const auto expected = value_or_fail(first.generate(greedy(*engine, ids, 10)));

  Session restored(*engine);
  std::string user_data;
  ok_or_fail(restored.load(file.path(), &user_data));
  EXPECT_EQ(user_data, "what the chat keeps");
  const auto result = value_or_fail(restored.generate(greedy(*engine, ids, 10)));
  EXPECT_EQ(result.ids, expected.ids);
  EXPECT_EQ(result.cached_tokens, 63);
}

TEST_F(SessionTest, SessionOfAnotherModelIsRefused) {
  const auto engine = package().open(options());
  const TemporaryPath file(".session");
  Session session(*engine);
  value_or_fail(session.generate(greedy(*engine, some_ids(20, 96), 2)));
  ok_or_fail(session.save(file.path()));
  const TestPackage other(golden_path("text_small"), all_weights(WeightType::kQ4));
  const auto other_engine = other.open(options());
  Session other_session(*other_engine);
  const Status loaded = other_session.load(file.path());
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().code, ErrorCode::kModel);
  EXPECT_NE(loaded.error().message.find("another model"), std::string::npos) << loaded.error().message;
  std::filesystem::resize_file(file.path(), std::filesystem::file_size(file.path()) / 2);
  EXPECT_FALSE(session.load(file.path()));
}

TEST_F(SessionTest, FullContextEndsTheAnswer) {
  const auto engine = package().open(options(48));
  Session session(*engine);
  const auto result = value_or_fail(session.generate(greedy(*engine, some_ids(40, 96), 0)));
  EXPECT_EQ(result.finish_reason, "context");
  EXPECT_EQ(result.ids.size(), 9u);  // eight fit, and the one that the last of them predicts
  EXPECT_FALSE(result.limits.empty());
}

TEST_F(SessionTest, BadRequestsAreRefusedInOneSentence) {
  const auto engine = package().open(options(48));
  Session session(*engine);
  const auto expect_usage = [&](GenerateRequest request, const char* part) {
    const auto result = session.generate(request);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, ErrorCode::kUsage);
    EXPECT_NE(result.error().message.find(part), std::string::npos) << result.error().message;
  };
  expect_usage(greedy(*engine, {}, 1), "empty");
  expect_usage(greedy(*engine, some_ids(49, 96), 1), "context");
  expect_usage(greedy(*engine, {5, 100'000}, 1), "100000");
  expect_usage(greedy(*engine, {-1}, 1), "-1");
  expect_usage(greedy(*engine, {5}, -3), "max_tokens");
}

TEST_F(SessionTest, CancelledBeforeTheFirstToken) {
  const auto engine = package().open(options());
  Session session(*engine);
  const std::atomic<bool> cancelled{true};
  GenerateRequest request = greedy(*engine, some_ids(40, 96), 5);
  request.cancelled = &cancelled;
  EXPECT_EQ(value_or_fail(session.generate(request)).finish_reason, "cancelled");
}

TEST_F(SessionTest, SeedDecidesWhateverTheThreads) {
  std::vector<int32_t> expected;
  for (const int threads : {1, 2, 4}) {
    EngineOptions o = options();
    o.threads = threads;
    const auto engine = package().open(o);
    Session session(*engine);
    GenerateRequest request = greedy(*engine, some_ids(20, 96), 30);
    request.sampling.temperature = 1;
    request.sampling.seed = 7;
    const auto ids = value_or_fail(session.generate(request)).ids;
    if (expected.empty()) expected = ids;
    EXPECT_EQ(ids, expected) << threads;
  }
}

TEST_F(SessionTest, ScoreEqualsTheLogitsOfAPass) {
  const auto engine = package().open(options());
  Session session(*engine);
  const auto ids = some_ids(40, 96);
  const auto scores = value_or_fail(session.score(ids, engine->default_size()));
  ASSERT_EQ(scores.size(), 39u);
  const auto V = static_cast<size_t>(engine->config().text.vocab_size);
  const std::vector<float> logits = TextRun(*engine).all_logits(ids, 16);
  for (size_t i = 0; i < scores.size(); ++i)
    EXPECT_EQ(scores[i], log_probability({logits.data() + i * V, V}, ids[i + 1])) << i;
}

// Everything a token needs was reserved before: the number of allocations does not grow with the number of tokens.
TEST_F(SessionTest, DecodingAllocatesNothing) {
  const auto engine = package().open(options());
  for (const int64_t speculate : {0, 7}) {
    int64_t proposed = 0;
    const auto count = [&](int64_t tokens) {
      Session session(*engine);
      GenerateRequest request = greedy(*engine, some_ids(20, 96), tokens);
      request.speculate = speculate;
      const int64_t before = allocations;
      proposed = value_or_fail(session.generate(request)).proposed_tokens;
      return allocations - before;
    };
    count(4);
    EXPECT_EQ(count(4), count(60));
    EXPECT_EQ(proposed > 0, speculate > 0);
  }
}

}  // namespace
}  // namespace nestling
