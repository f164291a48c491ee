// What a line typed in a chat asks for: "/size e2b", or a message.
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"

namespace nestling {

enum class ChatVerb { kMessage, kImage, kAudio, kSize, kStats, kClear, kSave, kHelp, kQuit };

struct ChatInput {
  ChatVerb verb = ChatVerb::kMessage;
  std::string text;  // the message, or what follows the command
};

// A line that begins with "/" is a command; "//" begins a message with one slash. kUsage: an unknown command, or one
// without the file it needs.
Result<ChatInput> parse_chat_input(std::string_view line);
// One line for each command.
std::string chat_help();

}  // namespace nestling
