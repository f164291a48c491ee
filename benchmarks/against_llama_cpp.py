"""Nestling and llama.cpp on the same random weights of the real shapes, one after the other in one session.

    python3 benchmarks/against_llama_cpp.py build/release/nestling --size e2b --head q6 --out e2b-q6.json
    python3 benchmarks/plot_against_llama_cpp.py e2b-q6.json docs/images/against-llama-cpp.svg

benchmarks/llama_cpp_engine.py says how to install llama.cpp. A round is one process of each, every other round in the
other order: start to first token with nothing of the model in the page cache, prompts, decoding after some depths, peak
memory. Each figure of a round is one run; the medians of the rounds count, and so do the medians of their ratios,
because a shared machine differs by more between two minutes than many an improvement. On a busy machine they mean
nothing. The model is a package in Nestling's cache, and a GGUF with exactly its weights (but for a q6 head, which Q6_K
rounds) that is written anew under build/against-llama-cpp.

llama.cpp decodes ids that are given, without choosing any; Nestling samples as its users do. Both keep 16-bit keys and
values and take the same number of threads; everything else is each program's default.
"""

import argparse
import json
import os
import pathlib
import platform
import resource
import statistics
import subprocess
import sys
import time

from llama_cpp_engine import LlamaCpp, continue_with_llama_cpp

ROOT = pathlib.Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "against-llama-cpp"
START_PROMPT = 512  # tokens; what nestling bench takes
LOWER_IS_BETTER = ("s", "MB")
BUSY = 1.5  # load per core; the runs themselves leave 1


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=pathlib.Path, help="the nestling to measure")
    parser.add_argument("--size", default="e2b", help="e2b or e4b [e2b]")
    parser.add_argument("--head", default="q6", choices=("q6", "q4"), help="weights of embedding and head [q6]")
    parser.add_argument("--ple", default="q4", choices=("q4", "q8"), help="weights of the per-layer embeddings [q4]")
    parser.add_argument("--threads", type=int, default=2, help="of both [2]")
    parser.add_argument("--rounds", type=int, default=5, help="[5]")
    parser.add_argument("--prompts", default="512", help="lengths of prompts, separated by commas [512]")
    parser.add_argument("--depths", default="0,4096", help="tokens in the context before decoding [0,4096]")
    parser.add_argument("--gen-tokens", type=int, default=48, help="tokens decoded [48]")
    parser.add_argument("--out", type=pathlib.Path, help="write everything to this JSON file")
    parser.add_argument("--worker", type=pathlib.Path, help=argparse.SUPPRESS)
    found = parser.parse_args()
    found.prompts = [int(n) for n in found.prompts.split(",")]
    found.depths = [int(n) for n in found.depths.split(",")]
    found.context = max(*found.prompts, *found.depths, START_PROMPT) + found.gen_tokens + 16
    return found


def depth_name(depth):
    return "decode" if depth == 0 else f"decode at {depth}"


# llama.cpp, in a process of its own.

def ids_of_text(count, vocabulary):
    """Spread over the vocabulary, the same in every run."""
    import numpy
    return numpy.random.default_rng(1).integers(0, vocabulary, count).tolist()


def drop_from_page_cache(path):
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def peak_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def worker(options):
    import numpy  # noqa: F401  its memory, and Python's, are not llama.cpp's
    own = peak_bytes()
    drop_from_page_cache(options.worker)
    start = time.perf_counter()
    engine = LlamaCpp(options.worker, options.context, options.threads)
    ids = ids_of_text(options.context, min(engine.vocabulary, 262_144))
    engine.run(ids[:START_PROMPT])
    engine.best()
    found = {"start to first token, cold": time.perf_counter() - start}
    for tokens in options.prompts:
        engine.clear()
        start = time.perf_counter()
        engine.run(ids[:tokens])
        found[f"prefill {tokens}"] = tokens / (time.perf_counter() - start)
    for depth in options.depths:
        engine.clear()
        engine.run(ids[:max(depth, 1)])
        start = time.perf_counter()
        for token in ids[-options.gen_tokens:]:
            engine.run([token])
        found[depth_name(depth)] = options.gen_tokens / (time.perf_counter() - start)
    found["peak resident"] = (peak_bytes() - own) / 1e6
    print(json.dumps(found))


# Both, from outside.

def run_llama_cpp(options, gguf_file):
    done = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--worker", gguf_file], check=True,
                          stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def weight_flags(options):
    return ["--weights", "q4", "--head-weights", options.head, "--ple-weights", options.ple]


def joined(numbers):
    return ",".join(map(str, numbers))


def run_nestling(options):
    done = subprocess.run([options.program, "bench", "--synthetic", options.size, *weight_flags(options), "--json",
                           "--repeat", "1", "--threads", str(options.threads), "--ctx", str(options.context),
                           "--prompt-tokens", joined(options.prompts), "--depth", joined(options.depths),
                           "--gen-tokens", str(options.gen_tokens)], check=True, stdout=subprocess.PIPE, text=True)
    report = json.loads(done.stdout)
    measured = {m["what"]: m["value"]["median"] for m in report["measurements"]}
    found = {"start to first token, cold": measured[f"start to first token, prompt {START_PROMPT}, cold"] / 1e3}
    found |= {name: measured[name] for name in [*(f"prefill {n}" for n in options.prompts),
                                                *(depth_name(n) for n in options.depths)]}
    found["peak resident"] = report["sizes"][0]["peak_rss_bytes"] / 1e6
    return found, report["machine"]


def export(options):
    WORK.mkdir(parents=True, exist_ok=True)
    file = WORK / f"{options.size}-q4-{options.head}-{options.ple}.gguf"
    subprocess.run([options.program, "export", "--synthetic", options.size, "--format", "gguf", "-o", file,
                    *weight_flags(options)], check=True, stdout=sys.stderr)
    return file


def unit_of(name):
    return "s" if name.startswith("start") else "MB" if name.startswith("peak") else "tokens/s"


def summary(rounds):
    """Per figure the medians, and the median of the rounds' ratios: how many times better Nestling is."""
    rows = []
    for name in rounds[0]["nestling"]:
        ours = [r["nestling"][name] for r in rounds]
        theirs = [r["llama.cpp"][name] for r in rounds]
        lower = unit_of(name) in LOWER_IS_BETTER
        ratios = [t / o if lower else o / t for o, t in zip(ours, theirs)]
        rows.append({"what": name, "unit": unit_of(name), "nestling": statistics.median(ours),
                     "llama.cpp": statistics.median(theirs), "times_better": statistics.median(ratios),
                     "least": min(ratios), "most": max(ratios)})
    return rows


def table(rows):
    lines = ["| | Nestling | llama.cpp | times better (least to most) |", "|---|---|---|---|"]
    for row in rows:
        digits = 2 if row["unit"] == "s" else 1 if row["unit"] == "tokens/s" else 0
        lines.append(f"| {row['what']}, {row['unit']} | {row['nestling']:.{digits}f} | {row['llama.cpp']:.{digits}f} | "
                     f"{row['times_better']:.2f} ({row['least']:.2f} to {row['most']:.2f}) |")
    return "\n".join(lines)


def one_round(options, gguf_file, number):
    found = {}
    for name in ("nestling", "llama.cpp") if number % 2 == 0 else ("llama.cpp", "nestling"):
        load = os.getloadavg()[0]
        if load > BUSY * os.cpu_count():
            print(f"warning: load {load:.1f} before {name}: the machine is busy", file=sys.stderr)
        if name == "nestling":
            found[name], found["machine"] = run_nestling(options)
        else:
            found[name] = run_llama_cpp(options, gguf_file)
        found.setdefault("load_before", {})[name] = load
        print(f"round {number + 1}, {name}: " + ", ".join(f"{k} {v:.4g}" for k, v in found[name].items()),
              file=sys.stderr)
    return found


def main():
    options = arguments()
    if options.worker:
        worker(options)
        return
    if not continue_with_llama_cpp():
        sys.exit("llama-cpp-python is not installed; benchmarks/llama_cpp_engine.py says how to")
    import importlib.metadata
    options.program = options.program.resolve()
    gguf_file = export(options)
    rounds = [one_round(options, gguf_file, number) for number in range(options.rounds)]
    report = {"size": options.size, "weights": f"q4, head {options.head}, PLE {options.ple}",
              "threads": options.threads, "context": options.context, "gen_tokens": options.gen_tokens,
              "llama_cpp_python": importlib.metadata.version("llama-cpp-python"), "system": platform.platform(),
              "gguf_bytes": gguf_file.stat().st_size, "summary": summary(rounds), "rounds": rounds}
    print(table(report["summary"]))
    if options.out:
        options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
