#include "sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"

namespace nestling {
namespace {

constexpr float kLowest = -std::numeric_limits<float>::infinity();
constexpr int64_t kSortedAtFirst = 256;  // candidates that top-p sorts before it looks further

using Candidate = std::pair<float, int32_t>;  // logit or weight, id

// Best first; the lower id among equals, so that a pick never depends on how the candidates were found.
constexpr auto kBetter = [](const Candidate& a, const Candidate& b) {
  return a.first != b.first ? a.first > b.first : a.second < b.second;
};

Status check_range(const char* name, float value, float low, float high) {
  if (std::isfinite(value) && value >= low && value <= high) return {};
  return fail(ErrorCode::kUsage, "{} {}: {} to {} are allowed", name, value, low, high);
}

// The `count` best of logits, in no order. Keeps at most twice as many while it looks at all of them.
void collect_best(std::span<const float> logits, int64_t count, std::vector<Candidate>& out) {
  out.clear();
  float floor = kLowest;  // below this a logit is not among the best
  const size_t limit = static_cast<size_t>(2 * count);
  const auto keep_best = [&] {
    std::nth_element(out.begin(), out.begin() + (count - 1), out.end(), kBetter);
    out.resize(static_cast<size_t>(count));
    floor = out.back().first;
  };
  for (size_t id = 0; id < logits.size(); ++id) {
    // An id equal to the floor comes after all those held, so it loses the tie.
    if (logits[id] <= floor && static_cast<int64_t>(out.size()) >= count) continue;
    out.emplace_back(logits[id], static_cast<int32_t>(id));
    if (out.size() == limit) keep_best();
  }
  if (static_cast<int64_t>(out.size()) > count) keep_best();
}

// Keeps the smallest set of best candidates whose weights reach `top_p` of the sum, best first.
void keep_top_p(std::vector<Candidate>& candidates, double top_p) {
  double total = 0;
  for (const auto& [weight, id] : candidates) total += weight;
  double sum = 0;
  const auto size = static_cast<int64_t>(candidates.size());
  for (int64_t begin = 0, count = kSortedAtFirst; begin < size; count *= 4) {
    const int64_t end = std::min(size, begin + count);
    std::partial_sort(candidates.begin() + begin, candidates.begin() + end, candidates.end(), kBetter);
    for (int64_t i = begin; i < end; ++i) {
      sum += candidates[static_cast<size_t>(i)].first;
      if (sum < top_p * total) continue;
      candidates.resize(static_cast<size_t>(i + 1));
      return;
    }
    begin = end;
  }
}

// exp((logit - best) / temperature): proportional to the probabilities, 1 for the best.
void logits_to_weights(std::vector<Candidate>& candidates, float temperature) {
  const float best = std::ranges::max(candidates, {}, &Candidate::first).first;
  for (auto& [value, id] : candidates) value = std::exp((value - best) / temperature);
}

int32_t draw(std::span<const Candidate> candidates, std::mt19937_64& random) {
  double total = 0;
  for (const auto& [weight, id] : candidates) total += weight;
  // 53 random bits, not std::uniform_real_distribution: the same numbers with every standard library.
  double left = static_cast<double>(random() >> 11) * 0x1p-53 * total;
  for (const auto& [weight, id] : candidates) {
    left -= weight;
    if (left < 0) return id;
  }
  return candidates.back().second;
}

int32_t greedy(std::span<const float> logits) {
  return static_cast<int32_t>(std::ranges::max_element(logits) - logits.begin());
}

// max + log(sum(exp(logit - max))), so that logit - this is the log-probability.
double log_sum_exp(std::span<const float> logits) {
  const double best = *std::ranges::max_element(logits);
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - best);
  return best + std::log(sum);
}

}  // namespace

Status SamplingParams::check(int64_t vocabulary) const {
  NESTLING_TRY_VOID(check_range("temperature", temperature, 0, 100));
  NESTLING_TRY_VOID(check_range("top_p", top_p, 0, 1));
  NESTLING_TRY_VOID(check_range("min_p", min_p, 0, 1));
  NESTLING_TRY_VOID(check_range("repetition_penalty", repetition_penalty, 0.01f, 100));
  NESTLING_TRY_VOID(check_range("presence_penalty", presence_penalty, -2, 2));
  NESTLING_TRY_VOID(check_range("frequency_penalty", frequency_penalty, -2, 2));
  if (top_k < 0) return fail(ErrorCode::kUsage, "top_k {}: 0 (off) or more is allowed", top_k);
  if (top_logprobs < 0 || top_logprobs > kMaxTopLogprobs)
    return fail(ErrorCode::kUsage, "top_logprobs {}: 0 to {} are allowed", top_logprobs, kMaxTopLogprobs);
  for (const auto& [id, bias] : logit_bias) {
    if (id < 0 || id >= vocabulary)
      return fail(ErrorCode::kUsage, "logit_bias for id {}: ids 0 to {} are allowed", id, vocabulary - 1);
    NESTLING_TRY_VOID(check_range("logit_bias", bias, -100, 100));
  }
  return {};
}

Sampler::Sampler(const SamplingParams& params, int64_t vocabulary, int64_t allowed)
    : params_(params), allowed_(std::min(allowed, vocabulary)), random_(params.seed) {
  NESTLING_CHECK_GE(allowed_, 1);
  const auto ids = static_cast<size_t>(vocabulary);
  if (params_.presence_penalty != 0 || params_.frequency_penalty != 0) generated_counts_.resize(ids);
  if (params_.repetition_penalty != 1) seen_.resize(ids);
  if (params_.top_k == 0 || params_.top_k > allowed_) params_.top_k = allowed_;
  if (params_.temperature > 0) candidates_.reserve(static_cast<size_t>(std::min(2 * params_.top_k, allowed_)));
}

void Sampler::observe_prompt(std::span<const int32_t> ids) {
  for (const int32_t id : ids)
    if (static_cast<size_t>(id) < seen_.size()) seen_[static_cast<size_t>(id)] = 1;
}

void Sampler::adjust(std::span<float> logits) const {
  for (size_t id = 0; id < seen_.size(); ++id)
    if (seen_[id]) logits[id] *= logits[id] > 0 ? 1 / params_.repetition_penalty : params_.repetition_penalty;
  for (size_t id = 0; id < generated_counts_.size(); ++id)
    if (const auto count = static_cast<float>(generated_counts_[id]); count > 0)
      logits[id] -= params_.presence_penalty + params_.frequency_penalty * count;
  for (const auto& [id, bias] : params_.logit_bias) logits[static_cast<size_t>(id)] += bias;
}

int32_t Sampler::pick(std::span<float> logits) {
  for (float& logit : logits)
    if (std::isnan(logit)) logit = kLowest;  // damaged weights: still an order, still an id
  const int32_t best = greedy(logits);
  if (params_.temperature == 0 || !std::isfinite(logits[static_cast<size_t>(best)])) return best;

  if (params_.top_k < allowed_) {
    collect_best(logits, params_.top_k, candidates_);
    std::ranges::sort(candidates_, kBetter);
  } else {
    candidates_.clear();
    for (size_t id = 0; id < logits.size(); ++id) candidates_.emplace_back(logits[id], static_cast<int32_t>(id));
  }
  logits_to_weights(candidates_, params_.temperature);
  if (params_.top_p < 1) keep_top_p(candidates_, params_.top_p);
  std::erase_if(candidates_, [&](const Candidate& c) { return c.first < params_.min_p; });
  return draw(candidates_, random_);
}

Sampled Sampler::sample(std::span<float> logits) {
  Sampled sampled;
  std::vector<float> raw;
  double normalizer = 0;
  if (params_.top_logprobs > 0) {
    raw.assign(logits.begin(), logits.end());
    normalizer = log_sum_exp(raw);
    std::vector<Candidate> best;
    collect_best(std::span(raw).first(static_cast<size_t>(allowed_)), std::min(params_.top_logprobs, allowed_), best);
    std::ranges::sort(best, kBetter);
    for (const auto& [logit, id] : best) sampled.top.push_back({id, static_cast<float>(logit - normalizer)});
  }
  adjust(logits);
  sampled.id = pick(logits.first(static_cast<size_t>(allowed_)));
  const auto id = static_cast<size_t>(sampled.id);
  if (params_.top_logprobs > 0) sampled.logprob = static_cast<float>(raw[id] - normalizer);
  if (!generated_counts_.empty()) ++generated_counts_[id];
  if (!seen_.empty()) seen_[id] = 1;
  return sampled;
}

double log_probability(std::span<const float> logits, int32_t id) {
  NESTLING_CHECK_LT(static_cast<size_t>(id), logits.size());
  return logits[static_cast<size_t>(id)] - log_sum_exp(logits);
}

}  // namespace nestling
