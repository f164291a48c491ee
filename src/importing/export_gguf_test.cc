#include "importing/export_gguf.h"

#include <limits>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "importing/export.h"
#include "importing/import.h"
#include "importing/test_checkpoint.h"
#include "importing/test_gguf.h"
#include "kernels/pack.h"
#include "storage/gguf.h"

namespace nestling {
namespace {

namespace fs = std::filesystem;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// As tiny as blocks of 32 allow, all axes different.
constexpr std::string_view kConfig = R"({
  "architectures": ["Gemma3nForConditionalGeneration"], "model_type": "gemma3n",
  "text_config": {"vocab_size": 40, "vocab_size_per_layer_input": 33, "hidden_size": 64, "intermediate_size": 160,
    "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 32, "hidden_size_per_layer_input": 32,
    "laurel_rank": 16, "sliding_window": 8}
})";

class ExportGguf : public testing::Test {
 protected:
  // A checkpoint, and its package with these types.
  Package package(const ImportOptions& options, const std::string& checkpoint = "c") {
    if (!fs::exists(directory_ / "c")) write_checkpoint(directory_ / "c", tensors_, SafetensorsType::kF32, kConfig);
    const Checkpoint source = open_checkpoint(directory_ / checkpoint);
    const ModelConfig config = *parse_config(source.config_json(), "", "c");
    const fs::path path = directory_ / (checkpoint + ".nest");
    const auto status = import_checkpoint(source, config, options, path, {});
    EXPECT_TRUE(status) << status.error().message;
    return *Package::open(path);
  }
  Result<GgufExport> run(const Package& package, const ModelSize& size, const std::string& file = "m.gguf",
                         const GgufTokenizer& tokenizer = {}, const std::atomic<bool>* cancel = nullptr) {
    return export_gguf(package, *config_from_json(package.info().config_json, "c"), size, tokenizer, directory_ / file,
                       cancel);
  }
  Result<GgufExport> run(const Package& package) { return run(package, full_size(config_.text)); }

  gguf::Header header(const std::string& file = "m.gguf") {
    file_ = *File::open(directory_ / file);
    auto read = gguf::read_header(file_);
    EXPECT_TRUE(read) << read.error().message;
    return *read;
  }
  std::vector<std::byte> bytes(const gguf::Tensor& tensor) {
    std::vector<std::byte> data(tensor.bytes);
    EXPECT_TRUE(file_.read_at(tensor.offset, data));
    return data;
  }
  const gguf::Tensor& tensor(const gguf::Header& header, std::string_view name) {
    const auto found = std::ranges::find(header.tensors, name, &gguf::Tensor::name);
    EXPECT_NE(found, header.tensors.end()) << name;
    return *found;
  }
  std::vector<float> values(const gguf::Header& header, std::string_view name) {
    const gguf::Tensor& t = tensor(header, name);
    return decode_ggml(static_cast<GgmlType>(t.ggml_type), bytes(t));
  }
  // What the package holds, PLE rows included.
  static std::vector<float> values(const Package& package, const std::string& name) {
    const PackageTensor* t = package.find(name);
    if (t == nullptr) return {};
    std::vector<std::byte> packed(t->bytes);
    EXPECT_TRUE(package.file().read_at(t->offset, packed));
    std::vector<float> unpacked(static_cast<size_t>(t->rows * t->cols));
    unpack_matrix({t->type, t->layout, t->rows, t->cols, t->rows, t->cols, packed.data(), t->bytes}, unpacked.data());
    return unpacked;
  }

  TestDirectory directory_;
  ModelConfig config_ = *parse_config(std::string(kConfig), "", "c");
  TestTensors tensors_ = random_text_tensors(config_);
  File file_;
};

TEST_F(ExportGguf, HoldsExactlyThePackagesWeights) {
  for (const ImportOptions options : {ImportOptions{.weights = WeightType::kQ4, .head = WeightType::kQ4,
                                                    .ple = WeightType::kQ4},
                                      ImportOptions{.weights = WeightType::kQ6},
                                      ImportOptions{.weights = WeightType::kQ8},
                                      ImportOptions{.weights = WeightType::kBF16},
                                      ImportOptions{.weights = WeightType::kF32}}) {
    SCOPED_TRACE(weight_type_name(options.weights));
    const Package source = package(options);
    const auto done = run(source);
    ASSERT_TRUE(done) << done.error().message;
    const gguf::Header file = header();
    size_t compared = 0;
    for (const gguf::Tensor& t : file.tensors) {
      const auto expected = values(source, t.name);
      if (expected.empty()) continue;  // stacked, or unused K/V: below
      const auto found = values(file, t.name);
      EXPECT_EQ(found, std::vector(expected.begin(), expected.begin() + static_cast<int64_t>(found.size()))) << t.name;
      ++compared;
    }
    EXPECT_EQ(compared, file.tensors.size() - 2 - 3 * 15);
  }
}

TEST_F(ExportGguf, NamesShapesAndTypesAreLlamaCpps) {
  const auto done = run(package({}));
  ASSERT_TRUE(done) << done.error().message;
  const gguf::Header file = header();
  EXPECT_EQ(file.tensors.size(), 847u);  // of E4B: 24 a layer and 7
  EXPECT_EQ(done->tensors, 847u);
  const auto dims = [&](std::string_view name) { return tensor(file, name).dims; };
  EXPECT_THAT(dims("token_embd.weight"), ElementsAre(64, 33));
  EXPECT_THAT(dims("per_layer_token_embd.weight"), ElementsAre(35 * 32, 33));
  EXPECT_THAT(dims("per_layer_model_proj.weight"), ElementsAre(64, 35 * 32));
  EXPECT_THAT(dims("altup_proj.weight"), ElementsAre(64, 64, 3));
  EXPECT_THAT(dims("altup_unembd_proj.weight"), ElementsAre(64, 64, 3));
  EXPECT_THAT(dims("output_norm.weight"), ElementsAre(64));
  EXPECT_THAT(dims("blk.0.attn_q.weight"), ElementsAre(64, 96));
  EXPECT_THAT(dims("blk.34.attn_k.weight"), ElementsAre(64, 32));
  EXPECT_THAT(dims("blk.34.attn_k_norm.weight"), ElementsAre(32));
  EXPECT_THAT(dims("blk.3.attn_output.weight"), ElementsAre(96, 64));
  EXPECT_THAT(dims("blk.3.ffn_up.weight"), ElementsAre(64, 160));
  EXPECT_THAT(dims("blk.3.ffn_down.weight"), ElementsAre(160, 64));
  EXPECT_THAT(dims("blk.3.laurel_l.weight"), ElementsAre(64, 16));
  EXPECT_THAT(dims("blk.3.laurel_r.weight"), ElementsAre(16, 64));
  EXPECT_THAT(dims("blk.3.altup_predict_coef.weight"), ElementsAre(4, 16));
  EXPECT_THAT(dims("blk.3.altup_correct_scale.weight"), ElementsAre(64));
  const auto type = [&](std::string_view name) { return static_cast<GgmlType>(tensor(file, name).ggml_type); };
  EXPECT_EQ(type("blk.3.ffn_down.weight"), GgmlType::kQ4_0);
  EXPECT_EQ(type("blk.34.attn_k.weight"), GgmlType::kQ4_0);
  EXPECT_EQ(type("altup_proj.weight"), GgmlType::kQ8_0);
  EXPECT_EQ(type("token_embd.weight"), GgmlType::kQ8_0);  // q6, rows of 64
  EXPECT_EQ(type("blk.3.laurel_r.weight"), GgmlType::kF32);  // rows of 16
  EXPECT_EQ(type("blk.3.altup_router.weight"), GgmlType::kF32);
}

TEST_F(ExportGguf, StackedAndUnusedTensors) {
  const Package source = package({.weights = WeightType::kF32});
  ASSERT_TRUE(run(source));
  const gguf::Header file = header();
  auto stacked = tensors_.at("model.language_model.altup_projections.0.weight").values;
  for (const char* name : {"1", "2"}) {
    const auto& next = tensors_.at("model.language_model.altup_projections." + std::string(name) + ".weight").values;
    stacked.insert(stacked.end(), next.begin(), next.end());
  }
  EXPECT_EQ(values(file, "altup_proj.weight"), stacked);
  EXPECT_THAT(values(file, "blk.20.attn_v.weight"), Each(0.0f));
  EXPECT_THAT(values(file, "blk.34.attn_k_norm.weight"), Each(0.0f));
  EXPECT_EQ(values(file, "blk.19.attn_v.weight"),
            tensors_.at("model.language_model.layers.19.self_attn.v_proj.weight").values);
}

// Byte for byte what the exported slice, imported as a model of its own, gives.
TEST_F(ExportGguf, SliceEqualsTheSlicedCheckpoint) {
  ModelSize slice = full_size(config_.text);
  for (const int layer : {3, 9, 22}) slice.layers[layer] = {.skipped = true};
  slice.layers[1].width = 64;   // sparse
  slice.layers[30].width = 96;  // dense
  const Package source = package({});
  ASSERT_TRUE(run(source, slice, "slice.gguf"));
  ASSERT_TRUE(export_slice(open_checkpoint(directory_ / "c"), config_, slice, directory_ / "s"));
  const Package sliced = package({}, "s");
  ASSERT_TRUE(run(sliced, full_size(sliced_config(config_.text, slice)), "own.gguf"));
  const gguf::Header own = header("own.gguf");
  std::vector<std::vector<std::byte>> expected;
  for (const gguf::Tensor& t : own.tensors) expected.push_back(bytes(t));
  const gguf::Header file = header("slice.gguf");
  ASSERT_EQ(file.tensors.size(), own.tensors.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(file.tensors[i].name, own.tensors[i].name);
    EXPECT_EQ(file.tensors[i].dims, own.tensors[i].dims) << own.tensors[i].name;
    EXPECT_EQ(bytes(file.tensors[i]), expected[i]) << own.tensors[i].name;
  }
  EXPECT_EQ(*file.find("gemma3n.activation_sparsity_scale"), *own.find("gemma3n.activation_sparsity_scale"));
  EXPECT_EQ(*file.find("gemma3n.feed_forward_length"), *own.find("gemma3n.feed_forward_length"));
}

TEST_F(ExportGguf, Metadata) {
  ASSERT_TRUE(run(package({})));
  const gguf::Header file = header();
  const auto count = [&](std::string_view key) { return file.unsigned_integer(key).value_or(99); };
  EXPECT_EQ(file.string("general.architecture"), "gemma3n");
  EXPECT_EQ(count("general.file_type"), 2u);
  EXPECT_EQ(count("gemma3n.block_count"), 35u);
  EXPECT_EQ(count("gemma3n.embedding_length"), 64u);
  EXPECT_EQ(count("gemma3n.feed_forward_length"), 160u);
  EXPECT_EQ(count("gemma3n.attention.head_count"), 3u);
  EXPECT_EQ(count("gemma3n.attention.head_count_kv"), 1u);
  EXPECT_EQ(count("gemma3n.attention.key_length"), 32u);
  EXPECT_EQ(count("gemma3n.attention.sliding_window"), 8u);
  EXPECT_EQ(count("gemma3n.attention.shared_kv_layers"), 15u);
  EXPECT_EQ(count("gemma3n.embedding_length_per_layer_input"), 32u);
  EXPECT_EQ(count("gemma3n.vocab_size"), 33u);
  EXPECT_EQ(std::get<double>(*file.find("gemma3n.rope.freq_base")), 1e6);
  EXPECT_EQ(std::get<double>(*file.find("gemma3n.final_logit_softcapping")), 30.0);
  const auto sliding = std::get<std::vector<bool>>(*file.find("gemma3n.attention.sliding_window_pattern"));
  ASSERT_EQ(sliding.size(), 35u);
  EXPECT_THAT(std::vector<bool>(sliding.begin(), sliding.begin() + 5), ElementsAre(true, true, true, true, false));
  const auto sparsity = std::get<std::vector<double>>(*file.find("gemma3n.activation_sparsity_scale"));
  EXPECT_NEAR(sparsity.at(9), 1.6448534, 1e-6);
  EXPECT_EQ(sparsity.at(10), -std::numeric_limits<double>::infinity());
  EXPECT_EQ(file.string("tokenizer.ggml.model"), "none");
  for (const auto& [key, type] : file.stored_keys) {
    if (key.ends_with("_count") || key.ends_with("_length")) {
      EXPECT_EQ(type, gguf::ValueType::kUint32) << key;
    }
  }
}

TEST_F(ExportGguf, TokenizerIsCutOrFilledToTheEmbedding) {
  GgufTokenizer tokenizer{.chat_template = "{{ bos_token }}"};
  for (int id = 0; id < 40; ++id) {
    tokenizer.tokens.push_back(id == 20 ? "<end_of_turn>" : "t" + std::to_string(id));
    tokenizer.scores.push_back(-id);
    tokenizer.types.push_back(id == 3 ? 2 : 1);
  }
  const Package source = package({});
  const auto tokens = [&] {
    EXPECT_TRUE(run(source, full_size(config_.text), "m.gguf", tokenizer));
    return std::get<std::vector<std::string>>(*header().find("tokenizer.ggml.tokens"));
  };
  const auto cut = tokens();
  EXPECT_EQ(cut.size(), 33u);
  EXPECT_EQ(cut.back(), "t32");
  const gguf::Header file = header();
  EXPECT_EQ(file.unsigned_integer("tokenizer.ggml.bos_token_id"), 2u);
  EXPECT_EQ(file.unsigned_integer("tokenizer.ggml.unknown_token_id"), 3u);
  EXPECT_EQ(file.unsigned_integer("tokenizer.ggml.eot_token_id"), 20u);
  EXPECT_EQ(file.string("tokenizer.chat_template"), "{{ bos_token }}");
  tokenizer.tokens.resize(30);
  tokenizer.scores.resize(30);
  tokenizer.types.resize(30);
  const auto filled = tokens();
  EXPECT_THAT(std::vector(filled.begin() + 29, filled.end()), ElementsAre("t29", "[PAD30]", "[PAD31]", "[PAD32]"));
  EXPECT_EQ(std::get<std::vector<double>>(*header().find("tokenizer.ggml.scores")).back(), -1000.0);
}

TEST_F(ExportGguf, InterruptedOrRefusedLeavesNothing) {
  const Package source = package({});
  const std::atomic<bool> cancel = true;
  const auto cancelled = run(source, full_size(config_.text), "m.gguf", {}, &cancel);
  ASSERT_FALSE(cancelled);
  EXPECT_EQ(cancelled.error().code, ErrorCode::kCancelled);
  EXPECT_FALSE(fs::exists(directory_ / "m.gguf"));
  const auto nowhere = run(source, full_size(config_.text), "missing/m.gguf");
  ASSERT_FALSE(nowhere);
  EXPECT_THAT(nowhere.error().message, HasSubstr("missing"));
}

TEST_F(ExportGguf, DamagedWeightsAreNamed) {
  const fs::path path = package({}).file().path();
  const PackageTensor victim = *Package::open(path)->find("per_layer_token_embd.weight");
  {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(victim.offset));
    file.write("\xff\x7f", 2);  // the first scale: not a number
  }
  const auto done = run(*Package::open(path));
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, ErrorCode::kModel);
  EXPECT_THAT(done.error().message, HasSubstr("per_layer_token_embd.weight holds values that are no Q8_0"));
  EXPECT_FALSE(fs::exists(directory_ / "m.gguf"));
}

TEST(LlamaCppDifferences, NoneForThePublishedSizesOfOneWidth) {
  const ModelConfig e4b = *parse_config(R"({"architectures": ["Gemma3nForConditionalGeneration"],
      "model_type": "gemma3n", "text_config": {"model_type": "gemma3n_text"}})", "", "e4b");
  for (const char* size : {"e4b", "e2b"})
    EXPECT_THAT(llama_cpp_differences(sliced_config(e4b.text, *parse_size(size, e4b.text, 32))), IsEmpty()) << size;
  EXPECT_THAT(llama_cpp_differences(sliced_config(e4b.text, *parse_size("e3.18b-layer", e4b.text, 32))),
              ElementsAre(HasSubstr("feed-forward widths differ")));
}

TEST(LlamaCppDifferences, AreNamed) {
  TextConfig text = parse_config(std::string(kConfig), "", "c")->text;
  text.num_kv_shared_layers = 10;
  text.activation_sparsity[10] = 0.95f;
  text.final_logit_softcapping = 0;
  EXPECT_THAT(llama_cpp_differences(text),
              ElementsAre(HasSubstr("25 layers own keys and values"), HasSubstr("sparse layers are not the first 10"),
                          HasSubstr("a LAuReL rank of 16"), HasSubstr("width 32"), HasSubstr("capped at 0")));
}

}  // namespace
}  // namespace nestling
