#include "runtime/prompt_lookup.h"

#include <gmock/gmock.h>

namespace nestling {
namespace {

using testing::ElementsAre;

constexpr int64_t kAllowed = 1000;

PromptLookup lookup_in(std::vector<int32_t> ids) { return PromptLookup(ids, ids.size() + 8, kAllowed); }

TEST(PromptLookup, ProposesWhatFollowedTheLastThree) {
  const PromptLookup lookup = lookup_in({1, 2, 3, 4, 5, 6, 9, 2, 3, 7, 1, 2, 3});
  EXPECT_THAT(lookup.next_pass(2), ElementsAre(3, 4, 5));  // not 7, which only follows 2 3
  EXPECT_THAT(lookup.next_pass(1), ElementsAre(3, 4));
  EXPECT_THAT(lookup.next_pass(0), ElementsAre(3));
}

TEST(PromptLookup, TakesTheLatestPlace) {
  EXPECT_THAT(lookup_in({1, 2, 3, 4, 1, 2, 3, 5, 1, 2, 3}).next_pass(1), ElementsAre(3, 5));
}

TEST(PromptLookup, TwoAreEnoughWhereThreeStandNowhere) {
  EXPECT_THAT(lookup_in({2, 3, 7, 8, 2, 3, 6, 5, 9, 2, 3}).next_pass(3), ElementsAre(3, 6, 5, 9));
  EXPECT_THAT(lookup_in({3, 7, 8, 1, 2, 3}).next_pass(3), ElementsAre(3));  // one is not
}

TEST(PromptLookup, ProposesNoMoreThanThereIs) {
  EXPECT_THAT(lookup_in({5, 5, 5, 5}).next_pass(3), ElementsAre(5, 5));
  EXPECT_THAT(lookup_in({1, 2, 1, 2}).next_pass(7), ElementsAre(2, 1, 2));
}

TEST(PromptLookup, ShortConversations) {
  EXPECT_THAT(lookup_in({4}).next_pass(3), ElementsAre(4));
  EXPECT_THAT(lookup_in({4, 4}).next_pass(3), ElementsAre(4));
  EXPECT_THAT(lookup_in({4, 4, 4}).next_pass(3), ElementsAre(4, 4));
}

TEST(PromptLookup, NeverProposesSoftTokens) {
  EXPECT_THAT(lookup_in({1, 2, 1000, 1001, 3, 1, 2}).next_pass(3), ElementsAre(2));
  EXPECT_THAT(lookup_in({1, 2, 999, 1000, 3, 1, 2}).next_pass(3), ElementsAre(2, 999));
}

TEST(PromptLookup, FindsWhatWasAddedAndKeepsEarlierPasses) {
  PromptLookup lookup = lookup_in({1, 2, 3, 4});
  lookup.add(2);
  lookup.add(3);
  const std::span<const int32_t> pass = lookup.next_pass(2);
  EXPECT_THAT(pass, ElementsAre(3, 4, 2));
  for (int32_t id = 10; id < 16; ++id) lookup.add(id);
  EXPECT_THAT(pass, ElementsAre(3, 4, 2));
}

TEST(ProposalBudget, GrowsWithSuccessAndShrinksToWhatWasRight) {
  ProposalBudget budget(7);
  EXPECT_EQ(budget.length(), 1);
  for (const int64_t length : {2, 4, 7, 7}) {
    budget.record(budget.length(), budget.length());
    EXPECT_EQ(budget.length(), length);
  }
  budget.record(7, 3);
  EXPECT_EQ(budget.length(), 3);
  budget.record(3, 0);
  EXPECT_EQ(budget.length(), 1);
}

TEST(ProposalBudget, ZeroIsOff) {
  ProposalBudget budget(0);
  EXPECT_EQ(budget.length(), 0);
  for (int i = 0; i < 100; ++i) budget.record(0, 0);
  EXPECT_EQ(budget.length(), 0);
}

// Passes lost when no proposal is ever right: what there was at first, and one row in 25 passes.
TEST(ProposalBudget, WhatIsNeverRightCostsLittle) {
  ProposalBudget budget(7);
  int64_t rows = 0;
  for (int pass = 0; pass < 2500; ++pass) {
    const int64_t proposed = budget.length();
    rows += proposed;
    budget.record(proposed, 0);
  }
  EXPECT_LE(rows * ProposalBudget::kRowCost, ProposalBudget::kFirstCredit + 2500 * ProposalBudget::kRetry);
  EXPECT_GE(rows, 90);  // it goes on trying
}

// Whatever comes, the rows paid for are at most what was there and what was gained.
TEST(ProposalBudget, NeverSpendsWhatItHasNot) {
  uint64_t state = 7;
  for (int round = 0; round < 50; ++round) {
    ProposalBudget budget(1 + round % 7);
    int64_t balance = ProposalBudget::kFirstCredit;
    for (int pass = 0; pass < 300; ++pass) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      const int64_t most = budget.length(), proposed = std::min<int64_t>(most, (state >> 40) % 8);
      const int64_t accepted = proposed == 0 ? 0 : static_cast<int64_t>((state >> 50) % (proposed + 1)) * (pass % 3 == 0);
      balance += proposed == 0 ? ProposalBudget::kRetry
                               : accepted * ProposalBudget::kTokenGain - proposed * ProposalBudget::kRowCost;
      budget.record(proposed, accepted);
      ASSERT_GE(balance, 0);
    }
  }
}

}  // namespace
}  // namespace nestling
