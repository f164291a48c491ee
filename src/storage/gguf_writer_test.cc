#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "storage/gguf.h"
#include "storage/test_directory.h"

namespace nestling::gguf {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::byte> counting_bytes(size_t n, int first) {
  std::vector<std::byte> bytes(n);
  for (size_t i = 0; i < n; ++i) bytes[i] = static_cast<std::byte>(first + static_cast<int>(i));
  return bytes;
}

std::vector<MetadataEntry> every_value() {
  return {{"flag", true},
          {"unsigned", uint64_t{1} << 63},
          {"signed", int64_t{-5}},
          {"float", 0.1},
          {"text", std::string("caf\xc3\xa9")},
          {"bytes", std::vector<uint8_t>{0, 255}},
          {"unsigneds", std::vector<uint64_t>{1, 2}},
          {"signeds", std::vector<int64_t>{-1, 2}},
          {"floats", std::vector<double>{1.5, -2}},
          {"flags", std::vector<bool>{true, false}},
          {"texts", std::vector<std::string>{"", "b"}},
          {"gemma3n.block_count", uint64_t{35}, ValueType::kUint32},
          {"gemma3n.rope.freq_base", 1e6, ValueType::kFloat32},
          {"gemma3n.feed_forward_length", std::vector<int64_t>{8192, 16384}, ValueType::kInt32}};
}

// Writes `header` and the tensor data of `source` again.
void rewrite(const File& source, const Header& header, const std::filesystem::path& target) {
  std::vector<MetadataEntry> metadata;
  for (const auto& [key, type] : header.stored_keys) metadata.push_back({key, *header.find(key), type});
  std::vector<TensorPlan> plans;
  for (const Tensor& t : header.tensors) plans.push_back({t.name, t.dims, t.ggml_type, t.bytes});
  auto writer = Writer::create(target, metadata, plans, header.alignment).value();
  for (size_t i = 0; i < plans.size(); ++i) {
    std::vector<std::byte> bytes(plans[i].bytes);
    ASSERT_TRUE(source.read_at(header.tensors[i].offset, bytes));
    ASSERT_TRUE(writer.write(i, 0, bytes));
  }
  ASSERT_TRUE(writer.commit());
}

TEST(GgufWriter, WhatIsWrittenIsRead) {
  const TestDirectory directory;
  const auto path = directory / "a.gguf";
  const std::vector<TensorPlan> plans{{"a", {40}, 24, 40}, {"b", {32, 2}, 2, 36}, {"c", {1}, 0, 4}};
  auto writer = Writer::create(path, every_value(), plans, 64).value();
  // Any order, any pieces; what is not written is zero.
  const auto bytes = counting_bytes(36, 100);
  ASSERT_TRUE(writer.write(1, 10, std::span(bytes).subspan(10)));
  ASSERT_TRUE(writer.write(1, 0, std::span(bytes).first(10)));
  ASSERT_TRUE(writer.write(0, 39, std::span(bytes).first(1)));
  EXPECT_FALSE(std::filesystem::exists(path));
  ASSERT_TRUE(writer.commit());

  const File file = File::open(path).value();
  const Header header = read_header(file).value();
  EXPECT_EQ(header.alignment, 64u);
  EXPECT_EQ(header.stored_keys.front().first, "general.alignment");
  for (const MetadataEntry& entry : every_value()) {
    ASSERT_NE(header.find(entry.key), nullptr) << entry.key;
    EXPECT_EQ(*header.find(entry.key), entry.value) << entry.key;
  }
  ASSERT_EQ(header.tensors.size(), 3u);
  EXPECT_EQ(header.tensors[1].offset, header.tensors[0].offset + 64);  // ggml order: no gaps but padding
  EXPECT_EQ(header.tensors[2].offset, header.tensors[1].offset + 64);
  EXPECT_EQ(file.size(), header.tensors[2].offset + 64);
  std::vector<std::byte> read(40);
  ASSERT_TRUE(file.read_at(header.tensors[0].offset, read));
  EXPECT_EQ(read[38], std::byte{0});
  EXPECT_EQ(read[39], std::byte{100});
  read.resize(36);
  ASSERT_TRUE(file.read_at(header.tensors[1].offset, read));
  EXPECT_EQ(read, bytes);
}

TEST(GgufWriter, ReadThenWriteIsByteIdentical) {
  const TestDirectory directory;
  // A file with every value type, made by another program (tests/fuzz/make_corpus.py), and files of our own.
  std::vector<std::filesystem::path> sources{NESTLING_SOURCE_DIR "/tests/fuzz/corpus/gguf/good_sparsity_minus_infinity",
                                             NESTLING_SOURCE_DIR "/tests/fuzz/corpus/gguf/good_one_tensor"};
  for (const uint64_t alignment : {8u, 32u, 16'384u}) {
    const auto path = directory / fmt::format("{}.gguf", alignment);
    const std::vector<TensorPlan> plans{{"a", {33}, 24, 33}, {"b", {32, 2}, 2, 36}};
    auto writer = Writer::create(path, every_value(), plans, alignment).value();
    ASSERT_TRUE(writer.write(0, 0, counting_bytes(33, 1)));
    ASSERT_TRUE(writer.write(1, 0, counting_bytes(36, 50)));
    ASSERT_TRUE(writer.commit());
    sources.push_back(path);
  }
  for (const auto& source : sources) {
    const File file = File::open(source).value();
    const Header header = read_header(file).value();
    ASSERT_NO_FATAL_FAILURE(rewrite(file, header, directory / "copy.gguf"));
    // ggml pads the header to the alignment even where no data follows; the corpus files end right behind it.
    std::string copy = file_bytes(directory / "copy.gguf");
    if (header.tensors.empty()) copy.resize(file.size());
    EXPECT_EQ(copy, file_bytes(source)) << source;
  }
}

TEST(GgufWriter, EveryStoredTypeSurvivesACopy) {
  const TestDirectory directory;
  const auto source = NESTLING_SOURCE_DIR "/tests/fuzz/corpus/gguf/good_every_type";
  const File file = File::open(source).value();
  ASSERT_NO_FATAL_FAILURE(rewrite(file, read_header(file).value(), directory / "copy.gguf"));
  EXPECT_EQ(file_bytes(directory / "copy.gguf").substr(0, file.size()), file_bytes(source));
}

std::string refusal(const std::vector<MetadataEntry>& metadata, const std::vector<TensorPlan>& tensors) {
  const TestDirectory directory;
  const auto writer = Writer::create(directory / "a.gguf", metadata, tensors, 32);
  EXPECT_TRUE(std::filesystem::is_empty(directory.path())) << "something was left behind";
  return writer ? "accepted" : writer.error().message;
}

TEST(GgufWriter, RefusesWhatNoReaderAccepts) {
  EXPECT_THAT(refusal({{"k", uint64_t{1} << 32, ValueType::kUint32}}, {}), HasSubstr("k: 4294967296 does not fit"));
  EXPECT_THAT(refusal({{"k", int64_t{-1}, ValueType::kUint32}}, {}), HasSubstr("-1 does not fit"));
  EXPECT_THAT(refusal({{"k", 1.5, ValueType::kUint32}}, {}), HasSubstr("cannot be stored as type 4"));
  EXPECT_THAT(refusal({{"k", std::string("\xff")}}, {}), HasSubstr("valid UTF-8"));
  EXPECT_THAT(refusal({{"k", true}, {"k", true}}, {}), HasSubstr("k is given twice"));
  EXPECT_THAT(refusal({{"", true}}, {}), HasSubstr("a metadata key of 0 bytes"));
  EXPECT_THAT(refusal({}, {{"t", {4}, 0, 16}, {"t", {4}, 0, 16}}), HasSubstr("tensor t is given twice"));
  EXPECT_THAT(refusal({}, {{std::string(64, 'n'), {4}, 0, 16}}), HasSubstr("has 64 bytes"));
  EXPECT_THAT(refusal({}, {{"t", {4}, 0, 15}}), HasSubstr("15 bytes planned, its dimensions need 16"));
  EXPECT_THAT(refusal({}, {{"t", {kMaxDim, 1 << 22}, 24, kMaxDim << 22}}), HasSubstr("larger than any file system"));
}

TEST(GgufWriter, LeavesNothingWithoutCommit) {
  const TestDirectory directory;
  {
    auto writer = Writer::create(directory / "a.gguf", {}, {{"t", {4}, 0, 16}}, 32).value();
    EXPECT_FALSE(std::filesystem::is_empty(directory.path()));
  }
  EXPECT_TRUE(std::filesystem::is_empty(directory.path()));
}

}  // namespace
}  // namespace nestling::gguf
