#include "importing/cache.h"

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <system_error>

#include <csignal>
#include <sys/stat.h>

#include "base/log.h"
#include "importing/import.h"
#include "storage/checkpoint.h"
#include "storage/package.h"

namespace nestling {
namespace {

namespace fs = std::filesystem;

// FNV-1a; `seed` makes independent hashes of one text.
uint64_t hash(std::string_view text, uint64_t seed = 0) {
  uint64_t h = 0xcbf29ce484222325 ^ (seed * 0x9e3779b97f4a7c15);
  for (const unsigned char c : text) h = (h ^ c) * 0x100000001b3;
  return h;
}

// Files outside the identity of a checkpoint from which the tokenizer may come.
std::string tokenizer_identity(const fs::path& directory) {
  std::string identity;
  for (const char* name : {"tokenizer.model", "tokenizer.json", "tokenizer_config.json"}) {
    struct stat s{};
    if (::stat((directory / name).c_str(), &s) != 0) continue;
    identity += fmt::format("{} {} {}.{:09}\n", name, s.st_size, s.st_mtim.tv_sec, s.st_mtim.tv_nsec);
  }
  return identity;
}

struct CacheEntry {
  fs::path package;
  std::string directory_prefix;  // of all imports of this directory: "<hash of its path>-"
  std::string source_prefix;     // of those of its present state: "<hash of its path>-<hash of its files>-"
  std::string key;               // what the package must carry
};

CacheEntry locate(const Checkpoint& checkpoint, const fs::path& directory, const fs::path& cache,
                  const ImportOptions& options) {
  std::string state = fmt::format("format {}\n", kPackageFormatVersion) + tokenizer_identity(directory);
  for (const std::string& file : checkpoint.identity()) state += file + "\n";
  const std::string types = fmt::format("{}-{}-{}", weight_type_name(options.weights),
                                        weight_type_name(options.head_type()), weight_type_name(options.ple_type()));
  CacheEntry entry;
  entry.directory_prefix = fmt::format("{:016x}-", hash(directory.string()));
  entry.source_prefix = fmt::format("{}{:016x}-", entry.directory_prefix, hash(state));
  entry.package = cache / (entry.source_prefix + types + ".nest");
  entry.key = fmt::format("{:016x}{:016x}-{}", hash(state), hash(state, 1), types);
  return entry;
}

bool is_usable(const CacheEntry& entry) {
  std::error_code ignored;
  if (!fs::exists(entry.package, ignored)) return false;
  const auto package = Package::open(entry.package);
  if (package && package->info().cache_key == entry.key) return true;
  spdlog::warn("{}: {}; importing again", entry.package.string(),
               package ? "is the import of something else" : package.error().message);
  return false;
}

// The process of "<target>.partial-<pid>" (base/file.h); 0 for any other name.
int writer_of(const std::string& name) {
  constexpr std::string_view kMark = ".partial-";
  const size_t mark = name.rfind(kMark);
  if (mark == std::string::npos) return 0;
  int pid = 0;
  std::from_chars(name.data() + mark + kMark.size(), name.data() + name.size(), pid);
  return pid;
}

// Deletes imports of earlier states of the directory, and what a killed import left behind. Programs that run one of
// them keep the file they have open.
void delete_stale(const CacheEntry& entry, const fs::path& cache) {
  std::error_code ignored;
  for (const auto& file : fs::directory_iterator(cache, ignored)) {
    const std::string name = file.path().filename().string();
    if (!name.starts_with(entry.directory_prefix)) continue;
    const int writer = writer_of(name);
    const bool being_written = writer > 0 && (::kill(writer, 0) == 0 || errno == EPERM);
    const bool stale = writer > 0 ? !being_written : !name.starts_with(entry.source_prefix);
    if (stale) fs::remove(file.path(), ignored);
  }
}

}  // namespace

Result<fs::path> cache_directory() {
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && fs::path(cache).is_absolute())
    return fs::path(cache) / "nestling";
  if (const char* home = std::getenv("HOME"); home != nullptr && fs::path(home).is_absolute())
    return fs::path(home) / ".cache" / "nestling";
  return fail(ErrorCode::kFailed, "neither XDG_CACHE_HOME nor HOME is an absolute path: there is no place for imports; "
              "import the checkpoint to a package of its own");
}

Result<fs::path> cached_package(const fs::path& directory, const ImportOptions& options,
                                const TokenizerSource& tokenizer, const std::atomic<bool>* cancel) {
  NESTLING_TRY(const Checkpoint checkpoint, Checkpoint::open(directory));
  NESTLING_TRY(const fs::path cache, cache_directory());
  std::error_code error;
  fs::create_directories(cache, error);
  if (error) return fail(ErrorCode::kFailed, "{}: cannot be made: {}", cache.string(), error.message());
  fs::path canonical = fs::canonical(directory, error);
  if (error) canonical = fs::absolute(directory);

  const CacheEntry entry = locate(checkpoint, canonical, cache, options);
  if (is_usable(entry)) return entry.package;
  delete_stale(entry, cache);
  const std::string config_path = (directory / "config.json").string();
  NESTLING_TRY(const ModelConfig config,
               parse_config(checkpoint.config_json(), checkpoint.generation_json(), config_path));
  ImportExtras extras{.cache_key = entry.key, .cancel = cancel};
  NESTLING_TRY(extras.tokenizer, tokenizer(directory));
  NESTLING_TRY_VOID(import_checkpoint(checkpoint, config, options, entry.package, extras));
  return entry.package;
}

}  // namespace nestling
