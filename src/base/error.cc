#include "base/error.h"

#include <system_error>

namespace nestling {

int exit_status(ErrorCode code) {
  switch (code) {
    case ErrorCode::kFailed: return 1;
    case ErrorCode::kUsage: return 2;
    case ErrorCode::kModel: return 3;
    case ErrorCode::kBudget: return 4;
    case ErrorCode::kUnsupported: return 5;
    case ErrorCode::kCancelled: return 130;
  }
  return 1;
}

std::string errno_text(int error_number) { return std::generic_category().message(error_number); }

}  // namespace nestling
