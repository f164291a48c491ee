"""The whole program on Gemma's real vocabulary and tokenizer: texts of every script, a random narrow model.

    NESTLING_GEMMA_TOKENIZER=tokenizer.json[.xz] python3 tests/long/languages_check.py PROGRAM

The tokenizer comes with any checkpoint of Gemma 3 or 3n. Without it the check ends with status 77: skipped.
"""

import json
import lzma
import math
import os
import pathlib
import random
import struct
import sys
import unicodedata
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOKENIZER = os.environ.get("NESTLING_GEMMA_TOKENIZER", "")
SKIPPED = 77

if len(sys.argv) < 2:
    sys.exit(__doc__)
if not TOKENIZER or not pathlib.Path(TOKENIZER).is_file():
    print("NESTLING_GEMMA_TOKENIZER names no tokenizer.json: skipped")
    sys.exit(SKIPPED)
os.environ["NESTLING_PROGRAM"] = str(pathlib.Path(sys.argv.pop(1)).resolve())
sys.path.append(str(ROOT / "tests" / "cli"))

from harness import CliTest  # noqa: E402

VOCABULARY, PLE_ROWS = 262400, 262144
LAYERS, SHARED, WIDTH, FFN, HEADS, KV_HEADS, HEAD, PLE, RANK = 5, 2, 64, 128, 2, 1, 32, 16, 16


def config():
    text = {"model_type": "gemma3n_text", "vocab_size": VOCABULARY, "vocab_size_per_layer_input": PLE_ROWS,
            "hidden_size": WIDTH, "hidden_size_per_layer_input": PLE, "intermediate_size": [FFN] * LAYERS,
            "num_hidden_layers": LAYERS, "num_kv_shared_layers": SHARED, "num_attention_heads": HEADS,
            "num_key_value_heads": KV_HEADS, "head_dim": HEAD, "laurel_rank": RANK, "altup_num_inputs": 4,
            "altup_active_idx": 0, "altup_coef_clip": 120.0, "altup_correct_scale": True, "sliding_window": 64,
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention",
                            "full_attention"],
            "activation_sparsity_pattern": [0.95, 0.95, 0.0, 0.0, 0.0], "final_logit_softcapping": 30.0,
            "hidden_activation": "gelu_pytorch_tanh", "max_position_embeddings": 32768, "rms_norm_eps": 1e-6,
            "rope_theta": 1000000.0, "rope_local_base_freq": 10000.0, "attention_bias": False, "bos_token_id": 2,
            "eos_token_id": 1, "pad_token_id": 0, "tie_word_embeddings": True}
    return {"architectures": ["Gemma3nForConditionalGeneration"], "model_type": "gemma3n", "text_config": text,
            "eos_token_id": [1, 106], "boi_token_id": 255999, "eoi_token_id": 262144, "image_token_id": 262145,
            "boa_token_id": 256000, "eoa_token_id": 262272, "audio_token_id": 262273,
            "vision_config": {"model_type": "gemma3n_vision", "vocab_offset": 262144, "vocab_size": 128},
            "audio_config": {"model_type": "gemma3n_audio", "vocab_offset": 262272, "vocab_size": 128},
            "vision_soft_tokens_per_image": 256, "audio_soft_tokens_per_image": 188}


def shapes():
    """Every tensor of the text model that is used."""
    for name in ("altup_projections", "altup_unembed_projections"):
        for n in range(3):
            yield f"{name}.{n}.weight", [WIDTH, WIDTH]
    yield "embed_tokens.weight", [VOCABULARY, WIDTH]
    yield "embed_tokens_per_layer.weight", [PLE_ROWS, LAYERS * PLE]
    yield "per_layer_model_projection.weight", [LAYERS * PLE, WIDTH]
    yield "per_layer_projection_norm.weight", [PLE]
    yield "norm.weight", [WIDTH]
    layer = {"altup.correct_output_scale": [WIDTH], "altup.correction_coefs.weight": [4, 4],
             "altup.modality_router.weight": [4, WIDTH], "altup.prediction_coefs.weight": [16, 4],
             "altup.router_norm.weight": [WIDTH], "input_layernorm.weight": [WIDTH],
             "laurel.linear_left.weight": [RANK, WIDTH], "laurel.linear_right.weight": [WIDTH, RANK],
             "laurel.post_laurel_norm.weight": [WIDTH], "mlp.down_proj.weight": [WIDTH, FFN],
             "mlp.gate_proj.weight": [FFN, WIDTH], "mlp.up_proj.weight": [FFN, WIDTH],
             "per_layer_input_gate.weight": [PLE, WIDTH], "per_layer_projection.weight": [WIDTH, PLE],
             "post_attention_layernorm.weight": [WIDTH], "post_feedforward_layernorm.weight": [WIDTH],
             "post_per_layer_input_norm.weight": [WIDTH], "pre_feedforward_layernorm.weight": [WIDTH],
             "self_attn.o_proj.weight": [WIDTH, HEADS * HEAD], "self_attn.q_norm.weight": [HEAD],
             "self_attn.q_proj.weight": [HEADS * HEAD, WIDTH]}
    own = {"self_attn.k_norm.weight": [HEAD], "self_attn.k_proj.weight": [KV_HEADS * HEAD, WIDTH],
           "self_attn.v_proj.weight": [KV_HEADS * HEAD, WIDTH]}
    for n in range(LAYERS):
        for name, shape in (layer | (own if n < LAYERS - SHARED else {})).items():
            yield f"layers.{n}.{name}", shape


# A random byte -> the high byte of a bf16 between 0.03 and 0.13, of either sign: the scale of 1/sqrt(64).
HIGH_BYTE = bytes(0x3D if byte % 2 else 0xBD for byte in range(256))


def random_bf16(rng, count):
    data = bytearray(2 * count)
    data[0::2] = rng.randbytes(count)
    data[1::2] = rng.randbytes(count).translate(HIGH_BYTE)
    return data


def write_checkpoint(directory):
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(config()))
    opener = lzma.open if TOKENIZER.endswith(".xz") else open
    with opener(TOKENIZER, "rb") as file:
        (directory / "tokenizer.json").write_bytes(file.read())
    rng, header, at = random.Random(1), {}, 0
    tensors = list(shapes())
    for name, shape in tensors:
        size = 2 * math.prod(shape)
        header["model.language_model." + name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    encoded = json.dumps(header).encode()
    with open(directory / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        for _, shape in tensors:
            file.write(random_bf16(rng, math.prod(shape)))


def scripts_of(text):
    """The first word of the letters' Unicode names: LATIN, CYRILLIC, CJK, ..."""
    return {unicodedata.name(c, "?").split()[0] for c in text if c.isalpha()}


def one_case_per_script():
    cases = json.loads((ROOT / "tests" / "data" / "text" / "strings.json").read_text())["cases"]
    chosen = {}
    for case in cases:
        for script in sorted(scripts_of(case["text"])):
            chosen.setdefault(script, case)
    return chosen


class LanguagesCheck(CliTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.checkpoint = cls.home / "wide"
        write_checkpoint(cls.checkpoint)
        cls.model = cls.home / "wide.nest"
        cls.cases = one_case_per_script()

    def setUp(self):
        super().setUp()
        if not self.model.exists():
            self.succeed("import", self.checkpoint, "-o", self.model)

    def each_script(self):
        for script, case in self.cases.items():
            with self.subTest(script=script):
                yield case

    def test_scripts_are_many(self):
        self.assertGreaterEqual(len(self.cases), 30, sorted(self.cases))

    def test_tokenize(self):
        for case in self.each_script():
            ids = self.json_of("tokenize", "-m", self.model, "-p", "-", stdin=case["text"])["ids"]
            self.assertEqual(ids, case["ids"])
            back = self.json_of("tokenize", "-m", self.model, "--ids", ",".join(map(str, ids)), "--control")["text"]
            self.assertEqual(back, case["decoded"])

    def test_score(self):
        for case in self.each_script():
            score = self.json_of("score", "-m", self.model, "-p", "-", stdin=case["text"])
            self.assertEqual([token["id"] for token in score["tokens"]], [2, *case["ids"]])
            logprobs = [token["logprob"] for token in score["tokens"][1:]]
            self.assertTrue(all(math.isfinite(p) and p < 0 for p in logprobs), logprobs)
            self.assertGreater(len(set(logprobs)), min(2, len(logprobs)) - 1)

    def test_run(self):
        for case in self.each_script():
            answer = self.json_of("run", "-m", self.model, "-p", "-", "--temp", "0", "-n", "4", stdin=case["text"])
            self.assertTrue(1 <= len(answer["ids"]) <= 4, answer)
            self.assertGreater(answer["usage"]["prompt_tokens"], len(case["ids"]))
            self.assertTrue(all(0 <= token < VOCABULARY for token in answer["ids"]))

    def test_chat(self):
        """One conversation, a message of every script, kept word for word."""
        lines = list(dict.fromkeys(case["text"].strip() for case in self.cases.values()))
        lines = [line for line in lines if not set(line) & set("\n\r\t\\") and line[0] not in '/"']
        self.assertGreaterEqual(len(lines), 25)
        self.succeed("chat", "-m", self.model, "--temp", "0", "-n", "4", "--session", "talk.session",
                     stdin="".join(line + "\n" for line in lines))
        saved = (self.directory / "talk.session").read_bytes()
        for line in lines:
            self.assertIn(json.dumps(line, ensure_ascii=False).encode(), saved)
        again = self.run_program("chat", "-m", self.model, "--session", "talk.session")
        self.assertIn(f"resumed {len(lines)} turns", again.stderr.decode())


if __name__ == "__main__":
    unittest.main()
