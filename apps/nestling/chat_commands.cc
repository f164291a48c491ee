#include "chat_commands.h"

#include <algorithm>

#include "text/utf8.h"

namespace nestling {
namespace {

enum class Takes { kNothing, kMaybe, kFile };

struct Command {
  std::string_view name;
  ChatVerb verb;
  Takes takes;
  std::string_view help;
};

constexpr Command kCommands[] = {
    {"/image", ChatVerb::kImage, Takes::kFile, "/image FILE   put a picture before the next message (Tab completes its name)"},
    {"/audio", ChatVerb::kAudio, Takes::kFile, "/audio FILE   put a sound before the next message"},
    {"/size", ChatVerb::kSize, Takes::kMaybe, "/size [SIZE]  show or change the size of the model"},
    {"/stats", ChatVerb::kStats, Takes::kNothing, "/stats        tokens, speed and memory of the last answer"},
    {"/clear", ChatVerb::kClear, Takes::kNothing, "/clear        begin a new conversation"},
    {"/save", ChatVerb::kSave, Takes::kMaybe, "/save [FILE]  save the conversation now [the file of --session]"},
    {"/help", ChatVerb::kHelp, Takes::kNothing, "/help         this list"},
    {"/quit", ChatVerb::kQuit, Takes::kNothing, "/quit         end (also Ctrl-D)"},
};

}  // namespace

Result<ChatInput> parse_chat_input(std::string_view line) {
  if (line.starts_with("//")) return ChatInput{ChatVerb::kMessage, std::string(line.substr(1))};
  if (!line.starts_with('/')) return ChatInput{ChatVerb::kMessage, std::string(line)};
  const size_t space = std::min(line.find(' '), line.size());
  const std::string_view name = line.substr(0, space), argument = strip(line.substr(space));
  const auto* command = std::ranges::find(kCommands, name, &Command::name);
  if (command == std::end(kCommands))
    return fail(ErrorCode::kUsage, "{} is no command; /help lists them, and // begins a message with a slash", name);
  if (command->takes == Takes::kFile && argument.empty())
    return fail(ErrorCode::kUsage, "{} needs the name of a file", name);
  if (command->takes == Takes::kNothing && !argument.empty())
    return fail(ErrorCode::kUsage, "{} takes nothing after it, found \"{}\"", name, argument);
  return ChatInput{command->verb, std::string(argument)};
}

std::string chat_help() {
  std::string text;
  for (const Command& command : kCommands) text += fmt::format("{}\n", command.help);
  return text +
         "A line that ends with \\ goes on in the next one; \"\"\" begins and ends a message of many lines.\n"
         "Ctrl-C stops an answer; at an empty prompt it ends the chat.\n";
}

}  // namespace nestling
