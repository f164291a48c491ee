"""Makes models/nano from nothing: data, tokenizer, training, export.

    python tools/nano/train.py --out models/nano [--work DIR] [--steps N]

Training is MatFormer training: every step draws a size (the full model, the E2B slice, a
published Mix-n-Match row, or random widths per layer) and updates the shared weights. The
last part of the run lowers the learning rate and rounds the matrices to 4 bits in every
second forward pass, so that the runtime's quantised modes stay close to float32.

Two single-threaded workers take half a batch each and add their gradients once per step:
on a busy machine that loses far less time than two threads that meet in every operation.

Deterministic: batch and size depend on (seed, step, worker) only. Resumable: --work keeps a
checkpoint, and a second call goes on from it. The same machine gives the same weights;
other machines sum in another order.
"""

import argparse
import os
import pathlib
import random
import shutil
import tempfile
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F

import data
import export
import model as nano
import sizes
import tokenizer

SEED = 3
WORKERS, ROWS, LENGTH = 2, 12, 128
PROMPT_WEIGHT = 0.15
PEAK, WARMUP, FLOOR = 2e-3, 100, 0.02
DECAY_SHARE = 0.35
SECOND_PHASE = 700
# Without AVX-512, products of bf16 are many times slower than of float32.
FAST_BF16 = "AVX512" in torch.backends.cpu.get_cpu_capability()


def draw_size(step, shape):
    """The feed-forward widths of this step."""
    rng = random.Random(f"size {SEED} {step}")
    kind = rng.random()
    if kind < 0.40:
        return sizes.widths("e4b", shape.ffn)
    if kind < 0.70:
        return sizes.widths("e2b", shape.ffn)
    if kind < 0.88:
        return sizes.widths(rng.choice(list(sizes.PUBLISHED)), shape.ffn)
    widths = [rng.choice([shape.ffn // 2, shape.ffn]) for _ in range(shape.layers)]
    if rng.random() < 0.4:
        widths[20:25] = [0] * 5
    return widths


class Packer:
    """Fills rows of LENGTH tokens with whole documents."""

    def __init__(self, sp, tasks):
        self.sp, self.tasks = sp, tasks

    def batch(self, step, worker):
        """ids, document numbers, positions, loss weights of the next token: [ROWS, LENGTH]."""
        sampler = data.Sampler(self.tasks, f"batch {SEED} {step} {worker}", int(step >= SECOND_PHASE))
        ids = torch.zeros(ROWS, LENGTH, dtype=torch.long)
        documents, positions = torch.zeros_like(ids), torch.zeros_like(ids)
        weights = torch.zeros(ROWS, LENGTH)
        for row in range(ROWS):
            used, number = 0, 1
            # A document that does not fit is replaced by another one, a few times.
            for _ in range(12):
                tokens, answer = tokenizer.encode_document(self.sp, sampler.document())
                if used + len(tokens) > LENGTH:
                    continue
                span = slice(used, used + len(tokens))
                ids[row, span] = torch.tensor(tokens)
                documents[row, span] = number
                positions[row, span] = torch.arange(len(tokens))
                flags = torch.tensor(answer[1:] + [False])
                weights[row, span] = torch.where(flags, 1.0, PROMPT_WEIGHT)
                weights[row, span.stop - 1] = 0.0
                used, number = span.stop, number + 1
        return ids, documents, positions, weights


def weighted_loss(hidden, table, targets, weights):
    """Mean cross entropy in nats over weighted next tokens."""
    logits = 30.0 * torch.tanh(F.linear(hidden.float(), table) / 30.0)
    picked = logits.gather(-1, targets[..., None])[..., 0]
    return ((torch.logsumexp(logits, -1) - picked) * weights).sum() / weights.sum()


def learning_rate(step, steps):
    """Warm-up, constant, then linear decay over the last DECAY_SHARE of the run."""
    left = (steps - step) / (DECAY_SHARE * steps)
    return PEAK * min(1.0, (step + 1) / WARMUP, FLOOR + (1 - FLOOR) * left)


def round4(w):
    """w rounded to symmetric 4-bit blocks of 32 with a least-squares scale."""
    blocks = w.view(-1, 32)
    scale = blocks.abs().amax(1, keepdim=True).clamp(min=1e-8) / 7
    q = (blocks / scale).round_()
    scale = (blocks * q).sum(1, keepdim=True) / (q * q).sum(1, keepdim=True).clamp(min=1)
    return ((blocks / scale.clamp(min=1e-8)).round_().clamp_(-7, 7) * scale).view_as(w)


class Rounded:
    """Context in which the matrices hold their 4-bit values (gradients pass straight through)."""

    def __init__(self, params, active):
        matrices = [p for n, p in params.items() if p.dim() == 2 and p.shape[1] % 32 == 0]
        self.params = matrices if active else []

    def __enter__(self):
        self.saved = [p.data for p in self.params]
        for p in self.params:
            p.data = round4(p.data)

    def __exit__(self, *_):
        for p, saved in zip(self.params, self.saved):
            p.data = saved


class Trainer:
    def __init__(self, shape, sp, tasks, steps, compiled):
        self.shape, self.sp, self.steps = shape, sp, steps
        self.packer = Packer(sp, tasks)
        self.params = nano.initial_parameters(nano.parameter_shapes(shape), SEED)
        torch._dynamo.config.recompile_limit = 64
        self.net = nano.Nano(shape, self.params, compiled)
        self.loss = torch.compile(weighted_loss, dynamic=False) if compiled else weighted_loss
        matrices = [p for n, p in self.params.items() if p.dim() == 2]
        vectors = [p for n, p in self.params.items() if p.dim() == 1]
        self.optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.05},
                                            {"params": vectors, "weight_decay": 0.0}],
                                           lr=PEAK, betas=(0.9, 0.98), eps=1e-9, fused=True)

    def share_gradients(self):
        """Replaces every gradient by the mean over the workers."""
        grads = [p.grad for p in self.params.values() if p.grad is not None]
        flat = torch.cat([g.reshape(-1) for g in grads])
        dist.all_reduce(flat)
        for grad, part in zip(grads, flat.div_(WORKERS).split([g.numel() for g in grads])):
            grad.copy_(part.view_as(grad))

    def step(self, number, worker):
        ids, documents, positions, weights = self.packer.batch(number, worker)
        decay = number >= (1 - DECAY_SHARE) * self.steps
        rate = learning_rate(number, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with Rounded(self.params, decay and number % 2 == 0):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=FAST_BF16):
                hidden = self.net.hidden(ids, documents, positions, draw_size(number, self.shape))
            loss = self.loss(hidden, self.params["embed_tokens.weight"], ids.roll(-1, 1), weights)
            loss.backward()
        self.share_gradients()
        torch.nn.utils.clip_grad_norm_(self.params.values(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item(), rate

    def save(self, path, step):
        state = {"step": step, "params": {k: v.detach() for k, v in self.params.items()},
                 "optimizer": self.optimizer.state_dict()}
        torch.save(state, path.with_suffix(".new"))
        os.replace(path.with_suffix(".new"), path)

    def load(self, path):
        state = torch.load(path)
        with torch.no_grad():
            for name, value in state["params"].items():
                self.params[name].copy_(value)
        self.optimizer.load_state_dict(state["optimizer"])
        return state["step"]


def accuracy(net, sp, rows, size):
    """Share of held-out answers whose every token is the most probable one, per task.

    For a greedy decoder that is the same as generating the answer exactly.
    """
    right = {}
    for start in range(0, len(rows), 64):
        part = rows[start:start + 64]
        encoded = [tokenizer.encode_document(sp, data.render([(r["prompt"], r["answer"])])) for r in part]
        length = max(len(ids) for ids, _ in encoded)
        ids = torch.tensor([e[0] + [0] * (length - len(e[0])) for e in encoded])
        flags = torch.tensor([e[1] + [False] * (length - len(e[1])) for e in encoded])
        documents = torch.ones_like(ids)
        positions = torch.arange(length).expand_as(ids)
        with torch.no_grad():
            best = net.logits(net.hidden(ids, documents, positions, size)).argmax(-1)
        good = ((best[:, :-1] == ids[:, 1:]) | ~flags[:, 1:]).all(1)
        for row, ok in zip(part, good.tolist()):
            right.setdefault(row["task"], []).append(ok)
    return right


def report(trainer, rows, names=("e4b", "e2b", "e3.18b-layer")):
    plain = nano.Nano(trainer.shape, trainer.params)
    for name in names:
        right = accuracy(plain, trainer.sp, rows, sizes.widths(name, trainer.shape.ffn))
        total = sum(sum(v) for v in right.values()) / sum(len(v) for v in right.values())
        tasks = " ".join(f"{task} {sum(v) / len(v):.2f}" for task, v in right.items())
        print(f"  {name} {total:.3f}  {tasks}", flush=True)


def publish(out, shape, params, files, towers=None):
    """Writes the directory beside `out` and moves its files in, one rename each."""
    out.mkdir(parents=True, exist_ok=True)
    fresh = pathlib.Path(tempfile.mkdtemp(prefix=".fresh", dir=out.parent))
    export.write_model(fresh, shape, params, towers)
    for path in files:
        shutil.copy(path, fresh / path.name)
    for path in fresh.iterdir():
        path.chmod(0o644)
        os.replace(path, out / path.name)
    fresh.rmdir()


def prepare(work, shape):
    """Tokenizer and held-out files in the work directory; returns what training needs."""
    work.mkdir(parents=True, exist_ok=True)
    tasks = data.build_tasks()
    tokenizer.train_tokenizer(data.corpus(tasks), work, shape.text_vocab, shape.tower_vocab)
    rows = data.heldout_set(tasks)
    data.write_heldout(work, tasks, rows)
    names = ("tokenizer.model", "tokenizer.json", "tokenizer_config.json", "heldout.jsonl", "heldout.txt")
    return tasks, rows, [work / name for name in names]


def work(worker, args):
    """One of WORKERS identical processes; the first one reports, saves and exports."""
    torch.set_num_threads(1)
    first = worker == 0
    shape = nano.Shape()
    if first:
        data_and_files = prepare(args.work, shape)
    dist.init_process_group("gloo", init_method=f"file://{args.meeting}/group", rank=worker, world_size=WORKERS)
    dist.barrier()
    tasks, rows = (data_and_files[0], data_and_files[1]) if first else (data.build_tasks(), [])
    trainer = Trainer(shape, tokenizer.load(args.work), tasks, args.steps, not args.eager)
    checkpoint = args.work / "checkpoint.pt"
    start = trainer.load(checkpoint) if checkpoint.exists() else 0
    begun = time.time()
    for step in range(start, min(args.steps, args.stop or args.steps)):
        loss, rate = trainer.step(step, worker)
        if first and (step % 20 == 0 or step + 1 == args.steps):
            print(f"step {step} loss {loss:.4f} lr {rate:.2e} {time.time() - begun:.0f} s", flush=True)
        if first and ((step + 1) % 100 == 0 or step + 1 == args.steps):
            trainer.save(checkpoint, step + 1)
            if (step + 1) % 300 == 0 or step + 1 == args.steps:
                report(trainer, rows)
    dist.barrier()
    if first:
        publish(args.out, shape, trainer.params, data_and_files[2])
    dist.destroy_process_group()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("build/nano"))
    parser.add_argument("--steps", type=int, default=1300)
    parser.add_argument("--stop", type=int, help="stop and export after this many steps; a later call goes on")
    parser.add_argument("--eager", action="store_true", help="do not use torch.compile")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as args.meeting:
        mp.spawn(work, (args,), nprocs=WORKERS)


if __name__ == "__main__":
    main()
