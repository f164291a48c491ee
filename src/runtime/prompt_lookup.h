// Speculation by prompt lookup: the next tokens are guessed to be those that followed the same two or three tokens earlier
// in the conversation (n-gram speculation with the prompt as the draft). One pass then runs the last token and the guesses
// as rows of their own. A guess changes what a pass costs, never what is generated.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace nestling {

// How many tokens to propose, so that a text that does not repeat itself costs next to nothing: accepted tokens pay for
// proposals. In hundredths of a pass of one row. Nothing is measured while it runs, so the same answer takes the same passes
// every time.
class ProposalBudget {
 public:
  // Assumed: a row more costs a quarter of a pass (docs/performance.md, "Speculation"); a token accepted spares a pass.
  static constexpr int64_t kRowCost = 25, kTokenGain = 100;
  // What proposals may lose before any was accepted, and after the last one that was.
  static constexpr int64_t kFirstCredit = 50, kMostCredit = 200;
  // Given for each pass without proposals while the credit is below a row's cost: after a failure one in 25 passes tries again.
  static constexpr int64_t kRetry = 1;

  explicit ProposalBudget(int64_t most) : most_(most) {}
  int64_t length() const;
  // What became of a pass with `proposed` tokens (0: none), of which the first `accepted` were right.
  void record(int64_t proposed, int64_t accepted);

 private:
  int64_t most_;
  int64_t length_ = 1;  // doubles while every proposal is accepted
  int64_t credit_ = kFirstCredit;
};

// The ids of a conversation and the search in them.
class PromptLookup {
 public:
  // Room for `capacity` ids, prompt included: add() allocates nothing. Ids from `allowed` on (soft tokens of pictures and
  // sound) are never proposed.
  PromptLookup(std::span<const int32_t> prompt, size_t capacity, int64_t allowed);

  void add(int32_t id);
  // The ids of the next pass: the last one, and at most `most` that followed the latest earlier place where the last three
  // ids stand, or else the last two. They lie one after another in the conversation itself: valid for the life of this object.
  std::span<const int32_t> next_pass(size_t most) const;

 private:
  // Where the latest earlier place that ends like the conversation ends; 0: there is none.
  size_t find() const;

  std::vector<int32_t> ids_;
  int64_t allowed_;
};

}  // namespace nestling
