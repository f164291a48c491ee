#include "importing/export_gguf.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <span>

#include "base/check.h"
#include "base/checked.h"
#include "base/progress.h"
#include "importing/gguf_blocks.h"
#include "importing/gguf_metadata.h"
#include "kernels/pack.h"
#include "model/tensor_names.h"

namespace nestling {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kPieceElements = int64_t{4} << 20;

struct Range {
  int64_t begin = 0, count = 0;
};
int64_t total(const std::vector<Range>& ranges) {
  int64_t sum = 0;
  for (const Range& range : ranges) sum += range.count;
  return sum;
}

// One tensor of the file: rows and columns of one tensor of the package or, without any, zeros.
struct Part {
  const PackageTensor* source = nullptr;
  std::vector<Range> rows, cols;
};

// Several parts of one shape are stacked on an outer dimension.
struct OutputTensor {
  std::string name;
  GgmlType type = GgmlType::kF32;
  bool vector = false;
  std::vector<Part> parts;

  int64_t rows() const { return total(parts.front().rows); }
  int64_t cols() const { return total(parts.front().cols); }
  uint64_t part_bytes() const {
    return static_cast<uint64_t>(rows() * (cols() / ggml_block_size(type)) * ggml_block_bytes(type));
  }
  gguf::TensorPlan plan() const {
    std::vector<uint64_t> dims{static_cast<uint64_t>(cols())};
    if (!vector) dims.push_back(static_cast<uint64_t>(rows()));
    if (parts.size() > 1) dims.push_back(parts.size());
    return {name, std::move(dims), static_cast<uint32_t>(type), part_bytes() * parts.size()};
  }
};

GgmlType ggml_type_of(WeightType type, const std::vector<Range>& cols) {
  if (type == WeightType::kF32) return GgmlType::kF32;
  if (type == WeightType::kBF16) return GgmlType::kBF16;
  // Blocks must stay whole where columns are left out.
  for (const Range& range : cols)
    if (range.begin % kQuantBlock != 0 || range.count % kQuantBlock != 0) return GgmlType::kF32;
  if (type == WeightType::kQ4) return GgmlType::kQ4_0;
  const bool superblocks = total(cols) % ggml_block_size(GgmlType::kQ6_K) == 0;
  return type == WeightType::kQ6 && superblocks ? GgmlType::kQ6_K : GgmlType::kQ8_0;
}

// Decides what the file holds.
class GgufPlan {
 public:
  GgufPlan(const Package& package, const TextConfig& text, const ModelSize& size)
      : package_(package), text_(text), slice_(sliced_config(text, size)) {
    for (int64_t layer = 0; layer < text.num_hidden_layers; ++layer)
      if (!size.layers[layer].skipped) kept_layers_.push_back(layer);
  }

  Result<std::vector<OutputTensor>> tensors() {
    NESTLING_TRY_VOID(find_vocabulary());
    TextConfig all = slice_;  // llama.cpp wants K/V tensors in every layer
    all.num_kv_shared_layers = 0;
    for (const TextTensor& tensor : text_tensors(all)) NESTLING_TRY_VOID(add(tensor));
    return std::move(tensors_);
  }
  const TextConfig& slice() const { return slice_; }
  int64_t vocabulary() const { return vocabulary_; }

 private:
  // One number of rows for embedding, head and PLE table: llama.cpp has no other.
  Status find_vocabulary() {
    vocabulary_ = std::numeric_limits<int64_t>::max();
    for (const auto global : {GlobalTensor::kTokenEmbedding, GlobalTensor::kPerLayerTokenEmbedding}) {
      NESTLING_TRY(const PackageTensor* table, find(package_name(global)));
      vocabulary_ = std::min(vocabulary_, table->rows);
    }
    return {};
  }

  Status add(const TextTensor& tensor) {
    NESTLING_TRY(Part part, part_of(tensor));
    const auto altup = tensor.global ? stack_name(*tensor.global) : std::nullopt;
    if (altup && !tensors_.empty() && tensors_.back().name == *altup) {
      tensors_.back().parts.push_back(std::move(part));
      return {};
    }
    OutputTensor out{.name = altup.value_or(tensor.package), .vector = tensor.vector};
    const WeightType type = part.source != nullptr ? part.source->type : unused_type(tensor);
    out.type = ggml_type_of(type, part.cols);
    out.parts.push_back(std::move(part));
    tensors_.push_back(std::move(out));
    return {};
  }

  // llama.cpp stacks AltUp's projections, which the package keeps apart.
  static std::optional<std::string> stack_name(GlobalTensor tensor) {
    if (tensor == GlobalTensor::kAltupProjection) return "altup_proj.weight";
    if (tensor == GlobalTensor::kAltupUnembedProjection) return "altup_unembd_proj.weight";
    return std::nullopt;
  }

  // Layers of a slice are renumbered; its feed-forward matrices are prefixes of the package's.
  Result<Part> part_of(const TextTensor& tensor) {
    const bool table = tensor.global == GlobalTensor::kTokenEmbedding ||
                       tensor.global == GlobalTensor::kPerLayerTokenEmbedding;
    Part part{.rows = {{0, table ? vocabulary_ : tensor.rows}}, .cols = {{0, tensor.cols}}};
    if (tensor.layer >= slice_.first_kv_shared_layer() && is_kv(tensor.layer_tensor)) return part;
    if (tensor.global == GlobalTensor::kPerLayerModelProjection) part.rows = per_layer_ranges();
    if (tensor.global == GlobalTensor::kPerLayerTokenEmbedding) part.cols = per_layer_ranges();
    NESTLING_TRY(part.source, find(tensor.global ? tensor.package
                                                 : package_name(tensor.layer_tensor, kept_layers_[tensor.layer])));
    const Range& rows = part.rows.back();
    const Range& cols = part.cols.back();
    if (rows.begin + rows.count > part.source->rows || cols.begin + cols.count > part.source->cols)
      return fail(ErrorCode::kModel, "{}: tensor {} is {} x {}; the configuration needs at least {} x {}",
                  package_.file().path().string(), part.source->name, part.source->rows, part.source->cols,
                  rows.begin + rows.count, cols.begin + cols.count);
    return part;
  }

  std::vector<Range> per_layer_ranges() const {
    const int64_t width = text_.hidden_size_per_layer_input;
    if (static_cast<int64_t>(kept_layers_.size()) == text_.num_hidden_layers)
      return {{0, text_.num_hidden_layers * width}};
    std::vector<Range> ranges;
    for (const int64_t layer : kept_layers_) ranges.push_back({layer * width, width});
    return ranges;
  }

  static bool is_kv(LayerTensor tensor) {
    return tensor == LayerTensor::kKProj || tensor == LayerTensor::kVProj || tensor == LayerTensor::kKNorm;
  }
  // As in the layers that have them.
  WeightType unused_type(const TextTensor& tensor) const {
    const PackageTensor* used = package_.find(package_name(tensor.layer_tensor, 0));
    return used == nullptr ? WeightType::kF32 : used->type;
  }

  Result<const PackageTensor*> find(const std::string& name) const {
    const PackageTensor* tensor = package_.find(name);
    if (tensor != nullptr) return tensor;
    return fail(ErrorCode::kModel, "{}: tensor {} is missing", package_.file().path().string(), name);
  }

  const Package& package_;
  const TextConfig& text_;
  const TextConfig slice_;
  std::vector<int64_t> kept_layers_;
  int64_t vocabulary_ = 0;
  std::vector<OutputTensor> tensors_;
};

// Reads parts of tensors piece by piece, as float32, and writes them coded.
class PartWriter {
 public:
  PartWriter(const Package& package, gguf::Writer& writer, Progress& progress, const std::atomic<bool>* cancel)
      : package_(package), writer_(writer), progress_(progress), cancel_(cancel) {}

  Status write(size_t index, const OutputTensor& tensor) {
    uint64_t offset = 0;
    for (const Part& part : tensor.parts) {
      if (part.source != nullptr) {
        for (const Range& rows : part.rows) NESTLING_TRY_VOID(write_rows(index, offset, tensor, part, rows));
      } else {
        offset += tensor.part_bytes();  // what is not written is zero, and zero bytes are zero weights in every type
      }
    }
    NESTLING_CHECK_EQ(offset, tensor.part_bytes() * tensor.parts.size());
    return {};
  }

 private:
  // A piece that starts at a multiple of 16 rows is a matrix of its own in these layouts (kernels/pack.h).
  static bool is_read_in_pieces(Layout layout) {
    return layout == Layout::kRows || layout == Layout::kIl16 || layout == Layout::kLaneRows;
  }

  Status write_rows(size_t index, uint64_t& offset, const OutputTensor& tensor, const Part& part, const Range& rows) {
    const PackageTensor& source = *part.source;
    int64_t step = rows.count;
    if (is_read_in_pieces(source.layout))
      step = std::max(kRowGroup, kPieceElements / source.cols / kRowGroup * kRowGroup);
    for (int64_t done = 0; done < rows.count; done += step) {
      if (cancel_ != nullptr && *cancel_) return fail(ErrorCode::kCancelled, "the export was interrupted");
      const int64_t count = std::min(step, rows.count - done);
      NESTLING_TRY_VOID(read(source, rows.begin + done, count, part.cols));
      encoded_.resize(static_cast<size_t>(values_.size() / ggml_block_size(tensor.type) *
                                          ggml_block_bytes(tensor.type)));
      if (!encode_ggml(tensor.type, values_, encoded_.data()))
        return fail(ErrorCode::kModel, "{}: tensor {} holds values that are no {}; the file is damaged",
                    package_.file().path().string(), source.name, ggml_type_name(tensor.type));
      NESTLING_TRY_VOID(writer_.write(index, offset, encoded_));
      offset += encoded_.size();
      progress_.advance(encoded_.size());
    }
    return {};
  }

  // values_ = rows [first, first + count) of `source`, the columns of `cols`.
  Status read(const PackageTensor& source, int64_t first, int64_t count, const std::vector<Range>& cols) {
    const bool pieces = is_read_in_pieces(source.layout);
    const int64_t stored_first = pieces ? first / kRowGroup * kRowGroup : 0;
    const int64_t stored_rows = pieces ? first + count - stored_first : source.rows;
    const uint64_t begin = pieces ? packed_bytes(source.type, source.layout, stored_first, source.cols) : 0;
    packed_.resize(packed_bytes(source.type, source.layout, stored_rows, source.cols));
    NESTLING_TRY_VOID(package_.file().read_at(source.offset + begin, packed_));
    const WeightMatrix w{source.type, source.layout, stored_rows,    source.cols,
                         stored_rows, source.cols,   packed_.data(), packed_.size()};
    values_.clear();
    if (source.layout == Layout::kInputMajor) {
      all_.resize(static_cast<size_t>(stored_rows * source.cols));
      unpack_matrix(w, all_.data());
      for (int64_t row = first; row < first + count; ++row) append(all_.data() + row * source.cols, cols);
      return {};
    }
    all_.resize(static_cast<size_t>(source.cols));
    for (int64_t row = first - stored_first; row < stored_rows && row < first - stored_first + count; ++row) {
      unpack_row(w, row, all_.data());
      append(all_.data(), cols);
    }
    return {};
  }

  void append(const float* row, const std::vector<Range>& cols) {
    for (const Range& range : cols) values_.insert(values_.end(), row + range.begin, row + range.begin + range.count);
  }

  const Package& package_;
  gguf::Writer& writer_;
  Progress& progress_;
  const std::atomic<bool>* cancel_;
  std::vector<std::byte> packed_, encoded_;
  std::vector<float> all_, values_;
};

std::string type_of(const std::vector<OutputTensor>& tensors, std::string_view name) {
  const auto found = std::ranges::find(tensors, name, &OutputTensor::name);
  return found == tensors.end() ? "" : std::string(ggml_type_name(found->type));
}

Status check_disk(const fs::path& target, uint64_t bytes) {
  std::error_code error;
  const fs::path directory = fs::absolute(target, error).parent_path();
  NESTLING_TRY(const uint64_t free, free_disk_bytes(directory));
  if (bytes <= free) return {};
  return fail(ErrorCode::kFailed, "{}: {} bytes are needed; {} are free on this disk", target.string(), bytes, free);
}

}  // namespace

Result<GgufExport> export_gguf(const Package& package, const ModelConfig& config, const ModelSize& size,
                               const GgufTokenizer& tokenizer, const fs::path& target,
                               const std::atomic<bool>* cancel) {
  GgufPlan plan(package, config.text, size);
  NESTLING_TRY(const std::vector<OutputTensor> tensors, plan.tensors());
  GgufExport result{.tensors = tensors.size(),
                    .weights = type_of(tensors, "blk.0.attn_q.weight"),
                    .head = type_of(tensors, "token_embd.weight"),
                    .ple = type_of(tensors, "per_layer_token_embd.weight")};
  std::vector<gguf::TensorPlan> plans;
  for (const OutputTensor& tensor : tensors) {
    plans.push_back(tensor.plan());
    result.bytes += plans.back().bytes;
  }
  const auto metadata = gguf_metadata({.config = config,
                                       .slice = plan.slice(),
                                       .name = size.name,
                                       .vocabulary = plan.vocabulary(),
                                       .weights = result.weights,
                                       .tokenizer = tokenizer});
  NESTLING_TRY_VOID(check_disk(target, result.bytes));
  NESTLING_TRY(gguf::Writer writer, gguf::Writer::create(target, metadata, plans, gguf::kDefaultAlignment));
  Progress progress("exporting", result.bytes);
  PartWriter parts(package, writer, progress, cancel);
  for (size_t i = 0; i < tensors.size(); ++i) NESTLING_TRY_VOID(parts.write(i, tensors[i]));
  NESTLING_TRY_VOID(writer.commit());
  return result;
}

}  // namespace nestling
