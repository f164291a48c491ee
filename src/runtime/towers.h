// The parts of a model beyond text: pictures, sounds, and what they became. They need no text core, so that a tower can
// be traced alone.
#pragma once

#include "runtime/encode_cache.h"
#include "runtime/sound.h"
#include "runtime/vision.h"

namespace nestling {

struct Towers {
  explicit Towers(const TowerContext& c) : context(c), vision(c), sound(c) {}
  Towers(const Towers&) = delete;

  // Gives the weights back; soft tokens made before stay valid.
  void release() {
    vision.release();
    sound.release();
  }

  TowerContext context;
  Vision vision;
  Sound sound;
  EncodeCache cache;
};

}  // namespace nestling
