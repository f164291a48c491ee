"""How well nano sees and hears: transformers' own model and processors on the held-out pictures and clips.

transformers names the vision tower by its architecture alone, so the narrow one is put in its place.
"""

import json
from unittest import mock

import numpy as np
import soundfile
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import Gemma3nAudioFeatureExtractor, Gemma3nConfig, Gemma3nForConditionalGeneration
from transformers.models.siglip import SiglipImageProcessorPil

import media
import sizes
import vision
from train_sounds import edits

STOP = [1, 106]
MAX_NEW = 32
BATCH = 10


def load(path, name):
    """The slice `name` of the checkpoint with its towers, float32 from the stored bf16 weights."""
    content = json.loads((path / "config.json").read_text())
    text = content["text_config"]
    size = sizes.widths(name, max(text["intermediate_size"]))
    content["text_config"] = sizes.slice_config(text, size) | {"dtype": "float32"}
    config = Gemma3nConfig(**content | {"dtype": "float32"})
    config._attn_implementation = "eager"
    narrow = vision.build(json.loads((path / "architecture.json").read_text()))
    with mock.patch("timm.create_model", lambda *_, **__: narrow):
        model = Gemma3nForConditionalGeneration(config)
    tensors = {k: v.float() for k, v in sizes.slice_tensors(load_file(path / "model.safetensors"), size).items()}
    missing = model.load_state_dict(tensors, strict=False)
    assert not missing.unexpected_keys and missing.missing_keys == ["lm_head.weight"], missing
    model.tie_weights()
    return model.float().eval()


class Reader:
    """Prompts and inputs as transformers' processor makes them from the directory's files."""

    def __init__(self, path, tokenizer):
        self.path, self.tokenizer = path, tokenizer
        settings = json.loads((path / "preprocessor_config.json").read_text())
        self.pictures = SiglipImageProcessorPil.from_pretrained(path)
        self.sounds = Gemma3nAudioFeatureExtractor.from_pretrained(path)
        self.side = settings["size"]["height"]

    def ids(self, text):
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def picture(self, row, empty=False):
        """ids, inputs; `empty`: a grey picture instead."""
        image = Image.open(self.path / row["file"]).convert("RGB")
        if empty:
            image = Image.new("RGB", image.size, (128, 128, 128))
        pixels = self.pictures(images=image, return_tensors="pt").pixel_values
        text = "<bos>" + media.PICTURE_HEAD + media.after_picture(row["question"])
        return self.ids(text), {"pixel_values": pixels.float()}

    def sound(self, row, empty=False):
        """ids, inputs; `empty`: silence of the same length instead."""
        wave, rate = soundfile.read(self.path / row["file"], dtype="float32")
        assert rate == 16000 and wave.ndim == 1
        made = self.sounds(np.zeros_like(wave) if empty else wave, return_tensors="pt")
        text = "<bos>" + media.sound_turn(row["question"], media.AUDIO_TOKENS)
        return self.ids(text), {"input_features": made.input_features,
                                "input_features_mask": made.input_features_mask}


def answers(model, reader, kind, rows, empty=False):
    """Greedy answers of the rows, as text. Equal shapes share a batch: no padding."""
    asked, groups = [getattr(reader, kind)(row, empty) for row in rows], {}
    for i, (ids, inputs) in enumerate(asked):
        groups.setdefault((len(ids), *(tuple(value.shape) for value in inputs.values())), []).append(i)
    out = [None] * len(rows)
    for members in (group[k:k + BATCH] for group in groups.values() for k in range(0, len(group), BATCH)):
        ids = torch.tensor([asked[i][0] for i in members])
        inputs = {name: torch.cat([asked[i][1][name] for i in members]) for name in asked[members[0]][1]}
        with torch.no_grad():
            made = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **inputs, do_sample=False,
                                  max_new_tokens=MAX_NEW, eos_token_id=STOP, pad_token_id=0)[:, ids.shape[1]:]
        for i, row in zip(members, made.tolist()):
            end = next((k for k, t in enumerate(row) if t in STOP), len(row))
            out[i] = reader.tokenizer.decode(row[:end])
    return out


def rows_of(path, kind):
    return [json.loads(line) for line in (path / f"heldout_{kind}s.jsonl").read_text().splitlines()]


def measure(path, tokenizer, name, show=False):
    """{"picture", "picture_grey", "sound", "sound_silence": score()} of one size; `show` prints the errors."""
    model, reader = load(path, name), Reader(path, tokenizer)
    result = {}
    for kind, blank in (("picture", "grey"), ("sound", "silence")):
        rows = rows_of(path, kind)
        for empty in (False, True):
            made = answers(model, reader, kind, rows, empty)
            if show and not empty:
                for row, text in zip(rows, made):
                    if text != row["answer"]:
                        print(f"  {name}: {row['file']} {row['question']!r} -> {text!r}, "
                              f"expected {row['answer']!r}")
            result[f"{kind}_{blank}" if empty else kind] = score(rows, made)
    return result


def score(rows, made):
    """Share of exact answers per task and in all; for transcripts the word error rate."""
    tasks = {}
    for row, text in zip(rows, made):
        tasks.setdefault(row["task"], []).append((row["answer"], text))
    result = {}
    for task, pairs in sorted(tasks.items()):
        if task == "transcribe":
            wrong = sum(edits(a.split(), t.split()) for a, t in pairs)
            result["word_error_rate"] = wrong / sum(len(a.split()) for a, _ in pairs)
        result[task] = sum(a == t for a, t in pairs) / len(pairs)
    result["all"] = sum(row["answer"] == text for row, text in zip(rows, made)) / len(rows)
    return result
