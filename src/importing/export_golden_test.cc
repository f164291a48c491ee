// Exports of the golden parent checkpoint against slices cut with PyTorch: every tensor's shape and SHA-256. The
// goldens are not part of this repository; the test runs where NESTLING_GOLDENS names their folder.
#include <cstdlib>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/content_hash.h"
#include "importing/export.h"
#include "storage/test_directory.h"

namespace nestling {
namespace {

std::string sha256(std::span<const std::byte> bytes) {
  ContentHash hash;
  hash.add(bytes);
  return fmt::format("{:02x}", fmt::join(hash.finish(), ""));
}

namespace fs = std::filesystem;
using nlohmann::json;

class ExportGolden : public testing::TestWithParam<const char*> {};

TEST_P(ExportGolden, TensorsAndConfigEqualTheSlice) {
  const char* goldens = std::getenv("NESTLING_GOLDENS");
  if (goldens == nullptr) GTEST_SKIP() << "NESTLING_GOLDENS is not set";
  const fs::path golden = fs::path(goldens) / "text_mixnmatch" / GetParam();
  const json slice = json::parse(file_bytes(golden / "slice.json"));
  const auto parent = Checkpoint::open(fs::path(goldens) / std::string(slice["parent"]));
  ASSERT_TRUE(parent) << parent.error().message;
  const auto config = parse_config(parent->config_json(), "", "parent");
  ASSERT_TRUE(config) << config.error().message;
  std::string widths;
  for (const json& width : slice["widths"])
    widths += (widths.empty() ? "" : ",") + (width.is_null() ? "skip" : width.dump());
  const auto size = parse_size(widths, config->text, 1);
  ASSERT_TRUE(size) << size.error().message;
  EXPECT_FALSE(size->experimental);

  const TestDirectory directory;
  const auto status = export_slice(*parent, *config, *size, directory / "out");
  ASSERT_TRUE(status) << status.error().message;
  const auto out = Checkpoint::open(directory / "out");
  ASSERT_TRUE(out) << out.error().message;
  EXPECT_EQ(out->tensors().size(), slice["tensors"].size());
  for (const auto& [canonical, tensor] : out->tensors()) {
    ASSERT_TRUE(slice["tensors"].contains(tensor.entry.name)) << tensor.entry.name;
    const json& expected = slice["tensors"][tensor.entry.name];
    EXPECT_EQ(json(tensor.entry.shape), expected["shape"]) << tensor.entry.name;
    std::vector<std::byte> bytes(tensor.entry.bytes);
    ASSERT_TRUE(tensor.file->file().read_at(tensor.entry.offset, bytes));
    EXPECT_EQ(sha256(bytes), expected["sha256"].get<std::string>()) << tensor.entry.name;
  }
  EXPECT_EQ(json::parse(out->config_json()), json::parse(file_bytes(golden / "config.json")));
}

INSTANTIATE_TEST_SUITE_P(Slices, ExportGolden, testing::Values("e2b", "e3.18b_layer"));

// Every configuration that transformers wrote is read.
TEST(ConfigGolden, AllGoldensParse) {
  const char* goldens = std::getenv("NESTLING_GOLDENS");
  if (goldens == nullptr) GTEST_SKIP() << "NESTLING_GOLDENS is not set";
  int parsed = 0;
  for (const auto& file : fs::recursive_directory_iterator(goldens)) {
    if (file.path().filename() != "config.json") continue;
    const auto config = parse_config(file_bytes(file.path()), "", file.path().string());
    EXPECT_TRUE(config) << config.error().message;
    ++parsed;
  }
  EXPECT_GE(parsed, 9);
}

}  // namespace
}  // namespace nestling
