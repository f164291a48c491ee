#include "model/audio/layer_loader.h"

namespace nestling {

LayerLoader::LayerLoader(const AudioNetwork& network, std::atomic<uint64_t>& bytes_read)
    : network_(network), bytes_read_(bytes_read) {}

LayerLoader::~LayerLoader() {
  for (Slot& slot : slots_)
    if (slot.reading.valid()) slot.reading.wait();
}

void LayerLoader::begin(Slot& slot, int64_t layer) {
  if (slot.memory.size() == 0) slot.memory = AlignedBuffer(network_.largest_range);
  slot.layer = layer;
  const LayerRange range = network_.ranges[static_cast<size_t>(layer)];
  // Where no thread can be started, the read happens in take().
  slot.reading = std::async(std::launch::async | std::launch::deferred, [this, &slot, range]() -> Status {
    NESTLING_TRY_VOID(network_.package->file().read_at(
        range.offset, {slot.memory.data(), static_cast<size_t>(range.bytes)}));
    bytes_read_ += range.bytes;
    return {};
  });
}

Result<const ConformerWeights*> LayerLoader::take(int64_t layer, int64_t next) {
  if (!network_.layers.empty()) return &network_.layers[static_cast<size_t>(layer)];
  in_use_ = 1 - in_use_;
  Slot& slot = slots_[static_cast<size_t>(in_use_)];
  if (slot.layer != layer) begin(slot, layer);
  if (slot.reading.valid()) NESTLING_TRY_VOID(slot.reading.get());
  NESTLING_TRY(slot.weights, bind_conformer_layer(*network_.package, network_.config, layer, slot.memory.data(),
                                                  network_.ranges[static_cast<size_t>(layer)].offset));
  if (next >= 0) begin(slots_[static_cast<size_t>(1 - in_use_)], next);
  return &slot.weights;
}

}  // namespace nestling
