// The SentencePiece model file (ModelProto of sentencepiece_model.proto) as plain data: read, checked, changed,
// written. Only what Gemma uses is allowed: BPE with byte fallback and a normalizer that changes nothing but spaces.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace nestling {

enum class PieceType : uint8_t {  // the numbers of ModelProto.SentencePiece.Type
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,      // never the result of encoding a text
  kUserDefined = 4,  // found in a text before any merging
  kUnused = 5,
  kByte = 6,
};

struct SentencePiece {
  std::string text;  // spaces as U+2581
  float score = 0;   // NORMAL pieces: the higher, the earlier merged
  PieceType type = PieceType::kNormal;
};

struct SentencePieceModel {
  std::vector<SentencePiece> pieces;  // in id order
};

inline constexpr int64_t kMaxPieces = 1 << 20;
inline constexpr size_t kMaxPieceBytes = 65535;

// kModel: damaged, not BPE, without byte fallback, or with another normalizer. Calls check_sentencepiece_model.
Result<SentencePieceModel> parse_sentencepiece_model(std::string_view bytes);

// kModel unless there are 1..kMaxPieces pieces, different from each other, well-formed UTF-8 of 1..kMaxPieceBytes
// bytes, with exactly one UNKNOWN piece and a BYTE piece for each of the 256 bytes.
Status check_sentencepiece_model(const SentencePieceModel& model);

std::string serialize_sentencepiece_model(const SentencePieceModel& model);

// Whether Gemma gives this piece a meaning for the model rather than for the reader: turns, media, padding, and the
// reserved <unusedN>. Tags of HTML and runs of whitespace are text.
bool is_control_text(std::string_view piece);

// Makes every such piece CONTROL, whatever type the file gives it (Gemma's says USER_DEFINED for <start_of_turn>), so
// that no text can encode to it.
void make_controls_inert(SentencePieceModel& model);

}  // namespace nestling
