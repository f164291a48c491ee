#include "model/size.h"

#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace nestling {
namespace {

using testing::HasSubstr;

// E4B's topology (35 layers) or E2B's (30) with every feed-forward part `width` wide.
TextConfig topology(int64_t layers, int64_t width) {
  const std::string sharing = std::to_string(layers - 20), wide = std::to_string(width);
  const auto config = parse_config(R"({"model_type": "gemma3n", "text_config": {"num_hidden_layers": )" +
                                       std::to_string(layers) + R"(, "num_kv_shared_layers": )" + sharing +
                                       R"(, "intermediate_size": )" + wide + "}}",
                                   "", "test");
  EXPECT_TRUE(config) << config.error().message;
  return config->text;
}

TextConfig e4b() { return topology(35, 16384); }
TextConfig e2b() { return topology(30, 8192); }

// Five independent layers.
TextConfig independent() {
  TextConfig config = topology(35, 64);
  config.num_hidden_layers = 5;
  config.num_kv_shared_layers = 0;
  config.intermediate_size.resize(5);
  config.full_attention.resize(5);
  config.activation_sparsity.resize(5);
  return config;
}

std::string refusal(std::string_view text, const TextConfig& config, int64_t group = 32) {
  const auto size = parse_size(text, config, group);
  if (size) return "accepted as " + size->name;
  EXPECT_EQ(size.error().code, ErrorCode::kUsage);
  return size.error().message;
}

// A list for `config` with every width `width`, then item `layer` replaced.
std::string list_with(const TextConfig& config, int64_t width, int64_t layer, const std::string& item) {
  std::string text;
  for (int64_t i = 0; i < config.num_hidden_layers; ++i)
    text += (i == 0 ? "" : ",") + (i == layer ? item : std::to_string(width));
  return text;
}

TEST(Size, SixteenPublishedRows) {
  EXPECT_EQ(published_sizes().size(), 16u);
  EXPECT_EQ(published_sizes().front().slug, "e2b");
  EXPECT_EQ(published_sizes().back().slug, "e4b");
  for (const PublishedSize& row : published_sizes()) {
    EXPECT_EQ(row.layers.size(), 35u) << row.slug;
    EXPECT_EQ(row.layers.find_first_not_of("hF-"), std::string_view::npos) << row.slug;
  }
}

// Effective, read per decoded token and prefill (minimum) in billions, as published arithmetic has them.
TEST(Size, ParameterCountsOfThePublishedRows) {
  const std::map<std::string_view, std::array<double, 3>> expected = {
      {"e2b", {1.905, 2.421, 1.206}},          {"e1.96b-layer", {1.956, 2.472, 1.256}},
      {"e2.49b-block", {2.471, 2.976, 1.206}}, {"e2.54b-layer", {2.521, 3.026, 1.256}},
      {"e2.69b-layer", {2.672, 3.177, 1.357}}, {"e2.73b-block", {2.722, 3.228, 1.407}},
      {"e2.98b-layer", {2.974, 3.479, 1.407}}, {"e2.98b-block", {2.974, 3.479, 1.659}},
      {"e3.18b-layer", {3.175, 3.681, 1.759}}, {"e3.24b-block", {3.226, 3.731, 1.659}},
      {"e3.39b-layer", {3.377, 3.882, 1.759}}, {"e3.49b-block", {3.477, 3.983, 1.910}},
      {"e3.59b-layer", {3.578, 4.083, 1.961}}, {"e3.79b-block", {3.729, 4.234, 1.910}},
      {"e3.79b-layer", {3.779, 4.285, 1.961}}, {"e4b", {3.980, 4.486, 2.162}}};
  const TextConfig config = e4b();
  for (const PublishedSize& row : published_sizes()) {
    const auto size = parse_size(row.slug, config, 32);
    ASSERT_TRUE(size) << size.error().message;
    EXPECT_EQ(size->name, row.slug);
    EXPECT_FALSE(size->experimental);
    const ParameterCounts counts = count_parameters(config, *size);
    // The published figures are rounded to three places.
    EXPECT_NEAR(counts.effective / 1e9, expected.at(row.slug)[0], 0.000501) << row.slug;
    EXPECT_NEAR(counts.decode_read / 1e9, expected.at(row.slug)[1], 0.000501) << row.slug;
    EXPECT_NEAR(counts.prefill_read / 1e9, expected.at(row.slug)[2], 0.000501) << row.slug;
  }
}

TEST(Size, ParameterCountsToTheUnit) {
  const ParameterCounts small = count_parameters(e2b(), full_size(e2b()));
  EXPECT_EQ(small.effective, 1'905'495'648);
  EXPECT_EQ(small.embedding, 537'395'200);
  EXPECT_EQ(small.ple, 2'013'265'920);
  EXPECT_EQ(small.effective + small.embedding + small.ple, 4'456'156'768);
  EXPECT_EQ(small.decode_read, 2'421'392'480);
  const ParameterCounts large = count_parameters(e4b(), full_size(e4b()));
  EXPECT_EQ(large.effective, 3'980'491'248);
  EXPECT_EQ(large.effective + large.embedding + large.ple, 6'866'696'688);
  EXPECT_EQ(large.decode_read, 3'980'491'248 - 31'461'120 + 536'870'912);
}

TEST(Size, E4BAtE2BIsE2B) {
  const auto size = parse_size("e2b", e4b(), 32);
  ASSERT_TRUE(size) << size.error().message;
  EXPECT_EQ(size->layers_run(), 30);
  const TextConfig slice = sliced_config(e4b(), *size), published = e2b();
  EXPECT_EQ(slice.num_hidden_layers, published.num_hidden_layers);
  EXPECT_EQ(slice.num_kv_shared_layers, published.num_kv_shared_layers);
  EXPECT_EQ(slice.intermediate_size, published.intermediate_size);
  EXPECT_EQ(slice.full_attention, published.full_attention);
  EXPECT_EQ(slice.activation_sparsity, published.activation_sparsity);
  EXPECT_EQ(count_parameters(e4b(), *size).prefill_read,
            count_parameters(published, full_size(published)).prefill_read);
  EXPECT_EQ(count_parameters(e4b(), *size).ple, count_parameters(published, full_size(published)).ple);
}

TEST(Size, NamesOfTheFullSize) {
  EXPECT_EQ(full_size(e4b()).name, "e4b");
  EXPECT_EQ(full_size(topology(35, 128)).name, "e4b");
  EXPECT_EQ(full_size(e2b()).name, "e2b");
  EXPECT_EQ(full_size(topology(32, 128)).name, "full");
  EXPECT_EQ(parse_size("full", e4b(), 32)->name, "e4b");
  EXPECT_EQ(parse_size("E2B", e4b(), 32)->name, "e2b");
}

// Named sizes of a file of E4B's topology at small widths mean half and whole of its own width.
TEST(Size, PublishedRowsScaleWithTheFile) {
  const auto size = parse_size("e1.96b-layer", topology(35, 128), 32);
  ASSERT_TRUE(size) << size.error().message;
  EXPECT_EQ(size->layers[3].width, 64);
  EXPECT_EQ(size->layers[4].width, 128);
  EXPECT_TRUE(size->layers[20].skipped);
  EXPECT_EQ(size->layers[20].width, 0);
  EXPECT_EQ(size->layers[25].width, 64);
}

TEST(Size, E2BFileHasOnlyItself) {
  EXPECT_EQ(parse_size("e2b", e2b(), 32)->layers, full_size(e2b()).layers);
  EXPECT_EQ(parse_size("full", e2b(), 32)->layers, full_size(e2b()).layers);
  EXPECT_THAT(refusal("e2.49b-block", e2b()), HasSubstr("runs layers 20 to 24 of E4B, which this file of 30 layers"));
  EXPECT_THAT(refusal("e1.96b-layer", e2b()), HasSubstr("needs width 16384 in layer 4, where this file holds 8192"));
  EXPECT_THAT(refusal("e4b", e2b()), HasSubstr("does not hold"));
}

// A slice written by export keeps its name, and offers the smaller ones that it holds.
TEST(Size, ExportedSlicesKnowTheirNames) {
  for (const PublishedSize& row : published_sizes()) {
    const TextConfig slice = sliced_config(e4b(), *parse_size(row.slug, e4b(), 32));
    EXPECT_EQ(full_size(slice).name, row.slug);
    EXPECT_TRUE(parse_size("e2b", slice, 32)) << row.slug;
  }
}

TEST(Size, ListsAreNamedWhenPublished) {
  const TextConfig config = topology(35, 128);
  const auto full = parse_size(list_with(config, 128, -1, ""), config, 32);
  ASSERT_TRUE(full) << full.error().message;
  EXPECT_EQ(full->name, "e4b");
  EXPECT_FALSE(full->experimental);
  const auto custom = parse_size(list_with(config, 128, 21, "skip"), config, 32);
  ASSERT_TRUE(custom) << custom.error().message;
  EXPECT_EQ(custom->name, "custom");
  EXPECT_TRUE(custom->experimental);
  EXPECT_EQ(custom->layers_run(), 34);
  const auto small = parse_size("64,64,64,64,32", independent(), 32);
  ASSERT_TRUE(small) << small.error().message;
  EXPECT_EQ(small->name, "custom");
  EXPECT_EQ(parse_size("64,64,64,64,64", independent(), 32)->name, "full");
}

TEST(Size, Refusals) {
  const TextConfig config = topology(35, 128);
  EXPECT_THAT(refusal("e3b", config), HasSubstr("\"e3b\" is unknown; this file has full, e2b, e1.96b-layer"));
  EXPECT_THAT(refusal("", config), HasSubstr("unknown"));
  EXPECT_THAT(refusal("e2b", independent()), HasSubstr("is built otherwise"));
  EXPECT_THAT(refusal("64,64", config), HasSubstr("2 layers given; the file has 35"));
  EXPECT_THAT(refusal(list_with(config, 128, 18, "skip"), config), HasSubstr("layer 18 may not be skipped"));
  EXPECT_THAT(refusal(list_with(config, 128, 19, "skip"), config), HasSubstr("later full attention layers"));
  EXPECT_THAT(refusal(list_with(config, 128, 7, "0"), config), HasSubstr("width 0 for layer 7; 1 to 128"));
  EXPECT_THAT(refusal(list_with(config, 128, 7, "129"), config), HasSubstr("width 129 for layer 7; 1 to 128"));
  EXPECT_THAT(refusal(list_with(config, 128, 7, "-64"), config), HasSubstr("width -64"));
  EXPECT_THAT(refusal(list_with(config, 128, 7, "48"), config), HasSubstr("not a multiple of 32"));
  EXPECT_THAT(refusal(list_with(config, 128, 7, "64x"), config), HasSubstr("\"64x\" for layer 7"));
  EXPECT_THAT(refusal(list_with(config, 128, 7, ""), config), HasSubstr("\"\" for layer 7"));
  EXPECT_THAT(refusal(list_with(config, 128, 7, "99999999999999999999"), config), HasSubstr("neither a width"));
  EXPECT_THAT(refusal("skip,skip,skip,skip,skip", independent()), HasSubstr("at least one must run"));
}

TEST(Size, GroupsDoNotBindFloatsNorTheFullWidth) {
  const TextConfig config = topology(35, 100);
  EXPECT_TRUE(parse_size(list_with(config, 100, 7, "49"), config, 1));
  EXPECT_TRUE(parse_size("full", config, 32));
  EXPECT_THAT(refusal("e2b", config), HasSubstr("width 50 for layer 0 is not a multiple of 32"));
}

TEST(Size, LayersOfAnyTypeMayBeSkippedWhereNothingSharesTheirKv) {
  // Sharing layers 5 and 6 are sliding: layer 3 serves them, layer 4 (full) serves nobody else.
  TextConfig config = topology(35, 64);
  config.num_hidden_layers = 7;
  config.num_kv_shared_layers = 2;
  config.intermediate_size.resize(7);
  config.full_attention.resize(7);
  config.activation_sparsity.resize(7);
  EXPECT_TRUE(parse_size(list_with(config, 64, 4, "skip"), config, 32));
  EXPECT_THAT(refusal(list_with(config, 64, 3, "skip"), config), HasSubstr("layer 3 may not be skipped"));
}

TEST(Size, SevenKvFamilies) {
  const TextConfig config = e4b();
  const std::vector<std::vector<std::string>> families = {
      {"e2b", "e2.49b-block"},          {"e1.96b-layer", "e2.54b-layer"}, {"e2.73b-block", "e2.98b-layer"},
      {"e2.98b-block", "e3.24b-block"}, {"e3.18b-layer", "e3.39b-layer"}, {"e3.49b-block", "e3.79b-block"},
      {"e3.59b-layer", "e3.79b-layer"}, {"e2.69b-layer"},                 {"e4b"}};
  std::map<std::string, size_t> family_of;
  for (size_t f = 0; f < families.size(); ++f)
    for (const std::string& name : families[f]) {
      const auto [it, added] = family_of.emplace(parse_size(name, config, 32)->kv_signature(config), f);
      EXPECT_EQ(it->second, f) << name;
      EXPECT_EQ(added, name == families[f].front()) << name;
    }
  EXPECT_EQ(family_of.size(), families.size());
}

// Widths count up to the layer before the last K/V owner; a skip below it counts, one above does not.
TEST(Size, KvSignatureReachesToTheLayerBeforeTheLastOwner) {
  const TextConfig config = topology(35, 128);
  const auto signature = [&](int64_t layer, const std::string& item) {
    return parse_size(list_with(config, 128, layer, item), config, 32)->kv_signature(config);
  };
  const std::string full = full_size(config).kv_signature(config);
  EXPECT_NE(signature(18, "64"), full);
  EXPECT_NE(signature(2, "skip"), full);
  EXPECT_EQ(signature(19, "64"), full);
  EXPECT_EQ(signature(20, "skip"), full);
  const TextConfig five = independent();
  EXPECT_NE(parse_size("64,64,64,64,skip", five, 32)->kv_signature(five), full_size(five).kv_signature(five));
}

TEST(Size, SlicedConfigOfASkipSetThatIsNoBlock) {
  TextConfig config = topology(35, 128);
  auto size = full_size(config);
  for (const int64_t layer : {3, 9, 22}) size.layers[layer] = {.skipped = true};
  const TextConfig slice = sliced_config(config, size);
  EXPECT_EQ(slice.num_hidden_layers, 32);
  EXPECT_EQ(slice.num_kv_shared_layers, 14);
  EXPECT_EQ(slice.first_kv_shared_layer(), 18);
  std::vector<int64_t> full_layers;
  for (int64_t i = 0; i < 32; ++i)
    if (slice.full_attention[i]) full_layers.push_back(i);
  EXPECT_EQ(full_layers, (std::vector<int64_t>{3, 12, 17, 21, 26, 31}));
  EXPECT_EQ(slice.kv_producer(20), 16);  // layer 18 of the file
  EXPECT_EQ(slice.kv_producer(31), 17);  // layer 19 of the file
  EXPECT_GT(slice.activation_sparsity[7], 0);
  EXPECT_EQ(slice.activation_sparsity[8], 0);  // layer 10 of the file: two of the ten sparse ones are gone
}

}  // namespace
}  // namespace nestling
