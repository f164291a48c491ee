// How far each weight type is from float32 on the bundled model's held-out text, and how far int8 activations are from
// float32 activations on the same quantised weights. The bounds are in support/tolerances.h; docs/quality.md has the
// figures this test prints.
#include <cmath>

#include <gtest/gtest.h>

#include "importing/import.h"
#include "kernels/pack.h"
#include "model/tensor_names.h"
#include "storage/safetensors.h"
#include "support/text_run.h"
#include "support/tolerances.h"

namespace nestling {
namespace {

EngineOptions options() {
  EngineOptions o;
  o.threads = 1;  // tiny steps: a second thread costs more than it gives
  o.context = 512;
  o.chunk = 256;
  o.kv = KvType::kF32;
  return o;
}

// The documents of heldout.txt as ids, <bos> first, at most a context long.
std::vector<std::vector<int32_t>> held_out_documents(const Engine& engine) {
  const std::string text = value_or_fail(read_text_file(nano_path() / "heldout.txt", 1 << 20));
  const Tokenizer& tokenizer = *value_or_fail(engine.require_tokenizer());
  std::vector<std::vector<int32_t>> documents;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find("%%\n", begin), text.size());
    std::vector<int32_t> ids = value_or_fail(tokenizer.encode(text.substr(begin, end - begin), ControlText::kParsed));
    ids.insert(ids.begin(), static_cast<int32_t>(engine.config().ids.bos));
    ids.resize(std::min<size_t>(ids.size(), static_cast<size_t>(engine.options().context)));
    documents.push_back(std::move(ids));
    begin = end + 3;
  }
  return documents;
}

struct Distance {
  double mean_kl = 0;       // nats per token, KL(reference || other)
  double same_argmax = 0;   // share of tokens
  int64_t tokens = 0;
};

std::vector<double> log_softmax(const float* logits, int64_t V) {
  double max = -INFINITY, sum = 0;
  for (int64_t i = 0; i < V; ++i) max = std::max<double>(max, logits[i]);
  for (int64_t i = 0; i < V; ++i) sum += std::exp(logits[i] - max);
  std::vector<double> result(static_cast<size_t>(V));
  for (int64_t i = 0; i < V; ++i) result[static_cast<size_t>(i)] = logits[i] - max - std::log(sum);
  return result;
}

// Logits of every token of every document.
std::vector<std::vector<float>> document_logits(Engine& engine) {
  std::vector<std::vector<float>> result;
  for (const auto& ids : held_out_documents(engine)) result.push_back(TextRun(engine).all_logits(ids, 256));
  return result;
}

Distance distance(const std::vector<std::vector<float>>& reference, Engine& other) {
  Distance result;
  const int64_t V = other.config().text.vocab_size;
  const std::vector<std::vector<float>> others = document_logits(other);
  for (size_t document = 0; document < others.size(); ++document) {
    const std::vector<float>&a = reference[document], &b = others[document];
    for (int64_t t = 0; t < static_cast<int64_t>(b.size()) / V; ++t) {
      const float *row_a = a.data() + t * V, *row_b = b.data() + t * V;
      const auto log_a = log_softmax(row_a, V), log_b = log_softmax(row_b, V);
      for (size_t i = 0; i < log_a.size(); ++i) result.mean_kl += std::exp(log_a[i]) * (log_a[i] - log_b[i]);
      result.same_argmax += std::max_element(row_a, row_a + V) - row_a == std::max_element(row_b, row_b + V) - row_b;
      ++result.tokens;
    }
  }
  result.mean_kl /= static_cast<double>(result.tokens);
  result.same_argmax /= static_cast<double>(result.tokens);
  return result;
}

void print(const std::string& what, const Distance& d) {
  fmt::print("[ MEASURED ] {:34} mean KL {:.3g}, same argmax {:.2f} %, {} tokens\n", what, d.mean_kl,
             100 * d.same_argmax, d.tokens);
}

// A checkpoint whose float32 values are exactly those that `package` stores.
void write_dequantised_checkpoint(const std::filesystem::path& directory, const Package& package,
                                  const TextConfig& config) {
  std::filesystem::create_directories(directory);
  for (const char* file : {"config.json", "generation_config.json", "tokenizer.model"})
    std::filesystem::copy_file(nano_path() / file, directory / file);
  std::vector<SafetensorsPlan> plan;
  const std::vector<TextTensor> tensors = text_tensors(config);
  for (const TextTensor& t : tensors) plan.push_back({"model." + t.checkpoint, SafetensorsType::kF32, t.checkpoint_shape()});
  SafetensorsWriter writer = value_or_fail(SafetensorsWriter::create(directory / "model.safetensors", {}, plan));
  for (size_t i = 0; i < tensors.size(); ++i) {
    const PackageTensor& stored = *package.find(tensors[i].package);
    std::vector<std::byte> bytes(stored.bytes);
    ok_or_fail(package.file().read_at(stored.offset, bytes));
    const WeightMatrix w{.type = stored.type, .layout = stored.layout, .rows = stored.rows, .cols = stored.cols,
                         .stored_rows = stored.rows, .stored_cols = stored.cols, .data = bytes.data(),
                         .bytes = stored.bytes};
    std::vector<float> values(static_cast<size_t>(tensors[i].rows * stored.cols));
    unpack_matrix(w, values.data());
    for (int64_t r = stored.rows; r < tensors[i].rows; ++r)  // rows left out are equal to row 0
      std::copy_n(values.begin(), stored.cols, values.begin() + r * stored.cols);
    ok_or_fail(writer.write(i, 0, std::as_bytes(std::span(values))));
  }
  ok_or_fail(writer.commit());
}

class WeightTypes : public testing::Test {
 protected:
  static const TestPackage& float_package() {
    static const TestPackage package(nano_path(), all_weights(WeightType::kF32));
    return package;
  }
  static const std::vector<std::vector<float>>& float_logits() {
    static const auto logits = document_logits(*float_package().open(options()));
    return logits;
  }
  static Distance from_float(const std::string& what, const ImportOptions& import) {
    const TestPackage package(nano_path(), import);
    const auto other = package.open(options());
    const Distance d = distance(float_logits(), *other);
    print(what, d);
    return d;
  }
};

TEST_F(WeightTypes, Bf16) { EXPECT_LE(from_float("bf16", all_weights(WeightType::kBF16)).mean_kl, kMeanKlBf16); }
TEST_F(WeightTypes, Q8) { EXPECT_LE(from_float("q8", all_weights(WeightType::kQ8)).mean_kl, kMeanKlQ8); }
TEST_F(WeightTypes, Q6) { EXPECT_LE(from_float("q6", all_weights(WeightType::kQ6)).mean_kl, kMeanKlQ6); }
TEST_F(WeightTypes, Q4AsImportedByDefault) {
  const Distance d = from_float("q4, head q6, PLE q8 (default)", {});
  EXPECT_LE(d.mean_kl, kMeanKlQ4);
  EXPECT_GT(d.mean_kl, 1e-6);  // as good as float32 would mean that nothing was quantised
}
TEST_F(WeightTypes, Q4Everywhere) { from_float("q4 everywhere", all_weights(WeightType::kQ4)); }

TEST_F(WeightTypes, Int8Activations) {
  for (const WeightType type : {WeightType::kQ8, WeightType::kQ4}) {
    const TestPackage quantised(nano_path(), all_weights(type));
    const auto int8_engine = quantised.open(options());
    const TemporaryPath directory("");
    write_dequantised_checkpoint(directory.path(), int8_engine->package(), int8_engine->config().text);
    const TestPackage dequantised(directory.path(), all_weights(WeightType::kF32));
    const auto float_engine = dequantised.open(options());
    const Distance d = distance(document_logits(*float_engine), *int8_engine);
    print(fmt::format("int8 activations, {} weights", weight_type_name(type)), d);
    EXPECT_LE(d.mean_kl, kMeanKlInt8Activations);
    EXPECT_GE(d.same_argmax, kSameArgmaxInt8Activations);
  }
}

TEST_F(WeightTypes, KvTypes) {
  for (const KvType kv : {KvType::kBF16, KvType::kQ8}) {
    EngineOptions o = options();
    o.kv = kv;
    const auto other = float_package().open(o);
    const Distance d = distance(float_logits(), *other);
    print(fmt::format("K/V as {}", kv_type_name(kv)), d);
    EXPECT_LE(d.mean_kl, kMeanKlKv);
  }
}

}  // namespace
}  // namespace nestling
