// Log lines go to stderr through one logger; NESTLING_LOG=debug|info|warn|error|off sets the level (default warn).
#pragma once

#include <spdlog/spdlog.h>

namespace nestling {

// Called once by a program before anything logs; `verbose` lowers the level to info unless NESTLING_LOG says otherwise.
void init_logging(bool verbose);

}  // namespace nestling
