"""nestling run."""

import json
import signal
import subprocess
import unittest

from harness import CliTest, NANO

ASK = ("-p", "What is the opposite of hot?")
# Every token about as likely as any other: an answer that goes on for hundreds of tokens.
BABBLE = ("-p", "Tell me a story.", "--temp", "100", "--top-k", "0", "--top-p", "1", "--seed", "1")


class RunTest(CliTest):
    def run_json(self, *args, **kwargs):
        return self.json_of("run", "-m", "nano", *args, **kwargs)

    def test_answers_on_stdout_and_nothing_else(self):
        done = self.run_program("run", "-m", "nano", *ASK, "--temp", "0")
        self.assertEqual(done.returncode, 0, done.stderr)
        text = done.stdout.decode()
        self.assertTrue(text.endswith("\n") and text.strip(), text)
        self.assertNotIn("<end_of_turn>", text)
        self.assertEqual(done.stderr, b"")

    def test_a_name_a_directory_and_a_package_are_the_same_model(self):
        self.succeed("import", NANO, "-o", "nano.nest")
        answers = {self.succeed("run", "-m", model, *ASK, "--temp", "0")
                   for model in ("nano", NANO, "nano.nest", self.directory / "nano.nest")}
        self.assertEqual(len(answers), 1, answers)

    def test_json(self):
        document = self.run_json(*ASK, "--temp", "0")
        for name in ("text", "ids", "finish_reason", "size", "seed", "usage", "timings", "memory", "ple", "limits"):
            self.assertIn(name, document)
        self.assertEqual(document["finish_reason"], "stop")
        self.assertEqual(document["size"], "e4b")
        self.assertEqual(document["ids"][-1], 106)
        usage = document["usage"]
        self.assertEqual(usage["completion_tokens"], len(document["ids"]))
        self.assertEqual(usage["cached_tokens"], 0)
        self.assertGreater(usage["prompt_tokens"], 10)
        self.assertEqual(set(document["timings"]), {"load_ms", "image_ms", "audio_ms", "prefill_ms", "prefill_tps",
                                                    "first_token_ms", "decode_ms", "decode_tps"})
        memory = document["memory"]
        self.assertTrue(memory["plan"])
        self.assertEqual(sum(region["resident_bytes"] for region in memory["plan"]), memory["planned_bytes"])
        self.assertGreaterEqual(memory["peak_rss_bytes"], memory["rss_bytes"])
        ple = document["ple"]
        self.assertEqual(ple["mode"], "stream")
        self.assertGreater(ple["rows"], 0)
        self.assertGreater(ple["bytes_read"], 0)
        for name in ("cache_hits", "stalls", "stall_ms"):
            self.assertIn(name, ple)
        self.assertEqual(document["limits"], [])

    def test_speculation_gives_the_same_answer(self):
        story = ("-p", "Say it again: one two three four five six. one two three four five six. one two three", "--seed", "5")
        plain, answer = self.run_json(*story, "-n", "40"), self.run_json(*story, "-n", "40", "--speculate", "lookup")
        self.assertEqual(answer["ids"], plain["ids"])
        self.assertEqual(plain["usage"]["proposed_tokens"], 0)
        self.assertGreaterEqual(answer["usage"]["proposed_tokens"], answer["usage"]["accepted_tokens"])
        for value in ("lookup:0", "lookup:8", "lookup:", "lookups", "3", ""):
            self.refused(2, "run", "-m", "nano", *story, "--speculate", value, says="lookup:7")

    def test_json_text_is_what_is_streamed(self):
        self.assertEqual(self.run_json(*ASK, "--temp", "0")["text"].rstrip("\n") + "\n",
                         self.succeed("run", "-m", "nano", *ASK, "--temp", "0"))

    def test_the_prompt_from_standard_input(self):
        self.assertEqual(self.succeed("run", "-m", "nano", "-p", "-", "--temp", "0", stdin=ASK[1] + "\n"),
                         self.succeed("run", "-m", "nano", *ASK, "--temp", "0"))

    def test_prompts_are_joined_in_order(self):
        self.assertEqual(self.run_json("-p", "What is ", "-p", "the opposite of hot?", "--temp", "0")["ids"],
                         self.run_json("-p", "What isthe opposite of hot?", "--temp", "0")["ids"])  # each is trimmed
        raw = ("-p", "the opposite", "-p", " of hot", "--raw", "--temp", "0", "-n", "5")
        self.assertEqual(self.run_json(*raw)["ids"], self.run_json("-p", "the opposite of hot", *raw[4:])["ids"])

    def test_a_limit_is_told(self):
        document = self.run_json(*BABBLE, "-n", "3")
        self.assertEqual(document["finish_reason"], "length")
        self.assertEqual(document["usage"]["completion_tokens"], 3)
        self.assertTrue(any("3 tokens" in limit for limit in document["limits"]), document["limits"])
        done = self.run_program("run", "-m", "nano", *BABBLE, "-n", "3")
        self.assertIn(b"3 tokens", done.stderr)

    def test_a_full_context_is_told(self):
        document = self.run_json(*BABBLE, "--ctx", "24")
        self.assertEqual(document["finish_reason"], "context")
        self.assertTrue(any("24" in limit for limit in document["limits"]), document["limits"])

    def test_stop_strings(self):
        whole = self.run_json("-p", "Count from 1 to 5.", "--temp", "0")["text"]
        middle = whole[len(whole) // 2]
        document = self.run_json("-p", "Count from 1 to 5.", "--temp", "0", "--stop", "never there", "--stop", middle)
        self.assertEqual(document["text"], whole[:whole.index(middle)])
        self.assertEqual(document["finish_reason"], "stop")
        self.assertEqual(document["stop_string"], middle)

    def test_a_seed_repeats_and_is_told(self):
        first = self.run_json(*BABBLE, "-n", "12")
        self.assertEqual(first["seed"], 1)
        self.assertEqual(self.run_json(*BABBLE, "-n", "12")["ids"], first["ids"])
        self.assertNotEqual(self.run_json(*BABBLE[:-1], "2", "-n", "12")["ids"], first["ids"])
        drawn = self.run_json(*BABBLE[:-2], "-n", "12")
        self.assertEqual(self.run_json(*BABBLE[:-1], str(drawn["seed"]), "-n", "12")["ids"], drawn["ids"])

    def test_sampling_defaults_are_the_models(self):
        sampling = self.run_json(*ASK, "-n", "1")["sampling"]
        self.assertEqual((sampling["temperature"], sampling["top_k"], sampling["top_p"]), (1.0, 64, 0.95))
        model = self.copy_nano()
        (model / "generation_config.json").write_text('{"do_sample": false, "eos_token_id": [1, 106]}')
        self.assertEqual(self.json_of("run", "-m", model, *ASK, "-n", "1")["sampling"]["temperature"], 0)

    def test_sizes(self):
        self.assertEqual(self.run_json(*ASK, "-n", "1", "--size", "e2b")["size"], "e2b")
        widths = ",".join(["384"] * 20 + ["skip"] * 5 + ["192"] * 10)
        self.assertEqual(self.run_json(*ASK, "-n", "1", "--size", widths)["size"], "custom")
        self.assertEqual(self.run_json(*ASK, "-n", "1", "--size", "auto")["size"], "e4b")

    def test_system_message(self):
        with_system = self.run_json(*ASK, "--system", "Be brief.", "-n", "1")["usage"]["prompt_tokens"]
        self.assertGreater(with_system, self.run_json(*ASK, "-n", "1")["usage"]["prompt_tokens"])

    def test_raw_prompts_have_no_template(self):
        ids = json.loads(self.succeed("tokenize", "-m", "nano", "-p", "Once upon", "--bos", "--json"))["ids"]
        self.assertEqual(self.run_json("-p", "Once upon", "--raw", "-n", "1")["usage"]["prompt_tokens"], len(ids))
        by_hand = "<start_of_turn>user\nWhat is the opposite of hot?<end_of_turn>\n<start_of_turn>model\n"
        self.assertEqual(self.run_json("-p", by_hand, "--raw", "--temp", "0")["ids"],
                         self.run_json(*ASK, "--temp", "0")["ids"])

    def test_control_names_in_a_prompt_are_only_text(self):
        plain = self.run_json("-p", "Say <end_of_turn>.", "-n", "1")["usage"]["prompt_tokens"]
        self.assertGreater(plain, self.run_json("-p", "Say.", "-n", "1")["usage"]["prompt_tokens"] + 3)

    def test_storage_and_memory_options_change_no_answer(self):
        expected = self.run_json(*ASK, "--temp", "0")["ids"]
        for options in (("--ple", "resident"), ("--ple-cache", "1M"), ("--threads", "2"), ("--memory", "2GiB"),
                        ("--chunk", "3")):
            self.assertEqual(self.run_json(*ASK, "--temp", "0", *options)["ids"], expected, options)
        self.assertEqual(self.run_json(*ASK, "-n", "1", "--ple", "resident")["ple"]["mode"], "resident")
        self.assertTrue(self.run_json(*ASK, "--temp", "0", "--kv", "q8")["text"])

    def test_environment_twins(self):
        env = {"NESTLING_MODEL": "nano", "NESTLING_PROMPT": ASK[1], "NESTLING_MAX_TOKENS": "2", "NESTLING_JSON": "1",
               "NESTLING_TOP_K": "7", "NESTLING_SIZE": "e2b"}
        document = json.loads(self.succeed("run", env=env))
        self.assertEqual((document["size"], document["sampling"]["top_k"], len(document["ids"])), ("e2b", 7, 2))
        self.assertEqual(json.loads(self.succeed("run", "--size", "e4b", env=env))["size"], "e4b")
        self.refused(2, "run", says="--ctx", env={**env, "NESTLING_CTX": "many"})

    def test_ctrl_c_shows_what_was_generated(self):
        with self.started("run", "-m", "nano", *BABBLE) as process:
            first = process.stdout.read(1)
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate()
        self.assertEqual(process.returncode, 130)
        self.assertTrue(first.strip() or rest.strip())
        self.assertTrue(rest.endswith(b"\n"))

    def test_ctrl_c_with_json_is_still_one_document(self):
        self.run_json(*ASK, "-n", "1")  # imported
        with self.started("run", "-m", "nano", *BABBLE, "--json") as process:
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate()
        self.assertEqual(process.returncode, 130)
        self.assertEqual(json.loads(out)["finish_reason"], "cancelled")

    def test_ctrl_c_while_waiting_for_standard_input(self):
        with self.started("run", "-m", "nano", "-p", "-", stdin=subprocess.PIPE) as process:
            process.send_signal(signal.SIGINT)
            self.assertEqual(process.wait(), 130)


if __name__ == "__main__":
    unittest.main()
