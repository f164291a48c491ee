# Compiler settings, third-party libraries and the two functions every folder uses.

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()

find_program(NESTLING_CCACHE ccache)
if(NESTLING_CCACHE)
  # What ccache's manual asks for precompiled headers.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros ${NESTLING_CCACHE})
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  find_program(NESTLING_LLD NAMES ld.lld-19 ld.lld)
  if(NESTLING_LLD)
    add_link_options(--ld-path=${NESTLING_LLD})
  endif()
endif()

add_compile_options(-Wall -Wextra -Wshadow -Wno-missing-field-initializers
                    -fno-math-errno -fno-trapping-math -fdiagnostics-color=auto)
# The baseline every supported machine has; kernels go beyond it with function attributes, chosen at run time.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  add_compile_options(-march=x86-64-v3)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  # ARMv8.0: a processor without dot products still starts, and runs the scalar kernels.
  add_compile_options(-march=armv8-a -moutline-atomics)
endif()
if(NESTLING_SANITIZE)
  # Line tables are all that a report needs.
  add_compile_options(-fsanitize=${NESTLING_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all -g1)
  add_link_options(-fsanitize=${NESTLING_SANITIZE})
endif()

if(NESTLING_STATIC)
  add_compile_options(-ffunction-sections)
  add_link_options(-static -Wl,--gc-sections,--strip-all)
  set(PKG_CONFIG_ARGN --static)
endif()

find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(nlohmann_json REQUIRED)
if(NESTLING_TESTS)
  find_package(GTest REQUIRED)
  include(GoogleTest)
endif()

# The headers of other libraries that most sources include are parsed once: for the libraries by nestling_base, for the
# tests by nestling_base_test. (-DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON shows an include that is missing.)
function(nestling_precompile target owner)
  if(NOT target STREQUAL owner)
    target_precompile_headers(${target} REUSE_FROM ${owner})
    return()
  endif()
  target_precompile_headers(${target} PRIVATE <fmt/format.h> <filesystem> <functional> <span> <string> <vector>)
  if(target STREQUAL nestling_base_test)
    target_precompile_headers(${target} PRIVATE <gmock/gmock.h> <gtest/gtest.h>)
  endif()
endfunction()

# nestling_library(name DEPS a b c): the folder's *.cc (tests apart) as target nestling_<name>, and its *_test.cc as
# nestling_<name>_test. Dependencies run one way only; tests/dependencies_test.py holds the includes against this.
function(nestling_library name)
  cmake_parse_arguments(ARG "" "" "DEPS;TEST_DEPS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS *.cc)
  file(GLOB tests CONFIGURE_DEPENDS *_test.cc)
  if(tests)
    list(REMOVE_ITEM sources ${tests})
  endif()
  add_library(nestling_${name} STATIC ${sources})
  target_include_directories(nestling_${name} PUBLIC ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include)
  target_link_libraries(nestling_${name} PUBLIC ${ARG_DEPS})
  nestling_precompile(nestling_${name} nestling_base)
  if(NESTLING_TESTS AND tests)
    nestling_test(nestling_${name}_test SOURCES ${tests} DEPS nestling_${name} ${ARG_TEST_DEPS})
  endif()
endfunction()

function(nestling_test name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} GTest::gmock GTest::gtest_main)
  target_compile_definitions(${name} PRIVATE NESTLING_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  nestling_precompile(${name} nestling_base_test)
  add_test(NAME ${name} COMMAND ${name})
endfunction()
