// One block of the conformer (transformers: Gemma3nAudioConformerBlock).
#pragma once

#include "model/audio/step.h"

namespace nestling {

// workspace.x through half a feed-forward part, attention, the light convolution, the other half and the norm of the
// block. With step.keep_every > 1 only the kept rows are finished; step.rows is their number afterwards.
void conformer_block(AudioStep& step);

}  // namespace nestling
