#include "storage/package.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/magic.h>
#include <sys/vfs.h>

#include <functional>

#include "storage/test_directory.h"

namespace nestling {
namespace {

using ::testing::HasSubstr;

PackageTensor tensor(std::string name, Region region, int64_t rows, int64_t cols, WeightType type = WeightType::kF32,
                     Layout layout = Layout::kRows) {
  return {.name = std::move(name),
          .type = type,
          .layout = layout,
          .region = region,
          .rows = rows,
          .cols = cols,
          .bytes = packed_bytes(type, layout, rows, cols)};
}

std::vector<PackageTensor> all_regions() {
  return {tensor("norm", Region::kText, 1, 100),
          tensor("down", Region::kText, 48, 4096, WeightType::kQ4, Layout::kIl16Tiled),
          tensor("stem", Region::kVision, 64, 96, WeightType::kI8, Layout::kIl16),
          tensor("patch", Region::kVision, 1, 64),
          tensor("conv", Region::kAudio, 16, 32, WeightType::kBF16, Layout::kIl16),
          tensor("ple", Region::kPle, 1000, 64, WeightType::kQ8)};
}

PackageInfo some_info() {
  return {.config_json = R"({"layers":2})",
          .source = "somewhere \xff",
          .cache_key = std::string("key\0\xff", 5),
          .tokenizer = std::string("\0pieces\xfe", 8)};
}

// Byte k of tensor t is (t + k) % 251.
std::byte expected_byte(size_t t, uint64_t k) { return static_cast<std::byte>((t + k) % 251); }

void write_package(const std::filesystem::path& path, const PackageInfo& info,
                   const std::vector<PackageTensor>& tensors) {
  auto writer = PackageWriter::create(path, info, tensors);
  ASSERT_TRUE(writer) << writer.error().message;
  for (size_t t = 0; t < tensors.size(); ++t) {
    std::vector<std::byte> bytes(tensors[t].bytes);
    for (size_t k = 0; k < bytes.size(); ++k) bytes[k] = expected_byte(t, k);
    const size_t half = bytes.size() / 2;
    ASSERT_TRUE(writer->write(t, half, std::span(bytes).subspan(half)));
    ASSERT_TRUE(writer->write(t, 0, std::span(bytes).first(half)));
  }
  ASSERT_TRUE(writer->commit());
}

TEST(Package, WrittenIsRead) {
  const TestDirectory directory;
  const auto path = directory / "model.nest";
  const auto tensors = all_regions();
  ASSERT_NO_FATAL_FAILURE(write_package(path, some_info(), tensors));
  const Package package = Package::open(path).value();
  EXPECT_EQ(package.info().config_json, some_info().config_json);
  EXPECT_EQ(package.info().source, "somewhere ?");  // a string of the container is UTF-8
  EXPECT_EQ(package.info().cache_key, some_info().cache_key);
  EXPECT_EQ(package.info().tokenizer, some_info().tokenizer);
  ASSERT_EQ(package.tensors().size(), tensors.size());
  for (size_t t = 0; t < tensors.size(); ++t) {
    const PackageTensor& read = package.tensors()[t];
    EXPECT_EQ(read.name, tensors[t].name);
    EXPECT_EQ(read.type, tensors[t].type);
    EXPECT_EQ(read.layout, tensors[t].layout);
    EXPECT_EQ(read.region, tensors[t].region);
    EXPECT_EQ(read.rows, tensors[t].rows);
    EXPECT_EQ(read.cols, tensors[t].cols);
    EXPECT_EQ(read.bytes, tensors[t].bytes);
    EXPECT_EQ(read.offset % kPackageAlignment, 0u);
    std::vector<std::byte> bytes(read.bytes);
    ASSERT_TRUE(package.file().read_at(read.offset, bytes));
    for (size_t k = 0; k < bytes.size(); ++k) ASSERT_EQ(bytes[k], expected_byte(t, k)) << read.name << " " << k;
  }
  EXPECT_EQ(package.find("stem"), &package.tensors()[2]);
  EXPECT_EQ(package.find("nestling.tokenizer"), nullptr);
}

TEST(Package, RegionsAreContiguousAndLoadedOnDemand) {
  const TestDirectory directory;
  ASSERT_NO_FATAL_FAILURE(write_package(directory / "model.nest", some_info(), all_regions()));
  Package package = Package::open(directory / "model.nest").value();
  EXPECT_TRUE(package.is_loaded(Region::kText));
  EXPECT_FALSE(package.is_loaded(Region::kVision));
  EXPECT_FALSE(package.is_loaded(Region::kPle));
  const PackageTensor &stem = *package.find("stem"), &patch = *package.find("patch");
  EXPECT_EQ(package.region_bytes(Region::kVision), patch.offset + patch.bytes - stem.offset);
  EXPECT_EQ(package.resident_bytes(Region::kVision), 0u);

  ASSERT_TRUE(package.load_region(Region::kVision));
  ASSERT_TRUE(package.load_region(Region::kVision));  // idempotent
  const WeightMatrix w = package.matrix("stem", 64, 96).value();
  EXPECT_EQ(w.type, WeightType::kI8);
  EXPECT_EQ(w.layout, Layout::kIl16);
  EXPECT_EQ(w.stored_rows, 64);
  EXPECT_EQ(w.stored_cols, 96);
  EXPECT_EQ(w.bytes, stem.bytes);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(w.data) % 64, 0u);
  for (uint64_t k = 0; k < w.bytes; ++k) ASSERT_EQ(w.data[k], expected_byte(2, k)) << k;
  EXPECT_GE(package.resident_bytes(w), w.bytes);
  EXPECT_GE(package.resident_bytes(Region::kVision), w.bytes);

  package.release_region(Region::kVision);
  package.release_region(Region::kVision);
  EXPECT_FALSE(package.is_loaded(Region::kVision));
  EXPECT_EQ(package.resident_bytes(Region::kVision), 0u);
  ASSERT_TRUE(package.load_region(Region::kVision));
  EXPECT_EQ(package.matrix("stem", 64, 96).value().data[1], expected_byte(2, 1));

  Package moved = std::move(package);
  EXPECT_EQ(moved.matrix("down", 48, 4096).value().data[0], expected_byte(1, 0));
}

// Releasing gives the memory back: the pages leave the page cache, not only this process.
TEST(Package, ReleaseDropsThePagesFromThePageCache) {
  const TestDirectory directory;
  struct statfs s {};
  ASSERT_EQ(::statfs(directory.path().c_str(), &s), 0);
  if (s.f_type == TMPFS_MAGIC) GTEST_SKIP() << "files of a tmpfs live in the page cache";
  const std::vector<PackageTensor> tensors{tensor("norm", Region::kText, 1, 8),
                                           tensor("stem", Region::kVision, 256, 1024),
                                           tensor("x", Region::kAudio, 1, 8)};
  ASSERT_NO_FATAL_FAILURE(write_package(directory / "model.nest", some_info(), tensors));
  Package package = Package::open(directory / "model.nest").value();
  ASSERT_TRUE(package.load_region(Region::kVision));
  EXPECT_GE(package.resident_bytes(Region::kVision), 1u << 20);  // as the writer left it
  package.release_region(Region::kVision);
  ASSERT_TRUE(package.load_region(Region::kVision));
  EXPECT_LT(package.resident_bytes(Region::kVision), 1u << 18);
}

TEST(Package, ViewsAreCheckedAgainstTheConfiguration) {
  const TestDirectory directory;
  ASSERT_NO_FATAL_FAILURE(write_package(directory / "model.nest", some_info(), all_regions()));
  const Package package = Package::open(directory / "model.nest").value();
  EXPECT_EQ(package.matrix("absent", 1, 2).error().code, ErrorCode::kModel);
  EXPECT_THAT(package.matrix("absent", 1, 2).error().message, HasSubstr("absent is missing; it should be 1 x 2"));
  EXPECT_THAT(package.matrix("down", 48, 2048).error().message,
              HasSubstr("tensor down is 48 x 4096; the configuration needs 48 x 2048"));
  EXPECT_THAT(package.vector("down", 4096).error().message, HasSubstr("48 x 4096"));
  EXPECT_TRUE(package.vector("norm", 100));
  EXPECT_THAT(package.vector("norm", 99).error().message, HasSubstr("1 x 100"));
  EXPECT_DEATH((void)package.matrix("stem", 64, 96), "internal error");  // the region is not loaded
}

TEST(Package, HoldsAnySubset) {
  const TestDirectory directory;
  PackageInfo info = some_info();
  info.tokenizer.clear();
  info.cache_key.clear();
  ASSERT_NO_FATAL_FAILURE(write_package(directory / "a.nest", info, {tensor("conv", Region::kAudio, 4, 4)}));
  Package package = Package::open(directory / "a.nest").value();
  EXPECT_FALSE(package.has_region(Region::kText));
  EXPECT_FALSE(package.is_loaded(Region::kText));
  EXPECT_TRUE(package.has_region(Region::kAudio));
  EXPECT_EQ(package.info().tokenizer, "");
  EXPECT_EQ(package.info().cache_key, "");
  EXPECT_EQ(package.region_bytes(Region::kVision), 0u);
  EXPECT_THAT(package.load_region(Region::kVision).error().message, HasSubstr("has no vision part"));
}

TEST(PackageWriter, RefusesInconsistentPlans) {
  const TestDirectory directory;
  const auto refusal = [&](const std::vector<PackageTensor>& tensors) {
    const auto writer = PackageWriter::create(directory / "a.nest", some_info(), tensors);
    return writer ? "accepted" : writer.error().message;
  };
  EXPECT_THAT(refusal({tensor("a", Region::kAudio, 1, 1), tensor("b", Region::kVision, 1, 1)}),
              HasSubstr("tensor b of the vision region follows a of audio"));
  PackageTensor wrong = tensor("a", Region::kText, 2, 8);
  wrong.bytes += 1;
  EXPECT_THAT(refusal({wrong}), HasSubstr("tensor a: 65 bytes; 2 x 8 of f32 in rows take 64"));
  wrong.rows = 0;
  EXPECT_THAT(refusal({wrong}), HasSubstr("0 x 8"));
  EXPECT_THAT(refusal({tensor("a", Region::kVision, 2, 8, WeightType::kI8)}),
              HasSubstr("tensor a: i8 in rows; this type is stored in il16 only"));
  EXPECT_THAT(refusal({tensor("a", Region::kText, 1, 1), tensor("a", Region::kText, 1, 1)}), HasSubstr("given twice"));
  const int64_t side = int64_t{1} << 20;
  EXPECT_THAT(refusal(std::vector<PackageTensor>(1, tensor("huge", Region::kPle, side, side))),
              HasSubstr("bytes are needed on the disk"));
  EXPECT_TRUE(std::filesystem::is_empty(directory.path()));
}

// A package as the container library writes it, with one thing changed.
struct Parts {
  std::vector<gguf::MetadataEntry> metadata;
  std::vector<gguf::TensorPlan> tensors;
  uint64_t alignment = kPackageAlignment;

  gguf::Value& value(std::string_view key) {
    for (gguf::MetadataEntry& entry : metadata)
      if (entry.key == key) return entry.value;
    throw std::out_of_range("no such key");
  }
};

Parts two_tensors() {
  using Numbers = std::vector<uint64_t>;
  return {.metadata = {{"nestling.format_version", kPackageFormatVersion},
                       {"nestling.config", std::string("{}")},
                       {"nestling.source", std::string("test")},
                       {"nestling.tensor.type", Numbers{0, 2}},
                       {"nestling.tensor.layout", Numbers{0, 0}},
                       {"nestling.tensor.region", Numbers{0, 3}},
                       {"nestling.tensor.rows", Numbers{1, 2}},
                       {"nestling.tensor.cols", Numbers{16, 32}}},
          .tensors = {{"a", {64}, 24, 64},
                      {"b",
                       {packed_bytes(WeightType::kQ8, Layout::kRows, 2, 32)},
                       24,
                       packed_bytes(WeightType::kQ8, Layout::kRows, 2, 32)}}};
}

std::string refusal_after(const std::function<void(Parts&)>& change) {
  Parts parts = two_tensors();
  change(parts);
  const TestDirectory directory;
  const auto path = directory / "a.nest";
  auto writer = gguf::Writer::create(path, parts.metadata, parts.tensors, parts.alignment).value();
  EXPECT_TRUE(writer.commit());
  const auto package = Package::open(path);
  if (package) return "accepted";
  EXPECT_EQ(package.error().code, ErrorCode::kModel);
  EXPECT_TRUE(package.error().message.starts_with(path.string()));
  return package.error().message;
}

std::vector<uint64_t>& numbers(Parts& parts, std::string_view key) {
  return std::get<std::vector<uint64_t>>(parts.value(key));
}

TEST(PackageOpen, RefusesAnotherVersion) {
  EXPECT_EQ(refusal_after([](Parts&) {}), "accepted");
  EXPECT_THAT(refusal_after([](Parts& p) {
                // Whatever else another version does differently, this is what is said.
                p.value("nestling.format_version") = uint64_t{7};
                p.metadata.pop_back();
              }),
              HasSubstr("was written by another version (format 7; this program reads 4): import it again"));
  EXPECT_THAT(refusal_after([](Parts& p) { p.metadata.erase(p.metadata.begin()); }),
              HasSubstr("is a GGUF file but not a Nestling package"));
}

TEST(PackageOpen, RefusesInconsistentDescriptions) {
  const auto with = [](std::string_view key, std::vector<uint64_t> values) {
    return refusal_after([&](Parts& p) { numbers(p, key) = values; });
  };
  EXPECT_THAT(with("nestling.tensor.type", {0, 7}), HasSubstr("tensor b: weight type 7; 0 to 6 are known"));
  EXPECT_THAT(with("nestling.tensor.type", {0, 256}), HasSubstr("weight type 256"));
  EXPECT_THAT(with("nestling.tensor.layout", {9, 0}), HasSubstr("tensor a: layout 9"));
  EXPECT_THAT(with("nestling.tensor.region", {0, 4}), HasSubstr("tensor b: region 4"));
  EXPECT_THAT(with("nestling.tensor.region", {1, 0}), HasSubstr("tensor b of the text region follows a of vision"));
  EXPECT_THAT(with("nestling.tensor.rows", {1, 3}), HasSubstr("3 x 32 of q8 in rows take"));
  EXPECT_THAT(with("nestling.tensor.rows", {0, 2}), HasSubstr("tensor a: 0 x 16"));
  EXPECT_THAT(with("nestling.tensor.rows", {uint64_t{1} << 63, 2}), HasSubstr("tensor a: rows 9223372036854775808"));
  EXPECT_THAT(with("nestling.tensor.rows", {1, uint64_t{1} << 31}), HasSubstr("x 32 of q8 in rows take"));
  EXPECT_THAT(with("nestling.tensor.cols", {17, 32}), HasSubstr("1 x 17 of f32 in rows take"));
  EXPECT_THAT(with("nestling.tensor.cols", {16, uint64_t{1} << 40}), HasSubstr("tensor b: cols 1099511627776"));
  EXPECT_THAT(with("nestling.tensor.cols", {16}), HasSubstr("nestling.tensor.cols has 1 elements for 2 tensors"));
}

TEST(PackageOpen, RefusesAnotherContainer) {
  EXPECT_THAT(refusal_after([](Parts& p) { p.alignment = 32; }), HasSubstr("alignment 32; a package has 16384"));
  EXPECT_THAT(refusal_after([](Parts& p) { p.tensors[0] = {"a", {16}, 0, 64}; }), HasSubstr("ggml type 0 in 1 dim"));
  EXPECT_THAT(refusal_after([](Parts& p) { p.tensors[0] = {"a", {32, 2}, 24, 64}; }), HasSubstr("in 2 dimensions"));
  EXPECT_THAT(refusal_after([](Parts& p) { p.value("nestling.config") = true; }), HasSubstr("nestling.config is not"));
  EXPECT_THAT(refusal_after([](Parts& p) { p.tensors[1].name = "nestling.tokenizer"; }), HasSubstr("for 1 tensors"));
  EXPECT_THAT(refusal_after([](Parts& p) { p.tensors.clear(); }), HasSubstr("holds no tensors"));
}

TEST(PackageOpen, RefusesATruncatedFile) {
  const TestDirectory directory;
  ASSERT_NO_FATAL_FAILURE(write_package(directory / "whole.nest", some_info(), all_regions()));
  const std::string whole = file_bytes(directory / "whole.nest");
  for (const size_t n : {size_t{0}, size_t{23}, size_t{100}, size_t{900}, whole.size() / 2, whole.size() - 16'384}) {
    const auto package = Package::open(directory.write("cut.nest", whole.substr(0, n)));
    ASSERT_FALSE(package) << n;
    EXPECT_EQ(package.error().code, ErrorCode::kModel) << package.error().message;
  }
}

// Tensors out of order or with gaps are no ggml order: a region would not be one range.
TEST(PackageOpen, RefusesMisplacedTensors) {
  const TestDirectory directory;
  Parts parts = two_tensors();
  auto writer = gguf::Writer::create(directory / "a.nest", parts.metadata, parts.tensors, kPackageAlignment).value();
  ASSERT_TRUE(writer.commit());
  std::string bytes = file_bytes(directory / "a.nest");
  // The info of tensor b ends in its offset in the data, one alignment.
  const std::string offset("\x00\x40\x00\x00\x00\x00\x00\x00", 8);
  const size_t at = bytes.find(std::string("\x18\x00\x00\x00", 4) + offset);
  ASSERT_NE(at, std::string::npos);
  bytes[at + 5] = '\x80';  // 32,768
  bytes.append(16'384, '\0');
  const auto package = Package::open(directory.write("gap.nest", bytes));
  ASSERT_FALSE(package);
  EXPECT_THAT(package.error().message, HasSubstr("tensor b: lies at byte 49152, not directly behind a"));
}

}  // namespace
}  // namespace nestling
