// What vision and audio have in common: a region of the package that is loaded on first use and can be released again,
// the embedder in it that leads to the text model, and counters.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/kernels.h"
#include "model/config.h"
#include "model/multimodal_embedder.h"
#include "model/taps.h"
#include "storage/package.h"

namespace nestling {

// What the parts of a model need that work without its text core; all must outlive them.
struct TowerContext {
  Package* package = nullptr;
  const Kernels* kernels = nullptr;
  ThreadPool* pool = nullptr;
  const ModelConfig* config = nullptr;
};

struct ModalityCounters {
  int64_t loads = 0;    // times the region was mapped
  int64_t encoded = 0;  // pictures or sounds
  int64_t cached = 0;   // found in the encode cache instead
};

class Modality {
 public:
  static Modality vision(const TowerContext& context);
  static Modality audio(const TowerContext& context);

  const char* name() const { return name_; }  // "vision", "audio"
  const char* noun() const { return noun_; }  // "picture", "sound"
  Region region() const { return region_; }
  int64_t encoder_width() const { return encoder_width_; }
  int64_t placeholder() const { return placeholder_; }  // id of a soft token
  int64_t padding_id() const { return vocab_offset_ + vocab_size_ - 1; }
  // Whether `id` is of this vocabulary.
  bool has(int64_t id) const { return vocab_size_ > 0 && id >= vocab_offset_ && id < vocab_offset_ + vocab_size_; }

  // Whether the model holds this part at all.
  bool exists() const;
  // kModel: it does not; `what` (a file, an id) needs it.
  Status require(std::string_view what) const;
  // Maps the region and binds the embedder; nothing is read until it is used. Idempotent.
  Status load();
  void release();
  bool is_loaded() const { return embedder_.has_value(); }
  uint64_t resident_bytes() const { return context_.package->resident_bytes(region_); }

  // Rows of encoder output [n, encoder_width] as soft tokens [n, D]. Loads.
  Result<std::vector<float>> soft(std::span<const float> rows);
  // The row [D] of an id of this vocabulary. Loads, unless this id was asked for before; the row stays valid.
  Result<const std::vector<float>*> hard(int64_t id);

  ModalityCounters counters;

 private:
  Modality(const TowerContext& context, Region region) : context_(context), region_(region) {}
  template <typename Section>
  void configure(const std::optional<Section>& section);

  TowerContext context_;
  Region region_;
  const char *name_ = "", *noun_ = "", *prefix_ = "";
  int64_t vocab_offset_ = 0, vocab_size_ = 0, encoder_width_ = 0, placeholder_ = 0;
  float eps_ = 1e-6f, feature_scale_ = 1;
  std::optional<MultimodalEmbedder> embedder_;
  std::map<int64_t, std::vector<float>> hard_rows_;
};

}  // namespace nestling
