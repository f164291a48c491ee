// A media fuzzer's entry point over every fixture of its kind, over what fuzzing has found, and over the fixtures cut
// short and with bytes changed. A failure is a crash or a sanitizer's report.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <vector>

#include <gtest/gtest.h>

#include "media/media_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

// libsndfile 1.2.0 loses 6 kB each time it refuses an Ogg file with a damaged Vorbis header.
extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __lsan_default_suppressions() { return "leak:libvorbis.so\n"; }

namespace nestling {
namespace {

using Bytes = std::vector<std::byte>;

std::vector<Bytes> read_corpus() {
  const std::filesystem::path tests = std::filesystem::path(NESTLING_SOURCE_DIR) / "tests";
  std::vector<Bytes> corpus;
  for (const auto& folder : {tests / "data" / "media" / NESTLING_CORPUS, tests / "fuzz" / "corpus" / NESTLING_CORPUS}) {
    if (!std::filesystem::exists(folder)) continue;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
      if (!entry.is_regular_file() || entry.path().extension() == ".rgb") continue;
      auto bytes = read_media_file(entry.path(), 1 << 20);
      EXPECT_TRUE(bytes) << bytes.error().message;
      corpus.push_back(*std::move(bytes));
    }
  }
  return corpus;
}

// In a block of exactly its size, so that address sanitizer sees a read beyond the end.
void run(const Bytes& bytes) {
  const std::vector<std::byte> exact(bytes.begin(), bytes.end());
  EXPECT_EQ(LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(exact.data()), exact.size()), 0);
}

TEST(MediaCorpus, FilesAsTheyAre) {
  const std::vector<Bytes> corpus = read_corpus();
  EXPECT_GE(corpus.size(), 15u);
  for (const Bytes& bytes : corpus) run(bytes);
}

TEST(MediaCorpus, FilesCutShort) {
  for (Bytes bytes : read_corpus()) {
    const size_t step = std::max<size_t>(1, bytes.size() / 60);
    while (bytes.size() > step) {
      bytes.resize(bytes.size() - step);
      run(bytes);
    }
  }
}

TEST(MediaCorpus, FilesWithChangedBytes) {
  uint32_t state = 1;
  const auto next = [&](size_t below) {
    state = state * 1664525 + 1013904223;
    return static_cast<size_t>(state >> 8) % below;
  };
  for (const Bytes& original : read_corpus()) {
    if (original.empty()) continue;
    for (int round = 0; round < 60; ++round) {
      Bytes bytes = original;
      // Half of the changes hit the headers at the start.
      const size_t reach = round % 2 == 0 ? bytes.size() : std::min<size_t>(bytes.size(), 64);
      for (size_t i = next(4) + 1; i > 0; --i) bytes[next(reach)] = static_cast<std::byte>(next(256));
      run(bytes);
    }
  }
}

}  // namespace
}  // namespace nestling
