#include "model/vision/vision_encoder.h"

#include <algorithm>
#include <array>

#include "base/aligned.h"
#include "base/check.h"
#include "model/vision/network.h"

namespace nestling {
namespace {

template <typename... Cases>
struct Overloaded : Cases... {
  using Cases::operator()...;
};

bool in_place(const VisionNetwork::Block& block) {
  return std::visit(Overloaded{[](const EdgeResidual&) { return false; },
                               [](const InvertedResidual& r) { return r.skip && r.in_place(); },
                               [](const MultiQueryAttention&) { return true; }},
                    block);
}

// The memory of one picture. Maps alternate between two places, except where a block works in place.
struct Workspace {
  Workspace(Arena& arena, const VisionNetwork& network, int64_t size, int threads) {
    const VisionArchitecture& a = network.architecture;
    std::array<int64_t, 2> floats{};
    int64_t side = size / 2;
    floats[0] = side * side * a.stem;
    scratch_bytes = stem_scratch_bytes(network.stem, tile_pixels(side * side, threads));
    uint64_t shared_size = 0;
    size_t place = 0;
    for (size_t i = 0; i < a.blocks.size(); ++i) {
      const VisionBlock& block = a.blocks[i];
      const int64_t in_side = side;
      side = strided_side(side, block.stride);
      const int64_t tile = tile_pixels(side * side, threads);
      if (!in_place(network.blocks[i])) place = 1 - place;
      floats[place] = std::max(floats[place], side * side * block.out);
      if (block.stage == kVisionStages - 2) fine = {nullptr, side, block.out};
      const auto measure = Overloaded{
          [&](const EdgeResidual& r) { return nestling::scratch_bytes(r, tile); },
          [&](const InvertedResidual& r) { return nestling::scratch_bytes(r, in_side, tile); },
          [&](const MultiQueryAttention& r) {
            shared_size = std::max(shared_size, shared_bytes(r, side));
            return nestling::scratch_bytes(r, side, tile);
          }};
      scratch_bytes = std::max(scratch_bytes, std::visit(measure, network.blocks[i]));
    }
    scratch_bytes = std::max(scratch_bytes, msfa_scratch_bytes(network.msfa, fine.side, threads));
    floats[1 - place] = std::max(floats[1 - place], side * side * a.fusion);  // the fusion's own, where no map is left
    maps = {arena.floats(floats[0]), arena.floats(floats[1])};
    fine.data = arena.floats(fine.size());
    shared = arena.bytes(shared_size);
    scratch = arena.bytes(static_cast<uint64_t>(threads) * scratch_bytes);
  }

  std::array<float*, 2> maps{};
  FeatureMap fine;  // output of the stage before the last, kept for the fusion
  std::byte* shared = nullptr;
  std::byte* scratch = nullptr;
  uint64_t scratch_bytes = 0;  // of one thread
};

bool is_allowed(int64_t size) { return size == 256 || size == 512 || size == 768; }

void tap(Taps* taps, const std::string& name, const FeatureMap& map) {
  if (taps != nullptr) taps->record(name, {map.side, map.side, map.channels}, map.data);
}

}  // namespace

struct VisionEncoder::Network {
  VisionNetwork weights;
};

VisionEncoder::VisionEncoder(std::unique_ptr<Network> network) : network_(std::move(network)) {}
VisionEncoder::VisionEncoder(VisionEncoder&&) noexcept = default;
VisionEncoder& VisionEncoder::operator=(VisionEncoder&&) noexcept = default;
VisionEncoder::~VisionEncoder() = default;

Result<VisionEncoder> VisionEncoder::bind(const Package& package) {
  NESTLING_TRY(VisionNetwork network, VisionNetwork::bind(package));
  return VisionEncoder(std::make_unique<Network>(std::move(network)));
}

int64_t VisionEncoder::width() const { return network_->weights.architecture.width; }

int64_t VisionEncoder::multiply_adds(int64_t size) const {
  return vision_multiply_adds(network_->weights.architecture, size);
}

uint64_t VisionEncoder::workspace_bytes(int64_t size, int threads) const {
  Arena arena;
  Workspace(arena, network_->weights, size, threads);
  return arena.used();
}

Status VisionEncoder::encode(const Kernels& kernels, ThreadPool& pool, const float* pixels, int64_t size, float* out,
                             Taps* taps) const {
  if (!is_allowed(size))
    return fail(ErrorCode::kUsage, "a picture of {0}x{0} pixels; 256, 512 or 768 are allowed", size);
  const VisionNetwork& network = network_->weights;
  const AlignedBuffer memory(workspace_bytes(size, pool.size()));
  Arena arena(memory.data(), memory.size());
  const Workspace ws(arena, network, size, pool.size());
  const VisionPass pass{.kernels = kernels, .pool = pool, .scratch = ws.scratch, .scratch_bytes = ws.scratch_bytes};

  size_t place = 0;
  FeatureMap map{ws.maps[place], size / 2, network.architecture.stem};
  run_stem(pass, network.stem, {const_cast<float*>(pixels), size, 3}, map);  // only read
  tap(taps, "vision.stem", map);
  for (size_t i = 0; i < network.blocks.size(); ++i) {
    const VisionBlock& block = network.architecture.blocks[i];
    if (!in_place(network.blocks[i])) place = 1 - place;
    const FeatureMap next{ws.maps[place], strided_side(map.side, block.stride), block.out};
    std::visit(Overloaded{[&](const MultiQueryAttention& a) { run_block(pass, a, map, ws.shared); },
                          [&](const auto& r) { run_block(pass, r, map, next); }},
               network.blocks[i]);
    map = next;
    tap(taps, fmt::format("vision.blocks.{}.{}", block.stage, block.index), map);
    const bool more = i + 1 < network.blocks.size() && network.architecture.blocks[i + 1].stage == block.stage;
    if (more) continue;
    tap(taps, fmt::format("vision.stages.{}", block.stage), map);
    if (block.stage == kVisionStages - 2) std::copy_n(map.data, map.size(), ws.fine.data);
  }
  run_msfa(pass, network.msfa, ws.fine, map, ws.maps[1 - place], out);
  tap(taps, "vision.msfa", {out, kFusionSide, width()});
  if (taps != nullptr) taps->record("vision.encoder_out", {kVisionTokens, width()}, out);
  return {};
}

}  // namespace nestling
