"""Makes the goldens: what transformers computes, to compare a trace of Nestling with.

    pip install -r tools/goldens/requirements.txt
    python tools/goldens/make_goldens.py                      all cases, into tests/data/goldens
    python tools/goldens/make_goldens.py nano --out DIR       the cases named; nano: the bundled model, three sizes

tests/data/goldens/README.md describes the cases. Float32, eager attention, one thread. Every case is also
run in float64: a seed (or prompt) whose float32 result is too uncertain for a test is passed over.
"""

import argparse
import copy
import itertools
import json
import pathlib
import sys

import numpy
import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tools" / "nano"))

import audio_tower  # noqa: E402
import evaluate  # noqa: E402
import random_model  # noqa: E402
import vision_tower  # noqa: E402
from taps import Taps, float64_throughout, worst_error  # noqa: E402

MAX_NOISE = 5e-5    # of float32 against float64: half the tolerance of the comparison
MIN_MARGIN = 0.02   # between the best and the second logit of a greedy token, which must not be a toss-up


class Unsuitable(Exception):
    """The numbers of this seed or prompt are too uncertain."""


def forward(model, steps=0, forced=None, **inputs):
    """Taps of one pass over the prompt; with `steps`, greedy tokens through the cache after it."""
    with torch.no_grad():
        with Taps(model) as taps:
            cache = model(**inputs, use_cache=steps > 0).cache
        tensors = taps.tensors
        if steps == 0:
            return tensors
        rows, ids = [tensors["logits"][-1]], []
        for step in range(steps):
            ids.append(int(rows[-1].argmax()) if forced is None else int(forced[step]))
            rows.append(model(input_ids=torch.tensor([ids[-1:]]), cache=cache, use_cache=True).logits[0, -1])
    return tensors | {"generated_ids": torch.tensor(ids), "step_logits": torch.stack(rows)}


def with_float64(model, steps=0, **inputs):
    """The tensors of a float32 run, and those of the same run in float64."""
    tensors = forward(model, steps, **inputs)
    with float64_throughout():
        return tensors, forward(copy.deepcopy(model).double(), steps, forced=tensors.get("generated_ids"), **inputs)


def checked_noise(tensors, exact):
    noise, name = worst_error(tensors, exact)
    if not noise <= MAX_NOISE:
        raise Unsuitable(f"float32 noise {noise:.2e} at {name}")
    return {"float32_noise": f"{noise:.2e} at {name}"}


def checked_margin(model, tensors, ids):
    """Greedy decoding through the cache is a full pass, token by token, and transformers' generate()."""
    steps = len(tensors["generated_ids"])
    best = tensors["step_logits"][:-1].topk(2).values
    margin = (best[:, 0] - best[:, 1]).min().item()
    if not margin >= MIN_MARGIN:
        raise Unsuitable(f"margin {margin:.4f}")
    with torch.no_grad():
        full = model(input_ids=torch.cat([ids, tensors["generated_ids"]])[None]).logits[0, -steps - 1:]
        model.generation_config.eos_token_id = None  # on past the end of the answer
        made = model.generate(ids[None], attention_mask=torch.ones_like(ids[None]), do_sample=False,
                              max_new_tokens=steps, pad_token_id=0)[0, len(ids):]
    assert torch.equal(made, tensors["generated_ids"]), "generate() chose other tokens"
    error, _ = worst_error({"step_logits": tensors["step_logits"]}, {"step_logits": full})
    assert error <= 1e-4, f"through the cache and in one pass differ by {error:.2e}"
    return {"cached_vs_full": f"{error:.2e}", "smallest_margin": f"{margin:.4f}"}


def part(tensor, bracket):
    """A strided part: "[:,::8]"."""
    steps = [int(s[2:]) if s.startswith("::") else 1 for s in bracket.strip("[]").split(",")] if bracket else []
    return tensor[tuple(slice(None, None, s) for s in steps)].contiguous()


def write_expected(directory, tensors, wanted, metadata, name="expected.safetensors"):
    """`wanted`: name -> the part to keep."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / name
    save_file({key + bracket: part(tensors[key], bracket) for key, bracket in wanted.items()}, file,
              metadata={"golden": json.dumps(metadata)})
    file.chmod(0o644)
    size = file.stat().st_size
    print(f"{directory}: {len(wanted)} tensors, {size / 1000:.0f} kB, {metadata}")


def first_suitable(candidates, attempt):
    """attempt(candidate) of the first candidate that is not Unsuitable."""
    for candidate in candidates:
        try:
            return attempt(candidate)
        except Unsuitable as reason:
            print(f"{str(candidate)[:60]!r} passed over: {reason}")
    sys.exit("no candidate gives numbers certain enough for a test")


def random_ids(count, vocabulary, seed):
    """<bos> and different ordinary ids."""
    shuffled = 3 + torch.randperm(vocabulary - 3, generator=torch.Generator().manual_seed(seed))
    return torch.cat([torch.tensor([2]), shuffled])[:count]


def text_small(out):
    config = random_model.config_of({"num_hidden_layers": 10, "num_kv_shared_layers": 5, "hidden_size": 64,
                                     "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2,
                                     "head_dim": 16, "vocab_size": 192, "vocab_size_per_layer_input": 192})

    def attempt(seed):
        model = random_model.text_model(config)
        weights, ids = random_model.fill(model, seed), random_ids(17, 192, seed)
        tensors, exact = with_float64(model, input_ids=ids[None])
        metadata = {"seed": seed} | checked_noise(tensors, exact)
        random_model.write_checkpoint(out / "text_small", config, weights)
        tensors["input.ids"] = ids
        write_expected(out / "text_small", tensors, dict.fromkeys(tensors, ""), metadata)
    first_suitable(itertools.count(1), attempt)


def text_decode(out):
    config = random_model.config_of({"num_hidden_layers": 10, "num_kv_shared_layers": 5, "hidden_size": 64,
                                     "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1,
                                     "head_dim": 32, "vocab_size": 256, "vocab_size_per_layer_input": 256})

    def attempt(seed):
        model = random_model.text_model(config)
        weights, ids = random_model.fill(model, seed, branch=0.5), random_ids(13, 256, seed)
        random_model.add_unused_projections(weights, config.text_config, seed + 1)
        tensors, exact = with_float64(model, steps=20, input_ids=ids[None])
        tensors = {name: tensors[name] for name in ("logits", "generated_ids", "step_logits")}
        metadata = {"seed": seed} | checked_noise(tensors, exact) | checked_margin(model, tensors, ids)
        random_model.write_checkpoint(out / "text_decode", config, weights)
        tensors |= {"input.ids": ids, "input.steps": torch.tensor([20])}
        write_expected(out / "text_decode", tensors, dict.fromkeys(tensors, ""), metadata)
    first_suitable(itertools.count(1), attempt)


def text_multimodal_ids(out):
    """Placeholders of both kinds, audio padding rows, and hard ids, the last audio id (399) among them."""
    config = random_model.config_of(
        {"num_hidden_layers": 5, "num_kv_shared_layers": 0, "hidden_size": 32, "intermediate_size": 96,
         "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "vocab_size": 400,
         "vocab_size_per_layer_input": 320},
        vision_config={"hidden_size": 32, "vocab_offset": 320, "vocab_size": 40, "num_classes": 0},
        audio_config={"hidden_size": 32, "vocab_offset": 360, "vocab_size": 40, "input_feat_size": 32,
                      "conf_num_attention_heads": 2, "conf_num_hidden_layers": 1, "sscp_conv_channel_size": [8, 4]},
        audio_soft_tokens_per_image=8, boi_token_id=300, eoi_token_id=320, image_token_id=321, boa_token_id=301,
        eoa_token_id=360, audio_token_id=361)
    ids = torch.tensor([2, 263, 201, 12, 104, 300] + [321] * 6 + [320, 190, 201, 325, 399, 301] + [361] * 8 +
                       [360, 70, 91, 107])
    valid = torch.tensor([1, 1, 1, 1, 0])

    def attempt(seed):
        model = random_model.model_without_towers(config)
        weights = random_model.fill(model, seed)
        generator = torch.Generator().manual_seed(seed + 1)
        image, audio = torch.randn(6, 32, generator=generator), torch.randn(5, 32, generator=generator)
        running = model.model
        running.vision_tower.rows = image.T[None].contiguous()  # channels first, as the encoder gives it
        running.audio_tower.rows, running.audio_tower.masked = audio[None], valid[None] == 0
        running.config = copy.deepcopy(config)
        running.config.vision_soft_tokens_per_image = 6         # an image is 256 rows otherwise
        # What the replaced towers are given counts for nothing, only that it is there.
        anything = torch.ones(1, dtype=torch.bool)
        tensors, exact = with_float64(model, input_ids=ids[None], pixel_values=anything, input_features=anything,
                                      input_features_mask=anything)
        wanted = ["vision.soft_tokens", "audio.soft_tokens", "embed", "inputs_embeds", "per_layer_inputs",
                  "streams_init", *(f"layers.{n}.streams" for n in range(5)), "final_hidden", "logits"]
        metadata = {"seed": seed} | checked_noise({name: tensors[name] for name in wanted}, exact)
        random_model.write_checkpoint(out / "text_multimodal_ids", config, weights)
        inputs = {"input.ids": ids, "input.image_encoder_out": image, "input.audio_encoder_out": audio,
                  "input.audio_valid": valid}
        write_expected(out / "text_multimodal_ids", tensors | inputs, dict.fromkeys([*inputs, *wanted], ""), metadata)
    first_suitable(itertools.count(1), attempt)


def vision_narrow(out):
    """The vision tower alone, with all 84 blocks at narrow widths, on a picture of 256 x 256."""
    directory, side = out / "vision_narrow", 256
    config = random_model.config_of({"num_hidden_layers": 5, "num_kv_shared_layers": 0, "hidden_size": 44,
                                     "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2,
                                     "head_dim": 8, "vocab_size": 320, "vocab_size_per_layer_input": 256},
                                    vision_config={"hidden_size": vision_tower.OUT, "vocab_offset": 256,
                                                   "vocab_size": 32})

    def attempt(seed):
        tower = vision_tower.VisionTower(config)
        vision_tower.fill(tower, seed)
        picture = vision_tower.picture(side, seed)
        pixels = torch.tensor(numpy.asarray(picture)).float() * torch.tensor(1 / 255)
        tensors = tower.taps(pixels)
        with float64_throughout():
            exact = copy.deepcopy(tower).double().taps(pixels.double())
        metadata = {"seed": seed} | checked_noise(tensors, exact)
        weights = {name: value.to(torch.bfloat16) for name, value in tower.tensors().items()}
        random_model.write_checkpoint(directory, config, weights)
        picture.save(directory / f"input_{side}.png", optimize=True)
        write_expected(directory, tensors, vision_tower.parts(tensors), metadata, f"expected_{side}.safetensors")
    first_suitable(itertools.count(1), attempt)


def audio_narrow(out):
    """The audio tower and its embedder on one second of mel frames: all valid, invalid at the end, and at the start."""
    directory, config = out / "audio_narrow", audio_tower.config()

    def attempt(seed):
        model, weights = audio_tower.model(config, seed)
        mel, whole = audio_tower.mel(seed), torch.ones(audio_tower.FRAMES, dtype=torch.bool)
        at_end, at_start = whole.clone(), whole.clone()
        at_end[53:] = False
        at_start[:1] = False
        cases = []
        for name, mask in ("", whole), ("_right_padded", at_end), ("_left_padded", at_start):
            tensors, exact = audio_tower.with_float64(model, mel, mask)
            if name:  # what is invalid counts for nothing until the rows are reduced
                tensors = {key: tensors[key] for key in ("audio.reduced", "audio.reduced_mask", "audio.filled")}
            metadata = {"seed": seed} | checked_noise(tensors, exact)
            tensors |= {"input.mel": mel, "input.mel_mask": mask.long()}
            cases.append((f"expected{name}.safetensors", tensors, metadata))
        random_model.write_checkpoint(directory, config, weights)
        for name, tensors, metadata in cases:
            write_expected(directory, tensors, dict.fromkeys(tensors, ""), metadata, name)
    first_suitable(itertools.count(1), attempt)


def nano(out, path):
    """The bundled model in three sizes, on a held-out question in its chat template."""
    tokenizer = AutoTokenizer.from_pretrained(path)
    questions = [json.loads(line)["prompt"] for line in (path / "heldout.jsonl").read_text().splitlines()]
    prompts = sorted(((question, evaluate.prompt_ids(tokenizer, question)) for question in questions),
                     key=lambda prompt: abs(len(prompt[1]) - 25))
    for name in evaluate.SIZES:
        model = evaluate.load(path, name)
        wanted = {f"layers.{n}.streams": "[:,:,::8]" for n in range(4, model.config.num_hidden_layers, 5)}
        wanted |= {"input.ids": "", "final_hidden": "", "logits": "[::4,::4]", "generated_ids": "",
                   "step_logits": "[:,::4]"}

        def attempt(candidate):
            question, ids = candidate[0], torch.tensor(candidate[1])
            tensors, exact = with_float64(model, steps=12, input_ids=ids[None])
            kept = {key: tensors[key] for key in wanted if key in tensors}
            metadata = {"size": name, "prompt": question} | checked_noise(kept, exact)
            metadata |= checked_margin(model, tensors, ids)
            write_expected(out / "nano" / name, tensors | {"input.ids": ids}, wanted, metadata)
        first_suitable(prompts, attempt)


def main():
    cases = {"text_small": text_small, "text_decode": text_decode, "text_multimodal_ids": text_multimodal_ids,
             "vision_narrow": vision_narrow, "audio_narrow": audio_narrow}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", choices=[*cases, "nano", []], metavar="CASE",
                        help=", ".join([*cases, "nano"]) + "; default: all")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "tests" / "data" / "goldens", metavar="DIR")
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / "models" / "nano", metavar="DIR",
                        help="checkpoint of the nano case")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in args.cases or [*cases, "nano"]:
        if name == "nano":
            nano(args.out, args.model)
        else:
            cases[name](args.out)


if __name__ == "__main__":
    main()
