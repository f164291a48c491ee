// Saving and restoring a session: ids, media keys and the filled part of every K/V layer, in a GGUF container.
#include <cstring>

#include "runtime/session.h"
#include "storage/gguf.h"

namespace nestling {
namespace {

constexpr uint64_t kSessionVersion = 3;
constexpr uint32_t kGgmlI8 = 24;

std::string tensor_name(size_t owner) { return fmt::format("kv.{}", owner); }

// What K/V depend on besides the size: the model, its weights and how K/V are stored.
std::string identity(Engine& engine) {
  const FileIdentity& file = engine.package().file().identity();
  return fmt::format("package of {} bytes, modified {}, {} kernels, K/V {}", file.size, file.modified_ns,
                     engine.kernels().name(), kv_type_name(*engine.options().kv));
}

uint64_t total_bytes(const std::vector<std::span<std::byte>>& parts) {
  uint64_t total = 0;
  for (const auto part : parts) total += part.size();
  return total;
}

}  // namespace

Status Session::save(const std::filesystem::path& path, std::string_view user_data) const {
  std::vector<gguf::TensorPlan> tensors;
  std::vector<uint64_t> capacities;
  for (const KvLayer& layer : kv_->owners()) {
    const uint64_t bytes = total_bytes(layer.used(position()));
    capacities.push_back(static_cast<uint64_t>(layer.capacity()));
    tensors.push_back({tensor_name(tensors.size()), {std::max<uint64_t>(bytes, 1)}, kGgmlI8, std::max<uint64_t>(bytes, 1)});
  }
  const std::vector<gguf::MetadataEntry> metadata = {
      {"general.architecture", std::string("nestling-session")},
      {"session.version", kSessionVersion},
      {"session.identity", identity(engine_)},
      {"session.kv_signature", kv_signature_},
      {"session.ids", std::vector<uint64_t>(ids_.begin(), ids_.end())},
      {"session.media_keys", media_keys_},
      {"session.written", static_cast<uint64_t>(written_)},
      {"session.capacities", capacities},
      {"session.user_data", std::string(user_data)}};
  NESTLING_TRY(gguf::Writer writer, gguf::Writer::create(path, metadata, tensors, 32));
  for (size_t i = 0; i < tensors.size(); ++i) {
    uint64_t offset = 0;
    for (const auto part : kv_->owners()[i].used(position())) {
      NESTLING_TRY_VOID(writer.write(i, offset, part));
      offset += part.size();
    }
  }
  return writer.commit();
}

Status Session::load(const std::filesystem::path& path, std::string* user_data) {
  NESTLING_TRY(const File file, File::open(path));
  NESTLING_TRY(const gguf::Header header, gguf::read_header(file));
  NESTLING_TRY(const uint64_t version, header.unsigned_integer("session.version"));
  if (version != kSessionVersion)
    return fail(ErrorCode::kModel, "{}: session format {}; this program reads {}", path.string(), version,
                kSessionVersion);
  NESTLING_TRY(const std::string saved_identity, header.string("session.identity"));
  if (saved_identity != identity(engine_))
    return fail(ErrorCode::kModel, "{}: was saved with another model or K/V type ({}; now {})", path.string(),
                saved_identity, identity(engine_));
  NESTLING_TRY(std::string signature, header.string("session.kv_signature"));
  const auto array = [&](const char* key) -> const std::vector<uint64_t>* {
    const gguf::Value* value = header.find(key);
    return value == nullptr ? nullptr : std::get_if<std::vector<uint64_t>>(value);
  };
  const auto *ids = array("session.ids"), *media_keys = array("session.media_keys"),
             *capacities = array("session.capacities");
  const std::span<KvLayer> owners = kv_->owners();
  if (ids == nullptr || media_keys == nullptr || capacities == nullptr || media_keys->size() != ids->size() ||
      capacities->size() != owners.size() || header.tensors.size() != owners.size())
    return fail(ErrorCode::kModel, "{}: is not a complete session file", path.string());
  const auto positions = static_cast<int64_t>(ids->size());
  NESTLING_TRY(const uint64_t saved_written, header.unsigned_integer("session.written"));
  if (saved_written < ids->size() || saved_written > static_cast<uint64_t>(engine_.config().text.max_position_embeddings))
    return fail(ErrorCode::kModel, "{}: {} positions written; {} (its tokens) to {} are allowed", path.string(),
                saved_written, positions, engine_.config().text.max_position_embeddings);
  const auto written = static_cast<int64_t>(saved_written);
  if (positions > engine_.options().context)
    return fail(ErrorCode::kUsage, "{}: holds {} tokens; the context holds {} (raise --ctx)", path.string(), positions,
                engine_.options().context);
  for (const uint64_t id : *ids)
    if (id >= static_cast<uint64_t>(engine_.config().text.vocab_size))
      return fail(ErrorCode::kModel, "{}: token id {} is outside the vocabulary", path.string(), id);
  for (size_t i = 0; i < owners.size(); ++i) {
    const auto saved = static_cast<int64_t>((*capacities)[i]), now = owners[i].capacity();
    if (saved != now && (written > saved || written > now))
      return fail(ErrorCode::kModel, "{}: its windows hold {} tokens, here {}: use the --ctx and --chunk it was saved with",
                  path.string(), saved, now);
    if (header.tensors[i].bytes != std::max<uint64_t>(1, total_bytes(owners[i].used(positions))))
      return fail(ErrorCode::kModel, "{}: {} has {} bytes, {} were expected", path.string(), header.tensors[i].name,
                  header.tensors[i].bytes, total_bytes(owners[i].used(positions)));
  }

  clear();
  for (size_t i = 0; i < owners.size(); ++i) {
    uint64_t offset = header.tensors[i].offset;
    for (const auto part : owners[i].used(positions)) {
      NESTLING_TRY_VOID(file.read_at(offset, part));
      offset += part.size();
    }
  }
  for (const uint64_t id : *ids) ids_.push_back(static_cast<int32_t>(id));
  media_keys_ = *media_keys;
  kv_signature_ = std::move(signature);
  written_ = written;
  if (user_data != nullptr) {
    NESTLING_TRY(*user_data, header.string("session.user_data"));
  }
  return {};
}

}  // namespace nestling
