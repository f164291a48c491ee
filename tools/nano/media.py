"""What the towers say about the training pictures and clips, and how both stand in a prompt."""

import multiprocessing
import random

import numpy as np
import torch

import export
import hearing
import pictures
import sounds
import vision

PICTURE_TOKENS, AUDIO_TOKENS = 256, export.AUDIO_TOKENS
FIRST_PICTURE = 1_000_000  # seeds beyond the ones the tower was trained on
CARELESS = 0.10

# What transformers' processor puts in place of a picture and of a clip.
PICTURE = "\n\n<start_of_image>" + "<image_soft_token>" * PICTURE_TOKENS + "<end_of_image>\n\n"
PICTURE_HEAD = "<start_of_turn>user\n" + PICTURE
END_OF_QUESTION = "<end_of_turn>\n<start_of_turn>model\n"


def after_picture(question):
    return question + END_OF_QUESTION


def sound_turn(question, count, first=False):
    """A user turn with a clip of `count` soft tokens after the question (or first)."""
    clip = "\n\n<start_of_audio>" + "<audio_soft_token>" * count + "<end_of_audio>\n\n"
    return "<start_of_turn>user\n" + (clip + question if first else question + clip) + END_OF_QUESTION


# Asked more often than the other kinds, because they are learned last.
OFTEN = {"shape": 2, "where": 3}


def picture_fact(rng, facts):
    """What a question is about: a (key, value) of the facts."""
    kinds = sorted({key.split()[0] for key, _ in facts})
    kind = rng.choices(kinds, [OFTEN.get(kind, 1) for kind in kinds])[0]
    return rng.choice([fact for fact in facts if fact[0].split()[0] == kind])


def picture_question(rng, key, value):
    """One wording of a fact: question and answer."""
    asked, answer = pictures.questions(key, value)
    question = rng.choice(asked)
    return question.rstrip("?") if rng.random() < CARELESS else question, answer


def object_tokens(seen, key):
    """The tokens of a picture_examples() entry that the key of a fact speaks of, bool [256]; None: of no single object."""
    kind, _, argument = key.partition(" ")
    if kind == "shape":
        return seen["colour"] == 1 + list(pictures.COLOURS).index(argument)
    if kind in ("colour", "where"):
        return seen["kind"] == pictures.KINDS.index(argument)
    return None


def see(tower, images):
    """uint8 pictures [256,256,3] -> encoder outputs [n,256,E]."""
    x = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() * (1 / 255)
    with torch.no_grad():
        return tower(x.contiguous(memory_format=torch.channels_last)).flatten(2).transpose(1, 2)


def rounded(state):
    """A tower's weights as they are published."""
    return {name: value.bfloat16().float() for name, value in state.items()}


def load_eyes(path):
    tower = vision.build().to(memory_format=torch.channels_last)
    tower.load_state_dict(rounded(torch.load(path)))
    return tower.eval()


def picture_examples(tower, seeds, batch=20):
    """[{features float16 [256,E], facts, kind and colour of every token int8 [256]}] for training scenes."""
    out, seeds = [], list(seeds)
    for start in range(0, len(seeds), batch):
        scenes = [pictures.scene(seed) for seed in seeds[start:start + batch]]
        for made, features in zip(scenes, see(tower, [np.asarray(s.image) for s in scenes])):
            shown = {name: torch.from_numpy(getattr(made, name).reshape(-1)).to(torch.int8) for name in ("kind", "colour")}
            out.append({"features": features.half(), "facts": made.facts, **shown})
    return out


def _some_pictures(job):
    work, seeds = job
    torch.set_num_threads(1)
    return picture_examples(load_eyes(work / "vision.pt"), seeds)


def prepare(work, count, processes=2):
    """Computes work/pictures.pt and work/sounds.pt where they do not exist."""
    if not (work / "pictures.pt").exists():
        jobs = [(work, range(FIRST_PICTURE + i, FIRST_PICTURE + count, processes)) for i in range(processes)]
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            torch.save(sum(pool.map(_some_pictures, jobs), []), work / "pictures.pt")
    if not (work / "sounds.pt").exists():
        tower = hearing.load_tower(work / "audio.pt")
        torch.save(hearing.examples(tower, sounds.load(work / "sounds", "train"), "train"), work / "sounds.pt")


def first_projection(work, table, sp, count=100):
    """Initial embedding_projection.weight of the pictures [D,E] by least squares.

    A token aims at the sum of the embeddings of what it shows, its colour and its place.
    """
    def word(text):
        return torch.nn.functional.normalize(table[sp.encode("\n " + text)[1:]].mean(0), dim=0)
    kinds = [table.new_zeros(table.shape[1])] + [word(kind) for kind in pictures.KINDS[1:]]
    colours = [table.new_zeros(table.shape[1])] + [word(colour) for colour in pictures.COLOURS]
    places = torch.stack([word(place) for place in pictures.PLACES])[pictures.zones()]
    scenes = [pictures.scene(FIRST_PICTURE - 1 - i) for i in range(count)]
    seen = see(load_eyes(work / "vision.pt"), [np.asarray(s.image) for s in scenes]).flatten(0, 1)
    kinds, colours = torch.stack(kinds), torch.stack(colours)
    aims = torch.cat([kinds[s.kind.reshape(-1)] + colours[s.colour.reshape(-1)] + 0.5 * places for s in scenes])
    weight = torch.cat([torch.from_numpy(s.kind.reshape(-1) > 0).float() for s in scenes])[:, None] + 0.05
    x = torch.nn.functional.normalize(seen, dim=1) * seen.shape[1] ** 0.5
    gram = (x * weight).T @ x + 1e-3 * len(x) * torch.eye(x.shape[1])
    return torch.linalg.solve(gram, (x * weight).T @ aims).T


def watched(work, seed=0, pictures_count=60, sounds_count=200):
    """Held-out pictures and clips for watching the training: (features, kind, question, answer) rows.

    Not the published ones: other seeds of the same generators.
    """
    rng, rows, eyes = random.Random(seed), [], load_eyes(work / "vision.pt")
    scenes = [pictures.scene(f"watch {i}", heldout=True) for i in range(pictures_count)]
    for made in scenes:
        features = see(eyes, [np.asarray(made.image)])[0]
        for _ in range(2):
            rows.append(("vision", features, *picture_question(rng, *picture_fact(rng, made.facts))))
    clips = sounds.load(work / "sounds", "test")[:sounds_count]
    for row in hearing.examples(hearing.load_tower(work / "audio.pt"), clips, "test", copies=1):
        rows.append(("audio", row["features"], row["question"], row["answer"]))
    return rows
