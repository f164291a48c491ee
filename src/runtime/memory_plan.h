// The memory plan: every region a run needs and its bytes, known before anything is allocated, printed, and held.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "kernels/attention.h"
#include "model/audio/audio_encoder.h"
#include "model/config.h"
#include "model/size.h"
#include "storage/package.h"
#include "storage/ple_store.h"

namespace nestling {

struct MemoryRegion {
  std::string name;         // "weights: feed-forward", "K/V cache", "PLE cache", ...
  uint64_t reserved = 0;    // address space
  uint64_t resident = 0;    // in memory when in full use
};

struct MemoryRequest {
  ModelSize size;
  int64_t context = 4096;
  int64_t chunk = 256;          // most prompt tokens of one pass
  KvType kv = KvType::kBF16;
  PleOptions ple;
  int threads = 1;
  bool vision = false, audio = false;  // modalities in use
  AudioWeights audio_weights = AudioWeights::kResident;
  // What encoding takes beyond the weights (Vision and Sound::workspace_bytes); of kStreamed with the layers it holds.
  uint64_t vision_workspace = 0, audio_workspace = 0;
};

struct MemoryPlan {
  std::vector<MemoryRegion> regions;
  uint64_t resident() const;
  // A table for people: region, resident, reserved.
  std::string table() const;
};

// Plan for a package: weights by group (attention, feed-forward, AltUp and LAuReL, per-layer projections, embedding and
// head) counted by the pages that `size` touches, tokenizer, K/V, workspace, logits, PLE cache or resident table, towers
// with their workspaces, program.
MemoryPlan plan_memory(const Package& package, const ModelConfig& config, const MemoryRequest& request);

// kBudget when the plan does not fit `budget` bytes: the table and what would fit (smaller context, smaller size).
Status check_budget(const Package& package, const ModelConfig& config, const MemoryRequest& request, uint64_t budget);

// The size that `text` asks for: "" or "full", a name or list (parse_size with `group`), or "auto": the largest, the whole
// file or a published row, whose plan fits `budget` (without one, the memory available); `notes` gets which and why.
Result<ModelSize> choose_size(const Package& package, const ModelConfig& config, MemoryRequest request,
                              const std::string& text, int64_t group, std::optional<uint64_t> budget,
                              std::vector<std::string>& notes);

// Resident and peak resident bytes of this process (/proc/self/status), and MemAvailable of the machine.
uint64_t resident_bytes();
uint64_t peak_resident_bytes();
uint64_t available_memory_bytes();

}  // namespace nestling
