"""The regression guard: how many instructions a token costs, from its wire to its client's bytes, and how many a small
request costs in the whole gateway.

Started by `make instructions`. Instructions are counted and no seconds, so it says the same on a busy
machine as on an idle one. Of tokens the pure path alone is counted: no sockets, no runtime, no logs.
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
import requests_cost

ROOT = pathlib.Path(__file__).resolve().parent.parent
BASELINE = ROOT / "bench/instructions.json"
# How much more is still no regression: of tokens, and of requests, whose counts differ a little from run to run.
MARGIN = {"tokens": 0.10, "realistic": 0.10, "requests": 0.25}
# The kinds of tokens, by their names in the baseline.
KINDS = {"tokens": "alike", "realistic": "prose"}
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
    parser.add_argument("--driver", default=ROOT / "bench/target/debug/sluicegate-bench", type=pathlib.Path)
    parser.add_argument("--work", default=ROOT / "target/bench", type=pathlib.Path)
    parser.add_argument("--update", action="store_true", help="write the baseline anew")
    parser.add_argument("--top", action="store_true", help="show each pair's ten most expensive functions")
    parser.add_argument("--growth", action="store_true", help="show how the cost of every growing input grows")
    options = parser.parse_args()
    built = [json.loads(line) for line in options.built.read_text().splitlines()]
    executables = {message["target"]["name"]: message["executable"] for message in built if message.get("executable")}
    options.binary, options.gateway = executables["instructions"], executables["sluicegate"]
    options.work.mkdir(parents=True, exist_ok=True)
    rustc = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    baseline = json.loads(BASELINE.read_text()) if BASELINE.exists() else {"rustc": rustc}
    if options.top:
        return print_top(options)

    counts, line = measure_answers(options)
    worse = []
    for name in counts["tokens"]:
        cells = [judged(baseline, counts, section, name, worse) for section in KINDS]
        print(f"{name:54} instructions per token: alike {cells[0]}, realistic {cells[1]}", flush=True)
    print(f"a line of {TIMES} MiB takes {line:.2f} times as many as one of 1 MiB")
    counts["requests"] = {}
    for name, instructions, allocations in requests_cost.measure(options):
        counts["requests"][name] = instructions
        print(f"{name:54} instructions per request: {judged(baseline, counts, 'requests', name, worse)}, "
              f"{allocations:.1f} allocations", flush=True)
    grown = measure_growth(options)

    if options.update:
        BASELINE.write_text(json.dumps({"rustc": rustc, **counts}, indent=1) + "\n")
        print(f"written to {BASELINE}")
        return
    if line > TIMES * LINEAR:
        sys.exit("instructions: the cost of a long line is not linear")
    if grown:
        sys.exit(f"instructions: the cost grows faster than the input: {'; '.join(grown)}")
    if worse and baseline["rustc"] != rustc:
        print(f"instructions: NOT JUDGED: the baseline is of {baseline['rustc']}, this is {rustc}; "
              f"`make instructions ARGS=--update` on a commit that is known to be good")
    elif worse:
        sys.exit(f"instructions: too far over the baseline, or not in it: {'; '.join(worse)}. "
                 "If that is meant, `make instructions ARGS=--update` and say why in the commit")


def judged(baseline, counts, section, name, worse):
    """A figure beside the baseline's, for the reader; a bad one goes to `worse`."""
    count, stored = counts[section][name], baseline.get(section, {}).get(name)
    if not stored or count > stored * (1 + MARGIN[section]):
        worse.append(f"{section}: {name}")
    return f"{count:7,} ({100 * count / stored - 100:+.1f} %)" if stored else f"{count:7,} (new)"


def measure_answers(options):
    """The instructions per token of each kind, and how many times as many a line takes that is TIMES as long."""
    works = [[kind, wire, path, str(tokens), *form] for wire, path, form in ANSWERS for kind in KINDS.values()
             for tokens in (SHORT, LONG)]
    works += [["line", str(size)] for size in (MIB, TIMES * MIB)]
    workers = os.cpu_count()
    # In turn, so that each has as much to do.
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        batches = list(pool.map(lambda at: count_works(options, f"answers-{at}", works[at::workers]), range(workers)))
    found = {" ".join(work): batches[at % workers][at // workers] for at, work in enumerate(works)}
    counts = {section: {} for section in KINDS}
    for (wire, path, form), (section, kind) in itertools.product(ANSWERS, KINDS.items()):
        short, long = (found[" ".join([kind, wire, path, str(tokens), *form])] for tokens in (SHORT, LONG))
        counts[section][", ".join([f"{wire} to {path}", *form])] = round((long - short) / (LONG - SHORT))
    return counts, found[f"line {TIMES * MIB}"] / found[f"line {MIB}"]


def print_top(options):
    for (wire, path, form), kind in itertools.product(ANSWERS, KINDS.values()):
        out = options.work / "callgrind.out"
        run(options, out, [kind, wire, path, str(LONG), *form])
        print(", ".join([f"{wire} to {path}", *form, kind]))
        print(top(options), flush=True)


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
    works = []
    for case, (_, number, words, body) in enumerate(cases):
        for size in (1, number, 2 * number):
            file = folder / f"{case}-{size}"
            file.write_bytes(body(size))
            works.append([word.format(file) for word in words])
        if words[0] == "answer":
            works.append(["whole", words[1], str(file)])
    counts = count_works(options, folder.name, works)
    shutil.rmtree(folder)
    for case, (name, number, _, _) in enumerate(cases):
        one, once, twice = counts[3 * case:3 * case + 3]
        yield name, number, (twice - one) / (once - one), round((once - one) / number)


def count_works(options, name, works):
    """The instructions of each, done by one process. The works `whole` check an input, and are not counted."""
    batch, out = options.work / f"{name}.batch", options.work / f"{name}.counts"
    batch.write_text("".join(" ".join(work) + "\n" for work in works))
    run(options, out, ["batch", str(batch)],
        "--toggle-collect=instructions::do_work", "--dump-after=instructions::do_work")
    dumps = [out.with_name(f"{out.name}.{at}") for at in range(1, 1 + sum(work[0] != "whole" for work in works))]
    counts = list(map(total, dumps))
    for file in [batch, out, *dumps]:
        file.unlink(missing_ok=True)
    return counts


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
