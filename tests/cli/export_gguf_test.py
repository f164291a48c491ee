"""nestling export --format gguf."""

import json
import struct
import unittest

from harness import NANO, CliTest, files_below


class ExportGgufTest(CliTest):
    def test_a_gguf_of_the_bundled_model(self):
        document = self.json_of("export", "nano", "--format", "gguf", "-o", "nano.gguf", "--head-weights", "q8")
        self.assertEqual((document["weights"], document["head_weights"], document["ple_weights"]),
                         ("Q4_0", "Q8_0", "Q8_0"))
        self.assertEqual((document["size"], document["layers"], document["tensors"], document["tokenizer"]),
                         ("e4b", 35, 847, True))
        self.assertEqual(files_below(self.directory), ["nano.gguf"])
        data = (self.directory / "nano.gguf").read_bytes()
        self.assertEqual(struct.unpack_from("<4sIQ", data), (b"GGUF", 3, 847))
        self.assertGreater(len(data), document["bytes"])
        for text in (b"gemma3n.attention.shared_kv_layers", b"blk.34.ffn_down.weight", b"<end_of_turn>",
                     b"add_generation"):
            self.assertIn(text, data)

    def test_a_size_of_a_package(self):
        self.succeed("import", NANO, "-o", "nano.nest", "--weights", "bf16")
        document = self.json_of("export", "nano.nest", "--format", "gguf", "--size", "e2b", "-o", "e2b.gguf")
        self.assertEqual((document["size"], document["layers"], document["tensors"], document["weights"]),
                         ("e2b", 30, 727, "BF16"))

    def test_warns_of_what_llama_cpp_computes_otherwise(self):
        done = self.run_program("export", "nano", "--format", "gguf", "-o", "nano.gguf", "--json")
        self.assertEqual(done.returncode, 0)
        differences = json.loads(done.stdout)["llama_cpp_differences"]
        self.assertEqual(len(differences), 2)
        for difference, value in zip(differences, ("LAuReL rank of 16", "width 32")):
            self.assertIn(value, difference)
            self.assertIn(difference, done.stderr.decode())

    def test_refusals(self):
        self.refused(2, "export", "nano", "--format", "gguf", "-o", ".", says="directory")
        self.refused(2, "export", "nano", "--format", "onnx", "-o", "x", says=("onnx", "checkpoint or gguf"))
        self.refused(2, "export", "--format", "gguf", "-o", "x", says="--synthetic")
        self.refused(2, "export", "nano", "--format", "gguf", "--synthetic", "e2b", "-o", "x", says="only one")
        self.refused(2, "export", "nano", "--size", "e2b", "--weights", "q4", "-o", "x", says="--format gguf")
        self.refused(2, "export", "nano", "--format", "gguf", "--size", "e9b", "-o", "x", says="e9b")
        self.refused(1, "export", "nano", "--format", "gguf", "-o", "nowhere/x.gguf", says="nowhere")
        self.assertEqual(files_below(self.directory), [])


if __name__ == "__main__":
    unittest.main()
