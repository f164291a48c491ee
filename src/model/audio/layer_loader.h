// Gives the layers' weights one after another: those of the mapped region, or read from storage into two buffers, one
// being filled by a background thread while the other is in use.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <future>

#include "base/aligned.h"
#include "base/error.h"
#include "model/audio/weights.h"

namespace nestling {

class LayerLoader {
 public:
  // Counts what it reads in `bytes_read`.
  LayerLoader(const AudioNetwork& network, std::atomic<uint64_t>& bytes_read);
  // Waits for a read that is under way.
  ~LayerLoader();
  LayerLoader(const LayerLoader&) = delete;
  LayerLoader& operator=(const LayerLoader&) = delete;

  // The weights of `layer`, until the next call but one; the reading of `next` (-1: none) begins.
  Result<const ConformerWeights*> take(int64_t layer, int64_t next);

 private:
  struct Slot {
    AlignedBuffer memory;
    int64_t layer = -1;
    std::future<Status> reading;
    ConformerWeights weights;
  };
  void begin(Slot& slot, int64_t layer);

  const AudioNetwork& network_;
  std::atomic<uint64_t>& bytes_read_;
  std::array<Slot, 2> slots_;
  int in_use_ = 0;
};

}  // namespace nestling
