#include "storage/checkpoint.h"

#include <algorithm>
#include <array>
#include <set>
#include <system_error>

#include "storage/safetensors_header.h"

namespace nestling {
namespace {

constexpr uint64_t kMaxConfigBytes = uint64_t{16} << 20;
constexpr uint64_t kMaxIndexBytes = 100'000'000;
constexpr size_t kMaxShards = 256;
constexpr const char* kConfigName = "config.json";
constexpr const char* kGenerationName = "generation_config.json";
constexpr const char* kPreprocessorName = "preprocessor_config.json";
constexpr const char* kTokenizerName = "tokenizer.model";
constexpr const char* kIndexName = "model.safetensors.index.json";
constexpr const char* kSingleName = "model.safetensors";
constexpr std::array<std::string_view, 4> kTowers{"vision_tower.", "audio_tower.", "embed_vision.", "embed_audio."};

// The canonical name, "" for the tied head (see checkpoint.h).
std::string canonical_name(std::string_view name) {
  for (bool stripped = true; stripped;) {
    stripped = false;
    for (const std::string_view prefix : {"model.", "language_model."}) {
      if (!name.starts_with(prefix)) continue;
      name.remove_prefix(prefix.size());
      stripped = true;
    }
  }
  if (name == "lm_head.weight") return "";
  if (std::ranges::any_of(kTowers, [&](std::string_view tower) { return name.starts_with(tower); }))
    return std::string(name);
  return "language_model." + std::string(name);
}

bool is_plain_file_name(std::string_view name) {
  constexpr std::string_view kForbidden("/\\\0", 3);
  return !name.empty() && name != "." && !name.contains("..") &&
         name.find_first_of(kForbidden) == std::string_view::npos;
}

std::string identity_of(const File& file) {
  return fmt::format("{} {} {}", file.path().string(), file.size(), file.identity().modified_ns);
}

Result<std::string> read_whole(const std::filesystem::path& path, uint64_t max_bytes,
                               std::vector<std::string>& identity) {
  NESTLING_TRY(const File file, File::open(path));
  if (file.size() > max_bytes)
    return fail(ErrorCode::kModel, "{}: {} bytes; at most {} are allowed", path.string(), file.size(), max_bytes);
  std::string text(file.size(), '\0');
  NESTLING_TRY_VOID(file.read_at(0, std::as_writable_bytes(std::span(text))));
  identity.push_back(identity_of(file));
  return text;
}

using WeightMap = std::map<std::string, std::string, std::less<>>;  // tensor name, as in the file, to file name

Result<WeightMap> read_index(const std::filesystem::path& path, std::vector<std::string>& identity) {
  NESTLING_TRY(const std::string text, read_whole(path, kMaxIndexBytes, identity));
  auto map = parse_weight_map(text);
  if (!map) return fail(ErrorCode::kModel, "{}: {}", path.string(), map.error().message);
  if (map->empty()) return fail(ErrorCode::kModel, "{}: lists no tensors", path.string());
  for (const auto& [tensor, shard] : *map) {
    if (!is_plain_file_name(shard))
      return fail(ErrorCode::kModel, "{}: tensor {} is in '{}'; a plain file name is needed", path.string(), tensor,
                  shard);
  }
  return map;
}

Result<std::vector<std::unique_ptr<SafetensorsFile>>> open_shards(const std::filesystem::path& directory,
                                                                  const std::set<std::string>& names,
                                                                  std::vector<std::string>& identity) {
  if (names.size() > kMaxShards)
    return fail(ErrorCode::kModel, "{}: {} weight files; at most {} are allowed", directory.string(), names.size(),
                kMaxShards);
  std::vector<std::unique_ptr<SafetensorsFile>> files;
  std::map<std::string_view, const SafetensorsFile*> owners;
  for (const std::string& name : names) {
    NESTLING_TRY(auto opened, SafetensorsFile::open(directory / name));
    files.push_back(std::make_unique<SafetensorsFile>(std::move(opened)));
    const SafetensorsFile& file = *files.back();
    identity.push_back(identity_of(file.file()));
    for (const auto& [tensor, entry] : file.entries()) {
      const auto [owner, is_new] = owners.emplace(tensor, &file);
      if (!is_new)
        return fail(ErrorCode::kModel, "tensor {} is in both {} and {}", tensor, owner->second->file().path().string(),
                    file.file().path().string());
    }
  }
  return files;
}

bool is_there(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

// Adds a tensor under its canonical name; two file names of one canonical name are an error.
Status add_tensor(const SafetensorsFile& file, const SafetensorsEntry& entry,
                  std::map<std::string, CheckpointTensor, std::less<>>& tensors) {
  std::string canonical = canonical_name(entry.name);
  if (canonical.empty()) return {};
  const auto [other, is_new] = tensors.emplace(std::move(canonical), CheckpointTensor{&file, entry});
  if (is_new) return {};
  return fail(ErrorCode::kModel, "{}: tensors {} and {} both mean {}", file.file().path().string(),
              other->second.entry.name, entry.name, other->first);
}

}  // namespace

Result<Checkpoint> Checkpoint::open(const std::filesystem::path& directory) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(directory, ignored))
    return fail(ErrorCode::kModel, "{}: is not a directory", directory.string());
  if (!is_there(directory / kConfigName))
    return fail(ErrorCode::kModel, "{}: is not a checkpoint, it holds no {}", directory.string(), kConfigName);
  Checkpoint checkpoint;
  checkpoint.directory_ = directory;
  NESTLING_TRY(checkpoint.config_json_, read_whole(directory / kConfigName, kMaxConfigBytes, checkpoint.identity_));
  const auto read_if_there = [&](const char* name, std::string& text) -> Status {
    if (!is_there(directory / name)) return {};
    NESTLING_TRY(text, read_whole(directory / name, kMaxConfigBytes, checkpoint.identity_));
    return {};
  };
  NESTLING_TRY_VOID(read_if_there(kGenerationName, checkpoint.generation_json_));
  NESTLING_TRY_VOID(read_if_there(kPreprocessorName, checkpoint.preprocessor_json_));
  // An import takes the tokenizer along: another one makes another package.
  if (is_there(directory / kTokenizerName)) {
    NESTLING_TRY(const File tokenizer, File::open(directory / kTokenizerName));
    checkpoint.identity_.push_back(identity_of(tokenizer));
  }
  const bool is_sharded = is_there(directory / kIndexName);
  if (!is_sharded && !is_there(directory / kSingleName))
    return fail(ErrorCode::kModel, "{}: is not a checkpoint, it holds neither {} nor {}", directory.string(),
                kIndexName, kSingleName);
  NESTLING_TRY_VOID(is_sharded ? checkpoint.open_sharded() : checkpoint.open_single());
  return checkpoint;
}

Status Checkpoint::open_single() {
  NESTLING_TRY(files_, open_shards(directory_, {kSingleName}, identity_));
  for (const auto& [name, entry] : files_[0]->entries()) NESTLING_TRY_VOID(add_tensor(*files_[0], entry, tensors_));
  return {};
}

// The index decides: a tensor of a shard that it does not list is not part of the checkpoint.
Status Checkpoint::open_sharded() {
  NESTLING_TRY(const WeightMap index, read_index(directory_ / kIndexName, identity_));
  std::set<std::string> names;
  for (const auto& [tensor, shard] : index) names.insert(shard);
  NESTLING_TRY(files_, open_shards(directory_, names, identity_));
  for (const auto& [tensor, shard] : index) {
    const auto position = std::distance(names.begin(), names.find(shard));  // files_ has the order of the names
    const SafetensorsFile& file = *files_[static_cast<size_t>(position)];
    const SafetensorsEntry* entry = file.find(tensor);
    if (entry == nullptr)
      return fail(ErrorCode::kModel, "{}: tensor {} is listed in {} but not there", file.file().path().string(), tensor,
                  kIndexName);
    NESTLING_TRY_VOID(add_tensor(file, *entry, tensors_));
  }
  return {};
}

const CheckpointTensor* Checkpoint::find(std::string_view canonical_name) const {
  const auto it = tensors_.find(canonical_name);
  return it == tensors_.end() ? nullptr : &it->second;
}

}  // namespace nestling
