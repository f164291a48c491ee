#include "base/log.h"

#include <cstdlib>

#include <spdlog/sinks/stdout_color_sinks.h>

namespace nestling {

void init_logging(bool verbose) {
  auto logger = spdlog::stderr_color_mt("nestling");
  logger->set_pattern("nestling: %^%l%$: %v");
  const char* level = std::getenv("NESTLING_LOG");
  logger->set_level(level != nullptr ? spdlog::level::from_str(level)
                                     : (verbose ? spdlog::level::info : spdlog::level::warn));
  spdlog::set_default_logger(std::move(logger));
}

}  // namespace nestling
