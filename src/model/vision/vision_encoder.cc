#include "model/vision/vision_encoder.h"
