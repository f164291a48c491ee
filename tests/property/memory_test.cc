// The memory plan against reality, and parameters that are loaded only when used. Each measurement runs in a child process
// of its own: resident memory of a process never falls back by itself.
#include <algorithm>
#include <functional>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "importing/plan_parts.h"
#include "importing/synthetic.h"
#include "model/audio_tensors.h"
#include "model/tensor_names.h"
#include "runtime/multimodal.h"
#include "runtime/session.h"
#include "support/text_run.h"

namespace nestling {
namespace {

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define NESTLING_SHADOW_MEMORY 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define NESTLING_SHADOW_MEMORY 1
#endif

// Runs `measure` in a child process and returns what it gives.
uint64_t in_child(const std::function<uint64_t()>& measure) {
  int ends[2];
  EXPECT_EQ(::pipe(ends), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const uint64_t value = measure();
    [[maybe_unused]] const ssize_t written = ::write(ends[1], &value, sizeof(value));
    ::_exit(0);
  }
  uint64_t value = 0;
  EXPECT_EQ(::read(ends[0], &value, sizeof(value)), static_cast<ssize_t>(sizeof(value)));
  ::close(ends[0]);
  ::close(ends[1]);
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  return value;
}

class MemoryTest : public testing::Test {
 protected:
  void SetUp() override {
#ifdef NESTLING_SHADOW_MEMORY
    GTEST_SKIP() << "sanitizers keep shadow memory: resident bytes mean nothing";
#endif
  }
};

struct PlanCase {
  WeightType weights;
  const char* size;
  int64_t context;
  KvType kv;
};

// Peak resident memory after a context is full is what the plan says, within 5 % and 20 MB.
TEST_F(MemoryTest, PlanHoldsWhenTheContextIsFull) {
  for (const PlanCase& c : {PlanCase{WeightType::kF32, "e4b", 8'192, KvType::kF32},
                            PlanCase{WeightType::kF32, "e2b", 1'024, KvType::kF32},
                            PlanCase{WeightType::kBF16, "e4b", 4'096, KvType::kBF16},
                            PlanCase{WeightType::kQ4, "e2b", 2'048, KvType::kQ8},
                            PlanCase{WeightType::kQ8, "e3.18b-layer", 512, KvType::kBF16}}) {
    const TestPackage package(nano_path(), all_weights(c.weights));
    EngineOptions options;
    options.threads = 1;
    options.context = c.context;
    options.size = c.size;
    options.kv = c.kv;
    uint64_t planned = 0;
    {
      const auto engine = package.open(options);
      planned = engine->plan().resident();
    }
    const uint64_t peak = in_child([&] {
      const auto engine = package.open(options);
      TextRun run(*engine);
      run.last_logits(some_ids(c.context, engine->config().text.vocab_size_per_layer_input), 256);
      return resident_bytes();
    });
    const std::string name = fmt::format("{} {} {}", weight_type_name(c.weights), c.size, c.context);
    EXPECT_NEAR(static_cast<double>(peak), static_cast<double>(planned), static_cast<double>(planned) * 0.05 + 20e6)
        << name;
    fmt::print("[ MEASURED ] {}: planned {:.1f} MB, resident {:.1f} MB\n", name, planned / 1e6, peak / 1e6);
  }
}

// A package whose vision and audio sections are large stand-ins beside a real text part.
std::filesystem::path write_stand_in(const TemporaryPath& target, uint64_t section_bytes) {
  const TestPackage source(golden_path("text_multimodal_ids"), all_weights(WeightType::kF32));
  const Package text = value_or_fail(Package::open(source.path()));
  std::vector<PackageTensor> tensors = text.tensors();
  for (const Region region : {Region::kVision, Region::kAudio}) {
    const auto cols = static_cast<int64_t>(section_bytes / sizeof(float));
    const PackageTensor stand_in{.name = fmt::format("stand_in.{}", region_name(region)), .type = WeightType::kF32,
                                 .layout = Layout::kRows, .region = region, .rows = 1, .cols = cols,
                                 .bytes = packed_bytes(WeightType::kF32, Layout::kRows, 1, cols)};
    const auto after = std::find_if(tensors.begin(), tensors.end(), [&](const auto& t) { return t.region > region; });
    tensors.insert(after, stand_in);
  }
  PackageWriter writer = value_or_fail(PackageWriter::create(target.path(), text.info(), tensors));
  for (size_t i = 0; i < tensors.size(); ++i) {
    std::vector<std::byte> bytes(tensors[i].bytes, std::byte{1});
    if (const PackageTensor* own = text.find(tensors[i].name)) ok_or_fail(text.file().read_at(own->offset, bytes));
    ok_or_fail(writer.write(i, 0, bytes));
  }
  ok_or_fail(writer.commit());
  return target.path();
}

// Reads every page.
void touch(const Package& package, Region region) {
  const std::string name = fmt::format("stand_in.{}", region_name(region));
  const WeightMatrix w = value_or_fail(package.matrix(name, 1, package.find(name)->cols));
  [[maybe_unused]] volatile std::byte sink{};
  for (uint64_t i = 0; i < w.bytes; i += 512) sink = w.data[i];
}

TEST_F(MemoryTest, ModalitiesLoadOnFirstUseAndAreReleased) {
  constexpr uint64_t kSection = 48u << 20;
  const TemporaryPath file(".nest");
  write_stand_in(file, kSection);
  EngineOptions options;
  options.threads = 1;
  options.context = 64;
  const auto grown = [&](bool load, bool release) {
    return in_child([&] {
      const auto engine = value_or_fail(Engine::open(file.path(), options));
      TextRun(*engine).last_logits(some_ids(40, 300), 32);
      const uint64_t before = resident_bytes();
      if (load) {
        for (const Region region : {Region::kVision, Region::kAudio}) {
          ok_or_fail(engine->package().load_region(region));
          touch(engine->package(), region);
        }
      }
      if (release) engine->release_modalities();
      TextRun(*engine).last_logits(some_ids(40, 300), 32);
      const uint64_t after = resident_bytes();
      return after > before ? after - before : 0;
    });
  };
  EXPECT_LE(grown(false, false), 5u << 20);
  EXPECT_GE(grown(true, false), 2 * kSection);
  EXPECT_LE(grown(true, true), 5u << 20);
}

TEST_F(MemoryTest, TextAloneLoadsNoOtherRegion) {
  const TestPackage package(golden_path("text_multimodal_ids"), all_weights(WeightType::kQ8));
  EngineOptions options;
  options.threads = 1;
  options.context = 64;
  const auto engine = package.open(options);
  TextRun(*engine).last_logits(some_ids(40, 300), 32);
  EXPECT_FALSE(engine->package().is_loaded(Region::kVision));
  EXPECT_FALSE(engine->package().is_loaded(Region::kAudio));
  const std::vector<int32_t> ids = {5, static_cast<int32_t>(engine->config().vision->vocab_offset), 7};
  value_or_fail(embed_multimodal(engine->towers(), ids, {}, {}));
  EXPECT_TRUE(engine->package().is_loaded(Region::kVision));
  EXPECT_FALSE(engine->package().is_loaded(Region::kAudio));
  engine->release_modalities();
  EXPECT_FALSE(engine->package().is_loaded(Region::kVision));
}

// A package of the real shapes without data: a sparse file, for plans.
std::filesystem::path write_empty_package(const TemporaryPath& target, const ModelConfig& config,
                                          const ImportOptions& import) {
  std::vector<PackageTensor> tensors;
  for (const TextTensor& t : text_tensors(config.text))
    tensors.push_back(stored_text_tensor(t, config.text, import, config.text.vocab_size_per_layer_input));
  if (config.audio) {
    for (const TowerTensor& t : audio_tensors(*config.audio))
      tensors.push_back(stored_tower_tensor(t, Region::kAudio, import));
    for (PackageTensor& t : stored_embedder(import, audio_embedder(config))) tensors.push_back(std::move(t));
  }
  std::ranges::stable_sort(tensors, {}, &PackageTensor::region);
  PackageWriter writer = value_or_fail(
      PackageWriter::create(target.path(), {.config_json = config_to_json(config), .source = "", .cache_key = "",
                                            .tokenizer = ""}, tensors));
  ok_or_fail(writer.commit());
  return target.path();
}

uint64_t planned_weights(const Package& package, const ModelConfig& config, const ModelSize& size) {
  uint64_t total = 0;
  const MemoryRequest request{.size = size, .ple = {}};
  for (const MemoryRegion& region : plan_memory(package, config, request).regions)
    if (region.name.starts_with("weights")) total += region.resident;
  return total;
}

// An E4B package run at e2b needs what an E2B package needs, within 3 % (the projection rows of the skipped layers).
TEST(MemoryPlan, E4bAtE2bNeedsWhatE2bNeeds) {
  for (const WeightType weights : {WeightType::kQ4, WeightType::kBF16}) {
    const ImportOptions import{.weights = weights, .head = {}, .ple = {}};
    const ModelConfig e4b = value_or_fail(synthetic_model("e4b", import)).config;
    const ModelConfig e2b = value_or_fail(synthetic_model("e2b", import)).config;
    const TemporaryPath e4b_file(".nest"), e2b_file(".nest");
    const Package large = value_or_fail(Package::open(write_empty_package(e4b_file, e4b, import)));
    const Package small = value_or_fail(Package::open(write_empty_package(e2b_file, e2b, import)));
    const auto at_e2b = static_cast<double>(
        planned_weights(large, e4b, value_or_fail(parse_size("e2b", e4b.text, kQuantBlock))));
    const auto own = static_cast<double>(planned_weights(small, e2b, full_size(e2b.text)));
    EXPECT_NEAR(at_e2b, own, 0.03 * own);
    EXPECT_GT(static_cast<double>(planned_weights(large, e4b, full_size(e4b.text))), 1.5 * own);
  }
}

// Audio layers stay on storage where the budget has no room for them, and only there.
TEST(MemoryBudget, E2bHearsWithin2GB) {
  const ImportOptions import{.weights = WeightType::kQ4, .head = {}, .ple = {}};
  const ModelConfig config = value_or_fail(synthetic_model("e2b", import, {.audio = true})).config;
  const TemporaryPath file(".nest");
  write_empty_package(file, config, import);
  EngineOptions options;
  options.threads = 2;
  options.sounds = true;
  const auto roomy = value_or_fail(Engine::open(file.path(), options));
  EXPECT_EQ(roomy->towers().sound.weights(), AudioWeights::kResident);
  EXPECT_TRUE(roomy->notes().empty() || roomy->notes().front().find("audio layers") == std::string::npos);
  EXPECT_GT(roomy->plan().resident(), 2'000'000'000u);

  options.memory_budget = 2'000'000'000;
  const auto tight = value_or_fail(Engine::open(file.path(), options));
  EXPECT_EQ(tight->towers().sound.weights(), AudioWeights::kStreamed);
  EXPECT_LE(tight->plan().resident(), *options.memory_budget);
  ASSERT_FALSE(tight->notes().empty());
  EXPECT_NE(tight->notes().front().find("audio layers"), std::string::npos) << tight->notes().front();
  fmt::print("[ MEASURED ] E2B with sound: {:.0f} MB planned, {:.0f} MB with the layers on storage\n",
             roomy->plan().resident() / 1e6, tight->plan().resident() / 1e6);

  // The same when the first sound comes as a surprise.
  options.sounds = false;
  const auto later = value_or_fail(Engine::open(file.path(), options));
  EXPECT_FALSE(later->towers().sound.is_loaded());
  ok_or_fail(later->load_sound());
  EXPECT_EQ(later->towers().sound.weights(), AudioWeights::kStreamed);
  EXPECT_EQ(later->plan().resident(), tight->plan().resident());

  options.memory_budget = later->plan().resident() - 100'000'000;
  options.sounds = true;
  EXPECT_EQ(Engine::open(file.path(), options).error().code, ErrorCode::kBudget);
}

TEST(MemoryBudget, RefusesWithTheTableAndWhatWouldFit) {
  const TestPackage package(nano_path(), all_weights(WeightType::kQ4));
  EngineOptions options;
  options.context = 32'768;
  options.memory_budget = 60'000'000;
  const auto engine = Engine::open(package.path(), options);
  ASSERT_FALSE(engine);
  EXPECT_EQ(engine.error().code, ErrorCode::kBudget);
  EXPECT_NE(engine.error().message.find("K/V cache"), std::string::npos) << engine.error().message;
  EXPECT_NE(engine.error().message.find("would fit"), std::string::npos) << engine.error().message;
}

TEST(MemoryBudget, AutoTakesTheLargestSizeThatFits) {
  const TestPackage package(nano_path(), all_weights(WeightType::kF32));
  EngineOptions options;
  options.context = 64;
  options.threads = 1;
  const auto needed = [&](const char* size) {
    options.size = size;
    return package.open(options)->plan().resident();
  };
  const uint64_t full = needed("e4b"), middle = needed("e2.98b-layer");
  options.size = "auto";
  options.memory_budget = full;
  EXPECT_EQ(package.open(options)->default_size().name, "e4b");
  options.memory_budget = (full + middle) / 2;
  const auto engine = package.open(options);
  EXPECT_NE(engine->default_size().name, "e4b");
  EXPECT_LE(engine->plan().resident(), *options.memory_budget);
  EXPECT_FALSE(engine->notes().empty());
  options.memory_budget = 1'000'000;
  EXPECT_EQ(Engine::open(package.path(), options).error().code, ErrorCode::kBudget);
}

}  // namespace
}  // namespace nestling
