// What a token really needs of the machine: the bytes a decoded token reads and the products a prompt token forms.
#pragma once

#include <cstdint>

#include "kernels/attention.h"
#include "model/config.h"
#include "model/size.h"
#include "storage/package.h"

namespace nestling {

struct Work {
  double weight_bytes = 0;      // of weights, per decoded token; sparse layers: of the neurons kept
  double ple_row_bytes = 0;     // of the PLE table, per decoded token, from storage
  double prefill_products = 0;  // multiply-adds with weights, per prompt token whose logits are not wanted
  double last_products = 0;     // what the last prompt token needs besides (the head apart)
};

// `kept`: share of the neurons of sparse layers that pass the gate.
Work work_of(const Package& package, const TextConfig& config, const ModelSize& size, double kept);

// Bytes of keys and values that a token at `position` reads: every layer that runs reads those of its window.
double kv_bytes_read(const TextConfig& config, const ModelSize& size, KvType type, double position);

}  // namespace nestling
