"""Checks of tools/nano against transformers and of models/nano against its promises.

    python tools/nano/test_nano.py [models/nano]
"""

import json
import pathlib
import random
import sys
import tempfile

import numpy as np
import sentencepiece as spm
import torch
from PIL import Image
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoTokenizer

import data
import evaluate
import evaluate_media
import media
import model as nano
import pictures
import sizes
import train_media

PATH = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parents[2] / "models" / "nano"


def test_forward_is_transformers():
    """Every kind of size, on a conversation longer than the sliding window."""
    shape = nano.Shape()
    tensors = load_file(PATH / "model.safetensors")
    net = nano.Nano(shape, {k.removeprefix(evaluate.PREFIX).removeprefix("model."): v.float() for k, v in tensors.items()})
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


def test_media_forward_is_transformers():
    """Prompts, embedders and joining: one published picture and one clip, whole path."""
    shape, reader = nano.Shape(), evaluate_media.Reader(PATH, AutoTokenizer.from_pretrained(PATH))
    theirs = evaluate_media.load(PATH, "e4b")
    stored = {k.removeprefix(evaluate.PREFIX).removeprefix("model."): v.float()
              for k, v in load_file(PATH / "model.safetensors").items()}
    net = nano.Nano(shape, stored)
    towers = {"vision": theirs.model.vision_tower, "audio": theirs.model.audio_tower}
    for kind, soft in (("picture", shape.text_vocab + 1), ("sound", shape.text_vocab + shape.tower_vocab + 1)):
        ids, inputs = getattr(reader, kind)(evaluate_media.rows_of(PATH, kind)[0])
        with torch.no_grad():
            logits = theirs(input_ids=torch.tensor([ids]), **inputs).logits[0]
            if kind == "picture":
                tower = "vision"
                features = media.see(towers[tower].timm_model, [np.uint8(inputs["pixel_values"][0].permute(1, 2, 0)
                                                                         .numpy() * 255 + 0.5)])[0]
            else:
                tower = "audio"
                features = towers[tower](inputs["input_features"], ~inputs["input_features_mask"]).last_hidden_state[0]
            row, first = train_media.Row(), ids.index(soft)
            row.add(ids, [0.0] * len(ids))
            row.features.append((tower, first, features))
            if tower == "audio":
                row.ids[first + len(features):first + media.AUDIO_TOKENS] = shape.vocab - 1
            rows = train_media.replaced_rows([row], row.ids[None], stored, shape)
            hidden = net.hidden(row.ids[None], row.documents[None], row.positions[None],
                                sizes.widths("e4b", shape.ffn), row.parents[None], rows)
            error = (net.logits(hidden)[0, :len(ids)] - logits).abs().max() / logits.pow(2).mean().sqrt()
        assert error < 1e-3, (kind, error)


def test_branches_are_blind_to_each_other():
    """A question of a picture row gets the logits that it gets alone behind the picture."""
    shape, tasks = nano.Shape(), data.build_tasks()
    stored = {k.removeprefix(evaluate.PREFIX).removeprefix("model."): v.float()
              for k, v in load_file(PATH / "model.safetensors").items()}
    net, sp = nano.Nano(shape, stored), spm.SentencePieceProcessor(model_file=str(PATH / "tokenizer.model"))
    seen = {"features": torch.randn(256, shape.vision_width), "facts": pictures.scene(0).facts}
    row = train_media.Batches(sp, shape, tasks, [seen], []).picture(random.Random(0))
    alone, last = train_media.Row(), int(row.documents.max())
    chosen = (row.documents == 1) | (row.documents == last)
    count = int(chosen.sum())
    alone.ids[:count], alone.positions[:count] = row.ids[chosen], row.positions[chosen]
    alone.documents[:count] = 1
    alone.features = row.features
    found = []
    for r in (row, alone):
        rows = train_media.replaced_rows([r], r.ids[None], stored, shape)
        with torch.no_grad():
            found.append(net.hidden(r.ids[None], r.documents[None], r.positions[None],
                                    sizes.widths("e2b", shape.ffn), r.parents[None], rows)[0])
    assert (found[0][chosen] - found[1][:count]).abs().max() < 1e-3


def test_published_pictures_are_the_generators():
    """The held-out pictures are what pictures.py draws, and none shows a pair or font of training."""
    with tempfile.TemporaryDirectory() as folder:
        pictures.write_heldout(pathlib.Path(folder))
        rows = evaluate_media.rows_of(PATH, "picture")
        assert rows == evaluate_media.rows_of(pathlib.Path(folder), "picture")
        for name in {row["file"] for row in rows}:
            one, other = (np.asarray(Image.open(pathlib.Path(p) / name).convert("RGB")) for p in (PATH, folder))
            assert (one == other).all(), name
    assert not set(pictures.FONTS) & set(pictures.HELDOUT_FONTS)
    for seed in range(300):
        facts = dict(pictures.scene(seed).facts)
        assert not [p for p in pictures.HELDOUT_PAIRS if facts.get(f"colour {p[0]}") == p[1]], seed


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
    for name in evaluate.MEDIA_SIZES:
        found = record["media"][name]
        assert found["picture"]["all"] >= evaluate.PICTURE_GOAL > 2 * found["picture_grey"]["all"], name
        assert found["sound"]["word_error_rate"] <= evaluate.WORD_ERROR_GOAL, name
        assert found["sound_silence"]["word_error_rate"] >= 0.8, name
    total = {kind: sum(f.stat().st_size for f in (PATH / f"heldout_{kind}").iterdir()) for kind in ("pictures", "sounds")}
    assert total["pictures"] <= 250_000 and total["sounds"] <= 600_000, total


if __name__ == "__main__":
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            test()
            print("ok", name)
