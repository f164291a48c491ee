#include "line_editor.h"

#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cstring>
#include <cwchar>

#include <histedit.h>
#include <unistd.h>

#include "interrupt.h"

namespace nestling {

struct LineEditor::State {
  EditLine* editor = nullptr;
  History* history = nullptr;
  HistEvent event{};
  std::filesystem::path history_file;
  std::string prompt;
  std::string typed;  // at the moment of an interrupt
  std::mbstate_t decoding{};
  Completion completion;

  static State& of(EditLine* editor) {
    void* state = nullptr;
    el_get(editor, EL_CLIENTDATA, &state);
    return *static_cast<State*>(state);
  }
  static char* prompt_of(EditLine* editor) { return of(editor).prompt.data(); }

  static unsigned char complete(EditLine* editor, int) {
    const State& state = of(editor);
    const LineInfo* info = el_line(editor);
    const auto found = state.completion(std::string_view(info->buffer, static_cast<size_t>(info->cursor - info->buffer)));
    if (!found || found->candidates.empty()) return CC_REFRESH_BEEP;
    if (!found->insert.empty()) return el_insertstr(editor, found->insert.c_str()) == 0 ? CC_REFRESH : CC_ERROR;
    std::fputc('\n', stdout);
    for (const std::string& candidate : found->candidates) std::fprintf(stdout, "%s  ", candidate.c_str());
    std::fputc('\n', stdout);
    return CC_REDISPLAY;
  }

  // In place of libedit's own reader, which goes on after a signal: Ctrl-C would have to be typed twice.
  static int read_character(EditLine* editor, wchar_t* out) {
    State& state = of(editor);
    while (true) {
      char byte = 0;
      if (!wait_for_input()) {
        const LineInfo* info = el_line(editor);
        state.typed.assign(info->buffer, info->lastchar);
        return -1;
      }
      const ssize_t n = ::read(STDIN_FILENO, &byte, 1);
      if (n == 0) return 0;
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return -1;
      const size_t used = std::mbrtowc(out, &byte, 1, &state.decoding);
      if (used == static_cast<size_t>(-1)) state.decoding = {};  // not of this locale: the byte is dropped
      if (used != static_cast<size_t>(-1) && used != static_cast<size_t>(-2)) return 1;
    }
  }
};

LineEditor::LineEditor(std::filesystem::path history_file, Completion completion) {
  if (::isatty(STDIN_FILENO) == 0) return;
  std::setlocale(LC_CTYPE, "");
  if (MB_CUR_MAX == 1) std::setlocale(LC_CTYPE, "C.UTF-8");
  state_ = std::make_unique<State>();
  state_->history_file = std::move(history_file);
  state_->completion = std::move(completion);
  state_->history = history_init();
  history(state_->history, &state_->event, H_SETSIZE, 1000);
  history(state_->history, &state_->event, H_SETUNIQUE, 1);
  if (!state_->history_file.empty())
    history(state_->history, &state_->event, H_LOAD, state_->history_file.c_str());

  state_->editor = el_init("nestling", stdin, stdout, stderr);
  el_set(state_->editor, EL_CLIENTDATA, state_.get());
  el_set(state_->editor, EL_EDITOR, "emacs");
  el_set(state_->editor, EL_PROMPT, State::prompt_of);
  el_set(state_->editor, EL_GETCFN, State::read_character);
  el_set(state_->editor, EL_HIST, ::history, state_->history);
  el_set(state_->editor, EL_SIGNAL, 0);
  // With wide strings, which it only refers to: of narrow ones it makes copies that it never frees.
  el_wset(state_->editor, EL_ADDFN, L"nestling-complete", L"complete the name of a file", State::complete);
  el_set(state_->editor, EL_BIND, "^I", "nestling-complete", nullptr);
  el_set(state_->editor, EL_BIND, "^R", "em-inc-search-prev", nullptr);
  el_source(state_->editor, nullptr);  // the user's ~/.editrc
}

LineEditor::~LineEditor() {
  if (state_ == nullptr) return;
  if (!state_->history_file.empty()) {
    std::error_code ignored;
    std::filesystem::create_directories(state_->history_file.parent_path(), ignored);
    history(state_->history, &state_->event, H_SAVE, state_->history_file.c_str());
  }
  history_end(state_->history);
  el_end(state_->editor);
}

LineEditor::Outcome LineEditor::read(const char* prompt, std::string& line) {
  if (state_ == nullptr) return read_plain(line);
  state_->prompt = prompt;
  state_->typed.clear();
  el_resize(state_->editor);
  int count = 0;
  const char* text = el_gets(state_->editor, &count);
  if (interrupted()) {
    line = state_->typed;
    return Outcome::kInterrupted;
  }
  if (text == nullptr || count <= 0) return Outcome::kEnd;
  line = text;
  if (line.find_first_not_of(" \t\n") != std::string::npos) history(state_->history, &state_->event, H_ENTER, text);
  if (line.ends_with('\n')) line.pop_back();
  return Outcome::kLine;
}

LineEditor::Outcome LineEditor::read_plain(std::string& line) {
  while (true) {
    if (const size_t end = pending_.find('\n'); end != std::string::npos) {
      line = pending_.substr(0, end);
      pending_.erase(0, end + 1);
      return Outcome::kLine;
    }
    char buffer[4096];
    if (!wait_for_input()) return Outcome::kInterrupted;
    const ssize_t n = ::read(STDIN_FILENO, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n > 0) {
      pending_.append(buffer, static_cast<size_t>(n));
      continue;
    }
    if (pending_.empty()) return Outcome::kEnd;
    line = std::move(pending_);  // a last line without newline
    pending_.clear();
    return Outcome::kLine;
  }
}

}  // namespace nestling
