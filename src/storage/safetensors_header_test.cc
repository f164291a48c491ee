#include "storage/safetensors_header.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace nestling {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

TEST(SafetensorsHeader, FormatIsReadBack) {
  const SafetensorsHeader header{.tensors = {{"a \"b\"\n", "F32", {2, 3}, {0, 24}}, {"s", "BF16", {}, {24, 26}}},
                                 .metadata = {{"golden", R"({"float32_noise": 1e-6})"}, {"k", "\xc3\xa9"}}};
  const std::string json = format_safetensors_header(header).value();
  const SafetensorsHeader read = parse_safetensors_header(json).value();
  EXPECT_EQ(read.metadata, header.metadata);
  ASSERT_EQ(read.tensors.size(), 2u);
  EXPECT_EQ(read.tensors[0].name, "a \"b\"\n");
  EXPECT_THAT(read.tensors[0].shape, ElementsAre(2, 3));
  EXPECT_TRUE(read.tensors[1].shape.empty());
  EXPECT_EQ(read.tensors[1].dtype, "BF16");
  EXPECT_THAT(read.tensors[1].data_offsets, ElementsAre(24, 26));
  EXPECT_EQ(parse_safetensors_header(format_safetensors_header({}).value()).value().tensors.size(), 0u);
}

TEST(SafetensorsHeader, MetadataIsWrittenAsUtf8OrNotAtAll) {
  EXPECT_THAT(format_safetensors_header({.tensors = {}, .metadata = {{"k", "\xff"}}}).error().message,
              HasSubstr("metadata 'k' is not valid UTF-8"));
}

std::string refusal(std::string_view json) {
  const auto map = parse_weight_map(json);
  return map ? "accepted" : map.error().message;
}

TEST(WeightMap, TakesTheMapAndLetsTheRestPass) {
  const auto map = parse_weight_map(
      R"({"metadata": {"total_size": 12, "weight_map": {"no": "no"}, "list": [1, {"a": [null, true]}]},
          "weight_map": {"a": "1.safetensors", "b": "2.safetensors"}, "more": "text"})");
  ASSERT_TRUE(map) << map.error().message;
  EXPECT_THAT(*map, ElementsAre(Pair("a", "1.safetensors"), Pair("b", "2.safetensors")));
}

TEST(WeightMap, Refuses) {
  EXPECT_THAT(refusal(R"({"weight_map": {"a": "1", "a": "1"}})"), HasSubstr("tensor a is listed twice"));
  EXPECT_THAT(refusal(R"({"weight_map": {}, "weight_map": {}})"), HasSubstr("weight_map appears twice"));
  EXPECT_THAT(refusal(R"({"weight_map": {"a": 5}})"), HasSubstr("tensor a is mapped"));
  EXPECT_THAT(refusal(R"({"weight_map": {"a": {"b": "c"}}})"), HasSubstr("tensor a is mapped"));
  EXPECT_THAT(refusal(R"({"weight_map": {"a": ["c"]}})"), HasSubstr("tensor a is mapped"));
  EXPECT_THAT(refusal(R"({"weight_map": "x"})"), HasSubstr("no weight_map"));
  EXPECT_THAT(refusal(R"({"metadata": {"weight_map": {"a": "b"}}})"), HasSubstr("no weight_map"));
  EXPECT_THAT(refusal(R"([{"weight_map": "x"}, {"a": "b"}])"), HasSubstr("not an object"));
  EXPECT_THAT(refusal("{"), HasSubstr("malformed"));
  EXPECT_THAT(refusal(""), HasSubstr("malformed"));
  EXPECT_THAT(refusal(std::string(10'000, '[')), HasSubstr("not an object"));
  EXPECT_THAT(refusal(R"({"m": )" + std::string(10'000, '[')), HasSubstr("8 levels"));
}

}  // namespace
}  // namespace nestling
