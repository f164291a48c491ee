// The keys and values of one conversation: only layers that own K/V have storage; window layers are rings.
#pragma once

#include <span>
#include <vector>

#include "base/aligned.h"
#include "kernels/attention.h"
#include "model/config.h"

namespace nestling {

struct KvCacheOptions {
  KvType type = KvType::kBF16;
  int64_t context = 4096;   // positions kept by full attention layers
  int64_t max_chunk = 256;  // most tokens of one pass: a ring has room for the window and one chunk
};

class KvCache {
 public:
  static uint64_t bytes_needed(const TextConfig& config, const KvCacheOptions& options);
  KvCache(const TextConfig& config, const KvCacheOptions& options);

  const KvCacheOptions& options() const { return options_; }
  // The K/V that layer `layer` of the file reads: its own or its producer's.
  KvLayer& layer(int64_t layer) { return layers_[producer_[static_cast<size_t>(layer)]]; }
  uint64_t bytes() const { return memory_.size(); }
  // Bytes in use when `positions` are filled: full attention layers grow with them, rings up to their size.
  static uint64_t bytes_used(const TextConfig& config, const KvCacheOptions& options, int64_t positions);
  // Whether tokens from position `to` on can be taken back when `written` positions were ever filled: the rings must still
  // hold the window before `to`.
  bool can_rewind(int64_t written, int64_t to) const;
  // The layers that own K/V, in order, to save and restore a session.
  std::span<KvLayer> owners() { return layers_; }
  // Gives the memory back; the content is gone.
  void clear() { memory_.release_pages(); }

 private:
  KvCacheOptions options_;
  AlignedBuffer memory_;
  int64_t window_ = 0, ring_capacity_ = 0;
  std::vector<KvLayer> layers_;   // of the layers that own K/V
  std::vector<size_t> producer_;  // per layer of the file: index into layers_
};

}  // namespace nestling
