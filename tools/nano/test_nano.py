"""Checks of tools/nano against transformers and of models/nano against its promises.

    python tools/nano/test_nano.py [models/nano]
"""

import json
import pathlib
import random
import sys

import sentencepiece as spm
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

import data
import evaluate
import model as nano
import sizes

PATH = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parents[2] / "models" / "nano"


def test_forward_is_transformers():
    """Every kind of size, on a conversation longer than the sliding window."""
    shape = nano.Shape()
    tensors = load_file(PATH / "model.safetensors")
    net = nano.Nano(shape, {k.removeprefix(evaluate.PREFIX): v.float() for k, v in tensors.items()})
    sp = spm.SentencePieceProcessor(model_file=str(PATH / "tokenizer.model"))
    sampler = data.Sampler(data.build_tasks(), "test")
    ids = [2] + sp.encode("".join(t for t, _ in data.render([sampler.question() for _ in range(6)])))
    assert len(ids) > shape.window
    ids = torch.tensor([ids])
    for name in ("e4b", "e2b", "e3.18b-layer", "e2.98b-block"):
        with torch.no_grad():
            theirs = evaluate.load(PATH, name)(ids).logits
            ours = net.logits(net.hidden(ids, torch.ones_like(ids), torch.arange(ids.shape[1])[None],
                                         sizes.widths(name, shape.ffn)))
        error = (ours - theirs).abs().max() / theirs.pow(2).mean().sqrt()
        assert error < 1e-4, (name, error)


def test_tokenizers_agree():
    """SentencePiece and tokenizers give the same ids, and decoding gives the text back."""
    sp = spm.SentencePieceProcessor(model_file=str(PATH / "tokenizer.model"))
    other = Tokenizer.from_file(str(PATH / "tokenizer.json"))
    rng = random.Random(1)
    pool = [t for task in data.build_tasks() for pair in task.train[:300] for t in pair]
    odd = ["  ", "   ", " " * 40, "\n\n", "\n" * 40, "\t\t", "é🦊", "ы\r\n", "<td>", "東京", "\0\a"]
    for _ in range(5000):
        text = "".join(rng.choice(pool if rng.random() < 0.6 else odd) for _ in range(rng.randint(1, 4)))
        ids = sp.encode(text)
        assert ids == other.encode(text, add_special_tokens=False).ids, text
        assert sp.decode(ids) == text, text


def test_special_ids():
    sp = spm.SentencePieceProcessor(model_file=str(PATH / "tokenizer.model"))
    config = json.loads((PATH / "config.json").read_text())
    assert sp.vocab_size() == config["text_config"]["vocab_size"]
    expected = {"<start_of_turn>": 105, "<end_of_turn>": 106, "\n": 107, "\n\n": 108, "<0x00>": 238,
                "<start_of_image>": config["boi_token_id"], "<end_of_image>": config["eoi_token_id"],
                "<image_soft_token>": config["image_token_id"], "<start_of_audio>": config["boa_token_id"],
                "<end_of_audio>": config["eoa_token_id"], "<audio_soft_token>": config["audio_token_id"]}
    assert {piece: sp.piece_to_id(piece) for piece in expected} == expected


def test_held_out_is_held_out():
    """No held-out question can be drawn in training, however carelessly typed."""
    tasks = data.build_tasks()
    rows = [json.loads(line) for line in (PATH / "heldout.jsonl").read_text().splitlines()]
    assert rows == data.heldout_set(tasks)

    def plain(text):
        return text.rstrip("?.!").lower()
    trained = {plain(q) for task in tasks for q, _ in task.train}
    assert not [row for row in rows if plain(row["prompt"]) in trained]


def test_size_and_record():
    """At most 16 MB of weights; the recorded accuracy is of these weights and meets the goals."""
    assert (PATH / "model.safetensors").stat().st_size <= 16_000_000
    record = json.loads((PATH / "evaluation.json").read_text())
    assert record["model_sha256"] == evaluate.sha256(PATH / "model.safetensors")
    for name, goal in evaluate.GOALS.items():
        assert record["accuracy"][name]["all"] >= goal, name


if __name__ == "__main__":
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            test()
            print("ok", name)
