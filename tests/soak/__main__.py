"""The soak of routing: the real gateway between clients that leave, stall and come back and scripted upstreams
that fail in every way, with every policy. In the end nothing may be left of it.

Started by `make soak`. A seed repeats the random choices, though not their timing."""

import argparse
import asyncio
import pathlib
import random
import resource
import sys
import tempfile
import time

import soak


def main():
    options = arguments()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    print(f"soak: seed {options.seed}, {options.streams} streams, {options.minutes} minutes", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sluicegate-soak-") as folder:
        problems = asyncio.run(soak.run(options, pathlib.Path(folder)))
    for problem in problems:
        print(f"soak: PROBLEM: {problem}")
    print(f"soak: {len(problems)} problems, seed {options.seed}, took {time.monotonic() - began:.0f} s")
    sys.exit(bool(problems))


def arguments():
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--binary", required=True, type=pathlib.Path, help="the gateway")
    parser.add_argument("--minutes", default=20.0, type=float, help="how long the load is held after the warm-up")
    parser.add_argument("--streams", default=500, type=int, help="how many are open at once")
    parser.add_argument("--warm", default=60.0, type=float, help="seconds of load before memory is compared")
    parser.add_argument("--reload", default=60.0, type=float, help="seconds between two reloads")
    parser.add_argument("--short", action="store_true", help="do not wait for idle connections, nor compare memory")
    parser.add_argument("--seed", default=random.randrange(1 << 32), type=int)
    options = parser.parse_args()
    options.binary = options.binary.resolve()
    return options


if __name__ == "__main__":
    main()
