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

LONG = {"minutes": 20, "streams": 500, "warm": 60, "reload": 60}
SHORT = {"minutes": 0.25, "streams": 60, "warm": 5, "reload": 4}


def main():
    options = arguments()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    print(f"soak: seed {options.seed}, {options.streams} streams, {options.minutes:g} minutes", flush=True)
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
    parser.add_argument("--short", action="store_true",
                        help="20 s with 60 streams; no wait for idle connections, no check of the memory")
    parser.add_argument("--minutes", type=float, help="how long the load is held after the warm-up (20)")
    parser.add_argument("--streams", type=int, help="how many are open at once (500)")
    parser.add_argument("--warm", type=float, help="seconds of load before anything is compared (60)")
    parser.add_argument("--reload", type=float, help="seconds between two reloads (60)")
    parser.add_argument("--seed", default=random.randrange(1 << 32), type=int)
    options = parser.parse_args()
    for name, value in (SHORT if options.short else LONG).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    options.binary = options.binary.resolve()
    return options


if __name__ == "__main__":
    main()
