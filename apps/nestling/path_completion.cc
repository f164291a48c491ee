#include "path_completion.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>

namespace nestling {

namespace fs = std::filesystem;

std::string expand_home(std::string_view path) {
  const char* home = std::getenv("HOME");
  if (!path.starts_with("~/") || home == nullptr) return std::string(path);
  return home + std::string(path.substr(1));
}

PathCompletion complete_path(std::string_view prefix) {
  const size_t slash = prefix.rfind('/');
  const bool has_directory = slash != std::string_view::npos;
  const std::string begin(has_directory ? prefix.substr(slash + 1) : prefix);
  const std::string directory = has_directory ? expand_home(prefix.substr(0, slash + 1)) : ".";
  PathCompletion result;
  std::error_code error;
  for (auto it = fs::directory_iterator(directory, error); !error && it != fs::directory_iterator(); it.increment(error)) {
    std::string name = it->path().filename().string();
    if (!name.starts_with(begin) || (name.starts_with('.') && begin.empty())) continue;
    std::error_code ignored;
    if (it->is_directory(ignored)) name += '/';
    result.candidates.push_back(std::move(name));
    if (result.candidates.size() == kMaxCandidates) break;
  }
  std::ranges::sort(result.candidates);
  if (result.candidates.empty()) return result;
  // Sorted: what the first and the last have in common, all have.
  const std::string &first = result.candidates.front(), &last = result.candidates.back();
  const auto end = std::ranges::mismatch(first, last).in1;
  result.insert.assign(first.begin() + static_cast<std::ptrdiff_t>(begin.size()), end);
  if (result.candidates.size() == 1 && !first.ends_with('/')) result.insert += ' ';
  return result;
}

}  // namespace nestling
