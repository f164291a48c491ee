#include "text/sentencepiece_model.h"

#include <algorithm>
#include <bit>
#include <bitset>
#include <cctype>
#include <cmath>
#include <cstring>

#include "text/utf8.h"

namespace nestling {
namespace {

// Field numbers of sentencepiece_model.proto.
constexpr uint32_t kModelPieces = 1, kModelTrainer = 2, kModelNormalizer = 3;
constexpr uint32_t kPieceText = 1, kPieceScore = 2, kPieceType = 3;
constexpr uint32_t kTrainerType = 3, kTrainerSpaceAsSuffix = 24, kTrainerByteFallback = 35;
constexpr uint32_t kTrainerUnk = 40, kTrainerBos = 41, kTrainerEos = 42, kTrainerPad = 43;
constexpr uint32_t kTrainerUnkPiece = 45;
constexpr uint32_t kNormalizerName = 1, kNormalizerCharsmap = 2, kNormalizerDummyPrefix = 3,
                   kNormalizerRemoveSpaces = 4, kNormalizerEscape = 5;
constexpr uint64_t kTypeBpe = 2;
constexpr size_t kUsualPieceBytes = 16;  // or a little more: Gemma's take 20 with tags, score and type

// One field of the protobuf wire format: `value` of a varint or fixed field, `bytes` of a length-delimited one.
struct WireField {
  uint32_t number = 0;
  uint32_t wire_type = 0;
  uint64_t value = 0;
  std::string_view bytes;
};
constexpr uint32_t kVarint = 0, kFixed64 = 1, kDelimited = 2, kFixed32 = 5;

class WireReader {
 public:
  explicit WireReader(std::string_view data) : data_(data) {}
  bool at_end() const { return data_.empty(); }

  // False when the data is damaged.
  bool next(WireField& field) {
    uint64_t tag = 0;
    if (!varint(tag) || tag >> 3 == 0 || tag >> 32 != 0) return false;
    field = {static_cast<uint32_t>(tag >> 3), static_cast<uint32_t>(tag & 7)};
    switch (field.wire_type) {
      case kVarint:
        return varint(field.value);
      case kFixed64:
        return fixed(8, field.value);
      case kFixed32:
        return fixed(4, field.value);
      case kDelimited: {
        uint64_t size = 0;
        if (!varint(size) || size > data_.size()) return false;
        field.bytes = data_.substr(0, size);
        data_.remove_prefix(size);
        return true;
      }
      default:
        return false;
    }
  }

 private:
  bool varint(uint64_t& value) {
    value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (data_.empty()) return false;
      const auto byte = static_cast<uint8_t>(data_.front());
      data_.remove_prefix(1);
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return true;
    }
    return false;
  }

  bool fixed(size_t size, uint64_t& value) {
    if (data_.size() < size) return false;
    value = 0;
    std::memcpy(&value, data_.data(), size);
    data_.remove_prefix(size);
    return true;
  }

  std::string_view data_;
};

class WireWriter {
 public:
  void varint(uint32_t field, uint64_t value) {
    raw_varint(static_cast<uint64_t>(field) << 3 | kVarint);
    raw_varint(value);
  }
  void bytes(uint32_t field, std::string_view value) {
    raw_varint(static_cast<uint64_t>(field) << 3 | kDelimited);
    raw_varint(value.size());
    out_.append(value);
  }
  void real(uint32_t field, float value) {
    raw_varint(static_cast<uint64_t>(field) << 3 | kFixed32);
    char raw[sizeof value];
    std::memcpy(raw, &value, sizeof value);
    out_.append(raw, sizeof raw);
  }
  void reserve(size_t bytes) { out_.reserve(bytes); }
  void clear() { out_.clear(); }
  std::string_view view() const { return out_; }
  std::string take() { return std::move(out_); }

 private:
  void raw_varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) out_.push_back(static_cast<char>(value | 0x80));
    out_.push_back(static_cast<char>(value));
  }
  std::string out_;
};

std::unexpected<Error> damaged() {
  return fail(ErrorCode::kModel, "tokenizer model: damaged, or not a SentencePiece model");
}

Result<SentencePiece> parse_piece(std::string_view bytes) {
  SentencePiece piece;
  WireField field;
  for (WireReader reader(bytes); !reader.at_end();) {
    if (!reader.next(field)) return damaged();
    if (field.number == kPieceText && field.wire_type == kDelimited) {
      piece.text = field.bytes;
    } else if (field.number == kPieceScore && field.wire_type == kFixed32) {
      std::memcpy(&piece.score, &field.value, sizeof piece.score);
    } else if (field.number == kPieceType && field.wire_type == kVarint) {
      if (field.value < 1 || field.value > 6) {
        return fail(ErrorCode::kModel, "tokenizer model: piece type {}; 1 to 6 are allowed", field.value);
      }
      piece.type = static_cast<PieceType>(field.value);
    }
  }
  return piece;
}

// The first piece that says the same as one before it, or -1. Nearly every look-up of 262,144 misses the cache, which made
// a std::unordered_set a third of the time to load a tokenizer; here each slot is fetched ahead of its use.
int64_t find_repeated(const std::vector<SentencePiece>& pieces) {
  struct Slot {
    uint32_t hash = 0;
    int32_t id = -1;
  };
  constexpr size_t kAhead = 16;
  const size_t count = pieces.size(), mask = std::bit_ceil(2 * count) - 1;
  std::vector<Slot> slots(mask + 1);
  std::vector<size_t> hashes(count);
  for (size_t id = 0; id < count; ++id) hashes[id] = std::hash<std::string_view>()(pieces[id].text);
  for (size_t id = 0; id < count; ++id) {
    __builtin_prefetch(&slots[hashes[std::min(id + kAhead, count - 1)] & mask], 1);
    const auto kept = static_cast<uint32_t>(hashes[id] >> 32);
    size_t at = hashes[id] & mask;
    for (; slots[at].id >= 0; at = (at + 1) & mask) {
      if (slots[at].hash == kept && pieces[slots[at].id].text == pieces[id].text) return static_cast<int64_t>(id);
    }
    slots[at] = {kept, static_cast<int32_t>(id)};
  }
  return -1;
}

Status check_trainer(std::string_view bytes) {
  uint64_t type = 1, byte_fallback = 0, space_as_suffix = 0;  // the defaults of TrainerSpec
  WireField field;
  for (WireReader reader(bytes); !reader.at_end();) {
    if (!reader.next(field)) return damaged();
    if (field.wire_type != kVarint) continue;
    if (field.number == kTrainerType) type = field.value;
    if (field.number == kTrainerByteFallback) byte_fallback = field.value;
    if (field.number == kTrainerSpaceAsSuffix) space_as_suffix = field.value;
  }
  if (type != kTypeBpe || byte_fallback != 1 || space_as_suffix != 0) {
    return fail(ErrorCode::kModel,
                "tokenizer model: type {}, byte fallback {}, spaces as suffix {}; type 2 (BPE), 1 and 0 are allowed",
                type, byte_fallback, space_as_suffix);
  }
  return {};
}

Status check_normalizer(std::string_view bytes) {
  uint64_t dummy_prefix = 1, remove_spaces = 1, escape = 1;  // the defaults of NormalizerSpec
  size_t charsmap_bytes = 0;
  WireField field;
  for (WireReader reader(bytes); !reader.at_end();) {
    if (!reader.next(field)) return damaged();
    if (field.number == kNormalizerCharsmap) charsmap_bytes = field.bytes.size();
    if (field.number == kNormalizerDummyPrefix) dummy_prefix = field.value;
    if (field.number == kNormalizerRemoveSpaces) remove_spaces = field.value;
    if (field.number == kNormalizerEscape) escape = field.value;
  }
  if (charsmap_bytes != 0 || dummy_prefix != 0 || remove_spaces != 0 || escape != 1) {
    return fail(
        ErrorCode::kModel,
        "tokenizer model: normalizer with a map of {} bytes, dummy prefix {}, space removal {}, space escapes {}; "
        "0, 0, 0 and 1 are allowed",
        charsmap_bytes, dummy_prefix, remove_spaces, escape);
  }
  return {};
}

}  // namespace

Result<SentencePieceModel> parse_sentencepiece_model(std::string_view bytes) {
  SentencePieceModel model;
  std::string_view trainer, normalizer;
  WireField field;
  model.pieces.reserve(std::min<size_t>(kMaxPieces, bytes.size() / kUsualPieceBytes));
  for (WireReader reader(bytes); !reader.at_end();) {
    if (!reader.next(field)) return damaged();
    if (field.number <= kModelNormalizer && field.wire_type != kDelimited) return damaged();
    if (field.number == kModelTrainer) trainer = field.bytes;
    if (field.number == kModelNormalizer) normalizer = field.bytes;
    if (field.number != kModelPieces) continue;
    if (std::ssize(model.pieces) == kMaxPieces) {
      return fail(ErrorCode::kModel, "tokenizer model: more than {} pieces", kMaxPieces);
    }
    NESTLING_TRY(auto piece, parse_piece(field.bytes));
    model.pieces.push_back(std::move(piece));
  }
  NESTLING_TRY_VOID(check_trainer(trainer));
  NESTLING_TRY_VOID(check_normalizer(normalizer));
  NESTLING_TRY_VOID(check_sentencepiece_model(model));
  return model;
}

Status check_sentencepiece_model(const SentencePieceModel& model) {
  const int64_t count = std::ssize(model.pieces);
  if (count < 1 || count > kMaxPieces) {
    return fail(ErrorCode::kModel, "tokenizer model: {} pieces; 1 to {} are allowed", count, kMaxPieces);
  }
  std::bitset<256> bytes;
  int64_t unknown = 0;
  for (int64_t id = 0; id < count; ++id) {
    const SentencePiece& piece = model.pieces[id];
    if (piece.text.empty() || piece.text.size() > kMaxPieceBytes || find_invalid_utf8(piece.text)) {
      return fail(ErrorCode::kModel, "tokenizer model: piece {} has {} bytes; 1 to {} bytes of valid UTF-8 are allowed",
                  id, piece.text.size(), kMaxPieceBytes);
    }
    if (!std::isfinite(piece.score)) {
      return fail(ErrorCode::kModel, "tokenizer model: piece {} has score {}; it must be finite", id, piece.score);
    }
    unknown += piece.type == PieceType::kUnknown;
    if (piece.type == PieceType::kByte) {
      unsigned byte = 0;
      if (std::sscanf(piece.text.c_str(), "<0x%2X>", &byte) != 1 || piece.text != fmt::format("<0x{:02X}>", byte)) {
        return fail(ErrorCode::kModel, "tokenizer model: byte piece {} is {}; <0x00> to <0xFF> are allowed", id,
                    piece.text);
      }
      bytes.set(byte);
    }
  }
  if (const int64_t id = find_repeated(model.pieces); id >= 0) {
    return fail(ErrorCode::kModel, "tokenizer model: piece {} ({}) occurs twice", id, model.pieces[id].text);
  }
  if (unknown != 1 || !bytes.all()) {
    return fail(ErrorCode::kModel, "tokenizer model: {} unknown pieces and {} byte pieces; 1 and 256 are needed",
                unknown, bytes.count());
  }
  return {};
}

std::string serialize_sentencepiece_model(const SentencePieceModel& model) {
  WireWriter out, row, trainer, normalizer;
  size_t text_bytes = 0;
  for (const SentencePiece& piece : model.pieces) text_bytes += piece.text.size();
  out.reserve(text_bytes + model.pieces.size() * kUsualPieceBytes);
  int64_t unknown = -1;
  for (int64_t id = 0; id < std::ssize(model.pieces); ++id) {
    const SentencePiece& piece = model.pieces[id];
    row.clear();
    row.bytes(kPieceText, piece.text);
    row.real(kPieceScore, piece.score);
    row.varint(kPieceType, static_cast<uint64_t>(piece.type));
    out.bytes(kModelPieces, row.view());
    if (piece.type == PieceType::kUnknown) unknown = id;
  }
  trainer.varint(kTrainerType, kTypeBpe);
  trainer.varint(kTrainerByteFallback, 1);
  trainer.varint(kTrainerUnk, static_cast<uint64_t>(unknown));
  // Beginning, end and padding are put in by the chat template, never by the library: -1 is "none".
  for (const uint32_t field : {kTrainerBos, kTrainerEos, kTrainerPad}) trainer.varint(field, UINT64_MAX);
  trainer.bytes(kTrainerUnkPiece, unknown < 0 ? std::string_view("<unk>") : model.pieces[unknown].text);
  normalizer.bytes(kNormalizerName, "identity");
  normalizer.varint(kNormalizerDummyPrefix, 0);
  normalizer.varint(kNormalizerRemoveSpaces, 0);
  normalizer.varint(kNormalizerEscape, 1);
  out.bytes(kModelTrainer, trainer.take());
  out.bytes(kModelNormalizer, normalizer.take());
  return out.take();
}

bool is_control_text(std::string_view piece) {
  static constexpr std::string_view kNames[] = {"<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "[multimodal]"};
  static constexpr std::string_view kUnused = "<unused";
  if (!piece.starts_with('<') && !piece.starts_with('[')) return false;  // nearly every piece
  if (std::ranges::find(kNames, piece) != std::end(kNames)) return true;
  if (!piece.starts_with('<') || !piece.ends_with('>')) return false;
  if (piece.starts_with("<start_of_") || piece.starts_with("<end_of_") || piece.ends_with("_soft_token>")) return true;
  const auto is_digit = [](char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; };
  return piece.size() > kUnused.size() + 1 && piece.starts_with(kUnused) &&
         std::ranges::all_of(piece.substr(kUnused.size(), piece.size() - kUnused.size() - 1), is_digit);
}

void make_controls_inert(SentencePieceModel& model) {
  for (SentencePiece& piece : model.pieces) {
    const bool fixed = piece.type == PieceType::kUnknown || piece.type == PieceType::kByte;
    if (!fixed && is_control_text(piece.text)) piece.type = PieceType::kControl;
  }
}

}  // namespace nestling
