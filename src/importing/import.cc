#include "importing/import.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "base/aligned.h"
#include "base/progress.h"
#include "base/thread_pool.h"
#include "kernels/pack.h"
#include "storage/package.h"

namespace nestling {
namespace {

constexpr uint64_t kMemoryBudget = 768ull << 20;  // of all threads' buffers: the whole import stays below 1 GB
constexpr int64_t kPieceElements = int64_t{4} << 20;

// What one thread reads, packs and writes at a time: rows of a tensor.
struct Piece {
  size_t tensor = 0;
  int64_t first_row = 0, rows = 0;
};

// Layouts that spread a row over the whole tensor, and tensors whose axes change places, are packed whole; the others in
// multiples of 16 rows.
bool packs_in_pieces(const PlannedTensor& tensor) {
  return tensor.reorder == Reorder::kNone &&
         (tensor.target.layout == Layout::kRows || tensor.target.layout == Layout::kIl16);
}

std::vector<Piece> cut_into_pieces(const std::vector<PlannedTensor>& plan) {
  std::vector<Piece> pieces;
  for (size_t t = 0; t < plan.size(); ++t) {
    const PackageTensor& target = plan[t].target;
    int64_t rows = target.rows;
    if (packs_in_pieces(plan[t]))
      rows = std::max(kRowGroup, kPieceElements / target.cols / kRowGroup * kRowGroup);
    for (int64_t first = 0; first < target.rows; first += rows)
      pieces.push_back({t, first, std::min(rows, target.rows - first)});
  }
  return pieces;
}

uint64_t packed_piece_bytes(const PackageTensor& target, int64_t rows) {
  return packed_bytes(target.type, target.layout, rows, target.cols);
}

// The memory of one thread, enough for every piece.
struct Buffers {
  uint64_t values = 0;  // floats
  uint64_t packed = 0;  // bytes
  uint64_t bytes() const { return values * sizeof(float) + packed; }
};

Buffers largest_buffers(const std::vector<PlannedTensor>& plan, const std::vector<Piece>& pieces) {
  Buffers largest;
  for (const Piece& piece : pieces) {
    const PackageTensor& target = plan[piece.tensor].target;
    largest.values = std::max(largest.values, static_cast<uint64_t>(piece.rows * target.cols));
    largest.packed = std::max(largest.packed, packed_piece_bytes(target, piece.rows));
  }
  return largest;
}

// The largest magnitude a weight may have: the scale of a block is an f16 times the largest code.
float magnitude_limit(WeightType type) {
  constexpr float kMaxF16 = 65504;
  switch (type) {
    case WeightType::kF32: return std::numeric_limits<float>::max();
    case WeightType::kBF16: return 3.38e38f;
    case WeightType::kQ8: return kMaxF16 * 127;
    case WeightType::kQ6: return kMaxF16 * 31;
    case WeightType::kQ4: return kMaxF16 * 7;
    case WeightType::kI8:
    case WeightType::kI16: return 3.0e38f;
  }
  return 0;
}

// Shared by the threads of one import.
class Import {
 public:
  Import(const std::vector<PlannedTensor>& plan, std::vector<Piece> pieces, PackageWriter& writer,
         const std::atomic<bool>* cancel, Progress& progress)
      : plan_(plan), pieces_(std::move(pieces)), writer_(writer), cancel_(cancel), progress_(progress) {}

  Status run() {
    const Buffers buffers = largest_buffers(plan_, pieces_);
    const auto fitting = std::clamp<uint64_t>(kMemoryBudget / buffers.bytes(), 1, 64);
    const int threads = std::min(available_core_count(), static_cast<int>(fitting));
    {
      std::vector<std::jthread> workers;
      for (int i = 1; i < threads; ++i) workers.emplace_back([this, buffers] { work(buffers); });
      work(buffers);
    }
    if (error_) return std::unexpected(*error_);
    return {};
  }

 private:
  void work(const Buffers& buffers) {
    AlignedArray<float> values(buffers.values);
    AlignedArray<std::byte> packed(buffers.packed);
    while (!stop_) {
      const size_t next = next_piece_++;
      if (next >= pieces_.size()) return;
      const Piece& piece = pieces_[next];
      const PackageTensor& target = plan_[piece.tensor].target;
      const auto status = convert(piece, values.span().first(static_cast<size_t>(piece.rows * target.cols)),
                                  packed.span().first(packed_piece_bytes(target, piece.rows)));
      if (!status) set_error(status.error());
    }
  }

  Status convert(const Piece& piece, std::span<float> values, std::span<std::byte> packed) {
    if (cancel_ != nullptr && *cancel_) return fail(ErrorCode::kCancelled, "the import was interrupted");
    const PlannedTensor& tensor = plan_[piece.tensor];
    const PackageTensor& target = tensor.target;
    const SafetensorsEntry& entry = tensor.source->entry;
    NESTLING_TRY_VOID(tensor.source->file->read_floats(entry, piece.first_row * target.cols, values));
    NESTLING_TRY_VOID(check_values(tensor, piece.first_row, values));
    if (tensor.reorder != Reorder::kNone) {
      const std::vector<float> original(values.begin(), values.end());
      reorder(tensor.reorder, tensor.shape, original.data(), values.data());
    }
    std::ranges::fill(packed, std::byte{0});  // padding is zero: equal imports are equal files
    pack_matrix(target.type, target.layout, piece.rows, target.cols, values.data(), packed.data());
    const std::scoped_lock lock(mutex_);
    progress_.advance(entry.bytes / static_cast<uint64_t>(entry.elements()) * values.size());
    return writer_.write(piece.tensor, packed_piece_bytes(target, piece.first_row), packed);
  }

  static Status check_values(const PlannedTensor& tensor, int64_t first_row, std::span<const float> values) {
    const float limit = magnitude_limit(tensor.target.type);
    bool bad = false;
    for (const float value : values) bad |= !(std::fabs(value) <= limit);
    if (!bad) return {};
    const auto found = std::ranges::find_if(values, [limit](float value) { return !(std::fabs(value) <= limit); });
    const int64_t index = found - values.begin();
    return fail(ErrorCode::kModel, "{}: tensor {} holds {} in row {}, column {}; {} allows finite values up to {}",
                tensor.source->file->file().path().string(), tensor.source->entry.name, *found,
                first_row + index / tensor.target.cols, index % tensor.target.cols,
                weight_type_name(tensor.target.type), limit);
  }

  void set_error(Error error) {
    const std::scoped_lock lock(mutex_);
    if (!error_) error_ = std::move(error);
    stop_ = true;
  }

  const std::vector<PlannedTensor>& plan_;
  const std::vector<Piece> pieces_;
  PackageWriter& writer_;
  const std::atomic<bool>* cancel_;
  Progress& progress_;
  std::atomic<size_t> next_piece_{0};
  std::atomic<bool> stop_{false};
  std::mutex mutex_;  // guards writer_, progress_ and error_
  std::optional<Error> error_;
};

}  // namespace

Status import_checkpoint(const Checkpoint& checkpoint, const ModelConfig& config, const ImportOptions& options,
                         const std::filesystem::path& target, const ImportExtras& extras) {
  NESTLING_TRY(const std::vector<PlannedTensor> plan, plan_import(checkpoint, config, options));
  std::vector<PackageTensor> tensors;
  uint64_t source_bytes = 0;
  for (const PlannedTensor& planned : plan) {
    tensors.push_back(planned.target);
    source_bytes += planned.source->entry.bytes;
  }
  ModelConfig stored = config;
  apply_preprocessor(stored, checkpoint.preprocessor_json(),
                     (checkpoint.directory() / "preprocessor_config.json").string());
  const PackageInfo info{.config_json = config_to_json(stored),
                         .source = checkpoint.directory().string(),
                         .cache_key = extras.cache_key,
                         .tokenizer = extras.tokenizer};
  NESTLING_TRY(PackageWriter writer, PackageWriter::create(target, info, tensors));

  Progress progress(fmt::format("importing {}", checkpoint.directory().filename().string()), source_bytes);
  Import import(plan, cut_into_pieces(plan), writer, extras.cancel, progress);
  NESTLING_TRY_VOID(import.run());
  return writer.commit();
}

}  // namespace nestling
