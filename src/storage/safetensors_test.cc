// Reading and writing whole files; malformed files are in the corpus (corpus_test.cc).
#include "storage/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "storage/test_directory.h"
#include "tensor/float_types.h"

namespace nestling {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

template <typename T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

std::vector<float> floats(const SafetensorsFile& file, std::string_view name, int64_t first, size_t count) {
  std::vector<float> out(count);
  const Status read = file.read_floats(*file.find(name), first, out);
  EXPECT_TRUE(read) << read.error().message;
  return out;
}

TEST(Safetensors, WrittenIsRead) {
  const TestDirectory directory;
  const auto path = directory / "a.safetensors";
  auto writer = SafetensorsWriter::create(path, {{"format", "pt"}},
                                          {{"f32", SafetensorsType::kF32, {2, 3}},
                                           {"bf16", SafetensorsType::kBF16, {3}},
                                           {"odd \"name\"", SafetensorsType::kU8, {3}},
                                           {"f16", SafetensorsType::kF16, {2}},
                                           {"f64", SafetensorsType::kF64, {2}},
                                           {"scalar", SafetensorsType::kI64, {}},
                                           {"empty", SafetensorsType::kF32, {0, 4}},
                                           {"i32", SafetensorsType::kI32, {2}},
                                           {"flags", SafetensorsType::kBool, {2}}})
                    .value();
  const std::vector<float> six{1, 2, 3, 4, 5, 6};
  ASSERT_TRUE(writer.write(0, 12, bytes_of(six).subspan(12)));
  ASSERT_TRUE(writer.write(0, 0, bytes_of(six).first(12)));
  ASSERT_TRUE(writer.write(1, 0, bytes_of<uint16_t>({f32_to_bf16(1.5f), f32_to_bf16(-2), f32_to_bf16(3e38f)})));
  ASSERT_TRUE(writer.write(2, 0, bytes_of<uint8_t>({7, 8, 255})));
  ASSERT_TRUE(writer.write(3, 0, bytes_of<uint16_t>({f32_to_f16(0.5f), f32_to_f16(-65504)})));
  ASSERT_TRUE(writer.write(4, 0, bytes_of<double>({0.25, -1e30})));
  ASSERT_TRUE(writer.write(5, 0, bytes_of<int64_t>({std::numeric_limits<int64_t>::min()})));
  ASSERT_TRUE(writer.write(7, 0, bytes_of<int32_t>({-1, 262'143})));
  ASSERT_TRUE(writer.write(8, 1, bytes_of<uint8_t>({1})));  // the first stays zero
  EXPECT_FALSE(std::filesystem::exists(path));
  ASSERT_TRUE(writer.commit());

  const SafetensorsFile file = SafetensorsFile::open(path).value();
  EXPECT_EQ(file.entries().size(), 9u);
  EXPECT_EQ(file.metadata().at("format"), "pt");
  EXPECT_THAT(floats(file, "f32", 0, 6), ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_THAT(floats(file, "f32", 2, 3), ElementsAre(3, 4, 5));
  EXPECT_THAT(floats(file, "bf16", 0, 3), ElementsAre(1.5f, -2, bf16_to_f32(f32_to_bf16(3e38f))));
  EXPECT_THAT(floats(file, "f16", 1, 1), ElementsAre(-65504));
  EXPECT_THAT(floats(file, "f64", 0, 2), ElementsAre(0.25f, -1e30f));
  EXPECT_TRUE(floats(file, "empty", 0, 0).empty());
  EXPECT_THAT(file.read_integers(*file.find("odd \"name\"")).value(), ElementsAre(7, 8, 255));
  EXPECT_THAT(file.read_integers(*file.find("scalar")).value(), ElementsAre(std::numeric_limits<int64_t>::min()));
  EXPECT_THAT(file.read_integers(*file.find("i32")).value(), ElementsAre(-1, 262'143));
  EXPECT_THAT(file.read_integers(*file.find("flags")).value(), ElementsAre(0, 1));
  EXPECT_THAT(file.find("f32")->shape, ElementsAre(2, 3));
  EXPECT_EQ(file.find("f32")->elements(), 6);
  EXPECT_EQ(file.find("scalar")->elements(), 1);
  EXPECT_EQ(file.find("absent"), nullptr);
}

// More elements than one piece of the conversion buffer, read from an odd position.
TEST(Safetensors, ReadsAcrossPieces) {
  const TestDirectory directory;
  const int64_t n = 100'003;
  const auto path = directory / "a.safetensors";
  auto writer = SafetensorsWriter::create(path, {}, {{"x", SafetensorsType::kBF16, {n}}}).value();
  std::vector<uint16_t> bits(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) bits[static_cast<size_t>(i)] = f32_to_bf16(static_cast<float>(i % 251));
  ASSERT_TRUE(writer.write(0, 0, bytes_of(bits)));
  ASSERT_TRUE(writer.commit());
  const SafetensorsFile file = SafetensorsFile::open(path).value();
  const std::vector<float> values = floats(file, "x", 5, static_cast<size_t>(n - 5));
  for (size_t i = 0; i < values.size(); ++i) ASSERT_EQ(values[i], static_cast<float>((i + 5) % 251)) << i;
}

TEST(Safetensors, RefusesToConvert) {
  const TestDirectory directory;
  auto writer = SafetensorsWriter::create(directory / "a.safetensors", {},
                                          {{"i", SafetensorsType::kI8, {2}}, {"f", SafetensorsType::kF32, {2}}})
                    .value();
  ASSERT_TRUE(writer.commit());
  const SafetensorsFile file = SafetensorsFile::open(directory / "a.safetensors").value();
  std::vector<float> out(2);
  EXPECT_THAT(file.read_floats(*file.find("i"), 0, out).error().message, HasSubstr("tensor i is I8"));
  EXPECT_THAT(file.read_integers(*file.find("f")).error().message, HasSubstr("tensor f is F32"));
  EXPECT_DEATH((void)file.read_floats(*file.find("f"), 1, out), "internal error");
}

TEST(Safetensors, AnUnknownTypeIsAnErrorOnlyWhereItIsNeeded) {
  const auto path = NESTLING_SOURCE_DIR "/tests/fuzz/corpus/safetensors/good_unknown_type";
  const SafetensorsFile file = SafetensorsFile::open(path).value();
  EXPECT_EQ(file.find("a")->type, SafetensorsType::kOther);
  std::vector<float> out(1);
  EXPECT_THAT(file.read_floats(*file.find("a"), 0, out).error().message, HasSubstr("tensor a is X7"));
}

TEST(Safetensors, RefusalsSayWhatIsWrong) {
  const auto refusal = [](const char* name) {
    const auto file = SafetensorsFile::open(std::string(NESTLING_SOURCE_DIR "/tests/fuzz/corpus/safetensors/") + name);
    return file ? "accepted" : file.error().message;
  };
  EXPECT_THAT(refusal("bad_name_twice"), HasSubstr("a appears twice"));
  EXPECT_THAT(refusal("bad_name_twice_escaped"), HasSubstr("a appears twice"));
  EXPECT_THAT(refusal("bad_field_twice"), HasSubstr("a: dtype appears twice"));
  EXPECT_THAT(refusal("bad_hole"), HasSubstr("tensor b: begins at byte 16 of the buffer, the one before ends at 8"));
  EXPECT_THAT(refusal("bad_overlap"), HasSubstr("tensor b: begins at byte 4"));
  EXPECT_THAT(refusal("bad_rest"), HasSubstr("8 bytes of tensors in a buffer of 9 bytes"));
  EXPECT_THAT(refusal("bad_size"), HasSubstr("tensor a: 8 bytes for F32 [3]"));
  EXPECT_THAT(refusal("bad_length_limit"), HasSubstr("a header of 100000001 bytes; at most 100000000"));
  EXPECT_THAT(refusal("bad_length_beyond_file"), HasSubstr("a header of 64 bytes in a file of 10: truncated?"));
  EXPECT_THAT(refusal("bad_field_missing"), HasSubstr("2 of them are there"));
  EXPECT_THAT(refusal("bad_field_unknown"), HasSubstr("field strides is unknown"));
  EXPECT_THAT(refusal("bad_shape_negative"), HasSubstr("a negative number"));
  EXPECT_THAT(refusal("bad_not_utf8"), HasSubstr("malformed at byte 3"));
  EXPECT_THAT(refusal("bad_zero_byte_ends_json"), HasSubstr("zero byte"));
}

TEST(SafetensorsWriter, RefusesNamesThatCannotBeWritten) {
  const TestDirectory directory;
  const auto refusal = [&](const std::vector<SafetensorsPlan>& tensors) {
    const auto writer = SafetensorsWriter::create(directory / "a.safetensors", {}, tensors);
    return writer ? "accepted" : writer.error().message;
  };
  EXPECT_THAT(refusal({{"a", SafetensorsType::kF32, {1}}, {"a", SafetensorsType::kF32, {1}}}), HasSubstr("taken"));
  EXPECT_THAT(refusal({{"__metadata__", SafetensorsType::kF32, {1}}}), HasSubstr("taken"));
  EXPECT_THAT(refusal({{"\xff", SafetensorsType::kF32, {1}}}), HasSubstr("UTF-8"));
  EXPECT_THAT(refusal({{"a", SafetensorsType::kF32, {int64_t{1} << 40, int64_t{1} << 40}}}), HasSubstr("larger than"));
}

}  // namespace
}  // namespace nestling
