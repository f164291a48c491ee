// Ctrl-C (and SIGTERM): the first asks for an end at the next token, so that what was generated is shown and nothing is
// left half written; a second one ends the program at once.
#pragma once

#include <atomic>

namespace nestling {

void install_interrupt_handler();
// The flag that long work looks at.
const std::atomic<bool>* interrupt_flag();
bool interrupted();
void interrupt();        // as if by Ctrl-C: what was asked for has become pointless
void clear_interrupt();  // chat: back to the prompt

// Waits until standard input can be read; false when interrupted, before or while it waits.
bool wait_for_input();

}  // namespace nestling
