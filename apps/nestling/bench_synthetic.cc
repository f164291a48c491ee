#include "bench_synthetic.h"

#include "importing/synthetic.h"
#include "interrupt.h"
#include "text/sentencepiece_model.h"

namespace nestling {
namespace {

// Where Gemma's vocabulary changes from one kind of piece to the next.
constexpr int64_t kNewlines = 107, kSpaces = 138, kTags = 168, kBytes = 238, kWords = 494, kCharacters = 236'743,
                  kTabs = 255'968, kMedia = 255'999, kReserved = 256'001, kPieces = 262'144;
constexpr std::string_view kSpace = "\u2581";

std::string repeated(std::string_view text, int64_t count) {
  std::string result;
  for (int64_t i = 0; i < count; ++i) result += text;
  return result;
}

std::string utf8_of(uint32_t c) {  // U+0800 to U+FFFF
  return {static_cast<char>(0xE0 | c >> 12), static_cast<char>(0x80 | (c >> 6 & 0x3F)),
          static_cast<char>(0x80 | (c & 0x3F))};
}

// Five letters tell the words apart (the factor has no common divisor with 26^5); up to four more and, for every other
// word, a space in front give the usual lengths.
std::string word(int64_t i) {
  constexpr int64_t kCombinations = 26 * 26 * 26 * 26 * 26, kFactor = 7'654'321;
  int64_t code = i * kFactor % kCombinations;
  std::string text(i % 2 == 0 ? kSpace : "");
  for (int letter = 0; letter < 5; ++letter, code /= 26) text += static_cast<char>('a' + code % 26);
  return text + repeated("e", i / 2 % 5);
}

SentencePiece piece(int64_t id) {
  using enum PieceType;
  switch (id) {
    case 0: return {"<pad>", 0, kControl};
    case 1: return {"<eos>", 0, kControl};
    case 2: return {"<bos>", 0, kControl};
    case 3: return {"<unk>", 0, kUnknown};
    case 4: return {"<mask>", 0, kUserDefined};
    case 5: return {"[multimodal]", 0, kUserDefined};
    case 105: return {"<start_of_turn>", 0, kControl};
    case 106: return {"<end_of_turn>", 0, kControl};
    case kMedia: return {"<start_of_image>", 0, kControl};
    case kMedia + 1: return {"<start_of_audio>", 0, kControl};
    default: break;
  }
  if (id < kNewlines) return {fmt::format("<unused{}>", id - 6), 0, kControl};
  if (id < kSpaces) return {repeated("\n", id - kNewlines + 1), 0, kUserDefined};
  if (id < kTags) return {repeated(kSpace, id - kSpaces + 2), 0, kUserDefined};
  if (id < kBytes) return {fmt::format("<tag{}>", id - kTags), 0, kUserDefined};
  if (id < kWords) return {fmt::format("<0x{:02X}>", id - kBytes), 0, kByte};
  const auto score = static_cast<float>(kWords - id);
  if (id < kCharacters) return {word(id - kWords), score, kNormal};
  if (id < kTabs) return {utf8_of(static_cast<uint32_t>(0x4E00 + id - kCharacters)), score, kNormal};
  if (id < kMedia) return {repeated("\t", id - kTabs + 1), 0, kUserDefined};
  return {fmt::format("<unused{}>", id - kReserved + 99), 0, kControl};
}

}  // namespace

std::string synthetic_tokenizer() {
  SentencePieceModel model;
  model.pieces.reserve(kPieces);
  for (int64_t id = 0; id < kPieces; ++id) model.pieces.push_back(piece(id));
  return serialize_sentencepiece_model(model);
}

Result<std::filesystem::path> synthetic_package(const std::string& size, const WeightChoice& weights,
                                                const SyntheticParts& parts) {
  const ImportOptions options = weights.options();
  NESTLING_TRY(const SyntheticModel model, synthetic_model(size, options, parts));
  return cached_synthetic(model, options, synthetic_tokenizer, interrupt_flag());
}

}  // namespace nestling
