#include "importing/weight_plan.h"

#include <algorithm>
#include <iterator>

#include "importing/plan_parts.h"

namespace nestling {
namespace {

// The roles a tensor can have; what each becomes is decided in type_of() and layout_of() alone.
enum class Role {
  kVector,  // norms and scales
  kTable,   // small tables read as rows: routers and AltUp coefficients
  kMatrix,  // products read whole
  kSide,    // small products whose precision matters: at least 8 bits
  kUp,      // up_proj: single rows are read where the layer is sparse
  kDown,    // down_proj: single inputs are read where the layer is sparse, prefixes of inputs otherwise
  kHead,    // embed_tokens, which is also the head
  kPle,     // the PLE table, read from storage by row
};

constexpr Role role_of(GlobalTensor tensor) {
  switch (tensor) {
    case GlobalTensor::kTokenEmbedding: return Role::kHead;
    case GlobalTensor::kPerLayerTokenEmbedding: return Role::kPle;
    case GlobalTensor::kPerLayerModelProjection: return Role::kSide;
    case GlobalTensor::kPerLayerProjectionNorm: return Role::kVector;
    case GlobalTensor::kAltupProjection: return Role::kSide;
    case GlobalTensor::kAltupUnembedProjection: return Role::kSide;
    case GlobalTensor::kNorm: return Role::kVector;
  }
  return Role::kVector;
}

constexpr Role role_of(LayerTensor tensor) {
  switch (tensor) {
    case LayerTensor::kQProj:
    case LayerTensor::kKProj:
    case LayerTensor::kVProj:
    case LayerTensor::kOProj:
    case LayerTensor::kGateProj:
    case LayerTensor::kPerLayerInputGate:
    case LayerTensor::kPerLayerProjection: return Role::kMatrix;
    case LayerTensor::kUpProj: return Role::kUp;
    case LayerTensor::kDownProj: return Role::kDown;
    case LayerTensor::kLaurelLeft:
    case LayerTensor::kLaurelRight: return Role::kSide;
    case LayerTensor::kAltupCorrectionCoefs:
    case LayerTensor::kAltupPredictionCoefs:
    case LayerTensor::kAltupModalityRouter: return Role::kTable;
    case LayerTensor::kInputLayernorm:
    case LayerTensor::kPostAttentionLayernorm:
    case LayerTensor::kPreFeedforwardLayernorm:
    case LayerTensor::kPostFeedforwardLayernorm:
    case LayerTensor::kPostPerLayerInputNorm:
    case LayerTensor::kQNorm:
    case LayerTensor::kKNorm:
    case LayerTensor::kPostLaurelNorm:
    case LayerTensor::kAltupCorrectOutputScale:
    case LayerTensor::kAltupRouterNorm: return Role::kVector;
  }
  return Role::kVector;
}

WeightType type_of(Role role, const ImportOptions& options) {
  switch (role) {
    case Role::kVector:
    case Role::kTable: return WeightType::kF32;
    case Role::kMatrix:
    case Role::kUp:
    case Role::kDown: return options.weights;
    case Role::kSide: return options.side_type();
    case Role::kHead: return options.head_type();
    case Role::kPle: return options.ple_type();
  }
  return WeightType::kF32;
}

Layout layout_of(Role role, bool sparse) {
  switch (role) {
    case Role::kVector:
    case Role::kTable:
    case Role::kPle: return Layout::kRows;
    case Role::kMatrix:
    case Role::kSide:
    case Role::kHead: return Layout::kIl16;
    case Role::kUp: return sparse ? Layout::kLaneRows : Layout::kIl16;
    case Role::kDown: return sparse ? Layout::kInputMajor : Layout::kIl16Tiled;
  }
  return Layout::kRows;
}

// Whether rows [first, last) of a table are byte for byte its row 0. Google's embed_tokens repeats row 0 for the ids of
// the towers' vocabularies; such rows need not be stored.
Result<bool> rows_repeat_row_0(const CheckpointTensor& tensor, int64_t first, int64_t last) {
  const uint64_t row_bytes = tensor.entry.bytes / static_cast<uint64_t>(tensor.entry.shape[0]);
  std::vector<std::byte> row_0(row_bytes), row(row_bytes);
  const File& file = tensor.file->file();
  NESTLING_TRY_VOID(file.read_at(tensor.entry.offset, row_0));
  for (int64_t i = first; i < last; ++i) {
    NESTLING_TRY_VOID(file.read_at(tensor.entry.offset + static_cast<uint64_t>(i) * row_bytes, row));
    if (row != row_0) return false;
  }
  return true;
}

Result<int64_t> stored_head_rows(const CheckpointTensor& tensor, const TextConfig& text) {
  const int64_t text_rows = std::min(text.vocab_size, text.vocab_size_per_layer_input);
  NESTLING_TRY(const bool repeat, rows_repeat_row_0(tensor, text_rows, text.vocab_size));
  return repeat ? text_rows : text.vocab_size;
}

}  // namespace

PackageTensor stored_text_tensor(const TextTensor& tensor, const TextConfig& config, const ImportOptions& options,
                                 int64_t head_rows) {
  const Role role = tensor.global ? role_of(*tensor.global) : role_of(tensor.layer_tensor);
  const bool sparse = tensor.layer >= 0 && config.activation_sparsity[tensor.layer] > 0;
  return package_tensor(tensor.package, type_of(role, options), layout_of(role, sparse),
                        role == Role::kPle ? Region::kPle : Region::kText,
                        role == Role::kHead ? head_rows : tensor.rows, tensor.cols);
}

PackageTensor stored_tower_tensor(const TowerTensor& tensor, Region region, const ImportOptions& options) {
  const auto stored = [&](WeightType type, Layout layout) {
    return package_tensor(tensor.package, type, layout, region, tensor.rows, tensor.cols);
  };
  switch (tensor.role) {
    case TowerRole::kVector:
    case TowerRole::kTable: return stored(WeightType::kF32, Layout::kRows);
    case TowerRole::kMatrix: return stored(options.tower_type(), Layout::kIl16);
    case TowerRole::kFineMatrix: return stored(options.fine_tower_type(tensor.cols), Layout::kIl16);
    case TowerRole::kFloatMatrix: return stored(options.float_type(), Layout::kIl16);
  }
  return stored(WeightType::kF32, Layout::kRows);
}

Result<std::vector<PlannedTensor>> plan_text(const Checkpoint& checkpoint, const ModelConfig& config,
                                             const ImportOptions& options) {
  std::vector<PlannedTensor> plan;
  if (!has_part(checkpoint, "language_model.")) return plan;
  for (const TextTensor& tensor : text_tensors(config.text)) {
    PlannedTensor planned;
    planned.checkpoint = tensor.checkpoint;
    planned.shape = tensor.checkpoint_shape();
    NESTLING_TRY(planned.source, find_tensor(checkpoint, planned.checkpoint, planned.shape));
    int64_t head_rows = config.text.vocab_size;
    if (tensor.global == GlobalTensor::kTokenEmbedding) {
      NESTLING_TRY(head_rows, stored_head_rows(*planned.source, config.text));
    }
    planned.target = stored_text_tensor(tensor, config.text, options, head_rows);
    plan.push_back(std::move(planned));
  }
  return plan;
}

Result<std::vector<PlannedTensor>> plan_import(const Checkpoint& checkpoint, const ModelConfig& config,
                                               const ImportOptions& options) {
  std::vector<PlannedTensor> found;
  for (const auto part : {plan_text, plan_vision, plan_audio}) {
    NESTLING_TRY(std::vector<PlannedTensor> tensors, part(checkpoint, config, options));
    std::ranges::move(tensors, std::back_inserter(found));
  }
  if (found.empty())
    return fail(ErrorCode::kModel, "{}: holds no tensor of a Gemma 3n model (language_model, embed_vision or "
                "embed_audio)", checkpoint.directory().string());
  std::vector<PlannedTensor> plan;
  for (int region = 0; region < kRegionCount; ++region)
    for (PlannedTensor& tensor : found)
      if (tensor.target.region == static_cast<Region>(region)) plan.push_back(std::move(tensor));
  return plan;
}

}  // namespace nestling
