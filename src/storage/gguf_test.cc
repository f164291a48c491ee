#include "storage/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace nestling::gguf {
namespace {

using ::testing::HasSubstr;

uint64_t bytes_of(uint32_t type, std::vector<uint64_t> dims) { return tensor_bytes("t", type, dims).value(); }
std::string error_of(uint32_t type, std::vector<uint64_t> dims) {
  return tensor_bytes("t", type, dims).error().message;
}

TEST(GgufTensorBytes, CountsBlocks) {
  EXPECT_EQ(bytes_of(0, {7}), 28u);                           // F32
  EXPECT_EQ(bytes_of(1, {7, 3}), 42u);                        // F16
  EXPECT_EQ(bytes_of(2, {64, 3}), 2u * 18 * 3);               // Q4_0
  EXPECT_EQ(bytes_of(8, {32, 2, 2, 2}), 34u * 8);             // Q8_0
  EXPECT_EQ(bytes_of(14, {512, 1}), 2u * 210);                // Q6_K
  EXPECT_EQ(bytes_of(24, {5}), 5u);                           // I8
  EXPECT_EQ(bytes_of(24, {1u << 20, 1u << 20}), 1ull << 40);  // larger than 32 bits
}

TEST(GgufTensorBytes, NamesTensorAndValue) {
  EXPECT_THAT(error_of(4, {32}), HasSubstr("tensor t: ggml type 4"));
  EXPECT_THAT(error_of(31, {32}), HasSubstr("ggml type 31"));
  EXPECT_THAT(error_of(12, {128}), HasSubstr("rows of 128 values; ggml type 12 needs a multiple of 256"));
  EXPECT_THAT(error_of(0, {}), HasSubstr("0 dimensions"));
  EXPECT_THAT(error_of(0, {1, 1, 1, 1, 1}), HasSubstr("5 dimensions"));
  EXPECT_THAT(error_of(0, {4, 0}), HasSubstr("a dimension of 0"));
  EXPECT_THAT(error_of(0, {kMaxDim + 1}), HasSubstr("a dimension of 1099511627777"));
  EXPECT_THAT(error_of(0, {kMaxDim, kMaxDim}), HasSubstr("64 bits"));
}

TEST(GgufAlignment, PowersOfTwoFrom8To65536) {
  for (const uint64_t a : {8u, 16u, 32u, 16'384u, 65'536u}) EXPECT_TRUE(is_allowed_alignment(a)) << a;
  for (const uint64_t a : {0u, 1u, 4u, 24u, 33u, 131'072u}) EXPECT_FALSE(is_allowed_alignment(a)) << a;
}

TEST(GgufHeader, FindsValuesByType) {
  Header header;
  header.metadata = {{"text", std::string("hello")},
                     {"unsigned", uint64_t{7}},
                     {"signed", int64_t{8}},
                     {"negative", int64_t{-1}},
                     {"float", 10.0},
                     {"fraction", 10.5},
                     {"flag", true}};
  EXPECT_EQ(header.string("text").value(), "hello");
  EXPECT_THAT(header.string("unsigned").error().message, HasSubstr("unsigned is not a string"));
  EXPECT_THAT(header.string("absent").error().message, HasSubstr("absent is missing"));
  EXPECT_EQ(header.unsigned_integer("unsigned").value(), 7u);
  EXPECT_EQ(header.unsigned_integer("signed").value(), 8u);
  EXPECT_EQ(header.unsigned_integer("float").value(), 10u);
  EXPECT_THAT(header.unsigned_integer("negative").error().message, HasSubstr("-1"));
  EXPECT_THAT(header.unsigned_integer("fraction").error().message, HasSubstr("10.5"));
  EXPECT_EQ(header.unsigned_integer("flag").error().code, ErrorCode::kModel);
  EXPECT_EQ(header.find("absent"), nullptr);
}

}  // namespace
}  // namespace nestling::gguf
