"""The static program for 64-bit Arm under user-mode emulation: its kernels against the scalar ones, its answers against
those of the program for this machine, and that it needs no other file.

    python3 tests/long/aarch64_check.py PROGRAM

Skipped (status 77) before `make aarch64` has made what it is built with. Emulation says nothing about speed.
"""

import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "aarch64"
ARM = BUILD / "nestling"
EXAMPLES = ROOT / "models" / "nano" / "examples"
EMULATOR = shutil.which("qemu-aarch64-static")
SKIPPED = 77
PATIENCE = 3000  # seconds, emulated

# Processors, and the kernels each has: i8mm; dot products alone; neither.
PROCESSORS = {"max": ["i8mm", "neon", "scalar"], "cortex-a76": ["neon", "scalar"], "cortex-a72": ["scalar"]}
PAGE = 16384  # of Android 15
PT_LOAD, PT_DYNAMIC, PT_INTERP = 1, 2, 3

QUESTIONS = {
    "text": ["run", "-m", "nano", "-p", "What is 7 + 5?"],
    "picture": ["run", "-m", "nano", "--image", EXAMPLES / "shapes.png", "-p", "How many shapes are there?"],
    "sound": ["transcribe", "-m", "nano", EXAMPLES / "speech.ogg", "--language", "English"],
}

if len(sys.argv) < 2:
    sys.exit(__doc__)
NATIVE = pathlib.Path(sys.argv.pop(1)).resolve()


def run(command, **environment):
    env = {k: v for k, v in os.environ.items() if not k.startswith("NESTLING_")}
    env.update(NESTLING_MODELS=str(ROOT / "models"), NESTLING_TEMP="0", **environment)
    return subprocess.run(list(map(os.fspath, command)), capture_output=True, text=True, env=env, timeout=PATIENCE,
                          check=False)


def emulated(processor, *command, **environment):
    return run([EMULATOR, "-cpu", processor, *command], **environment)


def segments(path):
    """(type, alignment) of each program header of a 64-bit ELF file."""
    data = path.read_bytes()
    offset, size, count = struct.unpack_from("<Q", data, 32)[0], *struct.unpack_from("<HH", data, 54)
    for at in range(offset, offset + size * count, size):
        yield struct.unpack_from("<I", data, at)[0], struct.unpack_from("<Q", data, at + 48)[0]


class Aarch64Test(unittest.TestCase):
    def answer(self, done):
        self.assertEqual(done.returncode, 0, done.stderr)
        found = json.loads(done.stdout)
        return found["text"], found.get("ids")

    def test_kernels_equal_the_scalar_ones(self):
        for processor in PROCESSORS:
            with self.subTest(processor=processor):
                done = emulated(processor, BUILD / "nestling_kernels_test")
                self.assertEqual(done.returncode, 0, done.stdout[-4000:] + done.stderr[-1000:])
                self.assertIn("[  PASSED  ]", done.stdout)

    def test_each_processor_has_the_kernels_it_should(self):
        for processor, names in PROCESSORS.items():
            with self.subTest(processor=processor):
                done = emulated(processor, ARM, *QUESTIONS["text"], NESTLING_CPU="none-such")
                self.assertEqual(done.returncode, 5, done.stderr)
                self.assertIn(f"this machine has {', '.join(names)}", done.stderr)

    def test_answers_equal_those_of_this_machine(self):
        for name, question in QUESTIONS.items():
            expected = self.answer(run([NATIVE, *question, "--json"]))
            self.assertTrue(expected[0].strip())
            for processor in PROCESSORS:
                with self.subTest(question=name, processor=processor):
                    done = emulated(processor, ARM, *question, "--json")
                    self.assertEqual(self.answer(done), expected)
                    self.assertEqual("scalar kernels run" in done.stderr, PROCESSORS[processor] == ["scalar"])

    def test_is_static_with_large_pages(self):
        found = list(segments(ARM))
        self.assertFalse({PT_DYNAMIC, PT_INTERP} & {kind for kind, _ in found})
        alignments = [alignment for kind, alignment in found if kind == PT_LOAD]
        self.assertTrue(alignments)
        self.assertGreaterEqual(min(alignments), PAGE)

    def test_makes_no_call_that_android_stops(self):
        done = run([EMULATOR, "-strace", ARM, *QUESTIONS["text"], "--threads", "2"])
        self.assertEqual(done.returncode, 0, done.stderr[-2000:])
        self.assertIn("set_tid_address", done.stderr)
        for call in ("set_robust_list", "rseq", "clone3", "faccessat2", "io_uring"):
            self.assertNotIn(f" {call}(", done.stderr)

    @unittest.skipUnless(os.geteuid() == 0, "chroot needs root")
    def test_needs_no_other_file(self):
        with tempfile.TemporaryDirectory() as directory:
            empty = pathlib.Path(directory)
            shutil.copy(EMULATOR, empty / "qemu")
            shutil.copy(ARM, empty / "nestling")
            shutil.copytree(ROOT / "models" / "nano", empty / "nano")
            for question in QUESTIONS.values():
                inside = ["/nano" if part == "nano" else
                          f"/nano/examples/{part.name}" if isinstance(part, pathlib.Path) else part for part in question]
                done = run(["chroot", empty, "/qemu", "/nestling", *inside, "--json"], XDG_CACHE_HOME="/cache", HOME="/")
                self.assertEqual(self.answer(done), self.answer(run([NATIVE, *question, "--json"])))


def main():
    if EMULATOR is None or not (ROOT / "build" / "aarch64-deps" / "complete").exists():
        print("the tools of the cross build are not there (make aarch64): skipped")
        sys.exit(SKIPPED)
    subprocess.run([ROOT / "tools" / "aarch64.sh", "nestling", "nestling_kernels_test"], check=True)
    unittest.main()


if __name__ == "__main__":
    main()
