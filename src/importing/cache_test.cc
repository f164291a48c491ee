#include "importing/cache.h"

#include <cstdlib>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "importing/test_checkpoint.h"
#include "storage/package.h"

namespace nestling {
namespace {

namespace fs = std::filesystem;

class Cache : public testing::Test {
 protected:
  Cache() {
    if (const char* old = std::getenv("XDG_CACHE_HOME")) old_cache_ = old;
    ::setenv("XDG_CACHE_HOME", (directory_ / "cache").c_str(), 1);
    write_checkpoint(directory_ / "c", tensors_);
  }
  ~Cache() override {
    if (old_cache_.empty()) ::unsetenv("XDG_CACHE_HOME");
    else ::setenv("XDG_CACHE_HOME", old_cache_.c_str(), 1);
  }

  fs::path get(const ImportOptions& options = {}) {
    const auto tokenizer = [this](const fs::path&) -> Result<std::string> {
      ++imports_;
      return std::string("pieces");
    };
    const auto path = cached_package(directory_ / "c", options, tokenizer);
    EXPECT_TRUE(path) << path.error().message;
    return path ? *path : fs::path();
  }
  size_t cached_files() {
    return static_cast<size_t>(std::distance(fs::directory_iterator(directory_ / "cache/nestling"), {}));
  }

  TestDirectory directory_;
  TestTensors tensors_ = random_text_tensors(tiny_config());
  std::string old_cache_;
  int imports_ = 0;
};

TEST_F(Cache, ImportsOnce) {
  const fs::path path = get();
  EXPECT_EQ(imports_, 1);
  const auto package = Package::open(path);
  ASSERT_TRUE(package) << package.error().message;
  EXPECT_EQ(package->info().tokenizer, "pieces");
  EXPECT_EQ(get(), path);
  EXPECT_EQ(imports_, 1);
  EXPECT_TRUE(path.string().starts_with((directory_ / "cache/nestling/").string()));
}

TEST_F(Cache, OptionsHavePackagesOfTheirOwn) {
  const fs::path q4 = get(), f32 = get({.weights = WeightType::kF32});
  EXPECT_NE(q4, f32);
  EXPECT_EQ(get(), q4);
  EXPECT_EQ(imports_, 2);
  EXPECT_EQ(cached_files(), 2u);
}

TEST_F(Cache, ChangedSourceIsImportedAgainAndTheOldImportsGo) {
  const fs::path old_q4 = get(), old_q8 = get({.weights = WeightType::kQ8});
  tensors_.begin()->second.values[0] += 1;
  write_checkpoint(directory_ / "c", tensors_);
  const auto later = fs::last_write_time(directory_ / "c/model.safetensors") + std::chrono::seconds(2);
  fs::last_write_time(directory_ / "c/model.safetensors", later);
  const fs::path fresh = get();
  EXPECT_NE(fresh, old_q4);
  EXPECT_EQ(imports_, 3);
  EXPECT_FALSE(fs::exists(old_q4));
  EXPECT_FALSE(fs::exists(old_q8));
  EXPECT_EQ(cached_files(), 1u);
}

TEST_F(Cache, AnotherTokenizerIsAnotherPackage) {
  const fs::path without = get();
  std::ofstream(directory_ / "c/tokenizer.json") << "{}";
  EXPECT_NE(get(), without);
  EXPECT_EQ(imports_, 2);
}

TEST_F(Cache, DamagedPackageIsImportedAgain) {
  const fs::path path = get();
  const auto size = fs::file_size(path);
  fs::resize_file(path, size / 2);
  EXPECT_EQ(get(), path);
  EXPECT_EQ(imports_, 2);
  EXPECT_EQ(fs::file_size(path), size);
}

// A package under the right name that was made from something else.
TEST_F(Cache, PackageWithAnotherKeyIsImportedAgain) {
  const fs::path q4 = get(), q8 = get({.weights = WeightType::kQ8});
  fs::remove(q4);
  fs::rename(q8, q4);
  EXPECT_EQ(get(), q4);
  EXPECT_EQ(imports_, 3);
}

TEST_F(Cache, LeftoversOfKilledImportsGoAndRunningOnesStay) {
  const fs::path path = get();
  const fs::path dead = path.string() + ".partial-999999999", alive = path.string() + ".partial-1";
  std::ofstream(dead) << "x";
  std::ofstream(alive) << "x";
  fs::remove(path);
  EXPECT_EQ(get(), path);
  EXPECT_FALSE(fs::exists(dead));
  EXPECT_TRUE(fs::exists(alive));
}

TEST_F(Cache, FailuresAreThoseOfTheSource) {
  const auto failing = [](const fs::path&) -> Result<std::string> {
    return fail(ErrorCode::kModel, "the tokenizer is broken");
  };
  EXPECT_EQ(cached_package(directory_ / "c", {}, failing).error().message, "the tokenizer is broken");
  EXPECT_EQ(cached_package(directory_ / "none", {}, failing).error().code, ErrorCode::kModel);
  EXPECT_EQ(cached_files(), 0u);
}

TEST_F(Cache, DirectoryFollowsTheEnvironment) {
  EXPECT_EQ(*cache_directory(), directory_ / "cache/nestling");
  const std::string home = std::getenv("HOME") != nullptr ? std::getenv("HOME") : "";
  ::setenv("XDG_CACHE_HOME", "relative", 1);
  ::setenv("HOME", "/home/someone", 1);
  EXPECT_EQ(*cache_directory(), "/home/someone/.cache/nestling");
  ::unsetenv("HOME");
  EXPECT_EQ(cache_directory().error().code, ErrorCode::kFailed);
  if (!home.empty()) ::setenv("HOME", home.c_str(), 1);
}

}  // namespace
}  // namespace nestling
