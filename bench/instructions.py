"""The regression guard: how many instructions a token costs, from its wire to its client's bytes.

Started by `make instructions`. Instructions are counted and no seconds, so it says the same on a busy
machine as on an idle one. The pure path alone is counted: no sockets, no runtime, no logs.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys

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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--built", type=pathlib.Path, required=True, help="what Cargo says that it built, as JSON")
    parser.add_argument("--work", default=ROOT / "target/bench", type=pathlib.Path)
    parser.add_argument("--update", action="store_true", help="write the baseline anew")
    parser.add_argument("--top", action="store_true", help="show each pair's ten most expensive functions")
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
        short, long = (count(options, [wire, path, str(tokens), *form]) for tokens in (SHORT, LONG))
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

    if options.update:
        BASELINE.write_text(json.dumps({"rustc": rustc, "tokens": counts}, indent=1) + "\n")
        print(f"written to {BASELINE}")
        return
    if four > TIMES * LINEAR * one:
        sys.exit("instructions: the cost of a long line is not linear")
    if worse and baseline["rustc"] != rustc:
        print(f"instructions: NOT JUDGED: the baseline is of {baseline['rustc']}, this is {rustc}; "
              f"`make instructions ARGS=--update` on a commit that is known to be good")
    elif worse:
        sys.exit(f"instructions: more than {MARGIN:.0%} over the baseline, or not in it: {'; '.join(worse)}. "
                 "If that is meant, `make instructions ARGS=--update` and say why in the commit")


def count(options, words):
    out = options.work / "callgrind.out"
    done = subprocess.run(
        ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", options.binary, *words],
        capture_output=True, text=True, timeout=300)
    if done.returncode:
        sys.exit(f"instructions: {' '.join(words)}: {done.stderr}")
    return int(re.search(r"^(?:summary|totals): (\d+)", out.read_text(), re.MULTILINE)[1])


def top(options):
    out = options.work / "callgrind.out"
    done = subprocess.run(["callgrind_annotate", "--threshold=95", out], capture_output=True, text=True, check=True)
    # 1,234 ( 5.6%)  /long/way/to/crate-1.0/src/file.rs:function [object]
    rows = re.findall(r"^\s*([\d,]+ \([\d. %]+\))\s+(\S+):(.*?)(?: \[.*\])?$", done.stdout, re.MULTILINE)
    return "\n".join(f"    {share}  {'/'.join(file.split('/')[-3:])}: {name[:90]}" for share, file, name in rows[:10])


if __name__ == "__main__":
    main()
