"""Trains nano's audio tower alone: CTC on words (soft tokens) and on phonemes (inside the tower).

    python tools/nano/sounds.py --out build/nano/sounds
    python tools/nano/train_sounds.py --data build/nano/sounds --out build/nano/audio.pt

The heads serve training only. The tower is transformers' own class, so the state dict's names
are those below `model.audio_tower.`. The learned features go to the joint training of train_media.py.
"""

import argparse
import math
import pathlib
import random
import subprocess
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from transformers import Gemma3nAudioConfig, Gemma3nAudioEncoder

import sounds

# What differs from Gemma 3n; the rest is the class's default.
CONFIG = {"hidden_size": 48, "conf_num_hidden_layers": 4, "conf_num_attention_heads": 4,
          "sscp_conv_channel_size": [16, 8]}
MEL_FLOOR = math.log(1e-5)
LONGEST = 360  # mel frames


def build():
    """An untrained tower; widths this small want larger initial weights than 0.02."""
    tower = Gemma3nAudioEncoder(Gemma3nAudioConfig(**CONFIG))
    for name, weight in tower.named_parameters():
        if "depthwise" in name:
            nn.init.normal_(weight, std=0.4)
        elif weight.dim() == 4:
            nn.init.kaiming_normal_(weight)
        elif weight.dim() == 2:
            nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
        if name.endswith(("post_norm.weight", "post_layer_norm.weight")):
            nn.init.constant_(weight, 0.3)
    return tower


def frames(tower, mel, padded):
    """Encoder frames (40 ms) of the second and the last block, and which are padding."""
    kept = {}
    hook = tower.conformer[1].register_forward_hook(lambda module, args, out: kept.update(middle=out))
    reduction, tower.config.conf_reduction_factor = tower.config.conf_reduction_factor, 1
    out = tower(mel, padded)
    tower.config.conf_reduction_factor = reduction
    hook.remove()
    return kept["middle"], out.last_hidden_state, out.audio_mel_mask


def phonemes():
    """The phonemes of every word as espeak-ng names them, and their names."""
    spelled = {}
    for word in sounds.WORDS:
        text = subprocess.run(["espeak-ng", "-q", "-x", "--sep=_", "-v", "en-us", word], check=True,
                              capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout
        spelled[word] = [p for p in text.strip().replace("'", "").replace(",", "").split("_") if p]
    names = sorted({p for word in spelled.values() for p in word})
    return {word: [1 + names.index(p) for p in row] for word, row in spelled.items()}, names


def augment(rng, mel):
    """Another voice, speed, loudness and recording: mel float32 [T,128] -> [T',128]."""
    time_factor, pitch = rng.uniform(0.85, 1.15), rng.uniform(0.9, 1.1)
    if rng.random() < 0.7:
        size = (min(LONGEST, max(32, round(len(mel) * time_factor))), round(128 * pitch))
        mel = F.interpolate(mel[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]
        mel = torch.cat([mel, mel[:, -1:].expand(-1, 16)], dim=1)[:, :128]
    tilt = torch.linspace(rng.uniform(-1, 1), rng.uniform(-1, 1), 128)
    mel = (mel + rng.uniform(-1.5, 1.5) + tilt).clamp(min=MEL_FLOOR)
    fill = mel.mean()
    for _ in range(rng.choice([0, 1, 1, 2])):
        low, width = rng.randrange(128), rng.randint(1, 16)
        mel[:, low:low + width] = fill
    for _ in range(rng.choice([0, 1, 2])):
        first, width = rng.randrange(len(mel)), rng.randint(1, 8)
        mel[first:first + width] = fill
    if rng.random() < 0.5:
        mel = torch.logaddexp(mel, torch.full_like(mel, rng.uniform(-11, -6)) + 0.5 * torch.randn_like(mel))
    return mel


def batch(clips):
    """Clips mel [T,128] -> padded mel [B,T,128], padding mask [B,T]."""
    longest = max(len(mel) for mel in clips)
    mel = torch.zeros(len(clips), longest, 128)
    padded = torch.ones(len(clips), longest, dtype=torch.bool)
    for i, clip in enumerate(clips):
        mel[i, :len(clip)] = clip
        padded[i, :len(clip)] = False
    return mel, padded


def ctc(logits, padded, targets):
    """CTC per clip, divided by the target's length."""
    sizes = torch.tensor([len(t) for t in targets])
    flat = torch.tensor([x for t in targets for x in t], dtype=torch.long)
    loss = F.ctc_loss(logits.log_softmax(-1).transpose(0, 1), flat, (~padded).sum(1), sizes,
                      reduction="none", zero_infinity=True)
    return (loss / sizes.clamp(min=1)).mean()


class Trainee(nn.Module):
    """The tower with its two heads."""

    def __init__(self, phoneme_count):
        super().__init__()
        self.tower = build()
        self.words = nn.Linear(CONFIG["hidden_size"], 1 + len(sounds.WORDS))
        self.phonemes = nn.Linear(CONFIG["hidden_size"], 1 + phoneme_count)

    def forward(self, mel, padded):
        middle, last, padded = frames(self.tower, mel, padded)
        return self.words(last[:, ::4]), padded[:, ::4], self.phonemes(middle), padded


def edits(a, b):
    """Levenshtein distance of two lists."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row, last = [i], row
        for j, y in enumerate(b, 1):
            row.append(min(last[j] + 1, row[-1] + 1, last[j - 1] + (x != y)))
    return row[-1]


@torch.no_grad()
def word_errors(trainee, clips):
    """Word error rate of the words' head by best path."""
    trainee.eval()
    wrong = total = 0
    for i in range(0, len(clips), 40):
        mel, padded = batch(tensors(clips[i:i + 40]))
        words, padded, _, _ = trainee(mel, padded)
        for path, pad, (_, row) in zip(words.argmax(-1), padded, clips[i:i + 40]):
            path = torch.unique_consecutive(path[~pad]).tolist()
            heard = [sounds.WORDS[p - 1] for p in path if p]
            wrong += edits(heard, row["text"].split())
            total += len(row["text"].split())
    trainee.train()
    return wrong / total


def rate_at(step, steps):
    """Warm-up, then half a cosine down to 2 %."""
    return min(1, (step + 1) / 300) * (0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * step / steps)))


def tensors(clips):
    return [torch.from_numpy(np.array(mel, dtype=np.float32)) for mel, _ in clips]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--steps", type=int, default=8000, help="length of the learning rate's schedule")
    parser.add_argument("--stop", type=int, default=5500, help="steps to do")
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--rate", type=float, default=3e-3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rng = random.Random("train sounds")
    train, test = sounds.load(args.data, "train"), sounds.load(args.data, "test")
    spelled, names = phonemes()
    trainee = Trainee(len(names))
    print(sum(p.numel() for p in trainee.tower.parameters()), "parameters", flush=True)
    matrices = [p for p in trainee.parameters() if p.dim() > 1]
    vectors = [p for p in trainee.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.02},
                                   {"params": vectors, "weight_decay": 0}], lr=args.rate, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: rate_at(n, args.steps))
    start, mean = time.time(), None
    for step in range(args.stop):
        drawn = rng.sample(train, args.batch)
        mel, padded = batch([augment(rng, mel) for mel in tensors(drawn)])
        texts = [row["text"].split() for _, row in drawn]
        words, word_pad, phones, phone_pad = trainee(mel, padded)
        word_loss = ctc(words, word_pad, [[1 + sounds.WORDS.index(w) for w in t] for t in texts])
        phone_loss = ctc(phones, phone_pad, [[p for w in t for p in spelled[w]] for t in texts])
        loss = word_loss + phone_loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(trainee.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        now = np.array([word_loss.item(), phone_loss.item()])
        mean = now if mean is None else 0.98 * mean + 0.02 * now
        if step % 100 == 99:
            print(f"{step + 1} steps, {time.time() - start:.0f} s, losses: words {mean[0]:.3f}, "
                  f"phonemes {mean[1]:.3f}", flush=True)
        if step % 500 == 499 or step + 1 == args.stop:
            print(f"word error rate on held-out voices {word_errors(trainee, test):.4f}", flush=True)
            torch.save({"tower": trainee.tower.state_dict(), "words": trainee.words.state_dict(),
                        "config": CONFIG, "vocabulary": sounds.WORDS}, args.out)


if __name__ == "__main__":
    main()
