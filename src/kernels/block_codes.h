// One block of 32 weights: how it is coded, and how its codes lie in each layout (tensor/layout.h). Private to kernels.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/weight.h"

namespace nestling {

struct BlockCodes {
  uint16_t scale = 0;  // f16
  int8_t codes[kQuantBlock] = {};
};

// Codes x[count <= 32]; the rest of the block is zero. q4 and q6: the scale, of either sign, that minimises the squared
// error among some tens of candidates, each refined by least squares and rounded to f16; q8: max|x| / 127.
BlockCodes encode_block(WeightType type, const float* x, int64_t count);

// Codes of lane `lane` in a cell whose lines are `line_bytes` long (kIl16, kLaneRows).
void store_cell_codes(WeightType type, std::byte* cell, int64_t lane, int64_t line_bytes, const int8_t* codes);
void load_cell_codes(WeightType type, const std::byte* cell, int64_t lane, int64_t line_bytes, int8_t* codes);

// Codes of one block of a row in kRows: q4 16 bytes, low nibble input i, high nibble input 16 + i; q6 the same, then 8
// bytes with bits 4 and 5, bits 2g and 2g + 1 of byte i belong to input 8g + i; q8 32 signed bytes.
void store_row_codes(WeightType type, std::byte* out, const int8_t* codes);
void load_row_codes(WeightType type, const std::byte* in, int8_t* codes);

// Code of output `output` of one input in kInputMajor; and of the 64 outputs from `output`, a multiple of 64.
void store_input_major_code(WeightType type, std::byte* input_codes, int64_t output, int8_t code);
void load_input_major_codes(WeightType type, const std::byte* input_codes, int64_t output, int8_t* codes);

}  // namespace nestling
