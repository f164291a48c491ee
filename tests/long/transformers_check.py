"""Greedy answers of the program against transformers, on the bundled model and on exported slices of it.

    python3 tests/long/transformers_check.py PROGRAM

Where this Python lacks the pinned transformers, they are installed once into build/transformers-venv (needs the
package index and about 2 GB) and the check goes on there.
"""

import hashlib
import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "tools" / "goldens" / "requirements.txt"
PINS = ROOT / "tools" / "nano" / "requirements.txt"
VENV = ROOT / "build" / "transformers-venv"
ASKED = 24       # questions per size, spread over the held-out ones
ASKED_SLICE = 4  # per exported slice


def has_pinned_packages():
    pins = dict(line.split("==") for line in PINS.read_text().split("\n") if "==" in line and not line.startswith("#"))
    try:
        return all(importlib.metadata.version(name).split("+")[0] == version for name, version in pins.items())
    except importlib.metadata.PackageNotFoundError:
        return False


def continue_in_venv():
    """Replaces this process by the same check under a Python that has the packages."""
    python, stamp = VENV / "bin" / "python", VENV / "requirements.sha256"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + PINS.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "-r", REQUIREMENTS], check=True)
        stamp.write_text(wanted)
    if pathlib.Path(sys.prefix) == VENV:
        sys.exit(f"{VENV} does not have what {PINS} names; remove it and try again")
    os.execv(python, [python, *sys.argv])


if len(sys.argv) < 2:
    sys.exit(__doc__)
if not has_pinned_packages():
    continue_in_venv()
os.environ["NESTLING_PROGRAM"] = str(pathlib.Path(sys.argv.pop(1)).resolve())
sys.path += [str(ROOT / "tests" / "cli"), str(ROOT / "tools" / "nano")]

import torch  # noqa: E402
from transformers import AutoTokenizer, Gemma3nForCausalLM  # noqa: E402

import evaluate  # noqa: E402
from harness import NANO, CliTest  # noqa: E402


class TransformersCheck(CliTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        torch.set_num_threads(2)
        cls.tokenizer = AutoTokenizer.from_pretrained(NANO)
        rows = [json.loads(line)["prompt"] for line in (NANO / "heldout.jsonl").read_text().splitlines()]
        cls.questions = rows[::max(1, len(rows) // ASKED)][:ASKED]

    def answer(self, question, model="nano", *args):
        """Ids of a greedy answer, as transformers computes: float32 throughout."""
        return self.json_of("run", "-m", model, "-p", question, "--temp", "0", "-n", str(evaluate.MAX_NEW),
                            "--weights", "f32", *args)["ids"]

    def test_answers_are_transformers_own(self):
        answers = [{"prompt": question, "size": size, "ids": self.answer(question, "nano", "--size", size)}
                   for size in ("e4b", "e2b") for question in self.questions]
        file = self.directory / "answers.jsonl"
        file.write_text("".join(json.dumps(answer) + "\n" for answer in answers))
        self.assertEqual(evaluate.check_answers(NANO, self.tokenizer, file), 0)
        # The comparison must be able to fail.
        file.write_text(json.dumps(answers[0] | {"ids": answers[0]["ids"][1:]}) + "\n")
        self.assertEqual(evaluate.check_answers(NANO, self.tokenizer, file), 1)

    def test_transformers_runs_exported_slices(self):
        for size in ("e2b", "e3.18b-layer"):
            with self.subTest(size=size):
                slice_directory = self.directory / size
                self.succeed("export", NANO, "--size", size, "-o", slice_directory)
                model, loading = Gemma3nForCausalLM.from_pretrained(
                    slice_directory, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
                self.assertFalse(set(loading["missing_keys"]) - {"lm_head.weight"}, loading)
                self.assertFalse(loading["mismatched_keys"], loading)
                questions = self.questions[::ASKED // ASKED_SLICE]
                tokenizer = AutoTokenizer.from_pretrained(slice_directory)
                made = evaluate.generate(model.eval(), [evaluate.prompt_ids(tokenizer, q) for q in questions])
                for question, ids in zip(questions, made):
                    ours = self.answer(question, "nano", "--size", size)
                    self.assertEqual([t for t in ours if t not in evaluate.STOP], ids, question)
                    self.assertEqual(self.answer(question, slice_directory), ours, question)


if __name__ == "__main__":
    unittest.main()
