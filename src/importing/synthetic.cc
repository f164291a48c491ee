#include "importing/synthetic.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <random>
#include <span>
#include <tuple>
#include <vector>

#include "base/check.h"
#include "base/log.h"
#include "base/progress.h"
#include "importing/cache.h"
#include "importing/synthetic_tensors.h"
#include "kernels/pack.h"
#include "model/size.h"
#include "model/tensor_names.h"
#include "storage/package.h"
#include "tensor/layout.h"

namespace nestling {
namespace {

namespace fs = std::filesystem;

// Changes whenever what write_synthetic() writes does.
constexpr int kRevision = 2;
constexpr int64_t kPoolElements = int64_t{1} << 20;  // weights drawn per shape
constexpr int64_t kMaxPieces = 512;
constexpr uint64_t kWriteBytes = uint64_t{8} << 20;

// A run of `bytes` that consists of packed matrices [rows, cols] of `layout`, one after another.
struct Section {
  Layout layout = Layout::kRows;
  int64_t rows = 0, cols = 0;
  uint64_t bytes = 0;
};

std::vector<Section> sections_of(const PackageTensor& t) {
  switch (t.layout) {
    case Layout::kRows:
    case Layout::kLaneRows: return {{t.layout, 1, t.cols, t.bytes}};
    case Layout::kIl16: return {{t.layout, kRowGroup, t.cols, t.bytes}};
    case Layout::kInputMajor: return {{t.layout, t.rows, kQuantBlock, t.bytes}};
    case Layout::kIl16Tiled: break;
  }
  std::vector<Section> tiles;
  for (int64_t tile = 0; tile < tile_count(t.layout, t.cols); ++tile) {
    const int64_t cols = tile_cols(t.layout, t.cols, tile);
    tiles.push_back({Layout::kIl16, kRowGroup, cols, packed_bytes(t.type, Layout::kIl16, t.rows, cols)});
  }
  return tiles;
}

Distribution distribution_of(const TextTensor& tensor, const TextConfig& config) {
  if (tensor.vector) return {.ones = true};
  // A row of the PLE table is L vectors of P values, which the model scales by sqrt(P).
  const bool ple = tensor.global == GlobalTensor::kPerLayerTokenEmbedding;
  const int64_t inputs = ple ? config.hidden_size_per_layer_input : tensor.cols;
  return {.std = 1 / std::sqrt(static_cast<float>(inputs)),
          .embedding = tensor.global == GlobalTensor::kTokenEmbedding};
}

void append_text(const TextConfig& text, const ImportOptions& options, std::vector<SyntheticTensor>& tensors) {
  // Ids beyond the PLE table repeat row 0 in the published models, and are not stored.
  const int64_t head_rows = std::min(text.vocab_size, text.vocab_size_per_layer_input);
  for (const TextTensor& tensor : text_tensors(text))
    tensors.push_back({stored_text_tensor(tensor, text, options, head_rows), distribution_of(tensor, text)});
}

// Different packed pieces of one shape, one after another.
struct Pool {
  uint64_t piece_bytes = 0;
  int64_t pieces = 0;
  std::vector<std::byte> bytes;
  std::span<const std::byte> piece(int64_t i) const {
    return std::span(bytes).subspan(static_cast<size_t>(i) * piece_bytes, piece_bytes);
  }
};

class SyntheticWriter {
 public:
  SyntheticWriter(PackageWriter& writer, const std::atomic<bool>* cancel, Progress& progress)
      : writer_(writer), cancel_(cancel), progress_(progress) {}

  Status write(size_t index, const PackageTensor& tensor, const Distribution& distribution) {
    uint64_t offset = 0;
    for (const Section& section : sections_of(tensor)) {
      NESTLING_TRY_VOID(write_section(index, offset, section, pool(tensor.type, section, distribution)));
      offset += section.bytes;
    }
    NESTLING_CHECK_EQ(offset, tensor.bytes);
    return {};
  }

 private:
  // The pieces of a shape, as many as the section can hold and no more than vary enough.
  const Pool& pool(WeightType type, const Section& section, const Distribution& distribution) {
    const auto key = std::tuple(type, section.layout, section.rows, section.cols, distribution);
    Pool& pool = pools_[key];
    const int64_t elements = section.rows * section.cols;
    pool.piece_bytes = packed_bytes(type, section.layout, section.rows, section.cols);
    const int64_t fitting = ceil_div(static_cast<int64_t>(section.bytes), static_cast<int64_t>(pool.piece_bytes));
    const int64_t varied = std::clamp<int64_t>(kPoolElements / elements, 2, kMaxPieces);
    const int64_t wanted = distribution.ones ? 1 : std::min(fitting, varied);
    std::vector<float> values(static_cast<size_t>(elements), 1.0f);
    for (; pool.pieces < wanted; ++pool.pieces) {
      if (!distribution.ones) std::ranges::generate(values, [&] { return distribution.std * next_normal(); });
      pool.bytes.resize(pool.bytes.size() + pool.piece_bytes);
      pack_matrix(type, section.layout, section.rows, section.cols, values.data(),
                  pool.bytes.data() + static_cast<uint64_t>(pool.pieces) * pool.piece_bytes);
    }
    return pool;
  }

  // One of many that were drawn at the start: drawing takes as long as packing.
  float next_normal() {
    if (normals_.empty()) {
      normals_.resize(static_cast<size_t>(kPoolElements) + 1);  // odd: pieces do not begin at the same ones
      std::normal_distribution<float> normal(0, 1);
      std::ranges::generate(normals_, [&] { return normal(random_); });
    }
    normal_ = normal_ + 1 < normals_.size() ? normal_ + 1 : 0;
    return normals_[normal_];
  }

  // Fills the section with pieces in random order; the last one is cut off where the layout ends.
  Status write_section(size_t index, uint64_t offset, const Section& section, const Pool& pool) {
    buffer_.clear();
    for (uint64_t done = 0; done < section.bytes;) {
      const auto piece = pool.piece(static_cast<int64_t>(random_() % static_cast<uint64_t>(pool.pieces)));
      const uint64_t n = std::min<uint64_t>(piece.size(), section.bytes - done);
      buffer_.insert(buffer_.end(), piece.begin(), piece.begin() + static_cast<int64_t>(n));
      done += n;
      if (buffer_.size() < kWriteBytes && done < section.bytes) continue;
      if (cancel_ != nullptr && *cancel_) return fail(ErrorCode::kCancelled, "interrupted");
      NESTLING_TRY_VOID(writer_.write(index, offset + done - buffer_.size(), buffer_));
      progress_.advance(buffer_.size());
      buffer_.clear();
    }
    return {};
  }

  PackageWriter& writer_;
  const std::atomic<bool>* cancel_;
  Progress& progress_;
  std::mt19937_64 random_{1};  // the same package every time
  std::vector<float> normals_;
  size_t normal_ = 0;
  std::map<std::tuple<WeightType, Layout, int64_t, int64_t, Distribution>, Pool> pools_;
  std::vector<std::byte> buffer_;
};

std::string types_of(const ImportOptions& options) {
  return fmt::format("{}-{}-{}", weight_type_name(options.weights), weight_type_name(options.head_type()),
                     weight_type_name(options.ple_type()));
}

bool is_usable(const fs::path& path, const std::string& key) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return false;
  const auto package = Package::open(path);
  if (package && package->info().cache_key == key) return true;
  spdlog::warn("{}: {}; writing it again", path.string(),
               package ? "is of another revision" : package.error().message);
  return false;
}

}  // namespace

Result<SyntheticModel> synthetic_model(std::string_view size, const ImportOptions& options,
                                       const SyntheticParts& parts) {
  // transformers' defaults are the published E4B.
  constexpr const char* kE4b = R"({"architectures": ["Gemma3nForConditionalGeneration"], "model_type": "gemma3n",
                                   "text_config": {"model_type": "gemma3n_text"}, "vision_config": {},
                                   "audio_config": {}})";
  NESTLING_TRY(ModelConfig config, parse_config(kE4b, "", "synthetic"));
  if (!parts.vision) config.vision.reset();
  if (!parts.audio) config.audio.reset();
  NESTLING_TRY(const ModelSize chosen,
               parse_size(size, config.text, is_quantized(options.weights) ? kQuantBlock : 1));
  std::string name = chosen.name;
  if (name == "custom") name = fmt::format("custom-{:016x}", std::hash<std::string_view>{}(size));
  config.text = sliced_config(config.text, chosen);
  if (!parts.text) name += "-towers";
  if (parts.vision) name += "-vision";
  if (parts.audio) name += "-audio";
  return SyntheticModel{std::move(name), std::move(config), parts};
}

Status write_synthetic(const SyntheticModel& model, const ImportOptions& options, const fs::path& target,
                       const ImportExtras& extras) {
  std::vector<SyntheticTensor> all;
  if (model.parts.text) append_text(model.config.text, options, all);
  if (model.parts.vision) append_synthetic_vision(model.config, options, all);
  if (model.parts.audio) append_synthetic_audio(model.config, options, all);
  std::ranges::stable_sort(all, {}, [](const SyntheticTensor& tensor) { return tensor.target.region; });
  std::vector<PackageTensor> tensors;
  uint64_t bytes = 0;
  for (const SyntheticTensor& tensor : all) {
    tensors.push_back(tensor.target);
    bytes += tensor.target.bytes;
  }
  const PackageInfo info{.config_json = config_to_json(model.config),
                         .source = fmt::format("random weights of the shapes of {}", model.name),
                         .cache_key = extras.cache_key,
                         .tokenizer = extras.tokenizer};
  NESTLING_TRY(PackageWriter writer, PackageWriter::create(target, info, tensors));
  Progress progress(fmt::format("writing random {}", model.name), bytes);
  SyntheticWriter synthetic(writer, extras.cancel, progress);
  for (size_t i = 0; i < tensors.size(); ++i)
    NESTLING_TRY_VOID(synthetic.write(i, tensors[i], all[i].distribution));
  return writer.commit();
}

Result<fs::path> cached_synthetic(const SyntheticModel& model, const ImportOptions& options,
                                  const std::function<std::string()>& tokenizer, const std::atomic<bool>* cancel) {
  NESTLING_TRY(const fs::path cache, cache_directory());
  std::error_code error;
  fs::create_directories(cache, error);
  if (error) return fail(ErrorCode::kFailed, "{}: cannot be made: {}", cache.string(), error.message());
  const fs::path path = cache / fmt::format("synthetic-{}-{}.nest", model.name, types_of(options));
  const std::string key = fmt::format("synthetic {} format {} {} {}", kRevision, kPackageFormatVersion, model.name,
                                      types_of(options));
  if (is_usable(path, key)) return path;
  NESTLING_TRY_VOID(write_synthetic(model, options, path,
                                    {.tokenizer = tokenizer(), .cache_key = key, .cancel = cancel}));
  return path;
}

}  // namespace nestling
