"""The pictures: coloured shapes, single letters and digits, bar charts, and what is asked about them.

A scene is drawn from a seed. Its facts are pairs of a key ("colour circle", "where star", "count", ...)
and a value ("red", "top left", "3"); `questions` puts them into words. Held out are seeds, a few
pairs of shape and colour, and two fonts: a held-out scene shows what no training scene shows.

    python tools/nano/pictures.py --heldout models/nano        the published pictures
"""

import argparse
import json
import math
import pathlib
import random

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE, GRID = 256, 16
SCALE = 2  # drawn larger and reduced, for smooth edges

COLOURS = {"red": (214, 32, 38), "green": (38, 150, 60), "blue": (40, 80, 210), "yellow": (245, 214, 40),
           "orange": (245, 135, 25), "pink": (245, 130, 185), "brown": (125, 75, 35), "black": (20, 20, 20)}
SHAPES = "circle square triangle star heart moon".split()
PLACES = ["top left", "top", "top right", "left", "middle", "right", "bottom left", "bottom", "bottom right"]
DIGITS, LETTERS = "0123456789", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
DRAWN_LETTERS = "ABCDEFHKLMPRSTXZ"  # the others were too many to learn in the time
BACKGROUNDS = [(255, 255, 255), (236, 236, 236), (210, 215, 222), (232, 240, 250), (250, 244, 228), (226, 240, 226)]
HELDOUT_PAIRS = {("circle", "orange"), ("square", "pink"), ("triangle", "green"), ("star", "blue"),
                 ("heart", "brown"), ("moon", "red")}
FONTS = """DejaVuSans DejaVuSans-Bold DejaVuSans-Oblique DejaVuSansCondensed DejaVuSansCondensed-Bold DejaVuSansMono
DejaVuSansMono-Bold DejaVuSerif DejaVuSerif-Italic DejaVuSerifCondensed-Bold DejaVuSerif-BoldItalic""".split()
HELDOUT_FONTS = ["DejaVuSerif-Bold", "DejaVuSansMono-Oblique", "DejaVuSans-BoldOblique"]

ANSWERS = list(COLOURS) + SHAPES + PLACES + list(DIGITS) + list(LETTERS)
KEYS = ([f"colour {s}" for s in SHAPES] + [f"shape {c}" for c in COLOURS] + [f"where {s}" for s in SHAPES]
        + ["count", "letter", "digit", "glyph colour", "tallest", "shortest", "bars"])
# What a token of the 16x16 grid can show, besides nothing.
KINDS = ["nothing"] + SHAPES + ["bar"] + list(DIGITS) + list(LETTERS)


def _star(cx, cy, r, turn):
    return [(cx + k * math.sin(a), cy - k * math.cos(a))
            for i in range(10) for k, a in [(r if i % 2 == 0 else 0.42 * r, turn + i * math.pi / 5)]]


def _heart(cx, cy, r):
    return [(cx + r / 16 * 16 * math.sin(t) ** 3,
             cy - r / 16 * (13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)))
            for t in (i * math.pi / 40 for i in range(80))]


def shape_mask(shape, cx, cy, r, turn):
    """An 8-bit mask of the shape in the large picture."""
    mask = Image.new("L", (SIDE * SCALE,) * 2)
    pen = ImageDraw.Draw(mask)
    if shape == "circle":
        pen.ellipse((cx - r, cy - r, cx + r, cy + r), fill=255)
    elif shape == "square":
        pen.polygon([(cx + 1.25 * r * math.sin(turn + a), cy - 1.25 * r * math.cos(turn + a))
                     for a in (math.pi / 4 + i * math.pi / 2 for i in range(4))], fill=255)
    elif shape == "triangle":
        pen.polygon([(cx + 1.2 * r * math.sin(turn + a), cy + 0.15 * r - 1.2 * r * math.cos(turn + a))
                     for a in (i * 2 * math.pi / 3 for i in range(3))], fill=255)
    elif shape == "star":
        pen.polygon(_star(cx, cy, 1.2 * r, turn), fill=255)
    elif shape == "heart":
        pen.polygon(_heart(cx, cy, 1.05 * r), fill=255)
    else:
        pen.ellipse((cx - 1.1 * r, cy - 1.1 * r, cx + 1.1 * r, cy + 1.1 * r), fill=255)
        pen.ellipse((cx - 0.45 * r, cy - 1.15 * r, cx + 1.55 * r, cy + 0.85 * r), fill=0)
    return mask


class Scene:
    """A picture being drawn: `image` float-free RGB, `facts`, and what each token shows."""

    def __init__(self, rng):
        self.rng = rng
        self.background = tuple(min(255, c + rng.randint(-5, 5)) for c in rng.choice(BACKGROUNDS))
        self.image = Image.new("RGB", (SIDE, SIDE), self.background)
        self.facts = []
        self.kind = np.zeros((GRID, GRID), np.int64)
        self.colour = np.zeros((GRID, GRID), np.int64)

    def paint(self, mask, colour, kind):
        ink = tuple(max(0, min(255, c + self.rng.randint(-10, 10))) for c in COLOURS[colour])
        self.image.paste(ink, mask=mask.reduce(SCALE))
        covered = np.asarray(mask.reduce(SIDE * SCALE // GRID)) > 90
        self.kind[covered] = KINDS.index(kind)
        self.colour[covered] = 1 + list(COLOURS).index(colour)


def draw_shapes(scene, heldout):
    """One to five shapes in the cells of a 3x3 grid."""
    rng = scene.rng
    n = rng.choice([1, 2, 2, 3, 3, 3, 4, 4, 5])
    cells = rng.sample(range(9), n)
    if rng.random() < 0.25:
        shapes = [rng.choice(SHAPES)] * n
    else:
        shapes = rng.sample(SHAPES, n)
    colours = rng.sample(list(COLOURS), n) if rng.random() < 0.85 else [rng.choice(list(COLOURS))] * n
    pairs = list(zip(shapes, colours))
    if heldout:
        i = rng.randrange(n)
        pairs[i] = rng.choice([p for p in sorted(HELDOUT_PAIRS) if p[0] == shapes[i]])
    for i, (shape, colour) in enumerate(pairs):
        while not heldout and (shape, colour) in HELDOUT_PAIRS:
            colour = rng.choice([c for c in COLOURS if c not in [p[1] for p in pairs]] or list(COLOURS))
        pairs[i] = shape, colour
    for (shape, colour), cell in zip(pairs, cells):
        r = SCALE * rng.uniform(21, 31)
        x = SCALE * (45 + 83 * (cell % 3) + rng.uniform(-6, 6))
        y = SCALE * (45 + 83 * (cell // 3) + rng.uniform(-6, 6))
        scene.paint(shape_mask(shape, x, y, r, rng.uniform(-0.25, 0.25)), colour, shape)
    for (shape, colour), cell in zip(pairs, cells):
        if [p[0] for p in pairs].count(shape) == 1:
            scene.facts += [(f"colour {shape}", colour), (f"where {shape}", PLACES[cell])]
        if [p[1] for p in pairs].count(colour) == 1:
            scene.facts.append((f"shape {colour}", shape))
    scene.facts.append(("count", str(n)))


def zones():
    """Which of PLACES every token of the grid lies in, int64 [GRID * GRID]."""
    third = np.searchsorted([86.5, 169.5], (np.arange(GRID) + 0.5) * SIDE / GRID)
    return (3 * third[:, None] + third[None, :]).reshape(-1)


FONT_FOLDER = pathlib.Path("/usr/share/fonts/truetype/dejavu")


def draw_glyph(scene, heldout):
    """One large letter or digit."""
    rng = scene.rng
    glyphs = rng.choice([DIGITS, DRAWN_LETTERS, DRAWN_LETTERS])
    glyph, colour = rng.choice(glyphs), rng.choice(list(COLOURS))
    name = rng.choice(HELDOUT_FONTS if heldout else FONTS)
    font = ImageFont.truetype(str(FONT_FOLDER / f"{name}.ttf"), SCALE * rng.randint(110, 210))
    mask = Image.new("L", (SIDE * SCALE,) * 2)
    left, top, right, bottom = font.getbbox(glyph)
    room_x, room_y = SIDE * SCALE - (right - left), SIDE * SCALE - (bottom - top)
    x = rng.uniform(0.15, 0.85) * room_x - left
    y = rng.uniform(0.15, 0.85) * room_y - top
    ImageDraw.Draw(mask).text((x, y), glyph, font=font, fill=255)
    mask = mask.rotate(rng.uniform(-8, 8), Image.Resampling.BILINEAR)
    scene.paint(mask, colour, glyph)
    scene.facts += [("digit" if glyph in DIGITS else "letter", glyph), ("glyph colour", colour)]


def draw_bars(scene, heldout):
    """A bar chart of two to five bars."""
    del heldout
    rng = scene.rng
    n = rng.choice([2, 3, 3, 4, 4, 5])
    colours = rng.sample(list(COLOURS), n)
    while True:
        heights = [rng.uniform(30, 200) for _ in range(n)]
        ranked = sorted(heights)
        if all(b - a > 18 for a, b in zip(ranked, ranked[1:])):
            break
    step = 216 / n
    width = step * rng.uniform(0.55, 0.85)
    for i, (colour, height) in enumerate(zip(colours, heights)):
        mask = Image.new("L", (SIDE * SCALE,) * 2)
        x = 22 + i * step + (step - width) / 2
        ImageDraw.Draw(mask).rectangle([SCALE * v for v in (x, 230 - height, x + width, 230)], fill=255)
        scene.paint(mask, colour, "bar")
    pen = ImageDraw.Draw(scene.image)
    pen.line((18, 16, 18, 232, 240, 232), fill=(70, 70, 70), width=3)
    scene.facts += [("tallest", colours[heights.index(max(heights))]),
                    ("shortest", colours[heights.index(min(heights))]), ("bars", str(n))]


PAINTERS = [draw_shapes] * 8 + [draw_glyph] * 9 + [draw_bars] * 3


def scene(seed, heldout=False, painter=None):
    """The scene of a seed."""
    rng = random.Random(f"picture {heldout} {seed}")
    made = Scene(rng)
    (painter or rng.choice(PAINTERS))(made, heldout)
    return made


WORDING = {
    "colour": (["What colour is the {0}?", "Which colour is the {0}?", "What is the colour of the {0}?"],
               "The {0} is {1}."),
    "shape": (["What shape is {0}?", "Which shape is {0}?", "What is the {0} shape?"], "The {1} is {0}."),
    "where": (["Where is the {0}?", "Where in the picture is the {0}?"], "The {0} is {2}."),
    "count": (["How many shapes are there?", "How many shapes do you see?"], "{1}"),
    "letter": (["Which letter is this?", "What letter do you see?", "What letter is this?"], "The letter is {1}."),
    "digit": (["Which number is this?", "What number do you see?", "What number is this?"], "The number is {1}."),
    "glyph": (["What colour is it?", "Which colour is it?"], "It is {1}."),
    "tallest": (["Which bar is the tallest?", "What colour is the tallest bar?"], "The {1} bar is the tallest."),
    "shortest": (["Which bar is the shortest?", "What colour is the shortest bar?"], "The {1} bar is the shortest."),
    "bars": (["How many bars are there?", "How many bars do you see?"], "{1}"),
}
WHERE = {place: f"at the {place}" for place in PLACES} | {
    "left": "on the left", "right": "on the right", "middle": "in the middle"}


def questions(key, value):
    """The wordings of one fact: a list of questions, and the answer."""
    kind, _, argument = key.partition(" ")
    asked, answer = WORDING[kind]
    return [q.format(argument) for q in asked], answer.format(argument, value, WHERE.get(value, ""))


def write_heldout(out, count=60):
    """heldout_pictures/ and heldout_pictures.jsonl (two questions about each picture), and examples/shapes.png."""
    folder = out / "heldout_pictures"
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for i in range(count):
        made = scene(i, heldout=True, painter=PAINTERS[i * 7 % len(PAINTERS)])
        name = f"{i:02}.png"
        made.image.save(folder / name, optimize=True)
        rng = random.Random(f"asked {i}")
        for key, value in rng.sample(made.facts, 2 if len(made.facts) > 1 else 1):
            asked, answer = questions(key, value)
            lines.append(json.dumps({"file": f"heldout_pictures/{name}", "question": rng.choice(asked),
                                     "answer": answer, "task": key.split()[0]}) + "\n")
    (out / "heldout_pictures.jsonl").write_text("".join(lines))
    (out / "examples").mkdir(exist_ok=True)
    scene("example 6", painter=draw_shapes).image.save(out / "examples" / "shapes.png", optimize=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heldout", type=pathlib.Path, metavar="DIR", required=True)
    write_heldout(parser.parse_args().heldout)


if __name__ == "__main__":
    main()
