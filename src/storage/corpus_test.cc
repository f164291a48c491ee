// Replays the fuzzers' corpora: files named good_* must be accepted, bad_* refused with a sentence that names the file.
// A crash, a hang or a huge allocation here is a hole in a parser.
#include <gtest/gtest.h>

#include <functional>
#include <set>

#include "storage/gguf.h"
#include "storage/safetensors.h"

namespace nestling {
namespace {

using Parse = std::function<Status(const std::filesystem::path&)>;

void replay(const std::string& folder, const Parse& parse, size_t at_least) {
  std::set<std::filesystem::path> paths;
  for (const auto& item : std::filesystem::directory_iterator(NESTLING_SOURCE_DIR "/tests/fuzz/corpus/" + folder))
    paths.insert(item.path());
  ASSERT_GE(paths.size(), at_least);
  for (const auto& path : paths) {
    const Status parsed = parse(path);
    const std::string name = path.filename().string();
    if (name.starts_with("good_")) {
      EXPECT_TRUE(parsed) << parsed.error().message;
      continue;
    }
    ASSERT_TRUE(name.starts_with("bad_")) << name;
    EXPECT_FALSE(parsed) << name << " was accepted";
    if (parsed) continue;
    EXPECT_EQ(parsed.error().code, ErrorCode::kModel) << parsed.error().message;
    EXPECT_TRUE(parsed.error().message.starts_with(path.string())) << parsed.error().message;
  }
}

TEST(Corpus, Gguf) {
  const auto parse = [](const std::filesystem::path& path) -> Status {
    NESTLING_TRY(const File file, File::open(path));
    NESTLING_TRY([[maybe_unused]] const gguf::Header header, gguf::read_header(file));
    return {};
  };
  replay("gguf", parse, 70);
}

TEST(Corpus, Safetensors) {
  const auto parse = [](const std::filesystem::path& path) -> Status {
    NESTLING_TRY([[maybe_unused]] const SafetensorsFile file, SafetensorsFile::open(path));
    return {};
  };
  replay("safetensors", parse, 50);
}

}  // namespace
}  // namespace nestling
