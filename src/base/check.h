// Always-on checks for our own bugs. They print both values and abort; input from outside is never checked with them.
#pragma once

#include <cstdio>
#include <cstdlib>

#include <fmt/format.h>

namespace nestling {

[[noreturn]] inline void check_failed(const char* file, int line, const char* what, const std::string& values) {
  fmt::print(stderr, "nestling: internal error at {}:{}: {} ({})\n", file, line, what, values);
  std::fflush(stderr);
  std::abort();
}

}  // namespace nestling

#define NESTLING_CHECK(condition)                                                                 \
  do {                                                                                            \
    if (!(condition)) [[unlikely]] ::nestling::check_failed(__FILE__, __LINE__, #condition, "false"); \
  } while (false)

#define NESTLING_CHECK_OP_(a, op, b)                                                            \
  do {                                                                                          \
    const auto& nestling_a = (a);                                                               \
    const auto& nestling_b = (b);                                                               \
    if (!(nestling_a op nestling_b)) [[unlikely]]                                               \
      ::nestling::check_failed(__FILE__, __LINE__, #a " " #op " " #b,                           \
                               fmt::format("{} against {}", nestling_a, nestling_b));           \
  } while (false)

#define NESTLING_CHECK_EQ(a, b) NESTLING_CHECK_OP_(a, ==, b)
#define NESTLING_CHECK_LE(a, b) NESTLING_CHECK_OP_(a, <=, b)
#define NESTLING_CHECK_LT(a, b) NESTLING_CHECK_OP_(a, <, b)
#define NESTLING_CHECK_GE(a, b) NESTLING_CHECK_OP_(a, >=, b)
