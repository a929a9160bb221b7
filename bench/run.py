"""The benchmark: nginx as a dumb pipe and the gateway in turn, under the same load, in one go.

Started by `make bench`, which builds everything first. docs/benchmarks.md says how to read what it
prints. The one who is measured has a core of its own; load and mock upstream share the other one.
"""

import argparse
import os
import pathlib
import resource
import shutil
import sys

import everything
import growing
import workloads
from processes import ROOT, Bench

SECTIONS = {**workloads.SECTIONS, **everything.SECTIONS, **growing.SECTIONS}


def main():
    options = arguments()
    # 9,500 streams are 19,000 sockets.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("bench: two cores are needed: one for the gateway, one for everything else")
    os.sched_setaffinity(0, {cores[0]})
    bench = Bench(options, cores)
    chosen = options.only or list(SECTIONS)
    for name in chosen:
        SECTIONS[name](bench)
    bench.finish()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateway", default=ROOT / "target/release/sluicegate", type=pathlib.Path)
    parser.add_argument("--driver", default=ROOT / "bench/target/release/sluicegate-bench", type=pathlib.Path)
    parser.add_argument("--work", default=ROOT / "target/bench", type=pathlib.Path, help="logs and results")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), help="some parts and not all")
    parser.add_argument("--window", default="30s", help="resume.window; 0s is off")
    parser.add_argument("--seconds", default=1.0, type=float, help="this times as long")
    parser.add_argument("--rounds", default=1, type=int,
                        help="nginx and the gateway take turns so often: medians, the least and the most")
    parser.add_argument("--long", action="store_true", help="W2 and its memory for ten minutes")
    return parser.parse_args()


if __name__ == "__main__":
    if not shutil.which("nginx"):
        sys.exit("bench: nginx is not installed")
    main()
