// One decoder layer: a list of named steps. Gemma3nTextDecoderLayer.
#pragma once

#include "model/text/per_layer_input.h"
#include "model/text/step.h"

namespace nestling {

// Runs the whole layer on workspace.streams. The first layer of a pass waits in it for the PLE rows (`inputs`).
Status run_decoder_layer(const Step& step, PerLayerInputs& inputs);

// For a layer whose own output nobody wants for these rows: the K/V it owns, nothing else.
void run_keys_values_only(const Step& step);

}  // namespace nestling
