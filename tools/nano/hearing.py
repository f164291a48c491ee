"""What the text model hears in the joint training: the finished tower's outputs, precomputed.

An example is a dict: features float32 [n,48] (one row per soft token of 160 ms, n = ceil(T/16)
for T mel frames), question, answer, kind. The audio stands after the question in the user turn
(now and then before it). The embedder is not applied: it learns with the text model.
"""

import random

import torch

import sounds
from train_sounds import augment, batch, build, tensors


def load_tower(path):
    """The tower trained by train_sounds.py, its weights rounded to bf16 as they are published."""
    state = torch.load(path, weights_only=True)
    tower = build()
    tower.load_state_dict({name: weight.bfloat16().float() for name, weight in state["tower"].items()})
    return tower.eval()


@torch.no_grad()
def encode(tower, mels):
    """Mel features [T,128] of clips -> soft-token features [ceil(T/16),48].

    Only clips of one length share a batch: the last frame of a padded clip would see the
    second convolution's padding differently than alone.
    """
    out, lengths = [None] * len(mels), {}
    for i, mel in enumerate(mels):
        lengths.setdefault(len(mel), []).append(i)
    for chosen in lengths.values():
        for first in range(0, len(chosen), 40):
            some = chosen[first:first + 40]
            found = tower(*batch([mels[i] for i in some]))
            for i, features in zip(some, found.last_hidden_state):
                out[i] = features
    return out


def examples(tower, clips, seed, copies=3):
    """Training examples of clips (sounds.load): every clip as it is and in `copies` - 1 altered versions."""
    rng = random.Random(f"hearing {seed}")
    torch.manual_seed(0)
    found = []
    for copy in range(copies):
        mels = tensors(clips)
        if copy:
            mels = [augment(rng, mel) for mel in mels]
        for features, (_, row) in zip(encode(tower, mels), clips):
            pairs = sounds.questions(row["text"], row["kind"])
            # The wording of transformers' own test most often; numbers in figures for a part of the digits.
            weights = [5, 3, 1, 1, 1, 1] + [2] * (len(pairs) - len(sounds.TRANSCRIBE))
            question, answer = rng.choices(pairs, weights)[0]
            found.append({"features": features, "question": question, "answer": answer, "kind": row["kind"]})
    return found


@torch.no_grad()
def first_projection(heads, rows, table, sp):
    """Initial value [D,48] of the embedder's projection: frames that say a word look like its pieces.

    The words' head of the tower's training says which frame says which word; least squares fits the
    projection to the (normalised) mean embedding of the word's pieces, for all other frames to a newline's.
    `rows`: examples; `table` [vocab,D]: the text embeddings.
    """
    pieces = [sp.encode("\n")] + [sp.encode("\n " + word)[1:] for word in sounds.WORDS]
    wanted = torch.nn.functional.normalize(torch.stack([table[ids].mean(0) for ids in pieces]), dim=1)
    wanted *= table.shape[1] ** 0.5
    x = torch.cat([row["features"] for row in rows])
    said = (x @ heads["weight"].T + heads["bias"]).argmax(1)
    x = torch.nn.functional.normalize(x, dim=1) * x.shape[1] ** 0.5
    # A word's frames are rare beside the silent ones: every class weighs the same.
    weight = said.bincount(minlength=len(pieces)).clamp(min=1).float().rsqrt()[said, None]
    return torch.linalg.lstsq(weight * x, weight * wanted[said]).solution.T.contiguous()
