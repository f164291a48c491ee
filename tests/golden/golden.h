// Comparison of a trace with tensors that transformers produced (tests/data/goldens; README.md there).
#pragma once

#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "runtime/trace.h"
#include "storage/safetensors.h"

namespace nestling {

// The first tensor, in the order computed, that is missing, differs in shape, or differs by more than
// `relative` * rms(golden); nullopt when all agree. Names with a bracket hold a strided part, as Python slices.
std::optional<std::string> first_difference(const SafetensorsFile& golden, const std::vector<TraceTensor>& trace,
                                            double relative);

// The rank of a tap in the order of computation (the table of the goldens' README): layers ascending.
std::vector<std::string> in_order_of_computation(std::vector<std::string> names);

}  // namespace nestling
