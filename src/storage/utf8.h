// Strings of container files are UTF-8 by specification; others are refused before anything uses them.
#pragma once

#include <string>
#include <string_view>

namespace nestling {

// Well-formed UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF.
bool is_valid_utf8(std::string_view text);
// The text with every byte that belongs to no well-formed sequence replaced by '?' (file names may be any bytes).
std::string replace_invalid_utf8(std::string_view text);

}  // namespace nestling
