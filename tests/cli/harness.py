"""Runs the built program as a user does, with a cache and a home of its own. NESTLING_PROGRAM names the program."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
NANO = ROOT / "models" / "nano"
PROGRAM = os.environ.get("NESTLING_PROGRAM", str(ROOT / "build" / "release" / "nestling"))
PATIENCE = 120  # seconds: for a program that hangs (under sanitizers too), not a measure of speed


class CliTest(unittest.TestCase):
    """Each test class has a home and a cache; each test a directory of its own."""

    @classmethod
    def setUpClass(cls):
        cls.home = pathlib.Path(tempfile.mkdtemp(prefix="nestling-cli-"))
        cls.addClassCleanup(shutil.rmtree, cls.home, ignore_errors=True)

    def setUp(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(dir=self.home))

    def environment(self, extra=None):
        env = {k: v for k, v in os.environ.items() if not k.startswith("NESTLING_")}
        env.update(HOME=str(self.home), XDG_CACHE_HOME=str(self.home / "cache"),
                   XDG_STATE_HOME=str(self.home / "state"), NESTLING_MODELS=str(ROOT / "models"), NESTLING_THREADS="1", LC_ALL="C.UTF-8", TERM="xterm")
        env.update(extra or {})
        return env

    def run_program(self, *args, stdin="", env=None, cwd=None, **kwargs):
        data = stdin if isinstance(stdin, bytes) else stdin.encode()
        return subprocess.run([PROGRAM, *map(os.fspath, args)], input=data, capture_output=True,
                              env=self.environment(env), cwd=cwd or self.directory,
                              timeout=PATIENCE, check=False, **kwargs)

    def succeed(self, *args, **kwargs):
        """Stdout of a command that must end with 0."""
        done = self.run_program(*args, **kwargs)
        self.assertEqual(done.returncode, 0, done.stderr.decode(errors="replace"))
        return done.stdout.decode()

    def json_of(self, *args, **kwargs):
        return json.loads(self.succeed(*args, "--json", **kwargs))

    def refused(self, status, *args, says=(), **kwargs):
        """Stderr of a command that must end with `status`, print nothing on stdout, and say each of `says`."""
        done = self.run_program(*args, **kwargs)
        error = done.stderr.decode(errors="replace")
        self.assertEqual(done.returncode, status, f"{args}: {error}")
        self.assertEqual(done.stdout, b"", f"{args}: stdout must be empty")
        self.assertTrue(error.startswith("nestling: "), error)
        for text in [says] if isinstance(says, str) else says:
            self.assertIn(text, error)
        return error

    @contextlib.contextmanager
    def started(self, *args, **kwargs):
        """A program that runs, with handlers for Ctrl-C in place."""
        kwargs = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **kwargs}
        process = subprocess.Popen([PROGRAM, *map(os.fspath, args)], env=self.environment(), cwd=self.directory,
                                   **kwargs)
        try:
            wait_for_handler(process)
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()

    def copy_nano(self, **changes):
        """A copy of the bundled checkpoint; `changes` are config.json's text_config."""
        target = self.directory / "model"
        target.mkdir()
        for name in ("config.json", "generation_config.json", "model.safetensors", "tokenizer.model"):
            shutil.copy(NANO / name, target)
        if changes:
            config = json.loads((target / "config.json").read_text())
            config["text_config"].update(changes)
            (target / "config.json").write_text(json.dumps(config))
        return target


def wait_for_handler(process):
    """Until SIGINT is caught: before that, Ctrl-C ends a program as it ends any."""
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        caught = re.search(r"SigCgt:\s*([0-9a-f]+)", pathlib.Path(f"/proc/{process.pid}/status").read_text())
        if caught and int(caught.group(1), 16) >> (signal.SIGINT - 1) & 1:
            return
        time.sleep(0.001)


def safetensors_header(path):
    """The header of a safetensors file, and where its data begin."""
    with open(path, "rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        return json.loads(file.read(size)), 8 + size


# tests/quality fails without the towers; tests of what is done with them would only repeat that.
needs_towers = unittest.skipUnless(all(
    any(name.startswith(f"model.{tower}.") for name in safetensors_header(NANO / "model.safetensors")[0])
    for tower in ("vision_tower", "audio_tower")), "models/nano holds no towers")


def files_below(directory):
    return sorted(str(path.relative_to(directory)) for path in pathlib.Path(directory).rglob("*") if path.is_file())
