#!/usr/bin/env python3
"""Draws docs/images/scaling.svg: what a token costs as the context, the prompt, the pass and its rows grow.

    build/release/nestling bench --synthetic e2b --prompt-tokens 32,128,512,2048 --csv prompts.csv
    build/release/nestling bench --synthetic e2b --ctx 32768 --prompt-tokens 32 --depth 0,1024,4096,... --csv depths.csv
    build/release/nestling bench --synthetic e2b --prompt-tokens 512 --chunk 64 --csv chunk-64.csv      # and other chunks
    tools/plot_scaling.py prompts.csv depths.csv chunk-*.csv docs/images/scaling.svg

Every file may hold any of them: depths and lengths of prompts are taken from the file with the most, rows from the first.
"""

import csv
import sys

WIDTH, HEIGHT, MARGIN = 380, 250, 48
COLOUR = "#4472a8"


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def number_after(prefix, what):
    """512 of "prefill 512"; None where the name begins otherwise."""
    return int(what[len(prefix):].split()[0]) if what.startswith(prefix) else None


def read(paths):
    """(title, name of x, points (x, y)) of each panel that the files hold."""
    depths, prompts, chunks, passes = {}, {}, {}, {}
    for path in paths:
        found, deep = {}, {}
        for row in rows(path):
            what, median = row["what"], float(row["median"])
            if what == "decode" or what.startswith("decode at "):
                deep[number_after("decode at ", what) or 0] = 1e3 / median
            if what.startswith("prefill "):
                found[number_after("prefill ", what)] = median
                if what == "prefill 512":
                    chunks[int(row["chunk"])] = median
            if what.startswith("pass of ") and row["unit"] == "x 1 row":
                passes.setdefault(number_after("pass of ", what), median)
        prompts, depths = max(prompts, found, key=len), max(depths, deep, key=len)
    passes = {1: 1.0, **passes} if passes else {}
    return [("ms per decoded token", "tokens in the context", depths),
            ("prefill, tokens/s", "tokens of the prompt", prompts),
            ("prefill of 512, tokens/s", "most tokens of a pass (--chunk)", chunks),
            ("time of a pass, times one row's", "rows of a pass", passes)]


def text(x, y, value, anchor="middle", weight="normal"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" font-family="sans-serif" '
            f'font-size="12">{value}</text>')


def panel(left, top, title, x_name, points):
    """A line from 0 on the y axis; every point has its value. Lengths that double are as far from each other as any."""
    places = sorted(points)
    linear = 0 in points
    span = max(places) if linear else len(places) - 1
    largest = max(points.values()) * 1.12
    at = [(left + MARGIN + (x if linear else i) / span * (WIDTH - 2 * MARGIN),
           top + HEIGHT - MARGIN - points[x] / largest * (HEIGHT - 2 * MARGIN)) for i, x in enumerate(places)]
    base = top + HEIGHT - MARGIN
    parts = [text(left + MARGIN, top + 24, title, "start", "bold"), text(left + WIDTH / 2, base + 34, x_name),
             f'<line x1="{left + MARGIN}" y1="{base}" x2="{left + WIDTH - MARGIN}" y2="{base}" stroke="#888"/>',
             f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in at)}" fill="none" stroke="{COLOUR}" '
             'stroke-width="2"/>']
    labelled = left
    for (x, y), place in zip(at, places):
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{COLOUR}"/>']
        if x - labelled < 34:
            continue
        labelled = x
        parts += [text(x, y - 8, f"{points[place]:.3g}"), text(x, base + 16, f"{place:,}")]
    return parts


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    panels = [(title, name, points) for title, name, points in read(sys.argv[1:-1]) if len(points) > 1]
    if not panels:
        sys.exit("no file holds two depths, prompts, chunks or passes")
    height = (len(panels) + 1) // 2 * HEIGHT
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * WIDTH}" height="{height}">',
             f'<rect width="{2 * WIDTH}" height="{height}" fill="white"/>']
    for i, (title, name, points) in enumerate(panels):
        parts += panel(i % 2 * WIDTH, i // 2 * HEIGHT, title, name, points)
    with open(sys.argv[-1], "w", encoding="utf-8") as file:
        file.write("\n".join([*parts, "</svg>", ""]))


if __name__ == "__main__":
    main()
