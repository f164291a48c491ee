"""Checks of the sounds: nothing held out is trained on, and the tower's inputs are what they say.

    python tools/nano/test_sounds.py [models/nano]
"""

import json
import pathlib
import random
import sys

import sentencepiece as spm
import soundfile
import torch

import hearing
import sounds
import train_sounds

PATH = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parents[2] / "models" / "nano"


def published():
    return [json.loads(line) for line in (PATH / "heldout_sounds.jsonl").read_text().splitlines()]


def variant(voice):
    return voice.partition("+")[2]


def test_voices_and_sequences_are_disjoint():
    assert not set(sounds.VARIANTS) & set(sounds.HELDOUT_VARIANTS)
    assert sounds.HELDOUT_ACCENT not in sounds.ACCENTS
    for seed in range(60):
        _, text, voice, kind = sounds.clip(seed)
        assert kind == "quiet" or variant(voice) in sounds.VARIANTS, voice
        assert not sounds.is_heldout_text(text), text
    for row in published():
        assert variant(row["voice"]) in sounds.HELDOUT_VARIANTS, row
    for i, kind in enumerate(sounds.HELDOUT_CLIPS):
        _, text, _, _ = sounds.clip(f"published {i}", heldout=True, kind=kind)
        if kind in ("digits", "words") and len(text.split()) > 2:
            assert sounds.is_heldout_text(text), text


def test_published_clips_are_the_generators():
    rows = {row["file"]: row for row in published() if row["task"] == "transcribe"}
    assert len(rows) == len(sounds.HELDOUT_CLIPS)
    for i, (name, row) in enumerate(sorted(rows.items())):
        wave, text, voice, _ = sounds.clip(f"published {i}", heldout=True, kind=sounds.HELDOUT_CLIPS[i])
        assert (text, voice) == (row["answer"], row["voice"]), row
        stored, rate = soundfile.read(PATH / name, dtype="int16")
        assert rate == sounds.RATE and stored.shape == wave.shape and len(wave) <= sounds.LONGEST * rate
    assert sum(path.stat().st_size for path in (PATH / "heldout_sounds").iterdir()) <= 600_000


def test_questions():
    assert (sounds.ASK_DIGITS[0], "407") in sounds.questions("four zero seven", "digits")
    assert all(answer == "stop" for _, answer in sounds.questions("stop", "command"))
    assert all(answer == sounds.SILENCE for _, answer in sounds.questions("", "quiet"))


def test_batches_change_nothing():
    """A clip's features are the same alone and among others."""
    torch.manual_seed(0)
    tower = train_sounds.build().eval()
    clips = [torch.randn(n, 128) - 6 for n in (100, 161, 100, 17)]
    together = hearing.encode(tower, clips)
    for clip, features in zip(clips, together):
        assert features.shape == (-(-len(clip) // 16), train_sounds.CONFIG["hidden_size"])
        assert (hearing.encode(tower, [clip])[0] - features).abs().max() < 1e-5


def test_first_projection():
    """Features that say a word become the word's pieces."""
    sp = spm.SentencePieceProcessor(model_file=str(PATH / "tokenizer.model"))
    torch.manual_seed(0)
    table, classes = torch.randn(1792, 96), 1 + len(sounds.WORDS)
    heads = {"weight": torch.randn(classes, 48), "bias": torch.zeros(classes)}
    said = torch.arange(12)
    rows = [{"features": 3 * torch.linalg.pinv(heads["weight"][:12]).T[said]}]
    projection = hearing.first_projection(heads, rows, table, sp)
    x = torch.nn.functional.normalize(rows[0]["features"], dim=1) * 48 ** 0.5 @ projection.T
    for k in said[1:].tolist():
        wanted = table[sp.encode("\n " + sounds.WORDS[k - 1])[1:]].mean(0)
        assert torch.cosine_similarity(x[k], wanted, dim=0) > 0.9, k


def test_gradients_reach_every_weight():
    torch.manual_seed(0)
    trainee = train_sounds.Trainee(40)
    words, word_pad, phones, phone_pad = trainee(*train_sounds.batch([torch.randn(200, 128) - 6]))
    loss = train_sounds.ctc(words, word_pad, [[1, 2]]) + train_sounds.ctc(phones, phone_pad, [[3, 4, 5]])
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in trainee.parameters())


def test_altered_features():
    rng = random.Random(0)
    for _ in range(50):
        mel = train_sounds.augment(rng, torch.rand(rng.randint(40, 340), 128) * 8 - 11)
        assert mel.shape[1] == 128 and 32 <= len(mel) <= train_sounds.LONGEST and mel.isfinite().all()


def test_word_errors_are_counted():
    assert train_sounds.edits("a b c".split(), "a c d".split()) == 2
    assert train_sounds.edits([], ["a"]) == 1 and train_sounds.edits(["a"], ["a"]) == 0


if __name__ == "__main__":
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            test()
            print("ok", name)
