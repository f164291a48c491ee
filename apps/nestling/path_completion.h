// Completion of the names of files, for /image and /audio in a chat.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace nestling {

struct PathCompletion {
  std::string insert;                   // what all candidates go on with after the prefix
  std::vector<std::string> candidates;  // last parts of the names, directories with / behind; sorted
};

// The names that begin with `prefix`, "~/" being the user's home; hidden ones only when the prefix asks for them. At most
// kMaxCandidates.
PathCompletion complete_path(std::string_view prefix);
inline constexpr size_t kMaxCandidates = 200;

// "~/x" is the x in the user's home.
std::string expand_home(std::string_view path);

}  // namespace nestling
