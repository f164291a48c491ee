#include "model/audio/audio_encoder.h"
