"""nestling import, inspect, export, tokenize, score, trace and bench."""

import json
import math
import signal
import unittest

from harness import NANO, ROOT, CliTest, files_below, needs_towers, safetensors_header
from media_files import mel_frames, png, sound_tokens, wav


class ImportTest(CliTest):
    def test_weight_types(self):
        sizes = {}
        for types in (("f32", "f32", "f32"), ("bf16", "bf16", "bf16"), ("q8", "q6", "q8"), ("q6", "q6", "q8"),
                      ("q4", "q6", "q8")):
            document = self.json_of("import", NANO, "-o", f"{types[0]}.nest", "--weights", types[0])
            self.assertEqual((document["weights"], document["head_weights"], document["ple_weights"]), types)
            self.assertEqual(document["bytes"], (self.directory / f"{types[0]}.nest").stat().st_size)
            self.assertTrue(document["tokenizer"])
            sizes[types[0]] = document["bytes"]
            answer = self.succeed("run", "-m", f"{types[0]}.nest", "-p", "Hello!", "-n", "3", "--temp", "0")
            self.assertTrue(answer.strip())
        self.assertEqual(sorted(sizes, key=sizes.get, reverse=True), ["f32", "bf16", "q8", "q6", "q4"])
        document = self.json_of("import", NANO, "-o", "x.nest", "--head-weights", "q8", "--ple-weights", "q4")
        self.assertEqual((document["weights"], document["head_weights"], document["ple_weights"]), ("q4", "q8", "q4"))

    def test_equal_imports_are_equal_files(self):
        for name in ("a", "b"):
            self.assertIn(name, self.succeed("import", NANO, "-o", name))
        self.assertEqual((self.directory / "a").read_bytes(), (self.directory / "b").read_bytes())
        self.assertEqual(files_below(self.directory), ["a", "b"])

    def test_a_checkpoint_is_imported_once_and_again_when_it_changes(self):
        model = self.copy_nano()
        cache = self.directory / "cache"
        env = {"XDG_CACHE_HOME": str(cache)}

        def packages():
            self.succeed("run", "-m", model, "-p", "Hello!", "-n", "1", env=env)
            return {path.name: path.stat().st_mtime_ns for path in cache.rglob("*.nest")}

        first = packages()
        self.assertEqual(len(first), 1)
        self.assertEqual(packages(), first)
        (model / "model.safetensors").touch()
        second = packages()
        self.assertEqual(len(second), 1)
        self.assertNotEqual(second, first)

    def test_ctrl_c_leaves_nothing(self):
        with self.started("import", NANO, "-o", "nano.nest", "--weights", "f32") as process:
            process.send_signal(signal.SIGINT)
            _, error = process.communicate()
        # A signal that comes after the last piece is too late: then the package is whole.
        if process.returncode == 130:
            self.assertIn(b"interrupted", error)
            self.assertEqual(files_below(self.directory), [])
        else:
            self.assertEqual(process.returncode, 0)
            self.succeed("inspect", "nano.nest")


class InspectTest(CliTest):
    def test_json(self):
        document = self.json_of("inspect", "nano")
        groups = {group["name"]: group for group in document["parameter_groups"]}
        self.assertEqual(set(groups), {"text", "embedding and head", "vision", "audio", "PLE"})
        config = json.loads((NANO / "config.json").read_text())["text_config"]
        layers = config["num_hidden_layers"]
        self.assertEqual(groups["PLE"]["parameters"],
                         config["vocab_size_per_layer_input"] * layers * config["hidden_size_per_layer_input"])
        rows = groups["embedding and head"]["parameters"] // config["hidden_size"]
        # Rows at the end that are equal to row 0 are left out.
        self.assertIn(rows, range(config["vocab_size_per_layer_input"], config["vocab_size"] + 1))
        self.assertEqual(document["memory"]["planned_bytes"],
                         sum(region["resident_bytes"] for region in document["memory"]["plan"]))
        sizes = {size["name"]: size for size in document["sizes"]}
        self.assertEqual(len(sizes), 16)
        self.assertEqual(sizes["e4b"]["layers"], layers)
        self.assertEqual(sizes["e2b"]["layers"], layers - 5)
        self.assertEqual((sizes["e2b"]["published_mmlu"], sizes["e3.39b-layer"]["published_mmlu"]), (50.9, 63.0))
        self.assertLess(sizes["e2b"]["effective_parameters"], sizes["e4b"]["effective_parameters"])
        self.assertLess(sizes["e2b"]["bytes_per_decoded_token"], sizes["e4b"]["bytes_per_decoded_token"])
        self.assertLess(sizes["e2b"]["prefill_parameters"], sizes["e2b"]["effective_parameters"])
        self.assertEqual(sizes["e2b"]["kv_signature"], sizes["e2.49b-block"]["kv_signature"])
        self.assertNotEqual(sizes["e2b"]["kv_signature"], sizes["e4b"]["kv_signature"])

    def test_the_plan_follows_the_request(self):
        def planned(*args):
            return self.json_of("inspect", "nano", *args)["memory"]["planned_bytes"]
        self.assertLess(planned("--size", "e2b"), planned())
        self.assertLess(planned(), planned("--ctx", "32768"))
        self.assertLess(planned("--kv", "q8"), planned("--kv", "f32"))
        self.assertLess(planned(), planned("--chunk", "1024"))
        self.assertEqual(planned("--ple-cache", "10MB"), planned() + 10_000_000)

    def test_tensors(self):
        tensors = self.json_of("inspect", "nano", "--tensors")["tensors"]
        names = {tensor["name"]: tensor for tensor in tensors}
        self.assertEqual(names["blk.0.ffn_gate.weight"]["type"], "q4")
        self.assertNotIn("tensors", self.json_of("inspect", "nano"))
        self.assertIn("blk.34.ffn_down.weight", self.succeed("inspect", "nano", "--tensors"))

    def test_text(self):
        text = self.succeed("inspect", "nano", "--size", "e2b")
        for part in ("35 layers", "effective at size e2b", "K/V cache", "e3.39b-layer", "PLE"):
            self.assertIn(part, text)
        self.assertNotIn("MMLU", text)  # published for another model of this shape

    def test_refused(self):
        self.refused(2, "inspect", "nano", "--modalities", "smell", says="smell")
        self.refused(3, "inspect", ROOT / "tests/data/goldens/text_small", "--modalities", "text,vision", says="vision")
        self.refused(2, "inspect", "nano", "--ctx", "50000", says="32768")
        self.refused(4, "inspect", "nano", "--memory", "1M", says="1.0 MB")


class ExportTest(CliTest):
    def test_a_slice_answers_as_the_size_does(self):
        document = self.json_of("export", "nano", "--size", "e2b", "-o", "e2b")
        self.assertEqual((document["size"], document["layers"]), ("e2b", 30))
        header, _ = safetensors_header(self.directory / "e2b" / "model.safetensors")
        self.assertFalse([name for name in header if "layers.30." in name])
        ask = ("-p", "What is 3 + 4?", "--temp", "0", "--json")
        sliced = json.loads(self.succeed("run", "-m", "e2b", *ask))
        whole = json.loads(self.succeed("run", "-m", "nano", "--size", "e2b", *ask))
        self.assertEqual(sliced["ids"], whole["ids"])
        self.assertEqual(sliced["size"], "e2b")

    def test_refused(self):
        self.succeed("import", NANO, "-o", "nano.nest")
        self.refused(3, "export", "nano.nest", "--size", "e2b", "-o", "out", says="checkpoint directory")
        self.refused(2, "export", "nano", "--size", "e5b", "-o", "out", says="e5b")
        self.refused(2, "export", "nano", "-o", "out", says="--size")
        self.assertEqual(files_below(self.directory), ["nano.nest"])


class TextTest(CliTest):
    def test_tokenize_and_back(self):
        text = "  Ünïcode 日本語 🦊\n\tend "
        document = self.json_of("tokenize", "-m", "nano", "-p", text)
        self.assertEqual(document["count"], len(document["ids"]))
        self.assertEqual(len(document["pieces"]), len(document["ids"]))
        ids = ",".join(map(str, document["ids"]))
        self.assertEqual(self.succeed("tokenize", "-m", "nano", "-p", text), ids + "\n")
        self.assertEqual(self.succeed("tokenize", "-m", "nano", "--ids", ids), text + "\n")
        self.assertEqual(self.json_of("tokenize", "-m", "nano", "--ids", ids)["text"], text)
        self.assertEqual(self.succeed("tokenize", "-m", "nano", "-p", "-", stdin=text), ids + "\n")

    def test_tokenize_needs_no_import(self):
        self.succeed("tokenize", "-m", "nano", "-p", "x", env={"XDG_CACHE_HOME": str(self.directory)})
        self.assertEqual(files_below(self.directory), [])
        self.succeed("import", NANO, "-o", "nano.nest")
        self.assertEqual(self.succeed("tokenize", "-m", "nano.nest", "-p", "some words"),
                         self.succeed("tokenize", "-m", "nano", "-p", "some words"))

    def test_control_names(self):
        plain = self.json_of("tokenize", "-m", "nano", "-p", "<start_of_turn>")["ids"]
        self.assertGreater(len(plain), 1)
        control = self.json_of("tokenize", "-m", "nano", "-p", "<start_of_turn>", "--control")["ids"]
        self.assertEqual(len(control), 1)
        bos = self.json_of("tokenize", "-m", "nano", "-p", "x", "--bos")
        self.assertEqual(bos["ids"][0], 2)
        chat = self.json_of("tokenize", "-m", "nano", "-p", "x", "--chat")
        self.assertEqual(chat["pieces"][:2], ["<bos>", "<start_of_turn>"])

    def test_score(self):
        right, wrong = (self.json_of("score", "-m", "nano", "-p", self.turn(answer))
                        for answer in ("The opposite of hot is cold.", "The opposite of hot is spoon."))
        self.assertEqual(len(right["tokens"]), right["scored_tokens"] + 1)
        self.assertIsNone(right["tokens"][0]["logprob"])
        logprobs = [token["logprob"] for token in right["tokens"][1:]]
        self.assertTrue(all(value <= 0 for value in logprobs))
        self.assertAlmostEqual(sum(logprobs), right["logprob_sum"], places=6)
        self.assertAlmostEqual(right["perplexity"], math.exp(-sum(logprobs) / len(logprobs)), places=6)
        self.assertLess(right["perplexity"], wrong["perplexity"])

    def turn(self, answer):
        return ("<start_of_turn>user\nWhat is the opposite of hot?<end_of_turn>\n"
                f"<start_of_turn>model\n{answer}<end_of_turn>\n")

    def test_score_of_ids_and_as_text(self):
        text = self.succeed("score", "-m", "nano", "--ids", "2,100,200,300")
        lines = text.splitlines()
        self.assertEqual([line.split("\t")[0] for line in lines[:3]], ["100", "200", "300"])
        self.assertRegex(lines[3], r"^perplexity [0-9.]+ over 3 tokens$")

    def test_generated_text_is_what_scores_best(self):
        """Greedy ids have the probabilities that the decoder saw: prompt positions and decoded ones agree."""
        answer = self.json_of("run", "-m", "nano", "-p", "What is the opposite of hot?", "--temp", "0")
        prompt = self.json_of("tokenize", "-m", "nano", "-p", "What is the opposite of hot?", "--chat")["ids"]
        ids = ",".join(map(str, prompt + answer["ids"]))
        scored = self.json_of("score", "-m", "nano", "--ids", ids)["tokens"][len(prompt):]
        self.assertEqual([token["id"] for token in scored], answer["ids"])
        self.assertGreater(min(token["logprob"] for token in scored), math.log(1 / 1792))


class TraceAndBenchTest(CliTest):
    @needs_towers
    def test_trace_of_towers_alone(self):
        png(self.directory / "a.png", 300, 200)
        wav(self.directory / "a.wav", 1.0)
        self.succeed("trace", "nano", "--image", "a.png", "--image", "a.png", "-o", "v.safetensors")
        vision, _ = safetensors_header(self.directory / "v.safetensors")
        for name in ("vision.stem", "vision.stages.3", "vision.msfa", "vision.soft_tokens", "vision.soft_tokens@2"):
            self.assertIn(name, vision)
        self.assertEqual(vision["vision.encoder_out"]["shape"][0], 256)
        self.assertFalse(any(name.startswith(("audio.", "layers.", "input.")) for name in vision), vision)
        self.succeed("trace", "nano", "--audio", "a.wav", "-o", "a.safetensors")
        audio, _ = safetensors_header(self.directory / "a.safetensors")
        self.assertEqual(audio["mel.log_mel"]["shape"], [mel_frames(16000), 128])
        self.assertEqual(audio["audio.soft_tokens"]["shape"][0], sound_tokens(16000))
        self.assertEqual(audio["mel.mask"]["dtype"], "I64")
        for name in ("audio.sscp", "audio.conformer.0", "audio.reduced_mask", "audio.padding", "audio.filled"):
            self.assertIn(name, audio)
        # The mel of one trace is the input of another.
        self.succeed("trace", "nano", "--mel", "a.safetensors", "--only", "audio.*", "-o", "b.safetensors")
        again, _ = safetensors_header(self.directory / "b.safetensors")
        self.assertEqual(again["audio.filled"], {**again["audio.filled"], **{"shape": audio["audio.filled"]["shape"]}})

    @needs_towers
    def test_trace_of_a_prompt_with_media(self):
        png(self.directory / "a.png", 256, 256)
        wav(self.directory / "a.wav", 0.5)
        self.succeed("trace", "nano", "--audio", "a.wav", "-p", "What?", "--image", "a.png", "-o", "t.safetensors")
        header, _ = safetensors_header(self.directory / "t.safetensors")
        tokens = header["input.ids"]["shape"][0]
        self.assertGreater(tokens, 256 + sound_tokens(8000))
        self.assertEqual(header["logits"]["shape"][0], tokens)
        for name in ("vision.soft_tokens", "audio.filled", "inputs_embeds"):
            self.assertIn(name, header)
        self.refused(2, "trace", "nano", "-o", "u.safetensors", says="--image")
        self.refused(2, "trace", "nano", "--ids", "2", "-p", "x", "-o", "u.safetensors", says="--ids")
        self.refused(1, "trace", "nano", "--image", "a.wav", "-o", "u.safetensors", says="a.wav")
        self.refused(2, "trace", "nano", "--pixels", "t.safetensors", "-o", "u.safetensors", says="pixel_values")

    def test_trace(self):
        self.succeed("trace", "nano", "--ids", "2,100,200", "--generate", "2", "-o", "t.safetensors")
        header, _ = safetensors_header(self.directory / "t.safetensors")
        self.assertIn("generated_ids", header)
        self.assertTrue([name for name in header if name.startswith("layers.34.")])
        self.refused(2, "trace", "nano", "--ids", "2,x", "-o", "u.safetensors", says='"x"')
        self.assertEqual(files_below(self.directory), ["t.safetensors"])

    def test_bench(self):
        args = ("bench", "-m", "nano", "--prompt-tokens", "16", "--gen-tokens", "4")
        document = self.json_of(*args)
        measured = {row["what"]: row["value"]["median"] for row in document["measurements"]}
        for what in ("prefill 16", "decode", "pass of 2 rows", "pass of 8 rows"):
            self.assertGreater(measured[what], 0)
        self.assertGreater(document["sizes"][0]["planned_bytes"], 0)
        self.assertIn("decode", self.succeed(*args))
        self.refused(2, *args[:3], "--prompt-tokens", "0", says="--prompt-tokens")

    @needs_towers
    def test_bench_of_the_encoders(self):
        args = ("bench", "-m", "nano", "--image-size", "256", "--audio-seconds", "1", "--repeat", "1")
        rows = {row["what"]: row for row in self.json_of(*args, "--csv", "figures.csv")["measurements"]}
        for what in ("picture 256", "sound 1 s", "sound 1 s, layers from storage"):
            self.assertGreater(rows[what]["value"]["median"], 0)
            self.assertGreater(rows[what]["rate"], 0)
            self.assertIn(what + ", extra memory", rows)
        self.assertIn("sound 1 s, real-time factor", rows)
        self.assertNotIn("decode", rows)  # the text model is left out
        self.assertIn("picture 256", (self.directory / "figures.csv").read_text())
        self.assertIn("picture 256", self.succeed(*args))
        self.refused(2, *args[:3], "--image-size", "300", says="256, 512 and 768")
        self.refused(2, *args[:3], "--audio-seconds", "0", says="1 to 5400")

    @needs_towers
    def test_inspect_of_the_towers(self):
        document = self.json_of("inspect", "nano", "--modalities", "text,vision,audio")
        groups = {group["name"]: group for group in document["parameter_groups"]}
        plan = {region["name"]: region["resident_bytes"] for region in document["memory"]["plan"]}
        for part in ("vision", "audio"):
            self.assertGreater(groups[part]["parameters"], 10000)
            self.assertGreater(groups[part]["loaded_bytes"], 0)
            self.assertGreater(plan[part], 0)
            self.assertGreater(plan[part + " workspace"], 0)
        alone = self.json_of("inspect", "nano")
        self.assertNotIn("vision", {region["name"] for region in alone["memory"]["plan"]})
        self.assertEqual({g["name"]: g["loaded_bytes"] for g in alone["parameter_groups"]}["vision"], 0)


if __name__ == "__main__":
    unittest.main()
