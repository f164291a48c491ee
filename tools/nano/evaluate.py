"""Measures a nano checkpoint with transformers itself.

    python tools/nano/evaluate.py models/nano                 accuracy; rewrites the tables of its README
    python tools/nano/evaluate.py models/nano --no-write      accuracy; prints only
    python tools/nano/evaluate.py models/nano --check-answers FILE
        FILE holds lines {"prompt": str, "size": str, "ids": [int, ...]} that another program
        made (greedy, stop ids not included): every one must be what transformers generates

Pictures and sounds are measured too where the directory has towers (evaluate_media.py).
A size is a slice in the sense of sizes.py, loaded as a model of its own, in float32 from the
stored bf16 weights. Exact match: the generated text equals the expected answer.
"""

import argparse
import hashlib
import json
import pathlib
import sys

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, Gemma3nForCausalLM, Gemma3nTextConfig

import evaluate_media
import sizes

SIZES = ("e4b", "e2b", "e3.18b-layer")
MEDIA_SIZES = ("e4b", "e2b")
PICTURE_GOAL, WORD_ERROR_GOAL = 0.90, 0.20
GOALS = {"e4b": 0.90, "e2b": 0.80, "e3.18b-layer": 0.80}
STOP = [1, 106]
PREFIX = "model.language_model."
MAX_NEW = 64


def load(path, name, change=None):
    """The slice `name` of the checkpoint as a transformers model; `change` may alter tensors."""
    text = json.loads((path / "config.json").read_text())["text_config"]
    size = sizes.widths(name, max(text["intermediate_size"]))
    tensors = sizes.slice_tensors(load_file(path / "model.safetensors"), size)
    tensors = {k.replace(PREFIX, "model."): v.float() for k, v in tensors.items() if k.startswith(PREFIX)}
    if change:
        tensors = {k: change(k, v) for k, v in tensors.items()}
    config = Gemma3nTextConfig(**sizes.slice_config(text, size) | {"dtype": "float32"})
    config._attn_implementation = "eager"
    model = Gemma3nForCausalLM(config).float().eval()
    missing = model.load_state_dict(tensors, strict=False)
    assert not missing.unexpected_keys and missing.missing_keys == ["lm_head.weight"], missing
    model.tie_weights()
    return model


def prompt_ids(tokenizer, prompt):
    text = tokenizer.apply_chat_template([{"role": "user", "content": prompt}], tokenize=False,
                                         add_generation_prompt=True)
    return tokenizer(text, add_special_tokens=False).input_ids


def generate(model, prompts):
    """Greedy continuations of id lists, stop id removed. Equal lengths share a batch: no padding."""
    groups = {}
    for i, ids in enumerate(prompts):
        groups.setdefault(len(ids), []).append(i)
    out = [None] * len(prompts)
    for length, members in groups.items():
        batch = torch.tensor([prompts[i] for i in members])
        with torch.no_grad():
            made = model.generate(batch, attention_mask=torch.ones_like(batch), do_sample=False, max_new_tokens=MAX_NEW,
                                  eos_token_id=STOP, pad_token_id=0)
        for i, row in zip(members, made[:, length:].tolist()):
            end = next((k for k, t in enumerate(row) if t in STOP), len(row))
            out[i] = row[:end]
    return out


def accuracy(path, tokenizer, rows, name):
    """Per task and in total: (right, asked)."""
    made = generate(load(path, name), [prompt_ids(tokenizer, row["prompt"]) for row in rows])
    result = {}
    for row, ids in zip(rows, made):
        text = tokenizer.decode(ids)
        right, asked = result.get(row["task"], (0, 0))
        result[row["task"]] = (right + (text == row["answer"]), asked + 1)
        if text != row["answer"]:
            print(f"  {name}: {row['prompt']!r} -> {text!r}, expected {row['answer']!r}")
    result["all"] = tuple(map(sum, zip(*result.values())))
    return result


def quantised(bits):
    """Symmetric rounding in blocks of 32 along a row; 4 bits search for the best scale."""
    top = 2 ** (bits - 1) - 1

    def change(name, tensor):
        if tensor.dim() != 2 or tensor.shape[1] % 32 or name.endswith("_coefs.weight"):
            return tensor
        w = tensor.numpy().reshape(-1, 32)
        scale = np.maximum(np.abs(w).max(1, keepdims=True) / top, 1e-12)
        for _ in range(4 if bits == 4 else 0):
            q = np.clip(np.round(w / scale), -top, top)
            norm = (q * q).sum(1, keepdims=True)
            scale = np.where(norm > 0, (w * q).sum(1, keepdims=True) / np.maximum(norm, 1), scale)
        q = np.clip(np.round(w / scale), -top, top)
        return torch.from_numpy((q * scale).reshape(tensor.shape).astype(np.float32))
    return change


def log_probs(model, documents):
    with torch.no_grad():
        return [torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), -1) for ids in documents]


def divergence(path, tokenizer, name):
    """Loss of float32 weights on heldout.txt and mean KL(float32 || quantised), nats per token."""
    texts = (path / "heldout.txt").read_text().split("%%\n")
    documents = [[2] + tokenizer(text, add_special_tokens=False).input_ids for text in texts]
    reference = log_probs(load(path, name), documents)
    losses = [-p[:-1].gather(1, torch.tensor(ids[1:])[:, None]) for p, ids in zip(reference, documents)]
    result = {"loss": torch.cat(losses).mean().item()}
    for bits in (8, 4):
        other = log_probs(load(path, name, quantised(bits)), documents)
        kl = torch.cat([(p.exp() * (p - q)).sum(-1) for p, q in zip(reference, other)])
        result[f"kl_q{bits}"] = kl.mean().item()
    return result


def tables(results, quality):
    lines = ["| task | asked | " + " | ".join(results) + " |", "|---|---|" + "---|" * len(results)]
    for task in results["e4b"]:
        cells = [f"{right / asked:.3f}" for right, asked in (r[task] for r in results.values())]
        bold = "**" if task == "all" else ""
        asked = results["e4b"][task][1]
        lines.append(f"| {bold}{task}{bold} | {asked} | " + " | ".join(bold + c + bold for c in cells) + " |")
    lines += ["", "| size | loss on heldout.txt (nats per token) | KL, 8-bit weights | KL, 4-bit weights |", "|---|---|---|---|"]
    lines += [f"| {n} | {q['loss']:.3f} | {q['kl_q8']:.2e} | {q['kl_q4']:.2e} |" for n, q in quality.items()]
    return "\n".join(lines)


def media_tables(seen):
    """Markdown tables of evaluate_media.measure's results per size."""
    def line(label, kind, key):
        return f"| {label} | " + " | ".join(f"{result[kind][key]:.3f}" for result in seen.values()) + " |"

    def head(label):
        return [f"| {label} | " + " | ".join(seen) + " |", "|---|" + "---|" * len(seen)]
    tasks = [task for task in seen["e4b"]["picture"] if task != "all"]
    pictures = [line(task, "picture", task) for task in tasks]
    pictures += [line("**all**", "picture", "all"), line("all, a grey picture instead", "picture_grey", "all")]
    sounds = [line("word error rate of transcripts", "sound", "word_error_rate"),
              line("transcripts exactly right", "sound", "transcribe"),
              line("numbers exactly right", "sound", "number"),
              line("word error rate, silence instead", "sound_silence", "word_error_rate")]
    return "\n".join(head("about pictures") + pictures + [""] + head("about sounds") + sounds)


def sha256(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


def write_results(path, results, quality, seen):
    """evaluation.json for tests and the part of README.md between the two markers."""
    record = {"model_sha256": sha256(path / "model.safetensors"), "quality": quality,
              "accuracy": {n: {t: r / a for t, (r, a) in result.items()} for n, result in results.items()},
              "media": seen}
    (path / "evaluation.json").write_text(json.dumps(record, indent=1) + "\n")
    readme = path / "README.md"
    head, rest = readme.read_text().split("<!-- results -->\n")
    tail = rest.split("<!-- end of results -->\n")[1]
    body = tables(results, quality) + ("\n\n" + media_tables(seen) if seen else "")
    readme.write_text(f"{head}<!-- results -->\n{body}\n<!-- end of results -->\n{tail}")


def check_answers(path, tokenizer, file):
    """Compares another program's greedy ids with transformers'; returns the number of differences."""
    asked = [json.loads(line) for line in file.read_text().splitlines() if line.strip()]
    wrong = 0
    for name in sorted({row["size"] for row in asked}):
        rows = [row for row in asked if row["size"] == name]
        made = generate(load(path, name), [prompt_ids(tokenizer, row["prompt"]) for row in rows])
        for row, ids in zip(rows, made):
            other = [t for t in row["ids"] if t not in STOP][:MAX_NEW]
            if other != ids:
                wrong += 1
                print(f"{name}: {row['prompt']!r}: transformers {ids} {tokenizer.decode(ids)!r}, "
                      f"other {other} {tokenizer.decode(other)!r}")
    print(f"{len(asked) - wrong} of {len(asked)} answers are transformers' own")
    return wrong + (not asked)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=pathlib.Path)
    parser.add_argument("--check-answers", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--no-write", action="store_true")
    parser.add_argument("--sizes", nargs="*", default=SIZES, choices=sizes.PUBLISHED, metavar="SIZE")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    tokenizer = AutoTokenizer.from_pretrained(args.path)
    if args.check_answers:
        return 1 if check_answers(args.path, tokenizer, args.check_answers) else 0
    rows = [json.loads(line) for line in (args.path / "heldout.jsonl").read_text().splitlines()]
    results = {name: accuracy(args.path, tokenizer, rows, name) for name in args.sizes}
    quality = {name: divergence(args.path, tokenizer, name) for name in args.sizes}
    seen = {}
    if (args.path / "architecture.json").exists():
        seen = {name: evaluate_media.measure(args.path, tokenizer, name, show=True)
                for name in MEDIA_SIZES if name in args.sizes}
    if "e4b" in results:
        print(tables(results, quality))
    if "e4b" in seen:
        print(media_tables(seen))
    if not args.no_write:
        write_results(args.path, results, quality, seen)
    share = {name: result["all"][0] / result["all"][1] for name, result in results.items()}
    missed = [name for name, goal in GOALS.items() if name in share and share[name] < goal]
    for name in missed:
        print(f"{name}: {share[name]:.3f} is below the goal of {GOALS[name]}")
    for name, found in seen.items():
        if found["picture"]["all"] < PICTURE_GOAL or found["sound"]["word_error_rate"] > WORD_ERROR_GOAL:
            print(f"{name}: pictures {found['picture']['all']:.3f}, "
                  f"word errors {found['sound']['word_error_rate']:.3f}: not both meet the goals")
            missed.append(name)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
