"""Stage 1 for the eyes: trains the vision tower alone, with heads that are thrown away.

    python tools/nano/train_vision.py --work build/nano [--steps N]

Two kinds of heads make the tokens say what the text model will ask for: every token names what
it shows, in which colour, and where in the picture it lies; and a reader (one attention over the 256 tokens, queried by the
key of a fact) answers every question that `pictures.py` can ask about the scene.
"""

import argparse
import os
import pathlib
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import pictures
import vision

SEED, BATCH = 5, 24
PEAK, WARMUP, FLOOR, DECAY_SHARE = 3e-3, 100, 0.02, 0.4
READER_HEADS, READER_WIDTH = 4, 128


def pixels(images):
    """uint8 pictures [B,R,R,3] -> float [B,3,R,R] in [0,1], channels last in memory."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() * (1 / 255)


def batch(seeds, heldout=False):
    """Pictures, kind and colour of every token, and the answer to every key (-100: not asked)."""
    scenes = [pictures.scene(seed, heldout) for seed in seeds]
    answers = torch.full((len(scenes), len(pictures.KEYS)), -100)
    for row, made in enumerate(scenes):
        for key, value in made.facts:
            answers[row, pictures.KEYS.index(key)] = pictures.ANSWERS.index(value)
    kinds = torch.from_numpy(np.stack([s.kind for s in scenes]).reshape(len(scenes), -1))
    colours = torch.from_numpy(np.stack([s.colour for s in scenes]).reshape(len(scenes), -1))
    return pixels([np.asarray(s.image) for s in scenes]), kinds, colours, answers


class Heads(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.kind = nn.Linear(width, len(pictures.KINDS))
        self.colour = nn.Linear(width, 1 + len(pictures.COLOURS))
        self.place = nn.Linear(width, len(pictures.PLACES))
        self.query = nn.Parameter(torch.randn(len(pictures.KEYS), READER_WIDTH))
        self.key, self.value = nn.Linear(width, READER_WIDTH), nn.Linear(width, READER_WIDTH)
        self.hidden = nn.Linear(2 * READER_WIDTH, 256)
        self.answer = nn.Linear(256, len(pictures.ANSWERS))

    def read(self, tokens):
        """Tokens [B,256,E] -> logits of the answers [B,keys,answers]."""
        b = len(tokens)
        split = lambda x: x.view(b, -1, READER_HEADS, READER_WIDTH // READER_HEADS).transpose(1, 2)  # noqa: E731
        query = self.query.expand(b, -1, -1)
        read = F.scaled_dot_product_attention(split(query), split(self.key(tokens)), split(self.value(tokens)))
        read = read.transpose(1, 2).reshape(b, len(pictures.KEYS), READER_WIDTH)
        return self.answer(F.gelu(self.hidden(torch.cat([read, query], -1))))


def losses(tokens, heads, kinds, colours, answers):
    """Cross entropy of the tokens that show something, of the others, and of the answers."""
    shown = kinds > 0
    kind = F.cross_entropy(heads.kind(tokens).transpose(1, 2), kinds, reduction="none")
    colour = F.cross_entropy(heads.colour(tokens).transpose(1, 2), colours, reduction="none")
    local = (kind + colour)[shown].mean() + (kind + colour)[~shown].mean()
    # Convolutions know where they are by the border's zeros alone, and do not learn it from the questions.
    zones = torch.from_numpy(pictures.zones()).expand_as(kinds)
    local = local + F.cross_entropy(heads.place(tokens).transpose(1, 2), zones)
    asked = F.cross_entropy(heads.read(tokens).flatten(0, 1), answers.flatten(), ignore_index=-100)
    return 0.5 * local, asked


def learning_rate(step, steps):
    left = (steps - step) / (DECAY_SHARE * steps)
    return PEAK * min(1.0, (step + 1) / WARMUP, FLOOR + (1 - FLOOR) * left)


def look(tower, images):
    """Encoder output as tokens [B,256,E]."""
    return tower(images.contiguous(memory_format=torch.channels_last)).flatten(2).transpose(1, 2)


def report(tower, heads, count=192):
    """Held-out accuracy per kind of question."""
    right = {}
    with torch.no_grad():
        for start in range(0, count, BATCH):
            images, _, _, answers = batch(range(start, start + BATCH), heldout=True)
            good = heads.read(look(tower, images)).argmax(-1) == answers
            for row, column in (answers >= 0).nonzero().tolist():
                name = pictures.KEYS[column].split()[0]
                right.setdefault(name, []).append(good[row, column].item())
    total = [ok for oks in right.values() for ok in oks]
    print(f"  held out {sum(total) / len(total):.3f}  "
          + " ".join(f"{k} {sum(v) / len(v):.2f}" for k, v in sorted(right.items())), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("build/nano"))
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--eager", action="store_true", help="do not use torch.compile")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    args.work.mkdir(parents=True, exist_ok=True)
    tower = vision.build().to(memory_format=torch.channels_last)
    vision.start(tower)
    heads = Heads(vision.OUT)
    params = [*tower.named_parameters(), *heads.named_parameters()]
    optimizer = torch.optim.AdamW([{"params": [p for _, p in params if p.dim() > 1], "weight_decay": 0.02},
                                   {"params": [p for _, p in params if p.dim() <= 1], "weight_decay": 0.0}],
                                  betas=(0.9, 0.98), fused=True)
    checkpoint, start = args.work / "vision_checkpoint.pt", 0
    if checkpoint.exists():
        state = torch.load(checkpoint)
        tower.load_state_dict(state["tower"])
        heads.load_state_dict(state["heads"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["step"]
    if not args.eager:
        torch._dynamo.config.recompile_limit = 128
        for part in [tower.conv_stem, tower.msfa, *(block for stage in tower.blocks for block in stage)]:
            part.compile(dynamic=False)
    begun = time.time()
    for step in range(start, args.steps):
        rate = learning_rate(step, args.steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        images, *targets = batch(range(step * BATCH, (step + 1) * BATCH))
        local, asked = losses(look(tower, images), heads, *targets)
        (local + asked).backward()
        torch.nn.utils.clip_grad_norm_([p for _, p in params], 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 20 == 0:
            print(f"step {step} local {local.item():.3f} asked {asked.item():.3f} lr {rate:.2e} "
                  f"{time.time() - begun:.0f} s", flush=True)
        if (step + 1) % 200 == 0 or step + 1 == args.steps:
            report(tower, heads)
            state = {"tower": tower.state_dict(), "heads": heads.state_dict(),
                     "optimizer": optimizer.state_dict(), "step": step + 1}
            torch.save(state, checkpoint.with_suffix(".new"))
            os.replace(checkpoint.with_suffix(".new"), checkpoint)
    torch.save(tower.state_dict(), args.work / "vision.pt")


if __name__ == "__main__":
    main()
