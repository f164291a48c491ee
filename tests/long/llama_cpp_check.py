"""The GGUF export against llama.cpp: a random model of the topology that llama.cpp takes for granted, the same weights
in both programs, the same greedy tokens.

    python3 tests/long/llama_cpp_check.py PROGRAM

benchmarks/llama_cpp_engine.py says how to install the packages; without them the check ends with status 77: skipped.
"""

import ctypes
import json
import os
import pathlib
import shutil
import struct
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SKIPPED = 77

if len(sys.argv) < 2:
    sys.exit(__doc__)
sys.path += [str(ROOT / "tests" / "cli"), str(ROOT / "benchmarks")]

from llama_cpp_engine import LlamaCpp, continue_with_llama_cpp  # noqa: E402

if not continue_with_llama_cpp():
    print("llama-cpp-python and gguf are not installed: skipped")
    sys.exit(SKIPPED)
os.environ["NESTLING_PROGRAM"] = str(pathlib.Path(sys.argv.pop(1)).resolve())

import gguf  # noqa: E402
import numpy  # noqa: E402

import harness  # noqa: E402
from harness import CliTest  # noqa: E402

harness.PATIENCE = 300
LAYERS, WIDTH, FEED_FORWARD, VOCABULARY = 35, 256, 512, 512
HEADS, KV_HEADS, HEAD_DIM, WINDOW = 4, 2, 64, 32
PROMPT, STEPS = 80, 40  # the window is passed in the prompt
BRANCH = 0.05  # of a stream of size 1, added by each branch: with larger ones, random layers magnify every rounding
CLEAR = 0.5    # between the best logit and the second


def config():
    return {"architectures": ["Gemma3nForConditionalGeneration"], "model_type": "gemma3n", "text_config": {
        "model_type": "gemma3n_text", "vocab_size": VOCABULARY, "vocab_size_per_layer_input": VOCABULARY,
        "hidden_size": WIDTH, "hidden_size_per_layer_input": 256, "intermediate_size": [FEED_FORWARD] * LAYERS,
        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_DIM, "laurel_rank": 64, "sliding_window": WINDOW, "num_kv_shared_layers": 15,
        "activation_sparsity_pattern": [0.95] * 10 + [0.0] * 25, "max_position_embeddings": 4096}}


def shapes():
    per_layer = 256 * LAYERS
    found = {"embed_tokens": (VOCABULARY, WIDTH), "embed_tokens_per_layer": (VOCABULARY, per_layer),
             "per_layer_model_projection": (per_layer, WIDTH), "per_layer_projection_norm": (256,), "norm": (WIDTH,)}
    for i in range(3):
        found[f"altup_projections.{i}"] = found[f"altup_unembed_projections.{i}"] = (WIDTH, WIDTH)
    layer = {"input_layernorm": (WIDTH,), "post_attention_layernorm": (WIDTH,), "pre_feedforward_layernorm": (WIDTH,),
             "post_feedforward_layernorm": (WIDTH,), "post_per_layer_input_norm": (WIDTH,),
             "self_attn.q_proj": (HEADS * HEAD_DIM, WIDTH), "self_attn.k_proj": (KV_HEADS * HEAD_DIM, WIDTH),
             "self_attn.v_proj": (KV_HEADS * HEAD_DIM, WIDTH), "self_attn.o_proj": (WIDTH, HEADS * HEAD_DIM),
             "self_attn.q_norm": (HEAD_DIM,), "self_attn.k_norm": (HEAD_DIM,),
             "mlp.gate_proj": (FEED_FORWARD, WIDTH), "mlp.up_proj": (FEED_FORWARD, WIDTH),
             "mlp.down_proj": (WIDTH, FEED_FORWARD), "laurel.linear_left": (64, WIDTH),
             "laurel.linear_right": (WIDTH, 64), "laurel.post_laurel_norm": (WIDTH,),
             "altup.correct_output_scale": (WIDTH,), "altup.correction_coefs": (4, 4),
             "altup.prediction_coefs": (16, 4), "altup.modality_router": (4, WIDTH), "altup.router_norm": (WIDTH,),
             "per_layer_input_gate": (256, WIDTH), "per_layer_projection": (WIDTH, 256)}
    for i in range(LAYERS):
        found |= {f"layers.{i}.{name}": shape for name, shape in layer.items()}
    return found


def random_tensor(random, name, shape):
    """Every part counts in the answer, and small differences stay small (as tools/goldens/random_model.py)."""
    normal = random.standard_normal(shape, dtype=numpy.float32)
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "modality_router":
        return normal * 0.6 * WIDTH ** 0.5  # its input is divided by the width
    if leaf.endswith("_coefs"):
        return normal * 0.2
    if len(shape) == 2:
        return normal / shape[1] ** 0.5
    scales = {"q_norm": 0.5, "k_norm": 0.7, "correct_output_scale": 0.8}
    value = scales.get(leaf, BRANCH if leaf.startswith("post_") else 1) * numpy.clip(1 + normal / 4, 0.25, 1.75)
    # The last norm of both signs: the head is the embedding, and every token would predict itself.
    return value * 3 * numpy.sign(random.standard_normal(shape)) if name == "norm" else value


def write_checkpoint(directory, **changes):
    random = numpy.random.default_rng(1)
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(config()))
    header, data = {"__metadata__": {"format": "pt"}}, []
    offset = 0
    for name, shape in shapes().items():
        values = changes.get(name, random_tensor(random, name, shape))
        data.append(numpy.ascontiguousarray(values, dtype="<f4").tobytes())
        stored = name if name.endswith("_scale") else name + ".weight"
        header[f"model.language_model.{stored}"] = {"dtype": "F32", "shape": list(shape),
                                                    "data_offsets": [offset, offset + len(data[-1])]}
        offset += len(data[-1])
    text = json.dumps(header).encode()
    with open(directory / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(data))


def read_safetensors(path):
    header, start = harness.safetensors_header(path)
    types = {"F32": "<f4", "I64": "<i8", "I32": "<i4"}
    data = path.read_bytes()
    return {name: numpy.frombuffer(data, types[t["dtype"]], offset=start + t["data_offsets"][0],
                                   count=(t["data_offsets"][1] - t["data_offsets"][0]) // int(types[t["dtype"]][2])
                                   ).reshape(t["shape"]) for name, t in header.items() if name != "__metadata__"}


def ggml_q6_k(values):
    """`values` as ggml's own quantiser codes them."""
    import llama_cpp
    library = ctypes.CDLL(str(pathlib.Path(llama_cpp.__file__).parent / "lib" / "libggml-base.so"))
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    rows, columns = values.shape
    out = (ctypes.c_uint8 * (values.size // 256 * 210))()
    written = library.ggml_quantize_chunk(
        ctypes.c_int(int(gguf.GGMLQuantizationType.Q6_K)), values.ctypes.data_as(ctypes.POINTER(ctypes.c_float)), out,
        ctypes.c_int64(0), ctypes.c_int64(rows), ctypes.c_int64(columns), None)
    assert written == len(out)
    return numpy.frombuffer(out, numpy.uint8).reshape(-1, 210)


class LlamaCppCheck(CliTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.checkpoint = cls.home / "random"
        write_checkpoint(cls.checkpoint)
        cls.prompt = [2] + numpy.random.default_rng(2).integers(6, VOCABULARY, PROMPT - 1).tolist()

    def export(self, *types):
        file = self.directory / "model.gguf"
        self.succeed("export", self.checkpoint, "--format", "gguf", "-o", file, *types)
        return file

    def ours(self, *types):
        """Greedy ids after the prompt, and the logits that chose them and the one after."""
        self.succeed("trace", self.checkpoint, "-o", self.directory / "trace.safetensors", "--kv", "f32",
                     "--ids", ",".join(map(str, self.prompt)), "--generate", str(STEPS), *types)
        tensors = read_safetensors(self.directory / "trace.safetensors")
        return tensors["generated_ids"].tolist(), tensors["step_logits"]

    def theirs(self, file, forced=None):
        """The same of llama.cpp; with `forced`, after those ids instead of its own."""
        engine = LlamaCpp(file, context=256, threads=1, exact=True)
        engine.run(self.prompt)
        ids, rows = [], [engine.logits()]
        for step in range(STEPS):
            ids.append(int(rows[-1].argmax()) if forced is None else forced[step])
            engine.run(ids[-1:])
            rows.append(engine.logits())
        engine.close()
        return ids, numpy.stack(rows)

    def compare(self, types):
        """Median over the steps of the largest difference of a logit, and the share of equal greedy tokens among the
        steps where ours is no toss-up. Both run on our ids: one other token early would hide everything after it."""
        ids, logits = self.ours(*types)
        _, their_logits = self.theirs(self.export(*types), ids)
        logits, their_logits = logits[:STEPS], their_logits[:STEPS]
        best = numpy.sort(logits, axis=1)[:, -2:]
        clear = best[:, 1] - best[:, 0] > CLEAR
        self.assertGreater(clear.sum(), STEPS // 3)
        equal = logits.argmax(1) == their_logits.argmax(1)
        return float(numpy.median(abs(logits - their_logits).max(1))), float(equal[clear].mean())

    def test_the_same_weights_give_the_same_greedy_tokens(self):
        # llama.cpp computes GELU in float16 and keeps the scales of coded activations in float16; logits spread by 3.
        for types, tolerance in ((["--weights", "f32"], 0.03), (["--weights", "bf16"], 0.1),
                                 (["--weights", "q8", "--head-weights", "q8"], 0.5),
                                 (["--weights", "q4", "--head-weights", "q4", "--ple-weights", "q4"], 0.5)):
            with self.subTest(types=types):
                error, equal = self.compare(types)
                self.assertLess(error, tolerance)
                self.assertGreaterEqual(equal, 0.95)

    def test_q6_is_what_ggml_makes_of_it(self):
        random = numpy.random.default_rng(3)
        codes = random.integers(-32, 32, (VOCABULARY, WIDTH // 32, 32))
        codes[..., 1] = -32  # so that an import as q6 finds these very scales
        scales = random.uniform(0.0005, 0.002, (VOCABULARY, WIDTH // 32, 1)).astype(numpy.float16)
        values = (codes * scales.astype(numpy.float32)).astype(numpy.float32).reshape(VOCABULARY, WIDTH)
        self.checkpoint = self.directory / "q6"
        write_checkpoint(self.checkpoint, embed_tokens=values)
        tensors = {t.name: t for t in gguf.GGUFReader(self.export("--weights", "q4", "--head-weights", "q6")).tensors}
        head = tensors["token_embd.weight"]
        self.assertEqual(head.tensor_type, gguf.GGMLQuantizationType.Q6_K)
        same = head.data.reshape(-1, 210) == ggml_q6_k(values)
        # Some block scales differ in the last bit: sums in another order.
        self.assertGreater(same.all(1).mean(), 0.85)
        self.assertGreater(same.mean(), 0.995)
        restored = gguf.quants.dequantize(head.data, head.tensor_type).reshape(values.shape)
        self.assertLess(abs(restored - values).max(), 0.6 * scales.max())

    def test_greedy_decoding_by_itself(self):
        ids, _ = self.ours("--weights", "f32")
        their_ids, _ = self.theirs(self.export("--weights", "f32"))
        self.assertEqual(ids[:24], their_ids[:24])

    def test_another_topology_is_warned_of_and_computed_wrongly_there(self):
        """The comparison must be able to fail; and the reason for the warning."""
        changed = self.directory / "changed"
        shutil.copytree(self.checkpoint, changed)
        text = config()
        text["text_config"]["num_kv_shared_layers"] = 10
        (changed / "config.json").write_text(json.dumps(text))
        done = self.run_program("export", changed, "--format", "gguf", "-o", "x.gguf", "--weights", "f32")
        self.assertEqual(done.returncode, 0)
        self.assertIn("25 layers own keys and values", done.stderr.decode())
        self.checkpoint = changed
        error, _ = self.compare(["--weights", "f32"])
        self.assertGreater(error, 0.3)


if __name__ == "__main__":
    unittest.main()
