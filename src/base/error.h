// Errors of the outside world (file, request, media, network, budget): a code and one sentence that names the thing,
// the value found and the value allowed. Our own bugs are NESTLING_CHECK (check.h), never an Error.
#pragma once

#include <expected>
#include <string>
#include <utility>

#include <fmt/format.h>

namespace nestling {

// One code per exit status of the command line; error.cc holds the table.
enum class ErrorCode {
  kFailed,       // runtime failure: media, input/output, disk                        exit 1
  kUsage,        // a flag, value, id, size or prompt length out of range              exit 2
  kModel,        // model missing, damaged, or without the part asked for              exit 3
  kBudget,       // over the memory budget                                             exit 4
  kUnsupported,  // hardware without the instructions needed                           exit 5
  kCancelled,    // interrupted                                                        exit 130
};

struct Error {
  ErrorCode code = ErrorCode::kFailed;
  std::string message;
};

int exit_status(ErrorCode code);

template <typename T>
using Result = std::expected<T, Error>;
using Status = std::expected<void, Error>;

// return fail(ErrorCode::kModel, "{}: {} layers; 1 to 256 are allowed", path, n);
template <typename... Args>
std::unexpected<Error> fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  return std::unexpected(Error{code, fmt::format(format, std::forward<Args>(args)...)});
}

// The text of errno, thread-safe: "No such file or directory".
std::string errno_text(int error_number);

}  // namespace nestling

#define NESTLING_CONCAT_(a, b) a##b
#define NESTLING_CONCAT(a, b) NESTLING_CONCAT_(a, b)

// NESTLING_TRY(auto file, File::open(path)): declares `file` or returns the error.
#define NESTLING_TRY(declaration, expression) NESTLING_TRY_(NESTLING_CONCAT(try_, __COUNTER__), declaration, expression)
#define NESTLING_TRY_(temporary, declaration, expression)                         \
  auto temporary = (expression);                                                  \
  if (!temporary) [[unlikely]] return std::unexpected(std::move(temporary).error()); \
  declaration = *std::move(temporary)

// NESTLING_TRY_VOID(writer.flush()): returns the error of a Status, if there is one.
#define NESTLING_TRY_VOID(expression)                                                    \
  do {                                                                                   \
    auto nestling_status = (expression);                                                 \
    if (!nestling_status) [[unlikely]] return std::unexpected(std::move(nestling_status).error()); \
  } while (false)
