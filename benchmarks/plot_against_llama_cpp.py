#!/usr/bin/env python3
"""Draws docs/images/against-llama-cpp.svg: how many times better Nestling is, from documents of against_llama_cpp.py.

    benchmarks/plot_against_llama_cpp.py e2b-q6.json e2b-q4.json e4b-q6.json docs/images/against-llama-cpp.svg
"""

import json
import pathlib
import sys

LEFT, SCALE, ROW, RIGHT = 210, 70, 22, 230  # pixels; SCALE: of one time
COLOUR = "#4472a8"


def text(x, y, value, anchor="start", weight="normal", colour="black"):
    return (f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}" font-weight="{weight}" font-family="sans-serif" '
            f'font-size="13" fill="{colour}">{value}</text>')


def panel(report, top):
    """One document: a title, and a bar with its spread for each figure."""
    parts = [text(10, top + 16, f"{report['size'].upper()}, {report['weights']}, {report['threads']} threads",
                  weight="bold")]
    y = top + 26
    for row in report["summary"]:
        middle = y + ROW / 2 - 2
        parts.append(text(LEFT - 10, y + 14, row["what"], "end"))
        parts.append(f'<rect x="{LEFT}" y="{y}" width="{row["times_better"] * SCALE:.1f}" height="{ROW - 5}" '
                     f'fill="{COLOUR}"/>')
        parts.append(f'<line x1="{LEFT + row["least"] * SCALE:.1f}" x2="{LEFT + row["most"] * SCALE:.1f}" '
                     f'y1="{middle}" y2="{middle}" stroke="black"/>')
        figures = f"({row['nestling']:.4g} / {row['llama.cpp']:.4g} {row['unit']})"
        parts.append(text(LEFT + row["most"] * SCALE + 6, y + 14, f"{row['times_better']:.2f} x  {figures}"))
        y += ROW
    # llama.cpp itself
    parts.append(f'<line x1="{LEFT + SCALE}" x2="{LEFT + SCALE}" y1="{top + 22}" y2="{y}" stroke="#a87844" '
                 'stroke-width="2" stroke-dasharray="4 3"/>')
    return parts, y + 12


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    reports = [json.loads(pathlib.Path(path).read_text()) for path in sys.argv[1:-1]]
    widest = max(row["most"] for report in reports for row in report["summary"])
    title = "How many times better Nestling is than llama.cpp (dashed line: as good)"
    parts, top = [text(10, 18, title, weight="bold")], 26
    for report in reports:
        drawn, top = panel(report, top)
        parts += drawn
    width = LEFT + widest * SCALE + RIGHT
    pathlib.Path(sys.argv[-1]).write_text("\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{top}">',
        f'<rect width="{width:.0f}" height="{top}" fill="white"/>', *parts, "</svg>", ""]))


if __name__ == "__main__":
    main()
