// Every intermediate of a forward pass has a name and can be tapped: that is how a run is compared with transformers.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

namespace nestling {

// Receives intermediates while a model runs. Costs nothing when absent: models test the pointer.
class Taps {
 public:
  virtual ~Taps() = default;
  // False: the caller may leave out the work of producing `name`.
  virtual bool wants(const std::string& name) const = 0;
  // `data`: row-major `shape`, float32, with `outer_stride` floats from one index of dimension 0 to the next.
  virtual void record(const std::string& name, const std::vector<int64_t>& shape, const float* data,
                      int64_t outer_stride) = 0;

  // The same for contiguous data.
  void record(const std::string& name, const std::vector<int64_t>& shape, const float* data) {
    int64_t inner = 1;
    for (size_t i = 1; i < shape.size(); ++i) inner *= shape[i];
    record(name, shape, data, inner);
  }
};

}  // namespace nestling
