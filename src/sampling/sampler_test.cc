#include "sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <new>
#include <numeric>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace {
int64_t allocations = 0;
}
void* operator new(size_t bytes) {
  ++allocations;
  if (void* memory = std::malloc(bytes)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace nestling {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Logits whose softmax is `probabilities`.
std::vector<float> logits_of(std::vector<double> probabilities) {
  std::vector<float> logits;
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p)));
  return logits;
}

SamplingParams plain() { return {.temperature = 1, .top_k = 0, .top_p = 1}; }

// How often each id is drawn from the same logits.
std::map<int32_t, int> counts_of(const SamplingParams& params, const std::vector<float>& logits, int draws = 20'000) {
  Sampler sampler(params, static_cast<int64_t>(logits.size()), static_cast<int64_t>(logits.size()));
  std::map<int32_t, int> counts;
  for (int i = 0; i < draws; ++i) {
    std::vector<float> copy = logits;
    ++counts[sampler.sample(copy).id];
  }
  return counts;
}

std::set<int32_t> ids_of(const SamplingParams& params, const std::vector<float>& logits) {
  std::set<int32_t> ids;
  for (const auto& [id, count] : counts_of(params, logits)) ids.insert(id);
  return ids;
}

TEST(Sampler, GreedyTakesTheLowestIdAmongEquals) {
  Sampler sampler({.temperature = 0}, 5, 5);
  std::vector<float> logits = {1, 3, 2, 3, 3};
  EXPECT_EQ(sampler.sample(logits).id, 1);
}

TEST(Sampler, NeverPicksIdsBeyondAllowed) {
  std::vector<float> logits = {0, 1, 2, 50, 60};
  EXPECT_EQ(Sampler({.temperature = 0}, 5, 3).sample(logits).id, 2);
  Sampler sampler(plain(), 5, 3);
  for (int i = 0; i < 1000; ++i) {
    logits = {0, 1, 2, 50, 60};
    EXPECT_LT(sampler.sample(logits).id, 3);
  }
}

TEST(Sampler, DrawsInProportion) {
  const auto counts = counts_of(plain(), logits_of({0.1, 0.6, 0.3}));
  EXPECT_NEAR(counts.at(0), 2'000, 200);
  EXPECT_NEAR(counts.at(1), 12'000, 400);
  EXPECT_NEAR(counts.at(2), 6'000, 400);
}

TEST(Sampler, TemperatureSharpens) {
  SamplingParams params = plain();
  params.temperature = 0.5f;  // squares the probabilities: 0.36 against 0.16
  const auto counts = counts_of(params, logits_of({0.6, 0.4}));
  EXPECT_NEAR(counts.at(0), 20'000 * 0.36 / 0.52, 400);
}

TEST(Sampler, TinyTemperatureIsGreedy) {
  SamplingParams params = plain();
  params.temperature = 1e-40f;
  EXPECT_THAT(ids_of(params, logits_of({0.2, 0.5, 0.3})), ElementsAre(1));
}

TEST(Sampler, TopK) {
  SamplingParams params = plain();
  params.top_k = 2;
  EXPECT_THAT(ids_of(params, logits_of({0.3, 0.1, 0.4, 0.2})), ElementsAre(0, 2));
  EXPECT_THAT(ids_of(params, {1, 1, 1, 1}), ElementsAre(0, 1)) << "the lower ids among equals";
  params.top_k = 1'000;
  EXPECT_THAT(ids_of(params, {1, 1, 1, 1}), ElementsAre(0, 1, 2, 3));
}

TEST(Sampler, TheBestOfManyEqualASort) {
  std::mt19937_64 random(7);
  std::vector<float> logits(10'000);
  for (float& logit : logits) logit = static_cast<float>(random() % 500);  // many equals
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::sort(order, [&](int32_t a, int32_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  });
  for (const int64_t k : {1, 3, 20}) {
    Sampler sampler({.temperature = 0, .top_logprobs = k}, 10'000, 10'000);
    std::vector<float> copy = logits;
    const Sampled sampled = sampler.sample(copy);
    ASSERT_EQ(sampled.top.size(), static_cast<size_t>(k));
    for (int64_t i = 0; i < k; ++i) EXPECT_EQ(sampled.top[i].id, order[i]) << k << " " << i;
  }
}

TEST(Sampler, TopPKeepsTheSmallestSetThatReachesIt) {
  SamplingParams params = plain();
  const std::vector<float> logits = logits_of({0.15, 0.5, 0.05, 0.3});
  params.top_p = 0.45f;
  EXPECT_THAT(ids_of(params, logits), ElementsAre(1));
  params.top_p = 0.55f;
  EXPECT_THAT(ids_of(params, logits), ElementsAre(1, 3));
  params.top_p = 0.9f;
  EXPECT_THAT(ids_of(params, logits), ElementsAre(0, 1, 3));
  params.top_p = 0;
  EXPECT_THAT(ids_of(params, logits), ElementsAre(1));
}

TEST(Sampler, TopPCountsWhatTopKLeft) {
  SamplingParams params = plain();
  params.top_k = 2;  // 0.4 and 0.3 become 0.57 and 0.43
  params.top_p = 0.5f;
  EXPECT_THAT(ids_of(params, logits_of({0.4, 0.3, 0.2, 0.1})), ElementsAre(0));
}

TEST(Sampler, TopPOverAFlatVocabularyLooksFurtherThanItsFirstSort) {
  SamplingParams params = plain();
  params.top_p = 0.5f;
  const std::vector<float> logits(600, 0.0f);
  const auto ids = ids_of(params, logits);
  EXPECT_EQ(*ids.rbegin(), 299);
  EXPECT_EQ(ids.size(), 300u);
}

TEST(Sampler, MinPIsRelativeToTheBest) {
  SamplingParams params = plain();
  params.min_p = 0.5f;
  EXPECT_THAT(ids_of(params, logits_of({0.4, 0.25, 0.16, 0.19})), ElementsAre(0, 1));
  params.min_p = 1;
  EXPECT_THAT(ids_of(params, logits_of({0.4, 0.25, 0.16, 0.19})), ElementsAre(0));
}

TEST(Sampler, RepetitionPenaltyDividesPositiveAndMultipliesNegative) {
  Sampler sampler({.temperature = 0, .repetition_penalty = 2}, 3, 3);
  sampler.observe_prompt(std::vector<int32_t>{0});
  std::vector<float> logits = {3, 2, -1};
  EXPECT_EQ(sampler.sample(logits).id, 1);  // 3 / 2 < 2; now 1 is seen too
  EXPECT_THAT(logits, ElementsAre(1.5f, 2, -1));
  logits = {-1, -1.5f, -1.75f};
  EXPECT_EQ(sampler.sample(logits).id, 2);  // -2, -3, -1.75
}

TEST(Sampler, PresenceAndFrequencyCountOnlyGeneratedIds) {
  Sampler sampler({.temperature = 0, .presence_penalty = 0.5f, .frequency_penalty = 0.25f}, 2, 2);
  sampler.observe_prompt(std::vector<int32_t>{0, 0, 0});
  std::vector<float> logits = {1, 0.1f};
  EXPECT_EQ(sampler.sample(logits).id, 0);
  logits = {1, 0.3f};
  EXPECT_EQ(sampler.sample(logits).id, 1);  // 1 - 0.75 < 0.3
  logits = {1, 0.2f};
  EXPECT_EQ(sampler.sample(logits).id, 0);  // 0.25 against 0.2 - 0.75
  EXPECT_FLOAT_EQ(logits[0], 0.25f);
  EXPECT_FLOAT_EQ(logits[1], -0.55f);
  logits = {1, 1};
  EXPECT_EQ(sampler.sample(logits).id, 1);
  EXPECT_FLOAT_EQ(logits[0], 0.0f);  // 1 - 0.5 - 2 * 0.25
}

TEST(Sampler, LogitBias) {
  Sampler sampler({.temperature = 0, .logit_bias = {{0, -100}, {2, 3}}}, 4, 3);
  std::vector<float> logits = {9, 1, -1, 50};
  EXPECT_EQ(sampler.sample(logits).id, 2);
}

TEST(Sampler, SameSeedSameIdsOtherSeedOtherIds) {
  const std::vector<float> logits(1'000, 0.0f);
  const auto ids = [&](uint64_t seed) {
    SamplingParams params = plain();
    params.seed = seed;
    Sampler sampler(params, 1'000, 1'000);
    std::vector<int32_t> drawn;
    for (int i = 0; i < 20; ++i) {
      std::vector<float> copy = logits;
      drawn.push_back(sampler.sample(copy).id);
    }
    return drawn;
  };
  EXPECT_EQ(ids(5), ids(5));
  EXPECT_NE(ids(5), ids(6));
}

TEST(Sampler, LogprobsAreOfTheRawLogits) {
  Sampler sampler({.temperature = 0.1f, .top_k = 1, .logit_bias = {{2, 50}}, .top_logprobs = 2}, 3, 3);
  std::vector<float> logits = logits_of({0.5, 0.3, 0.2});
  const Sampled sampled = sampler.sample(logits);
  EXPECT_EQ(sampled.id, 2);
  EXPECT_NEAR(sampled.logprob, std::log(0.2), 1e-6);
  ASSERT_EQ(sampled.top.size(), 2u);
  EXPECT_EQ(sampled.top[0].id, 0);
  EXPECT_NEAR(sampled.top[0].logprob, std::log(0.5), 1e-6);
  EXPECT_EQ(sampled.top[1].id, 1);
  EXPECT_NEAR(log_probability(logits_of({0.25, 0.75}), 0), std::log(0.25), 1e-7);
}

TEST(Sampler, LogitsOfDamagedWeightsStillGiveAnId) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const float temperature : {0.0f, 1.0f}) {
    SamplingParams params = plain();
    params.temperature = temperature;
    Sampler sampler(params, 3, 3);
    std::vector<float> logits = {kNan, 1, kNan};
    EXPECT_EQ(sampler.sample(logits).id, 1);
    logits = {kNan, kNan, kNan};
    EXPECT_EQ(sampler.sample(logits).id, 0);
    logits = {1, kInfinity, kInfinity};
    EXPECT_EQ(sampler.sample(logits).id, 1);
  }
}

TEST(Sampler, AllocatesNothingPerToken) {
  SamplingParams params = {.top_k = 64, .top_p = 0.95f, .min_p = 0.01f, .repetition_penalty = 1.1f,
                           .presence_penalty = 0.1f, .frequency_penalty = 0.1f, .seed = 3};
  for (const int64_t top_k : {64, 0}) {
    params.top_k = top_k;
    std::vector<float> logits(5'000);
    std::mt19937_64 random(1);
    Sampler sampler(params, 5'000, 4'900);
    const int64_t before = allocations;
    for (int i = 0; i < 50; ++i) {
      for (float& logit : logits) logit = static_cast<float>(random() % 1000) / 100;
      sampler.sample(logits);
    }
    EXPECT_EQ(allocations, before);
  }
}

TEST(SamplingParams, NamesFieldValueAndRange) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<std::pair<SamplingParams, std::string>> bad = {
      {{.temperature = -0.5f}, "temperature -0.5: 0 to 100"}, {{.temperature = kNan}, "temperature nan"},
      {{.top_k = -1}, "top_k -1"},                            {{.top_p = 1.5f}, "top_p 1.5: 0 to 1"},
      {{.min_p = -1}, "min_p -1"},                            {{.repetition_penalty = 0}, "repetition_penalty 0"},
      {{.presence_penalty = 3}, "presence_penalty 3"},        {{.frequency_penalty = -3}, "frequency_penalty -3"},
      {{.logit_bias = {{10, 1}}}, "ids 0 to 9"},              {{.logit_bias = {{-1, 1}}}, "id -1"},
      {{.logit_bias = {{1, kNan}}}, "logit_bias nan"},        {{.top_logprobs = 21}, "top_logprobs 21: 0 to 20"},
  };
  for (const auto& [params, text] : bad) {
    const Status status = params.check(10);
    ASSERT_FALSE(status) << text;
    EXPECT_EQ(status.error().code, ErrorCode::kUsage);
    EXPECT_THAT(status.error().message, HasSubstr(text));
  }
  EXPECT_TRUE(SamplingParams{}.check(10));
}

}  // namespace
}  // namespace nestling
