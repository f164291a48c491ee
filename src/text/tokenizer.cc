#include "text/tokenizer.h"

#include <sentencepiece_processor.h>

#include <algorithm>
#include <bitset>

#include "base/check.h"
#include "base/heap_burst.h"
#include "text/sentencepiece_model.h"
#include "text/utf8.h"

namespace nestling {
namespace {

constexpr std::string_view kSpace = "\u2581";  // how the vocabulary writes a space

// A part of a text that is an id of its own before the library sees the rest.
struct Cut {
  size_t begin, end;
  int32_t id;
};

// Length of the run of U+2581 at the start of `text`, in characters.
size_t space_run(std::string_view text) {
  size_t n = 0;
  while (text.substr(n * kSpace.size()).starts_with(kSpace)) ++n;
  return n;
}

}  // namespace

struct Tokenizer::Impl {
  sentencepiece::SentencePieceProcessor processor;
  std::vector<size_t> control_sizes;  // lengths in bytes of the control pieces' names, longest first
  std::bitset<256> control_first_bytes;
  size_t longest_space_run = 1;  // as a single piece

  std::optional<int32_t> find(std::string_view piece) const {
    const int id = processor.PieceToId(piece);  // the unknown id for anything else
    if (id < 0 || id >= processor.GetPieceSize() || processor.IdToPiece(id) != piece) return std::nullopt;
    return id;
  }

  bool is_control(int32_t id) const { return processor.IsControl(id) || processor.IsUnknown(id); }

  void index_controls(const SentencePieceModel& model) {
    for (const SentencePiece& piece : model.pieces) {
      if (piece.type != PieceType::kControl && piece.type != PieceType::kUnknown) continue;
      control_sizes.push_back(piece.text.size());
      control_first_bytes.set(static_cast<uint8_t>(piece.text.front()));
    }
    std::ranges::sort(control_sizes, std::greater());
    control_sizes.erase(std::ranges::unique(control_sizes).begin(), control_sizes.end());
    std::string run(kSpace);
    while (find(run += kSpace)) ++longest_space_run;
  }

  std::optional<Cut> control_at(std::string_view text, size_t at) const {
    if (!control_first_bytes.test(static_cast<uint8_t>(text[at]))) return std::nullopt;
    for (const size_t size : control_sizes) {
      if (size > text.size() - at) continue;
      const auto id = find(text.substr(at, size));
      if (id && is_control(*id)) return Cut{at, at + size, *id};
    }
    return std::nullopt;
  }

  // A typed U+2581 is the vocabulary's space. tokenizers cuts runs of it out of the text alone, where the library would
  // join them with neighbouring spaces.
  std::optional<Cut> space_run_at(std::string_view text, size_t at) const {
    if (text[at] != kSpace.front()) return std::nullopt;
    const size_t n = std::min(space_run(text.substr(at, longest_space_run * kSpace.size())), longest_space_run);
    if (n < 2) return std::nullopt;
    const size_t size = n * kSpace.size();
    return Cut{at, at + size, *find(text.substr(at, size))};
  }

  std::optional<Cut> next_cut(std::string_view text, size_t from, ControlText controls) const {
    for (size_t at = from; at < text.size(); ++at) {
      if (auto cut = space_run_at(text, at)) return cut;
      if (controls == ControlText::kInert) continue;
      if (auto cut = control_at(text, at)) return cut;
    }
    return std::nullopt;
  }

  Status append_ids(std::string_view text, std::vector<int32_t>& ids) const {
    if (text.empty()) return {};
    std::vector<int> part;
    const auto status = processor.Encode(text, &part);
    if (!status.ok()) return fail(ErrorCode::kFailed, "tokenizer: {}", status.error_message());
    ids.insert(ids.end(), part.begin(), part.end());
    return {};
  }
};

Tokenizer::Tokenizer() : impl_(std::make_unique<Impl>()) {}
Tokenizer::~Tokenizer() = default;

Result<std::unique_ptr<Tokenizer>> Tokenizer::load(std::string_view model_bytes) {
  const HeapBurst burst;  // above what it frees
  NESTLING_TRY(auto model, parse_sentencepiece_model(model_bytes));
  make_controls_inert(model);
  std::unique_ptr<Tokenizer> tokenizer(new Tokenizer);
  // Written anew, so that the library sees nothing of the file but what was checked.
  const auto status = tokenizer->impl_->processor.LoadFromSerializedProto(serialize_sentencepiece_model(model));
  if (!status.ok()) return fail(ErrorCode::kModel, "tokenizer model: {}", status.error_message());
  tokenizer->impl_->index_controls(model);
  return tokenizer;
}

int64_t Tokenizer::size() const { return impl_->processor.GetPieceSize(); }

Result<std::vector<int32_t>> Tokenizer::encode(std::string_view text, ControlText controls) const {
  if (text.size() > kMaxTextBytes) {
    return fail(ErrorCode::kUsage, "text of {} bytes; at most {} are allowed", text.size(), kMaxTextBytes);
  }
  if (const auto offset = find_invalid_utf8(text)) {
    return fail(ErrorCode::kUsage, "text is not valid UTF-8: byte {} is 0x{:02X}", *offset,
                static_cast<uint8_t>(text[*offset]));
  }
  std::vector<int32_t> ids;
  size_t begin = 0;
  while (const auto cut = impl_->next_cut(text, begin, controls)) {
    NESTLING_TRY_VOID(impl_->append_ids(text.substr(begin, cut->begin - begin), ids));
    ids.push_back(cut->id);
    begin = cut->end;
  }
  NESTLING_TRY_VOID(impl_->append_ids(text.substr(begin), ids));
  return ids;
}

Result<std::string> Tokenizer::decode(std::span<const int32_t> ids, ControlText controls) const {
  std::string bytes, out;
  Utf8Decoder decoder;
  for (const int32_t id : ids) {
    if (id < 0 || id >= size()) return fail(ErrorCode::kUsage, "token id {}; 0 to {} are allowed", id, size() - 1);
    bytes.clear();
    append_bytes(id, controls, bytes);
    decoder.feed(bytes, out);
  }
  decoder.flush(out);
  return out;
}

std::string_view Tokenizer::piece(int32_t id) const {
  NESTLING_CHECK_GE(id, 0);
  NESTLING_CHECK_LT(id, size());
  return impl_->processor.IdToPiece(id);
}

std::optional<int32_t> Tokenizer::find(std::string_view piece) const { return impl_->find(piece); }

bool Tokenizer::is_control(int32_t id) const { return id >= 0 && id < size() && impl_->is_control(id); }

void Tokenizer::append_bytes(int32_t id, ControlText controls, std::string& out) const {
  if (id < 0 || id >= size()) return;
  const std::string& text = impl_->processor.IdToPiece(id);
  if (impl_->is_control(id)) {
    if (controls == ControlText::kParsed) out.append(text);
    return;
  }
  if (impl_->processor.IsByte(id)) {
    out.push_back(static_cast<char>(std::stoi(text.substr(3, 2), nullptr, 16)));  // <0xNN>, checked at load
    return;
  }
  for (size_t at = 0; at < text.size();) {
    const bool space = std::string_view(text).substr(at).starts_with(kSpace);
    space ? out.push_back(' ') : out.push_back(text[at]);
    at += space ? kSpace.size() : 1;
  }
}

}  // namespace nestling
