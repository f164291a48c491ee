#include "runtime/prompt_lookup.h"

#include <algorithm>

#include "base/check.h"

namespace nestling {

int64_t ProposalBudget::length() const { return std::min({length_, most_, credit_ / kRowCost}); }

void ProposalBudget::record(int64_t proposed, int64_t accepted) {
  if (proposed == 0) {
    if (credit_ < kRowCost) credit_ += kRetry;
    return;
  }
  credit_ = std::min(kMostCredit, credit_ + accepted * kTokenGain - proposed * kRowCost);
  length_ = accepted == proposed ? std::min(most_, 2 * length_) : std::max<int64_t>(1, accepted);
}

PromptLookup::PromptLookup(std::span<const int32_t> prompt, size_t capacity, int64_t allowed) : allowed_(allowed) {
  ids_.reserve(capacity);
  ids_.assign(prompt.begin(), prompt.end());
}

void PromptLookup::add(int32_t id) {
  NESTLING_CHECK_LT(ids_.size(), ids_.capacity());
  ids_.push_back(id);
}

size_t PromptLookup::find() const {
  const size_t n = ids_.size();
  if (n < 3) return 0;
  size_t of_two = 0;
  for (size_t end = n - 1; end >= 2; --end) {
    if (ids_[end - 1] != ids_[n - 1] || ids_[end - 2] != ids_[n - 2]) continue;
    if (end >= 3 && ids_[end - 3] == ids_[n - 3]) return end;
    if (of_two == 0) of_two = end;
  }
  return of_two;
}

std::span<const int32_t> PromptLookup::next_pass(size_t most) const {
  const std::span<const int32_t> ids = ids_;
  const size_t found = most == 0 ? 0 : find();
  if (found == 0) return ids.last(1);
  const auto is_allowed = [this](int32_t id) { return id < allowed_; };
  const std::span<const int32_t> candidates = ids.subspan(found, std::min(most, ids.size() - found));
  const auto end = std::ranges::find_if_not(candidates, is_allowed);
  return ids.subspan(found - 1, 1 + static_cast<size_t>(end - candidates.begin()));
}

}  // namespace nestling
