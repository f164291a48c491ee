"""Pictures and sounds in nestling run."""

import json
import shutil
import struct
import unittest

from harness import ROOT, CliTest, NANO, needs_towers
from media_files import png, samples, sound_tokens, wav, wav_header

MEDIA = ROOT / "tests" / "data" / "media"
GREEDY = ("--temp", "0", "-n", "4")
PLACES = json.loads((NANO / "config.json").read_text()).get("audio_soft_tokens_per_image")


@needs_towers
class MediaTest(CliTest):
    def setUp(self):
        super().setUp()
        self.picture = png(self.directory / "a.png", 300, 200)
        self.square = png(self.directory / "square.png", 256, 256, lambda x, y: (y, 200, x))
        self.sound = wav(self.directory / "a.wav", 1.0)

    def run_json(self, *args, **kwargs):
        return self.json_of("run", "-m", "nano", *GREEDY, *args, **kwargs)

    def refused_file(self, flag, path, *says):
        error = self.refused(1, "run", "-m", "nano", "-p", "What?", flag, path, says=says)
        self.assertEqual(error.count("\n"), 1, error)  # one sentence


class PicturesTest(MediaTest):
    def test_what_was_seen_is_told(self):
        document = self.run_json("--image", self.picture, "-p", "What is it?")
        seen = document["media"][0]
        self.assertEqual((seen["kind"], seen["file"], seen["width"], seen["height"]),
                         ("image", str(self.picture), 300, 200))
        self.assertEqual((seen["encoded_size"], seen["tokens"], seen["cached"]), (256, 256, False))
        self.assertGreater(seen["encode_ms"], 0)
        self.assertEqual(document["timings"]["image_ms"], seen["encode_ms"])
        self.assertEqual(document["timings"]["audio_ms"], 0)
        self.assertEqual(document["usage"]["media_tokens"], 256)
        text = self.run_json("-p", "What is it?")["usage"]["prompt_tokens"]
        self.assertIn(document["usage"]["prompt_tokens"] - text, range(258, 261))  # its begin, its end, newlines
        parts = document["memory"]["modalities"]
        self.assertEqual((parts["vision"]["loads"], parts["vision"]["encoded"], parts["audio"]["loads"]), (1, 1, 0))
        self.assertTrue(any(region["name"] == "vision workspace" for region in document["memory"]["plan"]))

    def test_a_text_only_run_opens_no_tower(self):
        document = self.run_json("-p", "Hello!")
        for part in ("vision", "audio"):
            counters = document["memory"]["modalities"][part]
            self.assertEqual((counters["loads"], counters["loaded"], counters["resident_bytes"]), (0, False, 0), part)
        self.assertEqual(document["media"], [])
        self.assertFalse(any("vision" in region["name"] or "audio" in region["name"]
                             for region in document["memory"]["plan"]))

    def test_a_squashed_picture_is_told_once(self):
        limits = self.run_json("--image", self.picture, "--image", self.picture, "-p", "Same?")["limits"]
        self.assertEqual(sum("aspect ratio" in limit for limit in limits), 1, limits)
        self.assertIn("300 x 200", limits[0])
        limits = self.run_json("--image", self.square, "-p", "What?")["limits"]
        self.assertFalse(any("aspect ratio" in limit for limit in limits), limits)

    def test_the_same_picture_again_costs_no_encoding(self):
        again = shutil.copy(self.picture, self.directory / "other_name")
        document = self.run_json("--image", self.picture, "--image", again, "-p", "Same?")
        self.assertEqual([seen["cached"] for seen in document["media"]], [False, True])
        self.assertEqual(document["media"][1]["encode_ms"], 0)
        self.assertEqual(document["media"][1]["width"], 300)
        self.assertEqual(document["usage"]["cached_media"], 1)
        vision = document["memory"]["modalities"]["vision"]
        self.assertEqual((vision["encoded"], vision["cached"]), (1, 1))
        self.assertGreater(document["memory"]["modalities"]["cache_bytes"], 0)

    def test_sizes(self):
        for size in (256, 512, 768):
            document = self.run_json("--image", self.square, "-p", "What?", "--image-size", str(size))
            self.assertEqual(document["media"][0]["encoded_size"], size)
            self.assertEqual(document["usage"]["media_tokens"], 256)

    def test_the_picture_matters(self):
        other = png(self.directory / "other.png", 256, 256, lambda x, y: (255 - y, 10, 30))
        answers = [self.run_json("--image", path, "-p", "What is it?", "--logprobs", "1")["logprobs"][0]
                   for path in (self.square, other)]
        self.assertNotEqual(answers[0], answers[1])

    def test_content_keeps_its_order(self):
        document = self.run_json("--audio", self.sound, "--image", self.picture, "-p", "Both?", "--image", self.square)
        self.assertEqual([medium["kind"] for medium in document["media"]], ["audio", "image", "image"])
        swapped = self.run_json("--image", self.picture, "--audio", self.sound, "-p", "Both?", "--image", self.square)
        self.assertEqual([medium["file"] for medium in swapped["media"]],
                         [str(self.picture), str(self.sound), str(self.square)])
        self.assertEqual(document["usage"]["media_tokens"], swapped["usage"]["media_tokens"])

    def test_released_after_encoding(self):
        kept = self.run_json("--image", self.picture, "--audio", self.sound, "-p", "What?")
        released = self.run_json("--image", self.picture, "--audio", self.sound, "-p", "What?", "--release-modalities")
        self.assertEqual(kept["ids"], released["ids"])
        for part in ("vision", "audio"):
            self.assertTrue(kept["memory"]["modalities"][part]["loaded"])
            counters = released["memory"]["modalities"][part]
            self.assertEqual((counters["loads"], counters["loaded"], counters["resident_bytes"]), (1, False, 0))

    def test_standard_input(self):
        document = self.run_json("--image", "-", "-p", "What?", stdin=self.picture.read_bytes())
        self.assertEqual(document["media"][0]["file"], "standard input")
        self.assertEqual(document["ids"], self.run_json("--image", self.picture, "-p", "What?")["ids"])
        self.refused(2, "run", "-m", "nano", "-p", "-", "--image", "-", says="twice")
        self.refused(1, "run", "-m", "nano", "-p", "What?", "--image", "-", says=["standard input", "empty"])

    def test_content_decides_and_not_the_name(self):
        renamed = shutil.copy(self.picture, self.directory / "b.jpg")
        self.assertEqual(self.run_json("--image", renamed, "-p", "What?")["media"][0]["width"], 300)
        self.refused_file("--image", self.sound, "a.wav", "WAV")
        self.refused_file("--audio", self.picture, "a.png", "PNG")
        (self.directory / "text.png").write_text("not a picture at all\n" * 10)
        self.refused_file("--image", self.directory / "text.png", "text.png")

    def test_missing_files_are_refused_before_the_model_is_opened(self):
        self.refused_file("--image", self.directory / "none.png", "none.png", "No such file")
        self.refused_file("--audio", self.directory / "none.wav", "none.wav", "No such file")
        self.refused(1, "run", "-m", "no-such-model", "-p", "What?", "--image", "none.png", says="none.png")

    def test_damaged_pictures(self):
        for path in sorted((MEDIA / "image" / "bad").iterdir()):
            with self.subTest(path=path.name):
                self.refused_file("--image", path, path.name)

    def test_one_pixel(self):
        document = self.run_json("--image", png(self.directory / "one.png", 1, 1), "-p", "What?")
        self.assertEqual(document["media"][0]["width"], 1)

    def test_a_budget_without_room_for_vision(self):
        plan = self.run_json("-p", "What?")["memory"]["planned_bytes"]
        budget = str(plan + 1000)
        self.run_json("-p", "What?", "--memory", budget)
        error = self.refused(4, "run", "-m", "nano", "--image", self.picture, "-p", "What?", "--memory", budget)
        self.assertIn("vision", error)

    def test_a_context_without_room(self):
        self.refused(2, "run", "-m", "nano", "--image", self.picture, "-p", "What?", "--ctx", "100", says=["100", "--ctx"])


class SoundsTest(MediaTest):
    def test_what_was_heard_is_told(self):
        document = self.run_json("-p", "What?", "--audio", wav(self.directory / "b.wav", 2.0, 48000, 2))
        heard = document["media"][0]
        self.assertEqual((heard["kind"], heard["source_rate"], heard["channels"]), ("audio", 48000, 2))
        self.assertAlmostEqual(heard["seconds"], 2.0, places=2)
        self.assertEqual(heard["seconds"], heard["heard_seconds"])
        self.assertEqual(heard["tokens"], sound_tokens(round(heard["seconds"] * 16000)))
        self.assertEqual((heard["cut"], heard["clipped_values"], heard["cached"]), (False, 0, False))
        self.assertEqual(document["timings"]["audio_ms"], heard["encode_ms"])
        parts = document["memory"]["modalities"]
        self.assertEqual((parts["audio"]["loads"], parts["audio"]["encoded"], parts["vision"]["loads"]), (1, 1, 0))
        self.assertEqual(parts["audio"]["weights"], "resident")

    def test_every_format(self):
        for name in ("s16_16000.wav", "s16_48000_stereo.flac", "opus_48000.ogg", "layer3_44100_stereo.mp3"):
            self.assertGreaterEqual(self.run_json("--audio", MEDIA / "audio" / name, "-p", "What?")["media"][0]["tokens"], 1)

    def test_padded_as_transformers_does(self):
        document = self.run_json("--audio", self.sound, "-p", "What?", "--audio-tokens", "pad188")
        self.assertEqual(document["media"][0]["tokens"], PLACES)
        self.assertFalse(document["media"][0]["cut"])
        self.assertEqual(document["usage"]["media_tokens"], PLACES)
        long = self.run_json("--audio", wav(self.directory / "long.wav", PLACES * 0.16 + 2), "-p", "What?",
                             "--audio-tokens", "pad188")
        self.assertEqual((long["media"][0]["tokens"], long["media"][0]["cut"]), (PLACES, True))
        self.assertTrue(any(f"{PLACES} of its" in limit for limit in long["limits"]), long["limits"])

    def test_a_limit_is_told(self):
        document = self.run_json("--audio", self.sound, "-p", "What?", "--audio-limit", "0.5")
        heard = document["media"][0]
        self.assertEqual((heard["seconds"], heard["heard_seconds"], heard["cut"]), (1.0, 0.5, True))
        self.assertEqual(heard["tokens"], sound_tokens(8000))
        self.assertTrue(any("0.50 of 1.00 s" in limit for limit in document["limits"]), document["limits"])
        half = wav(self.directory / "half.wav", 0.5)
        half.write_bytes(wav_header(16000, 1, self.sound.read_bytes()[44:44 + 16000]))
        self.assertEqual(document["ids"], self.run_json("--audio", half, "-p", "What?")["ids"])

    def test_long_sounds_are_heard_whole(self):
        document = self.run_json("--audio", wav(self.directory / "long.wav", 40.0), "-p", "What?")
        self.assertEqual(document["media"][0]["tokens"], sound_tokens(640000))
        self.assertFalse(any("heard" in limit for limit in document["limits"]))
        self.refused(2, "run", "-m", "nano", "--audio", self.directory / "long.wav", "-p", "What?", "--ctx", "128",
                     says=["128", "--audio-limit"])

    def test_raw_samples_from_a_pipe(self):
        expected = self.run_json("--audio", self.sound, "-p", "What?")
        raw = samples(1.0)
        document = self.run_json("--audio", "-", "--audio-rate", "16000", "-p", "What?", stdin=raw)
        self.assertEqual(document["ids"], expected["ids"])
        heard = document["media"][0]
        self.assertEqual((heard["seconds"], heard["source_rate"], heard["channels"]), (1.0, 16000, 1))
        self.assertEqual(heard["tokens"], expected["media"][0]["tokens"])
        floats = b"".join(struct.pack("<f", value / 32768) * 2 for (value,) in struct.iter_unpack("<h", raw))
        stereo = self.run_json("--audio", "-", "--audio-rate", "16000", "--audio-format", "f32", "--audio-channels", "2",
                               "-p", "What?", stdin=floats)
        self.assertEqual(stereo["ids"], expected["ids"])
        cut = self.run_json("--audio", "-", "--audio-rate", "16000", "--audio-limit", "0.25", "-p", "What?", stdin=raw)
        self.assertEqual((cut["media"][0]["seconds"], cut["media"][0]["heard_seconds"]), (1.0, 0.25))

    def test_a_file_from_a_pipe(self):
        document = self.run_json("--audio", "-", "-p", "What?", stdin=self.sound.read_bytes())
        self.assertEqual(document["ids"], self.run_json("--audio", self.sound, "-p", "What?")["ids"])

    def test_options_of_raw_samples(self):
        ask = ("run", "-m", "nano", "-p", "What?")
        self.refused(2, *ask, "--audio", self.sound, "--audio-rate", "16000", says="--audio -")
        self.refused(2, *ask, "--audio", "-", "--audio-format", "f32", says="--audio-rate")
        self.refused(2, *ask, "--audio", "-", "--audio-rate", "10", says="1000 to 768000")
        self.refused(2, *ask, "--audio", "-", "--audio-rate", "16000", "--audio-channels", "33", says="1 to 32")
        self.refused(2, *ask, "--audio", "-", "--audio-rate", "16000", "--audio-format", "s24", says="s16, f32")
        self.refused(2, "run", "-m", "nano", "-p", "-", "--audio", "-", says="twice")
        self.refused(1, *ask, "--audio", "-", "--audio-rate", "16000", stdin="", says="0 samples")
        nan = struct.pack("<f", float("nan")) * 2000
        self.refused(1, *ask, "--audio", "-", "--audio-rate", "16000", "--audio-format", "f32", stdin=nan, says="nan")

    def test_clipped_values_are_told(self):
        loud = struct.pack("<f", 1.5) * 3 + struct.pack("<f", 0.1) * 4000
        document = self.run_json("--audio", "-", "--audio-rate", "16000", "--audio-format", "f32", "-p", "What?", stdin=loud)
        self.assertEqual(document["media"][0]["clipped_values"], 3)
        self.assertTrue(any("3 values" in limit for limit in document["limits"]), document["limits"])

    def test_damaged_sounds(self):
        for path in sorted((MEDIA / "audio" / "bad").iterdir()):
            with self.subTest(path=path.name):
                self.refused_file("--audio", path, path.name)

    def test_absurd_headers(self):
        path = self.directory / "absurd.wav"
        for rate, channels in ((0, 1), (1, 1), (999, 1), (768001, 1), (0xFFFFFFFF, 1), (16000, 0), (16000, 33),
                               (16000, 65535)):
            with self.subTest(rate=rate, channels=channels):
                path.write_bytes(wav_header(rate, channels))
                self.refused_file("--audio", path, "absurd.wav")
        path.write_bytes(wav_header(16000, 1, b""))
        self.refused_file("--audio", path, "absurd.wav")

    def test_one_sample_is_a_sound(self):
        path = self.directory / "one.wav"
        path.write_bytes(wav_header(16000, 1, b"\0\1"))
        self.assertEqual(self.run_json("--audio", path, "-p", "What?")["media"][0]["tokens"], 1)


class TranscribeTest(MediaTest):
    def test_it_is_a_question_about_the_sound(self):
        document = self.json_of("transcribe", "-m", "nano", self.sound, "--language", "English", "-n", "8")
        self.assertEqual(document["media"][0]["kind"], "audio")
        self.assertEqual(document["sampling"]["temperature"], 0)
        same = self.json_of("run", "-m", "nano", "-p", "Transcribe the following speech segment in English:", "--audio",
                            self.sound, "--temp", "0", "-n", "8")
        self.assertEqual(document["ids"], same["ids"])

    def test_translation(self):
        document = self.json_of("transcribe", "-m", "nano", self.sound, "--language", "German", "--translate-to",
                                "English", "-n", "8")
        same = self.json_of("run", "-m", "nano", "-p", "Transcribe the following speech segment in German, then translate it "
                            "into English:", "--audio", self.sound, "--temp", "0", "-n", "8")
        self.assertEqual(document["ids"], same["ids"])

    def test_refusals(self):
        self.refused(2, "transcribe", "-m", "nano", says="file")
        self.refused(1, "transcribe", "-m", "nano", "none.wav", says="none.wav")
        self.refused(1, "transcribe", "-m", "nano", self.picture, says="PNG")
        self.refused(2, "transcribe", "-m", "nano", self.sound, "--language", "x" * 100, says="--language")
        self.assertIn("timestamps", self.succeed("transcribe", "--help"))


if __name__ == "__main__":
    unittest.main()
