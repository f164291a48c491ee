#include "storage/safetensors_header.h"

#include <nlohmann/json.hpp>
#include <unordered_set>

#include "storage/utf8.h"

namespace nestling {
namespace {

using nlohmann::json;

constexpr int kMaxDepth = 8;
constexpr std::string_view kMetadataName = "__metadata__";

// What both readers share: depth, and the first error. An event handler that returns false ends the parse.
class EventReader : public nlohmann::json_sax<json> {
 public:
  const std::string& error() const { return error_; }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    if (!error_.empty()) return false;
    return refuse(fmt::format("its JSON is malformed at byte {}", position));
  }

 protected:
  bool refuse(std::string why) {
    error_ = std::move(why);
    return false;
  }
  bool enter() {
    if (++depth_ > kMaxDepth) return refuse(fmt::format("its JSON is more than {} levels deep", kMaxDepth));
    return true;
  }
  bool leave() {
    --depth_;
    return true;
  }
  int depth() const { return depth_; }

 private:
  int depth_ = 0;
  std::string error_;
};

// Depth 1 holds names, depth 2 the fields of a tensor or the metadata strings, depth 3 the numbers of a field.
class HeaderReader : public EventReader {
 public:
  SafetensorsHeader take() { return std::move(header_); }

  bool start_object(std::size_t) override {
    if (depth() == 0) return enter();
    if (depth() == 1) {
      fields_.clear();
      if (!in_metadata_) header_.tensors.push_back({.name = name_, .dtype = {}, .shape = {}, .data_offsets = {}});
      return enter();
    }
    return misplaced("an object");
  }
  bool end_object() override {
    if (depth() == 2 && !in_metadata_ && fields_.size() != 3)
      return refuse(fmt::format("tensor {}: dtype, shape and data_offsets are needed, {} of them are there", name_,
                                fields_.size()));
    return leave();
  }
  bool key(std::string& name) override {
    if (depth() == 1) {
      if (!names_.insert(name).second) return refuse(fmt::format("{} appears twice", name));
      name_ = name;
      in_metadata_ = name == kMetadataName;
      return true;
    }
    if (!fields_.insert(name).second) return refuse(fmt::format("{}: {} appears twice", name_, name));
    if (!in_metadata_ && name != "dtype" && name != "shape" && name != "data_offsets")
      return refuse(fmt::format("tensor {}: field {} is unknown", name_, name));
    field_ = name;
    return true;
  }
  bool string(std::string& text) override {
    if (depth() == 2 && in_metadata_) {
      header_.metadata.emplace(field_, std::move(text));
      return true;
    }
    if (depth() != 2 || field_ != "dtype") return misplaced("a string");
    header_.tensors.back().dtype = std::move(text);
    return true;
  }
  bool start_array(std::size_t) override {
    if (depth() != 2 || in_metadata_ || field_ == "dtype") return misplaced("an array");
    return enter();
  }
  bool end_array() override { return leave(); }
  bool number_unsigned(json::number_unsigned_t value) override {
    if (depth() != 3) return misplaced("a number");
    HeaderTensor& tensor = header_.tensors.back();
    std::vector<uint64_t>& numbers = field_ == "shape" ? tensor.shape : tensor.data_offsets;
    if (numbers.size() >= 64) return refuse(fmt::format("tensor {}: more than 64 numbers in {}", name_, field_));
    numbers.push_back(value);
    return true;
  }
  bool number_integer(json::number_integer_t) override { return misplaced("a negative number"); }
  bool number_float(json::number_float_t, const std::string&) override { return misplaced("a fraction"); }
  bool null() override { return misplaced("null"); }
  bool boolean(bool) override { return misplaced("a boolean"); }
  bool binary(json::binary_t&) override { return misplaced("binary data"); }

 private:
  bool misplaced(std::string_view what) {
    if (depth() == 0) return refuse(fmt::format("its JSON is {}, not an object", what));
    return refuse(fmt::format("{}: {} where the format has none", name_, what));
  }

  SafetensorsHeader header_;
  std::unordered_set<std::string> names_, fields_;
  std::string name_, field_;
  bool in_metadata_ = false;
};

// Takes the strings of the top-level object weight_map and lets everything else pass.
class WeightMapReader : public EventReader {
 public:
  std::map<std::string, std::string, std::less<>> take() { return std::move(weight_map_); }
  bool found() const { return found_; }

  bool start_object(std::size_t) override {
    if (depth() == 1 && field_ == "weight_map") {
      if (found_) return refuse("weight_map appears twice");
      inside_ = found_ = true;
    } else if (inside_) {
      return misplaced();
    }
    return enter();
  }
  bool end_object() override {
    leave();
    if (depth() == 1) inside_ = false;
    return true;
  }
  bool key(std::string& name) override {
    if (depth() <= 2) field_ = name;
    return true;
  }
  bool string(std::string& text) override {
    if (!inside_) return other();
    if (!weight_map_.emplace(field_, std::move(text)).second)
      return refuse(fmt::format("tensor {} is listed twice", field_));
    return true;
  }
  bool start_array(std::size_t) override {
    if (depth() == 0) return refuse("its JSON is an array, not an object");
    return other() && enter();
  }
  bool end_array() override { return leave(); }
  bool number_unsigned(json::number_unsigned_t) override { return other(); }
  bool number_integer(json::number_integer_t) override { return other(); }
  bool number_float(json::number_float_t, const std::string&) override { return other(); }
  bool null() override { return other(); }
  bool boolean(bool) override { return other(); }
  bool binary(json::binary_t&) override { return other(); }

 private:
  bool other() { return !inside_ || misplaced(); }
  bool misplaced() { return refuse(fmt::format("tensor {} is mapped to something that is no file name", field_)); }

  std::map<std::string, std::string, std::less<>> weight_map_;
  std::string field_;
  bool inside_ = false, found_ = false;
};

// Returns the reader's error, "" when all went well.
std::string read_events(std::string_view text, EventReader& reader) {
  // The library takes a zero byte for the end of the text and would not look at what follows.
  if (text.contains('\0')) return "its JSON contains a zero byte";
  try {
    if (json::sax_parse(text, &reader)) return "";
  } catch (const std::exception& e) {
    return fmt::format("its JSON cannot be read: {}", e.what());
  }
  return reader.error().empty() ? "its JSON is malformed" : reader.error();
}

}  // namespace

Result<SafetensorsHeader> parse_safetensors_header(std::string_view json_text) {
  if (!json_text.starts_with('{'))
    return fail(ErrorCode::kModel, "its header does not begin with '{{': not a safetensors file?");
  HeaderReader reader;
  if (const std::string error = read_events(json_text, reader); !error.empty())
    return fail(ErrorCode::kModel, "{}", error);
  return reader.take();
}

Result<std::string> format_safetensors_header(const SafetensorsHeader& header) {
  const auto quoted = [](const std::string& text) { return json(text).dump(); };
  for (const auto& [key, value] : header.metadata) {
    if (!is_valid_utf8(key) || !is_valid_utf8(value))
      return fail(ErrorCode::kFailed, "metadata '{}' is not valid UTF-8", replace_invalid_utf8(key));
  }
  std::string text = "{";
  if (!header.metadata.empty()) text += quoted(std::string(kMetadataName)) + ":" + json(header.metadata).dump();
  std::unordered_set<std::string_view> names{kMetadataName};
  for (const HeaderTensor& tensor : header.tensors) {
    if (!is_valid_utf8(tensor.name))
      return fail(ErrorCode::kFailed, "tensor name '{}' is not valid UTF-8", replace_invalid_utf8(tensor.name));
    if (!names.insert(tensor.name).second)
      return fail(ErrorCode::kFailed, "tensor name {} is taken already", tensor.name);
    if (text.size() > 1) text += ",";
    text += fmt::format(R"({}:{{"dtype":"{}","shape":[{}],"data_offsets":[{}]}})", quoted(tensor.name), tensor.dtype,
                        fmt::join(tensor.shape, ","), fmt::join(tensor.data_offsets, ","));
  }
  return text + "}";
}

Result<std::map<std::string, std::string, std::less<>>> parse_weight_map(std::string_view json_text) {
  WeightMapReader reader;
  if (const std::string error = read_events(json_text, reader); !error.empty())
    return fail(ErrorCode::kModel, "{}", error);
  if (!reader.found()) return fail(ErrorCode::kModel, "has no weight_map");
  return reader.take();
}

}  // namespace nestling
