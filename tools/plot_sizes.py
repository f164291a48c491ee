#!/usr/bin/env python3
"""Draws docs/images/sizes.svg: decode and prefill speed of several sizes of one file.

    build/release/nestling bench --synthetic e4b --sizes e2b,e2.54b-layer,e2.98b-layer,e3.18b-layer,e3.59b-layer,e4b \\
        --prompt-tokens 512 --gen-tokens 48 --csv sizes.csv
    tools/plot_sizes.py sizes.csv docs/images/sizes.svg
"""

import csv
import sys

WIDTH, ROW, LEFT, BAR = 760, 26, 120, 250


def read(path):
    """Per size in file order: [decode tokens/s, prefill tokens/s]."""
    speeds = {}
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            column = {"decode": 0, "prefill": 1}.get(row["what"].split()[0])
            if row["size"] and column is not None and row["unit"] == "tokens/s":
                speeds.setdefault(row["size"], [0.0, 0.0])[column] = float(row["median"])
    return speeds


def text(x, y, value, anchor="start", weight="normal"):
    return (f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-weight="{weight}" font-family="sans-serif" '
            f'font-size="13">{value}</text>')


def panel(speeds, column, x, title, colour):
    largest = max(values[column] for values in speeds.values())
    parts = [text(x, 24, title, weight="bold")]
    for i, values in enumerate(speeds.values()):
        length = values[column] / largest * (BAR - 50)
        y = 40 + i * ROW
        parts.append(f'<rect x="{x}" y="{y}" width="{length:.1f}" height="{ROW - 8}" fill="{colour}"/>')
        parts.append(text(x + length + 6, y + 14, f"{values[column]:.4g}"))
    return parts


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    speeds = read(sys.argv[1])
    if not speeds:
        sys.exit(f"{sys.argv[1]}: holds no sizes; run bench with --sizes")
    height = 50 + len(speeds) * ROW
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}">',
             f'<rect width="{WIDTH}" height="{height}" fill="white"/>']
    parts += [text(LEFT - 10, 54 + i * ROW, size, "end") for i, size in enumerate(speeds)]
    parts += panel(speeds, 0, LEFT, "decode, tokens/s", "#4472a8")
    parts += panel(speeds, 1, LEFT + BAR + 60, "prefill of 512 tokens, tokens/s", "#a87844")
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        file.write("\n".join([*parts, "</svg>", ""]))


if __name__ == "__main__":
    main()
