#include "importing/export.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <string>
#include <vector>

#include "base/progress.h"
#include "importing/weight_plan.h"
#include "model/tensor_names.h"
#include "storage/safetensors.h"

namespace nestling {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kPieceBytes = 16u << 20;

struct Range {
  int64_t begin = 0, count = 0;
};

// One tensor of the slice: rows and columns of one tensor of the source, ranges in order.
struct SlicedTensor {
  const CheckpointTensor* source = nullptr;
  std::string name;            // as the source names it, the layer renumbered
  std::vector<int64_t> shape;  // of the slice
  int64_t source_cols = 0;     // a tensor that is not cut counts as one row of all its elements
  std::vector<Range> rows, cols;
};

int64_t total(const std::vector<Range>& ranges) {
  int64_t sum = 0;
  for (const Range& range : ranges) sum += range.count;
  return sum;
}

// Where a canonical name says "language_model.layers.N.", N, and where its digits stand in the file's own name.
struct LayerName {
  int64_t layer = -1;
  std::string_view suffix;  // "mlp.up_proj.weight"
};

LayerName parse_layer_name(std::string_view canonical) {
  constexpr std::string_view kPrefix = "language_model.layers.";
  LayerName name;
  if (!canonical.starts_with(kPrefix)) return name;
  const std::string_view rest = canonical.substr(kPrefix.size());
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), name.layer);
  if (error != std::errc() || end == rest.data() + rest.size() || *end != '.') return {};
  name.suffix = rest.substr(static_cast<size_t>(end - rest.data()) + 1);
  return name;
}

// "model.language_model.layers.25.norm.weight" -> the same with another number.
std::string renumbered(const std::string& name, const LayerName& parsed, int64_t layer) {
  const size_t suffix = name.size() - parsed.suffix.size();
  const size_t digits = name.rfind('.', suffix - 2) + 1;
  return name.substr(0, digits) + std::to_string(layer) + "." + name.substr(suffix);
}

class Slicer {
 public:
  Slicer(const TextConfig& text, const ModelSize& size) : text_(text), size_(size) {
    const int64_t width = text.hidden_size_per_layer_input;
    for (int64_t layer = 0; layer < text.num_hidden_layers; ++layer) {
      new_layer_.push_back(size.layers[layer].skipped ? -1 : static_cast<int64_t>(per_layer_.size()));
      if (!size.layers[layer].skipped) per_layer_.push_back({layer * width, width});
    }
  }

  // Nothing for a tensor of a skipped layer.
  Result<std::vector<SlicedTensor>> slice(const Checkpoint& checkpoint) const {
    std::vector<SlicedTensor> tensors;
    for (const auto& [canonical, source] : checkpoint.tensors()) {
      const LayerName parsed = parse_layer_name(canonical);
      if (parsed.layer >= text_.num_hidden_layers)
        return fail(ErrorCode::kModel, "{}: tensor {} belongs to layer {}; config.json has {} layers",
                    checkpoint.directory().string(), source.entry.name, parsed.layer, text_.num_hidden_layers);
      if (parsed.layer >= 0 && size_.layers[parsed.layer].skipped) continue;
      tensors.push_back(slice_tensor(canonical, parsed, source));
    }
    return tensors;
  }

 private:
  SlicedTensor slice_tensor(const std::string& canonical, const LayerName& parsed,
                            const CheckpointTensor& source) const {
    SlicedTensor tensor{.source = &source, .name = source.entry.name, .shape = source.entry.shape};
    tensor.source_cols = source.entry.elements();
    tensor.rows = {{0, 1}};
    tensor.cols = {{0, tensor.source_cols}};
    if (parsed.layer >= 0) {
      tensor.name = renumbered(tensor.name, parsed, new_layer_[parsed.layer]);
      const Range width{0, size_.layers[parsed.layer].width};
      if (parsed.suffix == "mlp.gate_proj.weight" || parsed.suffix == "mlp.up_proj.weight") cut_rows(tensor, {width});
      if (parsed.suffix == "mlp.down_proj.weight") cut_cols(tensor, {width});
    } else if (canonical == checkpoint_name(GlobalTensor::kPerLayerModelProjection)) {
      cut_rows(tensor, per_layer_);
    } else if (canonical == checkpoint_name(GlobalTensor::kPerLayerTokenEmbedding)) {
      cut_cols(tensor, per_layer_);
    }
    return tensor;
  }

  static void cut_rows(SlicedTensor& tensor, std::vector<Range> rows) {
    tensor.source_cols = tensor.shape[1];
    tensor.cols = {{0, tensor.source_cols}};
    tensor.rows = std::move(rows);
    tensor.shape[0] = total(tensor.rows);
  }
  static void cut_cols(SlicedTensor& tensor, std::vector<Range> cols) {
    tensor.source_cols = tensor.shape[1];
    tensor.rows = {{0, tensor.shape[0]}};
    tensor.cols = std::move(cols);
    tensor.shape[1] = total(tensor.cols);
  }

  const TextConfig& text_;
  const ModelSize& size_;
  std::vector<int64_t> new_layer_;  // of each layer of the source; -1 when skipped
  std::vector<Range> per_layer_;    // the kept layers' parts of an axis of L * P
};

// Copies one tensor, row ranges in pieces of bounded size.
class TensorCopy {
 public:
  TensorCopy(SafetensorsWriter& writer, size_t index, const SlicedTensor& tensor, Progress& progress,
             const std::atomic<bool>* cancel, std::vector<std::byte>& buffer)
      : writer_(writer), index_(index), tensor_(tensor), progress_(progress), cancel_(cancel), buffer_(buffer) {
    const SafetensorsEntry& entry = tensor.source->entry;
    element_bytes_ = entry.elements() == 0 ? 1 : entry.bytes / static_cast<uint64_t>(entry.elements());
    source_row_bytes_ = static_cast<uint64_t>(tensor.source_cols) * element_bytes_;
  }

  Status run() {
    if (tensor_.cols.size() == 1 && tensor_.cols[0].count * element_bytes_ == source_row_bytes_) {
      for (const Range& rows : tensor_.rows)
        NESTLING_TRY_VOID(copy_bytes(rows.begin * source_row_bytes_, rows.count * source_row_bytes_));
      return {};
    }
    for (const Range& rows : tensor_.rows) NESTLING_TRY_VOID(copy_columns(rows));
    return {};
  }

 private:
  Status copy_bytes(uint64_t offset, uint64_t bytes) {
    for (uint64_t done = 0; done < bytes; done += kPieceBytes) {
      const auto piece = std::span(buffer_).first(std::min(kPieceBytes, bytes - done));
      NESTLING_TRY_VOID(read(offset + done, piece));
      NESTLING_TRY_VOID(write(piece));
    }
    return {};
  }

  Status copy_columns(const Range& rows) {
    const auto step = static_cast<int64_t>(std::max<uint64_t>(1, kPieceBytes / source_row_bytes_));
    if (buffer_.size() < step * source_row_bytes_) buffer_.resize(step * source_row_bytes_);
    for (int64_t done = 0; done < rows.count; done += step) {
      const int64_t count = std::min(step, rows.count - done);
      NESTLING_TRY_VOID(read((rows.begin + done) * source_row_bytes_,
                             std::span(buffer_).first(count * source_row_bytes_)));
      NESTLING_TRY_VOID(write(std::span(buffer_).first(keep_columns(count))));
    }
    return {};
  }

  // Moves the kept columns of `count` rows to the front of the buffer; returns their bytes.
  uint64_t keep_columns(int64_t count) {
    uint64_t kept = 0;
    for (int64_t row = 0; row < count; ++row)
      for (const Range& cols : tensor_.cols) {
        const uint64_t bytes = cols.count * element_bytes_;
        std::memmove(buffer_.data() + kept, buffer_.data() + row * source_row_bytes_ + cols.begin * element_bytes_,
                     bytes);
        kept += bytes;
      }
    return kept;
  }

  Status read(uint64_t offset, std::span<std::byte> destination) {
    if (cancel_ != nullptr && *cancel_) return fail(ErrorCode::kCancelled, "the export was interrupted");
    return tensor_.source->file->file().read_at(tensor_.source->entry.offset + offset, destination);
  }

  Status write(std::span<const std::byte> bytes) {
    NESTLING_TRY_VOID(writer_.write(index_, written_, bytes));
    written_ += bytes.size();
    progress_.advance(bytes.size());
    return {};
  }

  SafetensorsWriter& writer_;
  const size_t index_;
  const SlicedTensor& tensor_;
  Progress& progress_;
  const std::atomic<bool>* cancel_;
  std::vector<std::byte>& buffer_;
  uint64_t element_bytes_ = 1, source_row_bytes_ = 0, written_ = 0;
};

Status write_weights(const std::vector<SlicedTensor>& tensors, const fs::path& target,
                     const std::atomic<bool>* cancel) {
  std::vector<SafetensorsPlan> plan;
  uint64_t bytes = 0;
  for (const SlicedTensor& tensor : tensors) {
    const SafetensorsEntry& entry = tensor.source->entry;
    if (entry.type == SafetensorsType::kOther)
      return fail(ErrorCode::kModel, "{}: tensor {} has type {}, which export cannot write",
                  tensor.source->file->file().path().string(), entry.name, entry.type_name);
    plan.push_back({tensor.name, entry.type, tensor.shape});
    if (entry.elements() > 0)
      bytes += entry.bytes / static_cast<uint64_t>(entry.elements()) *
               static_cast<uint64_t>(total(tensor.rows) * total(tensor.cols));
  }
  NESTLING_TRY(const uint64_t free, free_disk_bytes(target.parent_path()));
  if (bytes > free)
    return fail(ErrorCode::kFailed, "{}: {} bytes are needed; {} are free on this disk", target.string(), bytes, free);
  NESTLING_TRY(SafetensorsWriter writer, SafetensorsWriter::create(target, {{"format", "pt"}}, plan));
  Progress progress("exporting", bytes);
  std::vector<std::byte> buffer(kPieceBytes);
  for (size_t i = 0; i < tensors.size(); ++i)
    NESTLING_TRY_VOID(TensorCopy(writer, i, tensors[i], progress, cancel, buffer).run());
  return writer.commit();
}

Status write_text(const fs::path& target, const std::string& text) {
  NESTLING_TRY(AtomicFileWriter file, AtomicFileWriter::create(target));
  NESTLING_TRY_VOID(file.write(std::as_bytes(std::span(text))));
  return file.commit();
}

Status copy_side_files(const fs::path& from, const fs::path& to) {
  for (const char* name :
       {"generation_config.json", "tokenizer.model", "tokenizer.json", "tokenizer_config.json",
        "special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "chat_template.json",
        "preprocessor_config.json", "processor_config.json"}) {
    std::error_code error;
    if (!fs::exists(from / name, error)) continue;
    fs::copy_file(from / name, to / name, error);
    if (error) return fail(ErrorCode::kFailed, "{}: cannot be copied: {}", (from / name).string(), error.message());
  }
  return {};
}

Status write_all(const Checkpoint& checkpoint, const ModelConfig& config, const ModelSize& size,
                 const fs::path& directory, const std::atomic<bool>* cancel) {
  const TextConfig slice = sliced_config(config.text, size);
  NESTLING_TRY(const auto tensors, Slicer(config.text, size).slice(checkpoint));
  NESTLING_TRY_VOID(write_weights(tensors, directory / "model.safetensors", cancel));
  NESTLING_TRY_VOID(copy_side_files(checkpoint.directory(), directory));
  return write_text(directory / "config.json", replace_text_layers(checkpoint.config_json(), slice));
}

}  // namespace

Status export_slice(const Checkpoint& checkpoint, const ModelConfig& config, const ModelSize& size,
                    const fs::path& directory, const std::atomic<bool>* cancel) {
  for (const TextTensor& tensor : text_tensors(config.text))
    NESTLING_TRY_VOID(find_tensor(checkpoint, tensor.checkpoint, tensor.checkpoint_shape()));
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) return fail(ErrorCode::kFailed, "{}: cannot be made: {}", directory.string(), error.message());
  if (!fs::is_empty(directory, error) || error)
    return fail(ErrorCode::kUsage, "{}: is not empty; export writes into a new or empty directory", directory.string());
  auto status = write_all(checkpoint, config, size, directory, cancel);
  if (!status) fs::remove(directory, error);  // only if nothing was written there
  return status;
}

}  // namespace nestling
