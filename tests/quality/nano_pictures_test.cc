// The bundled model answers about pictures it never saw, and knows nothing about a grey one.
#include <gtest/gtest.h>

#include "runtime/session.h"
#include "support/chat_question.h"
#include "support/tolerances.h"

namespace nestling {
namespace {

// Where a question is asked about a grey picture, in place of the one it belongs to.
Medium grey_picture() {
  return {.kind = ContentKind::kImage, .name = "grey",
          .path = std::filesystem::path(NESTLING_SOURCE_DIR) / "tests/data/media/grey_256.png"};
}

// `grey`: the picture is hidden, the question is not.
double accuracy(WeightType weights, const char* size_name, bool grey) {
  const TestPackage package(nano_path(), {.weights = weights, .head = {}, .ple = {}});
  EngineOptions options;
  options.threads = 2;
  options.context = 512;
  const auto engine = package.open(options);
  const ModelSize size = value_or_fail(engine->size(size_name));
  Session session(*engine);
  int right = 0, total = 0;
  for (const MediaQuestion& q : media_questions(nano_path() / "heldout_pictures.jsonl")) {
    const Medium picture{.kind = ContentKind::kImage, .name = q.file, .path = nano_path() / q.file};
    PreparedPrompt prompt = prepare_question(*engine, grey ? grey_picture() : picture, q.question);
    right += greedy_answer(session, size, std::move(prompt.input)) == q.answer;
    ++total;
  }
  const double share = static_cast<double>(right) / total;
  fmt::print("[ MEASURED ] {} weights, {}{}: {} of {} right ({:.3f})\n", weight_type_name(weights), size_name,
             grey ? ", grey" : "", right, total, share);
  return share;
}

TEST(NanoPictures, E4b) { EXPECT_GE(accuracy(WeightType::kBF16, "e4b", false), kNanoPictures); }
TEST(NanoPictures, E2b) { EXPECT_GE(accuracy(WeightType::kBF16, "e2b", false), kNanoPicturesSlices); }
// The weights users get by default: int8 products in the tower.
TEST(NanoPictures, Q4AtE4b) { EXPECT_GE(accuracy(WeightType::kQ4, "e4b", false), kNanoPicturesSlices); }
TEST(NanoPictures, NothingToSeeOnGrey) { EXPECT_LE(accuracy(WeightType::kBF16, "e4b", true), kNanoGreyPictures); }

}  // namespace
}  // namespace nestling
