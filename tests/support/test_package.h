// Checkpoints and packages for tests.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

#include <gtest/gtest.h>
#include <unistd.h>

#include "importing/import.h"
#include "runtime/engine.h"
#include "storage/checkpoint.h"
#include "text/checkpoint_tokenizer.h"

namespace nestling {

template <typename T>
T value_or_fail(Result<T> result) {
  if (!result) {
    ADD_FAILURE() << result.error().message;
    std::abort();
  }
  return std::move(*result);
}

inline void ok_or_fail(const Status& status) { ASSERT_TRUE(status) << status.error().message; }

// The golden cases of the repository; NESTLING_GOLDENS names a folder with more and larger ones (make test-long).
inline std::filesystem::path golden_path(const std::string& name) {
  const auto own = std::filesystem::path(NESTLING_SOURCE_DIR) / "tests/data/goldens" / name;
  const char* more = std::getenv("NESTLING_GOLDENS");
  return std::filesystem::exists(own) || more == nullptr ? own : std::filesystem::path(more) / name;
}

inline std::filesystem::path nano_path() { return std::filesystem::path(NESTLING_SOURCE_DIR) / "models/nano"; }

// A path in the temporary directory that is removed again, file or folder.
class TemporaryPath {
 public:
  explicit TemporaryPath(const std::string& suffix)
      : path_(std::filesystem::temp_directory_path() / fmt::format("nestling_{}_{}{}", ::getpid(), count_++, suffix)) {}
  TemporaryPath(const TemporaryPath&) = delete;
  TemporaryPath& operator=(const TemporaryPath&) = delete;
  ~TemporaryPath() { std::filesystem::remove_all(path_); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  static inline int count_ = 0;
};

inline ImportOptions all_weights(WeightType type) { return {.weights = type, .head = type, .ple = type}; }

// A checkpoint imported with these options, for the life of this object.
class TestPackage {
 public:
  TestPackage(const std::filesystem::path& checkpoint_directory, const ImportOptions& options) : file_(".nest") {
    const Checkpoint checkpoint = value_or_fail(Checkpoint::open(checkpoint_directory));
    const ModelConfig config = value_or_fail(
        parse_config(checkpoint.config_json(), checkpoint.generation_json(), checkpoint_directory.string()));
    const Status imported =
        import_checkpoint(checkpoint, config, options, file_.path(),
                          {.tokenizer = value_or_fail(sentencepiece_from_checkpoint(checkpoint_directory)),
                           .cache_key = ""});
    EXPECT_TRUE(imported) << imported.error().message;
  }
  const std::filesystem::path& path() const { return file_.path(); }
  std::unique_ptr<Engine> open(const EngineOptions& options = {}) const {
    return value_or_fail(Engine::open(file_.path(), options));
  }

 private:
  TemporaryPath file_;
};

}  // namespace nestling
