#include "text/stop_strings.h"

#include <algorithm>
#include <utility>

#include "text/utf8.h"

namespace nestling {

void StopStrings::Stop::advance(char c) {
  while (state > 0 && (state == text.size() || text[state] != c)) state = failure[state - 1];
  if (text[state] == c) ++state;
}

Result<StopStrings> StopStrings::create(std::vector<std::string> stops) {
  if (stops.size() > kMaxStops) {
    return fail(ErrorCode::kUsage, "{} stop strings; at most {} are allowed", stops.size(), kMaxStops);
  }
  StopStrings result;
  for (std::string& text : stops) {
    if (text.empty()) return fail(ErrorCode::kUsage, "an empty stop string; at least one character is needed");
    if (const auto offset = find_invalid_utf8(text)) {
      return fail(ErrorCode::kUsage, "stop string is not valid UTF-8: byte {} is 0x{:02X}", *offset,
                  static_cast<uint8_t>(text[*offset]));
    }
    Stop stop{std::move(text), {0}};
    // The failure table of a prefix is what advance() needs to extend it by one.
    for (size_t i = 1; i < stop.text.size(); ++i) {
      stop.advance(stop.text[i]);
      stop.failure.push_back(stop.state);
    }
    stop.state = 0;
    result.stops_.push_back(std::move(stop));
  }
  return result;
}

std::string StopStrings::feed(std::string_view piece) {
  if (stopped_) return {};
  for (const char c : piece) {
    held_.push_back(c);
    const Stop* found = nullptr;
    for (Stop& stop : stops_) {
      stop.advance(c);
      if (stop.state == stop.text.size() && (!found || stop.text.size() > found->text.size())) found = &stop;
    }
    if (!found) continue;
    stopped_ = true;
    matched_ = found->text;
    held_.resize(held_.size() - matched_.size());
    return std::exchange(held_, {});
  }
  size_t keep = 0;
  for (const Stop& stop : stops_) keep = std::max(keep, stop.state);
  std::string out = held_.substr(0, held_.size() - keep);
  held_.erase(0, out.size());
  return out;
}

std::string StopStrings::flush() {
  for (Stop& stop : stops_) stop.state = 0;
  return std::exchange(held_, {});
}

}  // namespace nestling
