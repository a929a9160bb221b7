"""The regression guard: how many instructions a token costs, from its wire to its client's bytes.

Started by `make instructions`. Instructions are counted and no seconds, so it says the same on a busy
machine as on an idle one. The pure path alone is counted: no sockets, no runtime, no logs.
"""

import argparse
import concurrent.futures
import itertools
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import growth

ROOT = pathlib.Path(__file__).resolve().parent.parent
BASELINE = ROOT / "bench/instructions.json"
# How much more is still no regression.
MARGIN = 0.10
NATIVE = "/v1/streams"
WIRES = ["openai-chat", "anthropic-messages", "bedrock-converse", "cohere-chat", "gemini", "ollama-chat",
         "openai-responses"]
PATHS = [NATIVE, "/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/ui-messages"]
# The wires that clients speak too.
SHARED = [("openai-chat", "/v1/chat/completions"), ("anthropic-messages", "/v1/messages"),
          ("openai-responses", "/v1/responses")]
PAIRS = [(wire, NATIVE) for wire in WIRES] + [("openai-chat", path) for path in PATHS[1:]] + SHARED[1:]
ANSWERS = [(wire, path, []) for wire, path in PAIRS] + [(wire, path, ["verbatim"]) for wire, path in SHARED]
# Two answers, so that what an answer costs however short it is cancels out.
SHORT, LONG = 500, 2_500
# A line so many times as long may take at most so many times as many instructions, and a bit.
MIB, TIMES, LINEAR = 1 << 20, 4, 1.1
# Twice as many elements of an input may take at most so many times as many instructions. Buffers and tables that
# grow make it uneven, up to 2.13; quadratic work comes to 4. Tool calls, which are few, are searched one by one.
DOUBLED, CALLS_DOUBLED = 2.25, 2.5
# Of elements that cost so few instructions each, the growth of buffers is most of the cost: 2,000 to 64,000 headers of
# a message came to between 1.89 and 2.57, at about 50 instructions each.
FEW, FEW_DOUBLED = 100, 3.0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--built", type=pathlib.Path, required=True, help="what Cargo says that it built, as JSON")
    parser.add_argument("--work", default=ROOT / "target/bench", type=pathlib.Path)
    parser.add_argument("--update", action="store_true", help="write the baseline anew")
    parser.add_argument("--top", action="store_true", help="show each pair's ten most expensive functions")
    parser.add_argument("--growth", action="store_true", help="show how the cost of every growing input grows")
    options = parser.parse_args()
    built = map(json.loads, options.built.read_text().splitlines())
    options.binary = next(message["executable"] for message in built
                          if message.get("executable") and message["target"]["name"] == "instructions")
    options.work.mkdir(parents=True, exist_ok=True)
    rustc = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    baseline = json.loads(BASELINE.read_text()) if BASELINE.exists() else {"rustc": rustc, "tokens": {}}

    counts, worse = {}, []
    for wire, path, form in ANSWERS:
        name = ", ".join([f"{wire} to {path}", *form])
        short, long = (count(options, ["alike", wire, path, str(tokens), *form]) for tokens in (SHORT, LONG))
        counts[name] = round((long - short) / (LONG - SHORT))
        stored = baseline["tokens"].get(name)
        share = f"{100 * counts[name] / stored - 100:+.1f} %" if stored else "new"
        print(f"{name:54} {counts[name]:7,} instructions/token  {share}", flush=True)
        if not stored or counts[name] > stored * (1 + MARGIN):
            worse.append(name)
        if options.top:
            print(top(options))
    one, four = (count(options, ["line", str(size)]) for size in (MIB, TIMES * MIB))
    print(f"a line of {TIMES} MiB takes {four / one:.2f} times as many as one of 1 MiB")

    grown = [] if options.top else measure_growth(options)

    if options.update:
        BASELINE.write_text(json.dumps({"rustc": rustc, "tokens": counts}, indent=1) + "\n")
        print(f"written to {BASELINE}")
        return
    if four > TIMES * LINEAR * one:
        sys.exit("instructions: the cost of a long line is not linear")
    if grown:
        sys.exit(f"instructions: the cost grows faster than the input: {'; '.join(grown)}")
    if worse and baseline["rustc"] != rustc:
        print(f"instructions: NOT JUDGED: the baseline is of {baseline['rustc']}, this is {rustc}; "
              f"`make instructions ARGS=--update` on a commit that is known to be good")
    elif worse:
        sys.exit(f"instructions: more than {MARGIN:.0%} over the baseline, or not in it: {'; '.join(worse)}. "
                 "If that is meant, `make instructions ARGS=--update` and say why in the commit")


def measure_growth(options):
    """The inputs whose cost grows faster than they do."""
    cases = list(growth.cases())
    workers = os.cpu_count()
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        batches = pool.map(lambda at: measure_batch(options, at, cases[at::workers]), range(workers))
        found = sorted(itertools.chain.from_iterable(batches), key=lambda case: -case[2])
    for name, number, ratio, each in found if options.growth else found[:3]:
        print(f"{name:72} {number:7,} to {2 * number:7,}: {ratio:.2f} times as many, {each:,} each", flush=True)
    return [name for name, number, ratio, each in found if ratio > highest(number, each)]


def highest(number, each):
    """The highest ratio that is not taken for more than linear work."""
    if each < FEW:
        return FEW_DOUBLED
    return CALLS_DOUBLED if number == growth.CALLS else DOUBLED


def measure_batch(options, at, cases):
    """What each case costs, without what it costs with one element. One process does all of them, because
    valgrind takes a second to start."""
    folder = options.work / f"growth-{at}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    lines, counted = [], 0
    for case, (_, number, words, body) in enumerate(cases):
        for size in (1, number, 2 * number):
            file = folder / f"{case}-{size}"
            file.write_bytes(body(size))
            lines.append(" ".join(word.format(file) for word in words))
            counted += 1
        if words[0] == "answer":
            lines.append(f"whole {words[1]} {file}")
    batch = folder / "batch"
    batch.write_text("\n".join(lines) + "\n")
    run(options, folder / "counts", ["batch", str(batch)],
        "--toggle-collect=instructions::do_work", "--dump-after=instructions::do_work")
    counts = [total(folder / f"counts.{dump}") for dump in range(1, counted + 1)]
    shutil.rmtree(folder)
    for case, (name, number, _, _) in enumerate(cases):
        one, once, twice = counts[3 * case:3 * case + 3]
        yield name, number, (twice - one) / (once - one), round((once - one) / number)


def count(options, words):
    out = options.work / "callgrind.out"
    run(options, out, words)
    return total(out)


def run(options, out, words, *flags):
    done = subprocess.run(
        ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", *flags, options.binary, *words],
        capture_output=True, text=True, timeout=600)
    if done.returncode:
        sys.exit(f"instructions: {' '.join(words)}: {done.stderr}")


def total(out):
    return int(re.search(r"^(?:summary|totals): (\d+)", out.read_text(), re.MULTILINE)[1])


def top(options):
    out = options.work / "callgrind.out"
    done = subprocess.run(["callgrind_annotate", "--threshold=95", out], capture_output=True, text=True, check=True)
    # 1,234 ( 5.6%)  /long/way/to/crate-1.0/src/file.rs:function [object]
    rows = re.findall(r"^\s*([\d,]+ \([\d. %]+\))\s+(\S+):(.*?)(?: \[.*\])?$", done.stdout, re.MULTILINE)
    return "\n".join(f"    {share}  {'/'.join(file.split('/')[-3:])}: {name[:90]}" for share, file, name in rows[:10])


if __name__ == "__main__":
    main()
