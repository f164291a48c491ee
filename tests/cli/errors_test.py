"""Bad input: one sentence naming the thing, what was found, what is allowed; the exit status; nothing left behind."""

import json
import os
import resource
import shutil
import struct
import subprocess
import unittest

from harness import PROGRAM, ROOT, CliTest, NANO, files_below, safetensors_header

HI = ("-p", "Hello!")


class UsageTest(CliTest):
    def test_help_and_version(self):
        for command in ("run", "chat", "transcribe", "import", "inspect", "export", "tokenize", "score", "trace", "bench"):
            self.assertIn(f"nestling {command}", self.succeed(command, "--help"))
            self.assertIn("NESTLING_", self.succeed(command, "--help"))
        self.assertRegex(self.succeed("--version"), r"^nestling \d+\.\d+\.\d+\n$")
        self.assertIn("130 interrupted", self.succeed("--help"))
        help_text = self.succeed("run", "--help")
        for limit in ("[4096]", "1 to 256", "0 (greedy) to 100", "256, 512 or 768"):
            self.assertIn(limit, help_text)

    def test_unknown_words(self):
        self.refused(2, "frob", says="frob")
        self.refused(2, "run", "-m", "nano", *HI, "--frob", says=["--frob", "nestling run --help"])
        self.refused(2, "run", "-m", "nano", *HI, "stray", says="stray")
        self.refused(2, "run", *HI, says="--model")
        self.refused(2, "import", NANO, says="--output")
        done = self.run_program()
        self.assertEqual((done.returncode, done.stdout), (2, b""))

    def test_numbers(self):
        for flag, value, says in (("-n", "0", "1 or more"), ("-n", "-3", '"-3"'), ("-n", "two", '"two"'),
                                  ("-n", "99999999999999999999", "99999999999999999999"),
                                  ("--ctx", "0", "16"), ("--ctx", "-1", "16"), ("--ctx", "1.5", '"1.5"'),
                                  ("--ctx", "40000", "32768"), ("--chunk", "0", "1 to 4096"),
                                  ("--chunk", "4097", "1 to 4096"), ("--threads", "0", "1 to 256"),
                                  ("--threads", "257", "1 to 256"), ("--temp", "-1", "0 to 100"),
                                  ("--temp", "nan", '"nan"'), ("--temp", "inf", '"inf"'), ("--top-k", "-1", '"-1"'),
                                  ("--top-p", "1.1", "0 to 1"), ("--min-p", "2", "0 to 1"), ("--seed", "-1", '"-1"'),
                                  ("--memory", "-1G", '"-1G"'), ("--memory", "5Q", '"5Q"'), ("--ple-cache", "x", '"x"'),
                                  ("--image-size", "300", "256, 512, 768"), ("--audio-tokens", "188", "exact, pad188"),
                                  ("--audio-limit", "0", "5400"), ("--audio-limit", "5401", "5400")):
            with self.subTest(flag=flag, value=value):
                self.refused(2, "run", "-m", "nano", *HI, flag, value, says=says)

    def test_words(self):
        for flag, value, says in (("--kv", "q4", "f32, bf16, q8"), ("--ple", "disk", "stream, resident"),
                                  ("--weights", "q5", "f32, bf16, q8, q6, q4"), ("--size", "e9b", "e2b"),
                                  ("--size", "384,384", "35"), ("--size", ",".join(["384"] * 34 + ["385"]), "384"),
                                  ("--size", ",".join(["384"] * 19 + ["skip"] + ["384"] * 15), "19"),
                                  ("--size", ",".join(["200"] * 35), "32"), ("--stop", "", "stop")):
            with self.subTest(flag=flag, value=value):
                self.refused(2, "run", "-m", "nano", *HI, flag, value, says=says)

    def test_prompts(self):
        self.refused(2, "run", "-m", "nano", says="-p")
        self.refused(2, "run", "-m", "nano", "-p", "", says="empty")
        self.refused(2, "run", "-m", "nano", "-p", " \n\t", says="empty")
        self.refused(2, "run", "-m", "nano", "-p", "-", stdin="", says="empty")
        self.refused(2, "run", "-m", "nano", "-p", "-", "-p", "-", stdin="x", says="twice")
        self.refused(2, "run", "-m", "nano", "-p", "-", stdin=b"caf\xe9 x", says=["UTF-8", "byte 3", "0xE9"])
        self.refused(2, "run", "-m", "nano", "-p", "-", "--raw", stdin=b"\xff", says="UTF-8")
        self.refused(2, "run", "-m", "nano", "-p", "x", "--raw", "--system", "y", says="--system")
        self.refused(2, "run", "-m", "nano", "-p", "-", stdin="word " * 5000, says=["tokens", "4096", "--ctx"])
        self.refused(2, "score", "-m", "nano", "-p", "word " * 50, "--ctx", "16", says="16")
        self.refused(2, "score", "-m", "nano", "--ids", "5", says="2 are needed")
        self.refused(2, "score", "-m", "nano", "--ids", "5,99999", says=["99999", "1792"])
        self.refused(2, "tokenize", "-m", "nano", "--ids", "5,x", says='"x"')
        self.refused(2, "tokenize", "-m", "nano", "--ids", "5,99999", says="99999")
        self.refused(2, "tokenize", "-m", "nano", says="--ids")

    def test_media_the_model_cannot_read(self):
        model = ROOT / "tests" / "data" / "goldens" / "text_small"  # holds the text model alone
        for name in ("a.wav", "b.png"):
            (self.directory / name).write_bytes(b"x")
        for flag, name, tower in (("--image", "b.png", "vision"), ("--audio", "a.wav", "audio")):
            self.refused(3, "run", "-m", model, *HI, flag, name, says=[tower, name])
        # In the order of the command line.
        self.refused(3, "run", "-m", model, "--audio", "a.wav", *HI, "--image", "b.png", says="a.wav")
        self.refused(3, "run", "-m", model, "--image", "b.png", *HI, "--audio", "a.wav", says="b.png")
        self.refused(3, "inspect", model, "--modalities", "vision", says="vision")

    def test_memory_budget(self):
        error = self.refused(4, "run", "-m", "nano", *HI, "--memory", "30M", says="30.0 MB")
        self.assertIn("K/V cache", error)
        self.refused(4, "run", "-m", "nano", *HI, "--memory", "1K", "--size", "auto")

    def test_unknown_processor(self):
        self.refused(5, "run", "-m", "nano", *HI, env={"NESTLING_CPU": "z80"}, says="z80")

    def test_a_full_disk_for_the_answer(self):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([PROGRAM, "run", "-m", "nano", *HI], stdout=full, stderr=subprocess.PIPE,
                                  env=self.environment(), cwd=self.directory, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"standard output", done.stderr)


class ModelTest(CliTest):
    def refused_model(self, model, *says):
        """The model is refused by run and by import, which leave nothing behind."""
        before = files_below(self.home)
        self.refused(3, "run", "-m", model, *HI, says=says)
        self.refused(3, "import", model, "-o", self.directory / "out.nest", says=says)
        self.assertEqual(files_below(self.home), before)

    def test_missing(self):
        self.refused(3, "run", "-m", "nanoo", *HI, says=["nanoo", "models"])
        self.refused(3, "run", "-m", "/no/such/model", *HI, says="/no/such/model")
        self.refused_model(self.directory, "config.json")
        self.refused(2, "run", "-m", "", *HI)

    def test_no_checkpoint_and_no_package(self):
        (self.directory / "x.nest").write_bytes(b"hello")
        self.refused(3, "run", "-m", "x.nest", *HI, says="x.nest")
        (self.directory / "empty.nest").write_bytes(b"")
        self.refused(3, "run", "-m", "empty.nest", *HI, says="empty.nest")
        self.refused(3, "import", "x.nest", "-o", "out.nest", says="x.nest")

    def test_truncated_weights(self):
        model = self.copy_nano()
        os.truncate(model / "model.safetensors", 5_000_000)
        self.refused_model(model, "model.safetensors")

    def test_truncated_package(self):
        self.succeed("import", NANO, "-o", "nano.nest")
        size = (self.directory / "nano.nest").stat().st_size
        for cut in (size - 4096, size // 2, 1000, 20):
            os.truncate(self.directory / "nano.nest", cut)
            self.refused(3, "run", "-m", "nano.nest", *HI, says="nano.nest")

    def test_absurd_header(self):
        model = self.copy_nano()
        with open(model / "model.safetensors", "r+b") as file:
            file.write(struct.pack("<Q", 1 << 60))
        self.refused_model(model, "model.safetensors", "header")

    def test_wrong_shape_and_missing_tensor(self):
        model = self.copy_nano()
        self.rewrite_header(model, lambda header, name: header[name]["shape"].reverse(), "self_attn.q_proj")
        self.refused_model(model, "self_attn.q_proj")
        shutil.copy(NANO / "model.safetensors", model)
        self.rewrite_header(model, lambda header, name: header.update({name + "x": header.pop(name)}), "self_attn.q_proj")
        self.refused_model(model, "self_attn.q_proj")

    def rewrite_header(self, model, change, part):
        """Changes the entry of the first tensor whose name holds `part`; the data stay."""
        path = model / "model.safetensors"
        header, begin = safetensors_header(path)
        change(header, next(name for name in sorted(header) if part in name))
        data = path.read_bytes()[begin:]
        text = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + data)

    def test_not_finite_weights(self):
        model = self.copy_nano()
        header, begin = safetensors_header(model / "model.safetensors")
        name = next(name for name in sorted(header) if "q_proj" in name)
        with open(model / "model.safetensors", "r+b") as file:
            file.seek(begin + header[name]["data_offsets"][0])
            file.write(b"\xc0\x7f")  # a bf16 NaN
        self.refused_model(model, name, "nan")

    def test_wrong_configuration(self):
        for changes, says in (({"rms_norm_eps": float("nan")}, "JSON"), ({"rms_norm_eps": -1}, "rms_norm_eps"),
                              ({"num_hidden_layers": 100000}, "100000"), ({"hidden_size": 0}, "hidden_size"),
                              ({"vocab_size": -5}, "vocab_size"),
                              ({"num_attention_heads": 3}, "num_attention_heads"), ({"hidden_size": 64}, "96"),
                              ({"intermediate_size": [384] * 34}, "34")):
            with self.subTest(changes=str(changes)):
                model = self.copy_nano(**changes)
                self.refused_model(model, says)
                shutil.rmtree(model)

    def test_wrong_architecture(self):
        model = self.copy_nano()
        config = json.loads((model / "config.json").read_text())
        config.update(architectures=["LlamaForCausalLM"], model_type="llama")
        (model / "config.json").write_text(json.dumps(config))
        self.refused_model(model, "config.json", "lama")
        (model / "config.json").write_text("{broken")
        self.refused_model(model, "config.json")

    def test_weight_types_of_a_package_are_its_own(self):
        self.succeed("import", NANO, "-o", "nano.nest")
        self.refused(2, "run", "-m", "nano.nest", *HI, "--weights", "f32", says=["nano.nest", "--weights"])

    def test_output_places(self):
        self.refused(2, "import", NANO, "-o", self.directory, says="directory")
        self.refused(2, "import", NANO, "-o", "no/such/place.nest", says="no/such")
        (self.directory / "full").mkdir()
        (self.directory / "full" / "mine").write_text("keep")
        self.refused(2, "export", NANO, "--size", "e2b", "-o", "full", says="not empty")
        self.assertEqual(files_below(self.directory), ["full/mine"])

    def test_a_full_disk_during_import(self):
        """Writes beyond 4 MB fail, as on a full disk: the old package stays, nothing else is left."""
        output = self.directory / "nano.nest"
        output.write_text("the package from before")
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, 4_000_000))
        # Python ignores SIGXFSZ, and so does the child if its signals are not restored: the write itself fails.
        self.refused(1, "import", NANO, "-o", output, says="nano.nest", preexec_fn=limit, restore_signals=False)
        self.assertEqual(output.read_text(), "the package from before")
        self.assertEqual(files_below(self.directory), ["nano.nest"])
        self.refused(1, "run", "-m", self.copy_nano(), *HI, preexec_fn=limit, restore_signals=False)
        self.assertFalse([name for name in files_below(self.home) if "partial" in name])

    def test_a_cache_that_cannot_be_written(self):
        self.refused(1, "run", "-m", "nano", *HI, env={"XDG_CACHE_HOME": "/proc/no"}, says="/proc/no")
        self.refused(1, "run", "-m", "nano", *HI, env={"XDG_CACHE_HOME": "", "HOME": ""}, says="HOME")


if __name__ == "__main__":
    unittest.main()
