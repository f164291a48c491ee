// What the reader makes of a file; what it refuses is in the corpus (corpus_test.cc).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "storage/gguf.h"
#include "storage/test_directory.h"

namespace nestling::gguf {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::string kCorpus = NESTLING_SOURCE_DIR "/tests/fuzz/corpus/gguf/";

Header read(const std::string& name) { return read_header(File::open(kCorpus + name).value()).value(); }
std::string refusal(const std::string& name) {
  const auto header = read_header(File::open(kCorpus + name).value());
  return header ? "accepted" : header.error().message;
}

TEST(GgufReader, WidensEveryType) {
  const Header header = read("good_every_type");
  for (const int type : {0, 2, 4, 10}) {
    const std::string id = std::to_string(type);
    EXPECT_EQ(std::get<uint64_t>(*header.find("scalar." + id)), 1u) << id;
    if (type == 0) continue;  // bytes have a type of their own, below
    EXPECT_THAT(std::get<std::vector<uint64_t>>(*header.find("array." + id)), ElementsAre(0, 1, 1)) << id;
  }
  for (const int type : {1, 3, 5, 11}) {
    const std::string id = std::to_string(type);
    EXPECT_EQ(std::get<int64_t>(*header.find("scalar." + id)), 1) << id;
    EXPECT_THAT(std::get<std::vector<int64_t>>(*header.find("array." + id)), ElementsAre(0, 1, 1)) << id;
  }
  for (const int type : {6, 12}) {
    const std::string id = std::to_string(type);
    EXPECT_EQ(std::get<double>(*header.find("scalar." + id)), 1.0) << id;
    EXPECT_THAT(std::get<std::vector<double>>(*header.find("array." + id)), ElementsAre(0, 1, 1)) << id;
  }
  EXPECT_TRUE(std::get<bool>(*header.find("scalar.7")));
  EXPECT_THAT(std::get<std::vector<bool>>(*header.find("array.7")), ElementsAre(false, true, true));
  EXPECT_THAT(std::get<std::vector<uint8_t>>(*header.find("array.0")), ElementsAre(0, 1, 1));
  EXPECT_THAT(std::get<std::vector<std::string>>(*header.find("texts")), ElementsAre("a", "", "b"));
  EXPECT_EQ(header.string("text").value(), "caf\xc3\xa9");
  EXPECT_TRUE(std::get<std::vector<uint64_t>>(*header.find("empty")).empty());
  EXPECT_EQ(header.stored_keys.front(), std::pair(std::string("scalar.0"), ValueType::kUint8));
  EXPECT_EQ(header.stored_keys.back(), std::pair(std::string("empty"), ValueType::kUint32));
}

TEST(GgufReader, OffsetsAreFromTheStartOfTheFile) {
  const Header header = read("good_any_order_with_gaps");
  ASSERT_EQ(header.tensors.size(), 2u);
  EXPECT_EQ(header.tensors[0].name, "late");
  EXPECT_EQ(header.tensors[0].offset, header.tensors[1].offset + 512);
  EXPECT_EQ(header.tensors[1].offset % 32, 0u);
  EXPECT_EQ(header.tensors[1].bytes, 128u);
  EXPECT_THAT(header.tensors[1].dims, ElementsAre(32));
  EXPECT_EQ(header.alignment, 32u);
  EXPECT_EQ(read("good_alignment_64").alignment, 64u);
}

TEST(GgufReader, KeepsMinusInfinityOfSparsity) {
  const Header header = read("good_sparsity_minus_infinity");
  EXPECT_THAT(std::get<std::vector<double>>(*header.find("gemma3n.activation_sparsity_scale")),
              ElementsAre(1.6448534f, -std::numeric_limits<double>::infinity()));
}

// Each refusal is for its own reason, in words a user can act on.
TEST(GgufReader, RefusalsSayWhatIsWrong) {
  EXPECT_THAT(refusal("bad_big_endian"), HasSubstr("big-endian"));
  EXPECT_THAT(refusal("bad_version_1"), HasSubstr("GGUF version 1; versions 2 and 3 are read"));
  EXPECT_THAT(refusal("bad_magic"), HasSubstr("not a GGUF file"));
  EXPECT_THAT(refusal("bad_array_bomb_43_bytes"), HasSubstr("abc: an array of 9223372036854775808 elements"));
  EXPECT_THAT(refusal("bad_array_beyond_file"), HasSubstr("1048576 elements of 8 bytes are declared, 64 bytes are"));
  EXPECT_THAT(refusal("bad_array_of_strings_beyond_file"), HasSubstr("1048576 elements of 8 bytes are declared"));
  EXPECT_THAT(refusal("bad_string_beyond_file"), HasSubstr("1048576 elements of 1 bytes are declared, 16 bytes are"));
  EXPECT_THAT(refusal("bad_key_empty"), HasSubstr("an empty name"));
  EXPECT_THAT(refusal("bad_truncated_info"), HasSubstr("inside its header"));
  EXPECT_THAT(refusal("bad_array_nested"), HasSubstr("array of arrays"));
  EXPECT_THAT(refusal("bad_alignment_0"), HasSubstr("general.alignment is 0"));
  EXPECT_THAT(refusal("bad_alignment_type"), HasSubstr("must be UINT32"));
  EXPECT_THAT(refusal("bad_alignment_array"), HasSubstr("must be UINT32"));
  EXPECT_THAT(refusal("bad_bool_7"), HasSubstr("BOOL of 7"));
  EXPECT_THAT(refusal("bad_bool_in_array"), HasSubstr("BOOL of 2"));
  EXPECT_THAT(refusal("bad_float_nan"), HasSubstr("layer_norm_rms_epsilon: a value that is not a number"));
  EXPECT_THAT(refusal("bad_float_infinite"), HasSubstr("must be finite"));
  EXPECT_THAT(refusal("bad_key_twice"), HasSubstr("metadata key a appears twice"));
  EXPECT_THAT(refusal("bad_key_too_long"), HasSubstr("a string of 65536 bytes; at most 65535"));
  EXPECT_THAT(refusal("bad_split"), HasSubstr("one of 3 parts"));
  EXPECT_THAT(refusal("bad_tensor_twice"), HasSubstr("tensor t appears twice"));
  EXPECT_THAT(refusal("bad_tensor_name_64"), HasSubstr("a string of 64 bytes; at most 63"));
  EXPECT_THAT(refusal("bad_dims_wrap"), HasSubstr("does not fit in 64 bits"));
  EXPECT_THAT(refusal("bad_dims_wrap_to_small"), HasSubstr("does not fit in 64 bits"));
  EXPECT_THAT(refusal("bad_dims_2_to_31"), HasSubstr("2147483648 dimensions"));
  EXPECT_THAT(refusal("bad_overlap"), HasSubstr("tensors a and b overlap"));
  EXPECT_THAT(refusal("bad_offset_wraps"), HasSubstr("the file ends at byte"));
  EXPECT_THAT(refusal("bad_offset_unaligned"), HasSubstr("offset 8 is not a multiple of the alignment, 32"));
  EXPECT_THAT(refusal("bad_vocabulary_special_id"), HasSubstr("bos_token_id is 2, the vocabulary has 2 tokens"));
  EXPECT_THAT(refusal("bad_vocabulary_lengths"), HasSubstr("tokenizer.ggml.scores has 1 elements"));
  EXPECT_THAT(refusal("bad_string_not_utf8"), HasSubstr("not valid UTF-8"));
  EXPECT_THAT(refusal("bad_key_count"), HasSubstr("declares 9223372036854775808 metadata keys"));
  EXPECT_THAT(refusal("bad_tensor_count_limit"), HasSubstr("declares 65537 tensors"));
}

// Every prefix of a good file is refused, except where only the padding behind the data is missing.
TEST(GgufReader, EveryTruncationIsRefused) {
  const TestDirectory directory;
  for (const auto& [name, padding] :
       {std::pair("good_every_type", 0u), {"good_quantized", 20u}, {"good_vocabulary", 0u}}) {
    const auto path = directory.write(name, file_bytes(kCorpus + name));
    for (uint64_t n = std::filesystem::file_size(path); n-- > 0;) {
      std::filesystem::resize_file(path, n);
      const auto header = read_header(File::open(path).value());
      const bool is_whole = n + padding >= std::filesystem::file_size(kCorpus + name);
      EXPECT_EQ(header.has_value(), is_whole) << name << " cut at " << n;
    }
  }
}

}  // namespace
}  // namespace nestling::gguf
