// For tests only: a tokenizer of Gemma's size and ids made from tests/data/text/gemma_pieces.json
// (tools/make_tokenizer_fixture.py). It holds every piece the tested texts go through; the ids between are taken by
// pieces that no text contains. Other texts give valid but different ids.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "text/checkpoint_tokenizer.h"
#include "text/tokenizer.h"

namespace nestling::testing {

inline std::string read_test_file(const std::string& path) {
  std::ifstream file(std::string(NESTLING_SOURCE_DIR "/tests/") + path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

inline nlohmann::json read_test_json(const std::string& path) { return nlohmann::json::parse(read_test_file(path)); }

// A folder of its own for one test.
inline std::filesystem::path make_test_directory(const std::string& name) {
  const auto path = std::filesystem::path(::testing::TempDir()) / fmt::format("nestling_text_{}_{}", name, ::getpid());
  std::filesystem::remove_all(path);
  std::filesystem::create_directories(path);
  return path;
}

inline void write_file(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

enum class Vocabulary {
  kGemma3,   // what strings.json was made with
  kGemma3n,  // with Gemma 3n's media pieces: 256000, 262144, 262145, 262272, 262273
};

// Replaces Gemma 3's media pieces by Gemma 3n's in the "added_tokens" of a tokenizer.json.
inline void give_gemma3n_pieces(nlohmann::json& added_tokens, nlohmann::json& vocab) {
  std::erase_if(added_tokens.get_ref<nlohmann::json::array_t&>(),
                [](const auto& t) { return t["id"] == 256000 || t["id"] >= 262144; });
  vocab.erase("<end_of_image>");
  vocab["<start_of_audio>"] = 256000;
  const std::pair<const char*, int> pieces[] = {{"<start_of_audio>", 256000},
                                                {"<end_of_image>", 262144},
                                                {"<image_soft_token>", 262145},
                                                {"<end_of_audio>", 262272},
                                                {"<audio_soft_token>", 262273}};
  for (const auto& [text, id] : pieces) added_tokens.push_back({{"id", id}, {"content", text}, {"special", true}});
}

// tokenizer.json in full size.
inline nlohmann::json make_tokenizer_json(Vocabulary variant) {
  const auto fixture = read_test_json("data/text/gemma_pieces.json");
  nlohmann::json vocab = fixture["pieces"];
  nlohmann::json added = nlohmann::json::array();
  const int size = fixture["vocabulary_size"];
  for (const auto& [text, entry] : fixture["added"].items()) {
    added.push_back({{"id", entry[0]}, {"content", text}, {"special", entry[1]}});
    if (entry[0] < size) vocab[text] = entry[0];
  }
  if (variant == Vocabulary::kGemma3n) give_gemma3n_pieces(added, vocab);
  std::vector<bool> taken(size);
  for (const auto& [text, id] : vocab.items()) taken[id.get<int>()] = true;
  for (int id = 0; id < size; ++id) {
    if (!taken[id]) vocab[fmt::format("\uE000{}", id)] = id;  // nothing merges to it
  }
  return {{"added_tokens", std::move(added)},
          {"model", {{"type", "BPE"}, {"byte_fallback", true}, {"unk_token", "<unk>"}, {"vocab", std::move(vocab)}}}};
}

inline std::unique_ptr<Tokenizer> load_directory(const std::filesystem::path& directory) {
  const auto model = sentencepiece_from_checkpoint(directory);
  if (!model) {
    ADD_FAILURE() << model.error().message;
    return nullptr;
  }
  auto tokenizer = Tokenizer::load(*model);
  if (!tokenizer) {
    ADD_FAILURE() << tokenizer.error().message;
    return nullptr;
  }
  return *std::move(tokenizer);
}

// Made once for each program.
inline const Tokenizer& gemma_tokenizer(Vocabulary variant = Vocabulary::kGemma3n) {
  static const auto make = [](Vocabulary v) {
    const auto directory = make_test_directory(v == Vocabulary::kGemma3 ? "gemma3" : "gemma3n");
    write_file(directory / "tokenizer.json", make_tokenizer_json(v).dump());
    auto tokenizer = load_directory(directory);
    std::filesystem::remove_all(directory);
    return tokenizer;
  };
  static const auto gemma3 = make(Vocabulary::kGemma3);
  static const auto gemma3n = make(Vocabulary::kGemma3n);
  return variant == Vocabulary::kGemma3 ? *gemma3 : *gemma3n;
}

// A vocabulary of 275 pieces: a, b, c, ab, abc, space, newline, two spaces, the bytes, and the basic control pieces.
inline nlohmann::json tiny_tokenizer_json() {
  std::vector<std::string> pieces = {"<pad>",         "<eos>", "<bos>", "<unk>",       "<start_of_turn>",
                                     "<end_of_turn>", "<b>",   "\n",    "\u2581\u2581"};
  const int added_count = static_cast<int>(pieces.size());
  for (int byte = 0; byte < 256; ++byte) pieces.push_back(fmt::format("<0x{:02X}>", byte));
  for (const char* text : {"ab", "abc", "a", "b", "c", "\u2581"}) pieces.emplace_back(text);
  nlohmann::json vocab, added;
  for (size_t id = 0; id < pieces.size(); ++id) vocab[pieces[id]] = id;
  for (int id = 0; id < added_count; ++id) {
    added.push_back({{"id", id}, {"content", pieces[id]}, {"special", id < 6}});
  }
  return {{"added_tokens", added},
          {"model",
           {{"type", "BPE"},
            {"byte_fallback", true},
            {"unk_token", "<unk>"},
            {"vocab", vocab},
            {"merges", {"a b", "ab c"}}}}};
}

}  // namespace nestling::testing
