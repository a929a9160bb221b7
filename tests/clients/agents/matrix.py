"""Real agents, started without a user, before a gateway whose upstreams are as strict as the vendors. What
works is the matrix of docs/clients.md."""

import argparse
import concurrent.futures
import contextlib
import json
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent.parent
sys.path.insert(0, str(HERE.parent))

import strictness
from agents import AGENTS
from bench import Bench, Gateway
from cases import FEATURES
from upstream import Upstream
from vendors import WIRES

PAGE = ROOT / "docs" / "clients.md"
BEGIN, END = "<!-- begin: matrix -->\n", "<!-- end: matrix -->\n"
MARKS = {None: "", True: "✓", "left out": "left out", "refused": "refused"}
# Agents wait more than they compute.
AT_ONCE = 3


def _cases(options):
    for agent in AGENTS:
        for wire in WIRES:
            for case in agent.cases_on(wire):
                if not options.only or options.only in f"{agent.name} {wire} {case.__name__}":
                    yield agent, wire, case


def _matrix(results):
    """The tables as they stand in the page."""
    out = ""
    for agent in AGENTS:
        version = json.loads((HERE / "package.json").read_text("utf-8"))["dependencies"][agent.package]
        out += f"## {agent.title} {version}\n\n| | {' | '.join(f'`{wire}`' for wire in WIRES)} |\n|---|{'---|' * len(WIRES)}\n"
        for feature, title in FEATURES.items():
            cells = [results.get((agent.name, wire, feature)) for wire in WIRES]
            if any(cell is not None for cell in cells):
                marks = [MARKS.get(cell, "✗") for cell in cells]
                out += f"| {title} | {' | '.join(marks)} |\n"
        out += "\n"
    return out


def main():
    options = _options()
    strictness.check()
    results = {}
    with contextlib.ExitStack() as started:
        upstream = started.enter_context(contextlib.closing(Upstream()))
        gateway = Gateway(options.binary, options.work, upstream.url)
        started.callback(gateway.stop)
        bench = Bench(options, upstream, gateway)
        pool = started.enter_context(concurrent.futures.ThreadPoolExecutor(AT_ONCE))
        running = {pool.submit(case, agent, wire, bench): (agent, wire) for agent, wire, case in _cases(options)}
        for done in concurrent.futures.as_completed(running):
            agent, wire = running[done]
            for feature, passed in done.result().items():
                results[agent.name, wire, feature] = passed
                if passed is not True:
                    print(f"agents: {agent.title}, {wire}, {FEATURES[feature]}: {passed}")
    print(f"agents: {len(running)} starts, {sum(passed is True for passed in results.values())} of {len(results)} features work")
    if options.only:
        return
    before, rest = PAGE.read_text("utf-8").split(BEGIN)
    old, after = rest.split(END)
    new = _matrix(results)
    if options.update:
        PAGE.write_text(f"{before}{BEGIN}{new}{END}{after}", "utf-8")
    elif new != old:
        sys.exit(f"agents: docs/clients.md is not current: run `make agents ARGS=--update`. It must have\n{new}")


def _options():
    parser = argparse.ArgumentParser(prog="agents", description=__doc__)
    parser.add_argument("--binary", required=True, type=pathlib.Path, help="the gateway")
    parser.add_argument("--work", required=True, type=pathlib.Path, help="where `make` installed the agents")
    parser.add_argument("--only", help="only cases whose `agent wire case` has this in it")
    parser.add_argument("--update", action="store_true", help="write the matrix to docs/clients.md")
    options = parser.parse_args()
    options.binary = options.binary.resolve()
    options.work = options.work.resolve()
    options.binaries = options.work / "node_modules" / ".bin"
    return options


main()
