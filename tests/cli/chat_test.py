"""nestling chat: from a pipe, and at a terminal (a pseudo-terminal)."""

import os
import pty
import re
import select
import signal
import termios
import time
import unittest

from harness import PATIENCE, PROGRAM, CliTest, files_below, needs_towers
from media_files import png, wav

CHAT = ("chat", "-m", "nano", "--temp", "0")
STATS = re.compile(r"prompt +(\d+) tokens: (\d+) from the cache, (\d+) new")


class ChatTest(CliTest):
    def chat(self, *lines, args=(), status=0):
        """Stdout and stderr of a chat with these lines."""
        done = self.run_program(*CHAT, *args, stdin="\n".join(lines) + "\n")
        self.assertEqual(done.returncode, status, done.stderr.decode())
        return done.stdout.decode(), done.stderr.decode()

    def stats(self, text):
        return [tuple(map(int, found)) for found in STATS.findall(text)]


class PipeTest(ChatTest):
    def test_a_second_turn_reads_only_what_is_new(self):
        answers, notes = self.chat("My name is Anna.", "/stats", "What is my name?", "/stats")
        self.assertEqual(len(answers.splitlines()), 2)
        (first, cached_first, new_first), (second, cached_second, new_second) = self.stats(notes)
        self.assertEqual((cached_first, new_first), (0, first))
        self.assertGreaterEqual(cached_second, first)
        self.assertEqual(cached_second + new_second, second)
        self.assertLess(new_second, second // 2)

    def test_a_conversation_is_what_one_prompt_would_be(self):
        answers, _ = self.chat("My name is Anna.", "What is my name?")
        first, second = answers.splitlines()
        whole = ("<start_of_turn>user\nMy name is Anna.<end_of_turn>\n<start_of_turn>model\n" + first +
                 "<end_of_turn>\n<start_of_turn>user\nWhat is my name?<end_of_turn>\n<start_of_turn>model\n")
        self.assertEqual(self.succeed("run", "-m", "nano", "--temp", "0", "--raw", "-p", whole).strip(), second)

    def test_sessions_resume(self):
        uninterrupted, notes = self.chat("My name is Anna.", "What is my name?", "/stats")
        first, _ = self.chat("My name is Anna.", args=("--session", "s"))
        second, resumed = self.chat("What is my name?", "/stats", args=("--session", "s"))
        self.assertEqual(first + second, uninterrupted)
        self.assertIn("resumed 1 turns", resumed)
        self.assertEqual(self.stats(resumed), self.stats(notes))  # nothing was read again
        third, resumed = self.chat(args=("--session", "s"))
        self.assertEqual(third, "")
        self.assertIn("resumed 2 turns", resumed)

    def test_sessions_are_tied_to_what_wrote_them(self):
        self.chat("Hello!", args=("--session", "s"))
        before = (self.directory / "s").read_bytes()
        self.refused(3, *CHAT, "--session", "s", "--kv", "f32", says=["s:", "K/V"], stdin="Hello!\n")
        self.refused(3, *CHAT, "--session", "s", "--weights", "q8", says="s:", stdin="Hello!\n")
        self.refused(2, *CHAT, "--session", "s", "--system", "Be rude.", says="--system", stdin="Hello!\n")
        self.assertEqual((self.directory / "s").read_bytes(), before)
        _, notes = self.chat("Hello!", args=("--session", "s", "--size", "e2b"))
        self.assertIn("read again", notes)

    def test_damaged_sessions_are_refused(self):
        self.chat("Hello!", args=("--session", "s"))
        whole = (self.directory / "s").read_bytes()
        for damaged in (b"", b"GGUF", whole[:200], whole[:-100], b"X" + whole[1:],
                        whole.replace(b"reply_closed", b"reply_cl0sed")):
            (self.directory / "s").write_bytes(damaged)
            self.refused(3, *CHAT, "--session", "s", says="s:", stdin="Hello!\n")
            self.assertEqual((self.directory / "s").read_bytes(), damaged)

    def test_an_error_loses_no_session(self):
        self.chat("My name is Anna.", "/frob", args=("--session", "s"), status=2)
        _, resumed = self.chat(args=("--session", "s"))
        self.assertIn("resumed 1 turns", resumed)

    def test_commands(self):
        answers, notes = self.chat("/help", "/stats", "/size", "/size e2b", "/quit", "Hello!")
        self.assertEqual(answers, "")
        for text in ("/image FILE", "no answer yet", "size e4b", "size e2b"):
            self.assertIn(text, notes)
        self.assertIn("/frob", self.chat("/frob", status=2)[1])
        self.assertIn("e2b", self.chat("/size e9", status=2)[1])
        self.assertIn("x.png", self.chat("/image x.png", status=1)[1])  # not there
        self.assertIn("x.wav", self.chat("/audio x.wav", status=1)[1])
        self.assertIn("standard input", self.chat("/audio -", status=2)[1])
        self.assertIn("/image", self.chat("/image", status=2)[1])

    def test_clear_forgets(self):
        _, notes = self.chat("Hello!", "/stats", "/clear", "Hello!", "/stats")
        first, second = self.stats(notes)
        self.assertEqual(first, second)

    def test_save_command(self):
        self.chat("Hello!", "/save kept", "Hello!")
        self.assertEqual(files_below(self.directory), ["kept"])
        self.assertIn("resumed 1 turns", self.chat(args=("--session", "kept"))[1])
        self.chat("/save", status=2)

    def test_many_lines_are_one_message(self):
        joined, notes = self.chat("What is the \\", "opposite of hot?", "/stats")
        block, notes_block = self.chat('"""What is the ', 'opposite of hot?"""', "/stats")
        self.assertEqual((joined, self.stats(notes)), (block, self.stats(notes_block)))
        self.assertEqual(len(self.stats(notes)), 1)

    def test_slashes_begin_a_message_when_doubled(self):
        answers, _ = self.chat("//hello")
        self.assertTrue(answers.strip())

    def test_the_context_warns_and_ends(self):
        _, notes = self.chat("Hello!", "Hello!", "Hello!", "Hello!", "/stats", args=("--ctx", "64"), status=2)
        self.assertRegex(notes, r"\d+ of 64 tokens of the context are used")
        self.assertRegex(notes, r"the prompt has \d+ tokens; the context holds 64")

    def test_invalid_text(self):
        done = self.run_program(*CHAT, stdin=b"caf\xe9\n")
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"UTF-8", done.stderr)

    def test_end_of_input_and_interrupt(self):
        self.assertEqual(self.chat()[0], "")
        with self.started(*CHAT, stdin=-1) as process:
            process.send_signal(signal.SIGINT)
            self.assertEqual(process.wait(), 130)


@needs_towers
class MediaTest(ChatTest):
    """Pictures and sounds in a chat."""

    def setUp(self):
        super().setUp()
        png(self.directory / "a.png", 64, 64)
        png(self.directory / "b.png", 64, 64, lambda x, y: (255 - x, 0, y))
        wav(self.directory / "a.wav", 1.0)

    def test_a_second_question_reads_only_what_is_new(self):
        _, notes = self.chat("/image a.png", "What is it?", "/stats", "Is it large?", "/stats")
        self.assertIn("a.png: 64 x 64 pixels, 256 tokens", notes)
        (first, cached_first, _), (_, cached_second, _) = self.stats(notes)
        self.assertGreater(first, 256)
        self.assertEqual(cached_first, 0)
        self.assertGreaterEqual(cached_second, first)
        self.assertIn("1 from the cache", notes)  # encoded when it was shown

    def test_it_is_what_run_says(self):
        answers, _ = self.chat("/image a.png", "/audio a.wav", "What is it?")
        self.assertEqual(answers, self.succeed("run", "-m", "nano", "--temp", "0", "--image", "a.png", "--audio", "a.wav",
                                               "-p", "What is it?"))

    def test_sessions_hold_what_was_seen(self):
        whole, notes = self.chat("/image a.png", "What is it?", "Is it large?", "/image b.png", "And this?", "/stats")
        first, _ = self.chat("/image a.png", "What is it?", args=("--session", "s"))
        (self.directory / "a.png").unlink()
        rest, resumed = self.chat("Is it large?", "/image b.png", "And this?", "/stats", args=("--session", "s"))
        self.assertEqual(first + rest, whole)
        self.assertEqual(self.stats(resumed), self.stats(notes))

    def test_another_size_reads_pictures_again(self):
        answers, notes = self.chat("/image a.png", "What is it?", "/size e2b", "Is it large?", "/stats")
        self.assertEqual(len(answers.splitlines()), 2)
        self.assertIn("read again", notes)
        self.assertEqual(self.stats(notes)[0][1], 0)
        # A saved session has no pictures to read again.
        self.chat("/image a.png", "What is it?", args=("--session", "s"))
        self.assertIn("saved session", self.chat("Is it large?", args=("--session", "s", "--size", "e2b"), status=2)[1])

    def test_files_that_cannot_be_read(self):
        (self.directory / "text.png").write_text("no picture")
        self.assertIn("text.png", self.chat("/image text.png", status=1)[1])
        self.assertIn("a.wav", self.chat("/image a.wav", status=1)[1])


class Terminal:
    """A program at a pseudo-terminal."""

    def __init__(self, test, *args):
        program = [PROGRAM, *args]
        self.text = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(test.directory)
            os.execve(program[0], program, test.environment())
        test.addCleanup(self.close)

    def read_on(self, deadline, wanted):
        """Whether the program printed more before it ended."""
        ready, _, _ = select.select([self.fd], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            raise AssertionError(f"{wanted} did not come; there was {self.text!r}")
        try:
            piece = os.read(self.fd, 4096)
        except OSError:  # the program has ended
            piece = b""
        self.text += piece.decode(errors="replace")
        return bool(piece)

    def expect(self, text):
        """Reads on until `text` has appeared after what was expected before."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.text:
            if not self.read_on(deadline, repr(text)):
                raise AssertionError(f"the program ended before {text!r}; there was {self.text!r}")
        before, self.text = self.text.split(text, 1)
        return before

    def expect_prompt(self):
        """Until the program edits a line: what is typed earlier, the terminal itself would echo, and may lose."""
        before, deadline = self.expect(">>> "), time.monotonic() + PATIENCE
        while termios.tcgetattr(self.fd)[3] & termios.ICANON:
            if time.monotonic() > deadline:
                raise AssertionError(f"no line is edited; there was {self.text!r}")
            time.sleep(0.001)
        return before

    def type(self, text):
        os.write(self.fd, text.encode())

    def status(self):
        """Exit status, with everything still printed read."""
        deadline = time.monotonic() + PATIENCE
        while self.read_on(deadline, "the end"):
            pass
        pid, status = os.waitpid(self.pid, 0)
        self.pid = 0
        return os.waitstatus_to_exitcode(status)

    def close(self):
        os.close(self.fd)
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


class TerminalTest(CliTest):
    def chat(self, *args):
        terminal = Terminal(self, *CHAT[:3], *(args or CHAT[3:]))
        terminal.expect("/help lists the commands")
        terminal.expect_prompt()
        return terminal

    def test_answers_and_prompts_again(self):
        terminal = self.chat()
        terminal.type("What is the opposite of hot?\n")
        self.assertIn("hot", terminal.expect_prompt())
        terminal.type("\x04")
        self.assertEqual(terminal.status(), 0)

    def test_lines_can_be_edited(self):
        terminal = self.chat()
        terminal.type("/szie\x7f\x7f\x7fize\n")
        terminal.expect("size e4b")
        terminal.expect_prompt()
        terminal.type("/quit\n")
        self.assertEqual(terminal.status(), 0)

    def test_history_is_kept_from_chat_to_chat(self):
        terminal = self.chat(*CHAT[3:], "--history", "lines")
        terminal.type("/size e2b\n")
        terminal.expect("\nsize e2b\r\n")
        terminal.expect_prompt()
        terminal.type("/size\n")
        terminal.expect("\nsize e2b\r\n")
        terminal.expect_prompt()
        terminal.type("\x10\x10\x7f\x7f\x7fe4b\n")  # Ctrl-P: up in the history, to the first command
        terminal.expect("\nsize e4b\r\n")
        terminal.expect_prompt()
        terminal.type("/quit\n")
        self.assertEqual(terminal.status(), 0)
        self.assertEqual((self.directory / "lines").stat().st_mode & 0o077, 0)
        again = self.chat(*CHAT[3:], "--history", "lines")
        again.type("\x10\x10\x10\x10\n")
        again.expect("\nsize e2b\r\n")
        again.expect_prompt()
        again.type("\x04")
        self.assertEqual(again.status(), 0)

    def test_history_has_a_place_of_its_own(self):
        terminal = self.chat()
        terminal.type("/quit\n")
        self.assertEqual(terminal.status(), 0)
        self.assertIn("/quit", (self.home / "state" / "nestling" / "history").read_text())

    def test_unicode_input(self):
        terminal = self.chat()
        terminal.type("/größe\n")
        terminal.expect("/größe is no command")
        terminal.expect_prompt()
        terminal.type("\x04")
        self.assertEqual(terminal.status(), 0)

    def test_an_error_does_not_end_the_chat(self):
        terminal = self.chat()
        terminal.type("/image x.png\n")
        terminal.expect("x.png: No such file")
        terminal.expect_prompt()
        terminal.type("/quit\n")
        self.assertEqual(terminal.status(), 0)

    @needs_towers
    def test_names_of_files_are_completed(self):
        png(self.directory / "picture one.png", 8, 8)
        (self.directory / "sub").mkdir()
        png(self.directory / "sub" / "x1.png", 8, 8)
        png(self.directory / "sub" / "x2.png", 8, 8)
        terminal = self.chat()
        terminal.type("/image pic\t\n")
        terminal.expect("picture one.png: 8 x 8 pixels")
        terminal.expect_prompt()
        terminal.type("/image su\t")
        terminal.expect("b/")  # only what is new is drawn
        terminal.type("x\t")
        terminal.expect("x1.png  x2.png")
        terminal.type("2\t\n")
        terminal.expect("sub/x2.png: 8 x 8 pixels")
        terminal.expect_prompt()
        terminal.type("\x04")
        self.assertEqual(terminal.status(), 0)

    def test_ctrl_c_stops_an_answer_and_then_the_chat(self):
        # With the stop ids ruled out the answer goes on after its end, up to the context.
        terminal = self.chat(*CHAT[3:], "--logit-bias", "1:-100,106:-100", "--ctx", "32768", "--session", "s")
        terminal.type("Tell me a story.\n")
        terminal.expect("The end.")
        terminal.type("\x03")
        terminal.expect_prompt()
        terminal.type("/stats\n")
        terminal.expect("ended by cancelled")
        terminal.expect_prompt()
        terminal.type("half a li")
        terminal.expect("half a li")  # Ctrl-C discards what has not been read
        terminal.type("\x03")
        terminal.expect_prompt()
        terminal.type("\x03")
        self.assertEqual(terminal.status(), 130)
        self.assertIn("saved 1 turns", terminal.text)


if __name__ == "__main__":
    unittest.main()
