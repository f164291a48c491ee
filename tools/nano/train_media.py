"""Stage 2: the text model learns what its towers' tokens mean, and goes on with text.

    python tools/nano/train_media.py --start DIR --work build/nano --out models/nano [--steps N]

DIR holds the text model that train.py made, or what this program made, to go on from; the work directory holds vision.pt
(train_vision.py) and audio.pt with its clips (train_sounds.py). The towers stay as they are:
what they say about every picture and clip is computed once. A batch has rows about pictures,
rows about sounds and rows of train.py's own text, so that nothing is forgotten.

In a picture row the picture stands once and several questions continue it, each blind to the
others: document numbers and parents (see model.masks) make a tree of the row. Where a question is about
one object, a part of the loss asks one layer's attention to look at the tokens that show it.
"""

import argparse
import pathlib
import random
import tempfile
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file

import data
import export
import hearing
import media
import model as nano
import sizes
import tokenizer
import train

SEED, WORKERS, LENGTH = 7, 2, 512
ROW_KINDS = ("picture", "picture", "picture", "sound", "text")
PEAK, EMBEDDER_PEAK, WARMUP, FLOOR = 8e-4, 3e-3, 50, 0.02
DECAY_SHARE, ROUND_SHARE = 0.6, 0.4
MEDIA_WEIGHT = 2.0
PLACED_SHARE = 0.5  # of the pictures that are drawn from those with single objects: they are learned last
GUIDE_WEIGHT = 0.2  # of the attention that a question about one object owes to its tokens


class Row:
    """One row of LENGTH tokens under construction."""

    def __init__(self):
        self.ids = torch.zeros(LENGTH, dtype=torch.long)
        self.documents, self.positions = torch.zeros_like(self.ids), torch.zeros_like(self.ids)
        self.parents = torch.full_like(self.ids, -1)
        self.weights = torch.zeros(LENGTH)
        self.features = []  # (kind, first token, features [n,E])
        self.guides = []  # (tokens that predict an answer, tokens that show it)
        self.used = self.number = 0

    def room(self, count):
        return self.used + count <= LENGTH

    def add(self, ids, weights, parent=-1, start=0):
        """One document; weights[i] is the weight of predicting ids[i]. Returns its number and span."""
        self.number += 1
        span = slice(self.used, self.used + len(ids))
        self.ids[span] = torch.tensor(ids)
        self.documents[span], self.parents[span] = self.number, parent
        self.positions[span] = torch.arange(start, start + len(ids))
        self.weights[span] = torch.tensor(weights[1:] + [0.0])
        self.used = span.stop
        return self.number, span


class Batches:
    """Rows of every kind, the same for the same (step, worker)."""

    def __init__(self, sp, shape, tasks, pictures, sounds):
        self.sp, self.shape, self.tasks, self.pictures, self.sounds = sp, shape, tasks, pictures, sounds
        self.placed = [seen for seen in pictures if any(key.startswith("where") for key, _ in seen["facts"])]

    def picture(self, rng):
        """One picture and as many questions about it as fit."""
        row = Row()
        seen = rng.choice(self.placed if rng.random() < PLACED_SHARE else self.pictures)
        prefix = [2] + self.sp.encode(media.PICTURE_HEAD)
        parent, _ = row.add(prefix, [0.0] * len(prefix))
        first = prefix.index(self.shape.text_vocab + 1)
        row.features.append(("vision", first, seen["features"]))
        while True:
            key, value = media.picture_fact(rng, seen["facts"])
            question, answer = media.picture_question(rng, key, value)
            asked = self.sp.encode(media.after_picture(question))
            said = self.sp.encode(answer + "<end_of_turn>")
            if not row.room(len(asked) + len(said)):
                return row
            _, span = row.add(asked + said, [0.0] * len(asked) + [MEDIA_WEIGHT] * len(said), parent, len(prefix))
            shown = media.object_tokens(seen, key)
            if shown is not None:
                # The tokens of the answer but "." and <end_of_turn>, which need no picture.
                row.guides.append((slice(span.start + len(asked), span.stop - 2), first + shown.nonzero()[:, 0]))

    def sound(self, rng):
        """Clips, each with its question."""
        row = Row()
        misses = 0
        while misses < 3:
            heard = rng.choice(self.sounds)
            count = len(heard["features"])
            padded = media.AUDIO_TOKENS if rng.random() < 0.5 else count
            text = media.sound_turn(heard["question"], padded, first=rng.random() < 0.1)
            asked, said = [2] + self.sp.encode(text), self.sp.encode(heard["answer"] + "<end_of_turn>")
            if not row.room(len(asked) + len(said)):
                misses += 1
                continue
            _, span = row.add(asked + said, [0.0] * len(asked) + [MEDIA_WEIGHT] * len(said))
            first = span.start + asked.index(self.shape.text_vocab + self.shape.tower_vocab + 1)
            row.features.append(("audio", first, heard["features"]))
            # What transformers writes into the places beyond the clip.
            row.ids[first + count:first + padded] = self.shape.vocab - 1
        return row

    def text(self, rng):
        """Conversations and stories as train.py packs them."""
        row = Row()
        sampler = data.Sampler(self.tasks, rng.random(), 1)
        misses = 0
        while misses < 3:
            ids, answer = tokenizer.encode_document(self.sp, sampler.document())
            if not row.room(len(ids)):
                misses += 1
                continue
            row.add(ids, [1.0 if flag else train.PROMPT_WEIGHT for flag in answer])
        return row

    def batch(self, step, worker):
        return [getattr(self, kind)(random.Random(f"media {SEED} {step} {worker} {i}"))
                for i, kind in enumerate(ROW_KINDS)]


def replaced_rows(rows, ids, params, shape):
    """[B,T,D]: what stands at ids beyond the text vocabulary (zero elsewhere)."""
    tables = torch.cat([nano.hard_rows(params, "vision"), nano.hard_rows(params, "audio")])
    out = tables[(ids - shape.text_vocab).clamp(min=0)]
    for kind in ("vision", "audio"):
        places = [(i, first, f) for i, row in enumerate(rows) for k, first, f in row.features if k == kind]
        if places:
            soft = nano.soft_rows(torch.cat([f.float() for _, _, f in places]), params, kind)
            at = torch.cat([i * LENGTH + first + torch.arange(len(f)) for i, first, f in places])
            out = out.flatten(0, 1).index_copy(0, at, soft).view_as(out)
    return out


def guides(rows):
    """[B,T,T]: 1 where a token that predicts an answer meets a token that shows it; and which tokens predict, [B,T]."""
    watched = torch.zeros(len(rows), LENGTH, LENGTH)
    for i, row in enumerate(rows):
        for predicting, shown in row.guides:
            watched[i, predicting, shown] = 1.0
    return watched, watched.any(-1)


def guide_loss(share, predicting):
    """-log of the attention [B,H,T] that falls where it should, mean over heads and predicting tokens [B,T]."""
    missed = -torch.log(share.mean(1)[predicting] + 1e-3)
    return missed.sum() / max(1, len(missed))


def learning_rate(step, steps, peak):
    left = (steps - step) / (DECAY_SHARE * steps)
    return peak * min(1.0, (step + 1) / WARMUP, FLOOR + (1 - FLOOR) * left)


class Trainer(train.Trainer):
    """train.py's text model with the embedders beside it."""

    def __init__(self, shape, batches, start, steps, compiled):
        self.shape, self.batches, self.steps, self.sp = shape, batches, steps, batches.sp
        self.params = nano.initial_parameters(nano.parameter_shapes(shape) | nano.embedder_shapes(shape), SEED)
        stored = load_file(start / "model.safetensors")
        self.aligned = export.stored_name("embed_vision.embedding.weight") in stored
        with torch.no_grad():
            for name in self.params if self.aligned else nano.parameter_shapes(shape):
                self.params[name].copy_(stored[export.stored_name(name)])
        torch._dynamo.config.recompile_limit = 64
        self.net = nano.Nano(shape, self.params, compiled)
        self.loss = torch.compile(train.weighted_loss, dynamic=False) if compiled else train.weighted_loss
        groups = {}
        for name, p in self.params.items():
            groups.setdefault((name.startswith(("embed_vision", "embed_audio")), p.dim() == 2), []).append(p)
        self.optimizer = torch.optim.AdamW(
            [{"params": group, "weight_decay": 0.05 if matrix and not new else 0.0,
              "peak": EMBEDDER_PEAK if new else PEAK} for (new, matrix), group in groups.items()],
            lr=PEAK, betas=(0.9, 0.98), eps=1e-9, fused=True)

    def align(self, work):
        """Least squares: a token that shows or says a word starts near the embedding of that word."""
        table = self.params["embed_tokens.weight"].detach()
        heads = torch.load(work / "audio.pt")["words"]
        found = {"audio": hearing.first_projection(heads, self.batches.sounds[:1500], table, self.sp),
                 "vision": media.first_projection(work, table, self.sp)}
        with torch.no_grad():
            for kind, projection in found.items():
                self.params[f"embed_{kind}.embedding_projection.weight"].copy_(projection)

    def step(self, number, worker):
        rows = self.batches.batch(number, worker)
        ids, documents, positions, parents, weights = (
            torch.stack([getattr(row, name) for row in rows])
            for name in ("ids", "documents", "positions", "parents", "weights"))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(number, self.steps, group["peak"])
        rounded = number >= (1 - ROUND_SHARE) * self.steps and number % 2 == 0
        with train.Rounded(self.params, rounded):
            replaced = replaced_rows(rows, ids, self.params, self.shape)
            watched, predicting = guides(rows)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=train.FAST_BF16):
                hidden, share = self.net.hidden(ids, documents, positions, train.draw_size(number, self.shape),
                                                parents, replaced, watched)
            guide = guide_loss(share.float(), predicting)
            loss = self.loss(hidden, self.params["embed_tokens.weight"], ids.roll(-1, 1), weights)
            (loss + GUIDE_WEIGHT * guide).backward()
        self.share_gradients()
        torch.nn.utils.clip_grad_norm_(self.params.values(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            each = self.kinds_loss(hidden, ids, weights) if number % 10 == 0 and worker == 0 else {}
            if each:
                each["guide"] = guide.item()
        return each, self.optimizer.param_groups[0]["lr"]

    def kinds_loss(self, hidden, ids, weights):
        """The loss of one row of every kind of this step."""
        table, each = self.params["embed_tokens.weight"], {}
        for i, kind in enumerate(ROW_KINDS):
            one = slice(i, i + 1)
            each[kind] = train.weighted_loss(hidden[one], table, ids[one].roll(-1, 1), weights[one]).item()
        return each


def media_accuracy(trainer, watched, size):
    """Share of exactly right greedy answers about watched() rows, per kind of media."""
    plain, right = nano.Nano(trainer.shape, trainer.params), {}
    shape, sp = trainer.shape, trainer.sp
    for start in range(0, len(watched), 20):
        rows, longest = [], 0
        for kind, features, question, answer in watched[start:start + 20]:
            row = Row()
            if kind == "vision":
                asked = [2] + sp.encode(media.PICTURE_HEAD + media.after_picture(question))
                first = asked.index(shape.text_vocab + 1)
            else:
                asked = [2] + sp.encode(media.sound_turn(question, len(features)))
                first = asked.index(shape.text_vocab + shape.tower_vocab + 1)
            said = sp.encode(answer + "<end_of_turn>")
            row.add(asked + said, [0.0] * len(asked) + [1.0] * len(said))
            row.features.append((kind, first, features))
            rows.append(row)
        ids, documents, positions, weights = (torch.stack([getattr(row, name) for row in rows])
                                              for name in ("ids", "documents", "positions", "weights"))
        with torch.no_grad():
            replaced = replaced_rows(rows, ids, trainer.params, shape)
            hidden = plain.hidden(ids, documents, positions, size, None, replaced)
            best = plain.logits(hidden).argmax(-1)
        good = ((best == ids.roll(-1, 1)) | (weights == 0)).all(1)
        for row, ok in zip(rows, good.tolist()):
            right.setdefault(row.features[0][0], []).append(ok)
    return {kind: sum(oks) / len(oks) for kind, oks in right.items()}


def report(trainer, watched, rows, names):
    for name in names:
        found = media_accuracy(trainer, watched, sizes.widths(name, trainer.shape.ffn))
        print(f"  {name} " + " ".join(f"{kind} {share:.3f}" for kind, share in found.items()), flush=True)
    train.report(trainer, rows, names)


def work(worker, args):
    """One of WORKERS identical processes; the first one reports, saves and exports."""
    torch.set_num_threads(1)
    first = worker == 0
    shape, tasks = nano.Shape(), data.build_tasks()
    dist.init_process_group("gloo", init_method=f"file://{args.meeting}/group", rank=worker, world_size=WORKERS)
    seen, heard = (torch.load(args.work / f"{name}.pt", mmap=True) for name in ("pictures", "sounds"))
    batches = Batches(tokenizer.load(args.start), shape, tasks, seen, heard)
    trainer = Trainer(shape, batches, args.start, args.steps, not args.eager)
    checkpoint = args.work / "media_checkpoint.pt"
    if checkpoint.exists():
        start = trainer.load(checkpoint)
    else:
        start = 0
        if not trainer.aligned:
            trainer.align(args.work)
    watched = media.watched(args.work) if first else []
    rows = data.heldout_set(tasks)
    begun = time.time()
    for step in range(start, args.steps):
        each, rate = trainer.step(step, worker)
        if each:
            print(f"step {step} " + " ".join(f"{k} {v:.3f}" for k, v in each.items())
                  + f" lr {rate:.2e} {time.time() - begun:.0f} s", flush=True)
        if first and ((step + 1) % 200 == 0 or step + 1 == args.steps):
            trainer.save(checkpoint, step + 1)
            last = step + 1 == args.steps
            report(trainer, watched if last else watched[::4], rows if last else rows[::6],
                   ("e4b", "e2b") if last else ("e4b",))
    dist.barrier()
    if first:
        args.out.mkdir(parents=True, exist_ok=True)
        towers = {"vision_tower.timm_model.": torch.load(args.work / "vision.pt"),
                  "audio_tower.": torch.load(args.work / "audio.pt")["tower"]}
        names = ("tokenizer.model", "tokenizer.json", "tokenizer_config.json", "heldout.jsonl", "heldout.txt")
        train.publish(args.out, shape, trainer.params, [args.start / name for name in names], towers)
    dist.destroy_process_group()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("build/nano"))
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--steps", type=int, default=1100)
    parser.add_argument("--pictures", type=int, default=3000)
    parser.add_argument("--eager", action="store_true", help="do not use torch.compile")
    args = parser.parse_args()
    torch.set_num_threads(1)
    media.prepare(args.work, args.pictures)
    with tempfile.TemporaryDirectory() as args.meeting:
        mp.spawn(work, (args,), nprocs=WORKERS)


if __name__ == "__main__":
    main()
