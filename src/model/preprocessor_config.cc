// preprocessor_config.json of a checkpoint.
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "model/config.h"

namespace nestling {
namespace {

using nlohmann::json;

constexpr int kMaxDepth = 16;

// "size" as image processors write it: {"height": 768, "width": 768}, or one number. 0: none.
int64_t side_of(const json& size) {
  if (size.is_number_integer()) return size.get<int64_t>();
  if (!size.is_object()) return 0;
  const auto height = size.find("height"), width = size.find("width");
  if (height == size.end() || width == size.end() || !height->is_number_integer() || *height != *width) return 0;
  return height->get<int64_t>();
}

}  // namespace

void apply_preprocessor(ModelConfig& config, const std::string& preprocessor_json, const std::string& path) {
  if (!config.vision || preprocessor_json.empty()) return;
  const auto bound_depth = [](int depth, json::parse_event_t, json&) { return depth <= kMaxDepth; };
  const json document = json::parse(preprocessor_json, bound_depth, /*allow_exceptions=*/false);
  if (!document.is_object()) return spdlog::warn("{}: is no JSON object, and is left out", path);
  const auto size = document.find("size");
  if (size == document.end()) return;
  const int64_t side = side_of(*size);
  if (side == 256 || side == 512 || side == 768) {
    config.vision->image_size = side;
    return;
  }
  spdlog::warn("{}: size is {}; pictures of 256, 512 or 768 pixels a side are allowed, {} are taken", path,
               size->dump(-1, ' ', false, json::error_handler_t::replace), config.vision->image_size);
}

}  // namespace nestling
