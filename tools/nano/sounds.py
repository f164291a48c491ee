"""The sounds: what is said, in which voices, how it is recorded, and what is asked about it.

espeak-ng speaks sentences over 56 words in many voices; rooms, filters, loudness and noise are
drawn for every clip. Held out are voices: a held-out clip uses a variant that no training clip
uses (some also an accent that no training clip uses), and a sequence of three or more digits or
words is in no training clip either (of the shorter ones and the commands most are).

    python tools/nano/sounds.py --out build/nano/sounds            clips and their mel features
    python tools/nano/sounds.py --heldout models/nano              the published held-out clips
"""

import argparse
import json
import multiprocessing
import pathlib
import random
import subprocess

import numpy as np
import soundfile
from scipy.signal import fftconvolve, lfilter, resample_poly

from data import draw

RATE = 16000
LONGEST = 3.5  # seconds

DIGITS = "zero one two three four five six seven eight nine".split()
COLOURS = "red green blue white black yellow".split()
THINGS = "cat dog bird fish horse house book lamp door window moon sun bread".split()
COMMANDS = ([f"turn {way} the {thing}" for way in ("on", "off") for thing in ("light", "lamp", "music")]
            + [f"{verb} the {thing}" for verb in ("open", "close") for thing in ("door", "window", "book")]
            + [f"go {way}" for way in ("left", "right", "up", "down", "back")] + ["stop", "play music"])
GREETINGS = ["hello", "good morning", "good evening", "good night", "thank you", "yes", "no", "yes please",
             "no thank you", "hello dog", "good morning cat", "water please", "bread please"]
WORDS = sorted(set(" ".join(DIGITS + COLOURS + THINGS + COMMANDS + GREETINGS).split()))

ACCENTS = ["en-us", "en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-029", "en-us-nyc"]
HELDOUT_ACCENT = "en-gb-x-gbcwmd"
VARIANTS = """
m1 m2 m3 m5 m6 m7 m8 f1 f2 f4 f5 Alex Andrea Annie Denis Diogo Gene Gene2 Henrique Hugo Jacky Lee
Marco Mario Michael Mike Nguyen RicishayMax RicishayMax2 Storm adam anika announcer antonio aunty
benjamin boris caleb david ed edward edward2 grandma gustave iven iven2 iven3 john klatt klatt2
klatt3 klatt5 linda marcelo max miguel norbert pablo pedro rob robert sandro shelby steph steph3
travis victor zac
""".split() + [""] * 4
HELDOUT_VARIANTS = "m4 f3 Andy Alicia belinda croak grandpa klatt4 michel paul quincy steph2".split()

TRANSCRIBE = ["Transcribe the following speech segment in English:", "Transcribe this audio into English:",
              "Transcribe this audio:", "What do you hear?", "What is said?", "What does the voice say?"]
ASK_DIGITS = ["What number is said?", "Which number do you hear?"]
SILENCE = "I hear no words."


def sentence(rng, kind):
    """The words of a clip of this kind; number and word sequences of held-out clips are drawn elsewhere."""
    if kind == "digits":
        return " ".join(rng.choice(DIGITS) for _ in range(rng.choice([1, 2, 3, 3, 4, 4, 5])))
    if kind == "command":
        return rng.choice(COMMANDS) + (" please" if rng.random() < 0.1 else "")
    if kind == "greeting":
        return rng.choice(GREETINGS)
    if kind == "thing":
        return f"the {rng.choice(COLOURS)} {rng.choice(THINGS)}"
    if kind == "words":
        return " ".join(rng.choice(WORDS) for _ in range(rng.choice([1, 2, 3, 3, 4])))
    return ""


def is_heldout_text(text):
    """Texts of three or more words of which about one in eight is kept for held-out clips alone."""
    return len(text.split()) > 2 and draw("sound", text) < 0.12


def speak(text, voice, speed, pitch, gap):
    """espeak-ng's speech at 16 kHz, float64, silence at both ends cut off."""
    command = ["espeak-ng", "-v", voice, "-s", str(speed), "-p", str(pitch), "-g", str(gap), "--stdout", text]
    wav = subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL).stdout
    rate = int.from_bytes(wav[24:28], "little")
    # The header of a stream does not know its length, so that libraries refuse it.
    wave = resample_poly(np.frombuffer(wav[44:], "<i2") / 32768, RATE // 50, rate // 50)
    loud = np.flatnonzero(np.abs(wave) > 0.01 * np.abs(wave).max())
    return wave[loud[0]:loud[-1] + 1]


def noise(rng, n):
    """White to brown noise of unit power."""
    colour = rng.choice([0.0, 0.5, 0.9, 0.98])
    wave = lfilter([1], [1, -colour], np.random.default_rng(rng.getrandbits(32)).standard_normal(n))
    return wave / np.sqrt(np.mean(wave ** 2) + 1e-12)


def record(rng, speech):
    """Speech through a drawn room, microphone, loudness and noise; float32 within [-1, 1]."""
    if rng.random() < 0.3:
        tail = int(RATE * rng.uniform(0.05, 0.25))
        room = np.random.default_rng(rng.getrandbits(32)).standard_normal(tail)
        room *= rng.uniform(0.02, 0.15) * np.exp(-np.arange(tail) * 5 / tail)
        room[0] = 1
        speech = fftconvolve(speech, room)
    if rng.random() < 0.5:
        speech = lfilter([1, -rng.uniform(-0.5, 0.7)], [1], speech)
    lead, trail = rng.uniform(0.03, 0.5), rng.uniform(0.2, 0.6)
    wave = np.concatenate([np.zeros(int(RATE * lead)), speech, np.zeros(int(RATE * trail))])
    power = np.sqrt(np.mean(speech ** 2) + 1e-12)
    snr = rng.choice([rng.uniform(8, 25), rng.uniform(25, 60)])
    wave += power * 10 ** (-snr / 20) * noise(rng, len(wave))
    wave *= 10 ** rng.uniform(-1.4, -0.05) / np.abs(wave).max()
    return np.round(wave * 32767).astype(np.int16)


def quiet(rng):
    """A clip without speech."""
    n = int(RATE * rng.uniform(0.6, LONGEST))
    return np.round(noise(rng, n) * 10 ** rng.uniform(-5, -1.8) * 32767).clip(-32768, 32767).astype(np.int16)


KINDS = ["digits"] * 9 + ["command"] * 7 + ["greeting"] * 2 + ["thing"] * 4 + ["words"] * 10


def clip(seed, heldout=False, kind=None):
    """One clip, the same for the same arguments: (int16 samples, text, voice, kind)."""
    rng = random.Random(f"sound {heldout} {seed}")
    if not heldout and rng.random() < 0.02:
        return quiet(rng), "", "", "quiet"
    kind = kind or rng.choice(KINDS)
    length = None
    while True:
        text = sentence(rng, kind)
        if not heldout and is_heldout_text(text):
            continue
        if heldout and kind in ("digits", "words"):
            # The first draw settles how many words; they are drawn again until nobody trained on them.
            length = length or len(text.split())
            if len(text.split()) != length or length > 2 and not is_heldout_text(text):
                continue
        accent = rng.choice(ACCENTS + [HELDOUT_ACCENT] * 3) if heldout else rng.choice(ACCENTS)
        variant = rng.choice(HELDOUT_VARIANTS if heldout else VARIANTS)
        voice = f"{accent}+{variant}" if variant else accent
        speed, pitch, gap = rng.randint(115, 210), rng.randint(15, 85), rng.choice([0, 0, 2, 6])
        wave = record(rng, speak(text, voice, speed, pitch, gap))
        if len(wave) <= LONGEST * RATE:
            return wave, text, voice, kind


def extractor():
    from transformers import Gemma3nAudioFeatureExtractor
    return Gemma3nAudioFeatureExtractor()


def mel(wave, front_end):
    """Log-mel features of one clip as transformers computes them, float32 [T,128]."""
    return front_end(wave.astype(np.float32) / 32768, return_tensors="np").input_features[0]


def _one(job):
    wave, text, voice, kind = clip(*job)
    if not hasattr(_one, "front_end"):
        _one.front_end = extractor()
    return mel(wave, _one.front_end).astype(np.float16), {"text": text, "voice": voice, "kind": kind}


def make(out, name, jobs, processes):
    """Writes NAME.npy (float16 [frames of all clips,128]) and NAME.json (text, voice, start, frames)."""
    with multiprocessing.Pool(processes) as pool:
        done = pool.map(_one, jobs, chunksize=16)
    rows, start = [], 0
    for features, row in done:
        rows.append(row | {"start": start, "frames": len(features)})
        start += len(features)
    np.save(out / f"{name}.npy", np.concatenate([features for features, _ in done]))
    (out / f"{name}.json").write_text(json.dumps(rows))
    print(name, len(rows), "clips,", start / 100, "seconds", flush=True)


def load(out, name):
    """The clips made by `make`: a list of (features float16 [T,128], row)."""
    features = np.load(out / f"{name}.npy", mmap_mode="r")
    rows = json.loads((out / f"{name}.json").read_text())
    return [(features[r["start"]:r["start"] + r["frames"]], r) for r in rows]


def questions(text, kind):
    """What may be asked about a clip: pairs of question and answer."""
    pairs = [(question, text or SILENCE) for question in TRANSCRIBE]
    if kind == "digits":
        figures = "".join(str(DIGITS.index(word)) for word in text.split())
        pairs += [(question, figures) for question in ASK_DIGITS]
    return pairs


def write_ogg(path, wave):
    """int16 samples as Ogg/Opus at 16 kHz, mono."""
    soundfile.write(path, wave, RATE, format="OGG", subtype="OPUS", compression_level=0.9)


HELDOUT_CLIPS = ["digits"] * 14 + ["command"] * 10 + ["greeting"] * 4 + ["thing"] * 5 + ["words"] * 7


def write_heldout(model):
    """heldout_sounds/ with heldout_sounds.jsonl, and examples/speech.ogg."""
    folder = model / "heldout_sounds"
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for i, kind in enumerate(HELDOUT_CLIPS):
        wave, text, voice, kind = clip(f"published {i}", heldout=True, kind=kind)
        name = f"{folder.name}/{i:02}.ogg"
        write_ogg(model / name, wave)
        asked = [TRANSCRIBE[i % 2]] + (ASK_DIGITS[:1] if kind == "digits" else [])
        for question in asked:
            row = {"file": name, "question": question, "answer": dict(questions(text, kind))[question],
                   "task": "transcribe" if question in TRANSCRIBE else "number", "voice": voice}
            lines.append(json.dumps(row) + "\n")
    (model / "heldout_sounds.jsonl").write_text("".join(lines))
    (model / "examples").mkdir(exist_ok=True)
    speech = 0.5 * speak("turn on the light", "en-gb-x-rp+f3", 140, 50, 2)
    pause = np.zeros(RATE // 4)
    wave = np.concatenate([pause, speech, pause, pause])
    write_ogg(model / "examples" / "speech.ogg", np.round(wave * 32767).astype(np.int16))


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, help="folder for the training and test features")
    parser.add_argument("--clips", type=int, default=8000, help="training clips")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--heldout", type=pathlib.Path, help="model folder for the published clips")
    args = parser.parse_args()
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        make(args.out, "test", [(i, True) for i in range(400)], args.processes)
        make(args.out, "train", [(i, False) for i in range(args.clips)], args.processes)
    if args.heldout:
        write_heldout(args.heldout)


if __name__ == "__main__":
    main()
