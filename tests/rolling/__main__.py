"""Replaces gateways behind a real load balancer as Kubernetes does, under a steady load of clients that
resume and retry as docs/protocol.md says, and counts what the clients miss.

`make rolling` runs every trial with both balancers, `make test` the short form. See docs/operations.md.
"""

import argparse
import asyncio
import pathlib
import shutil
import sys

from balancers import BALANCERS
from cluster import Times
from states import STATES
from trials import TRIALS, trials_for
from upstream import Upstream


def main():
    options = _options()
    # The servers have working folders of their own.
    options.work = options.work.resolve()
    options.work.mkdir(parents=True, exist_ok=True)
    failed = False
    for balancer in options.balancers:
        for trial in options.trials:
            failed |= not asyncio.run(_run(options, trial, balancer))
    sys.exit(failed)


async def _run(options, trial, balancer_name):
    name = f"{trial}, {balancer_name}"
    folder = options.work / f"{trial}-{balancer_name}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    upstream = Upstream()
    await upstream.start()
    balancer = BALANCERS[balancer_name](folder)
    clock = asyncio.get_running_loop()
    began = clock.time()
    verdict = await TRIALS[trial](name, options, folder, balancer, upstream, options.old)
    upstream.close()
    print(f"rolling: {name}: {'FAILED' if verdict.problems else 'ok'}, {clock.time() - began:.0f} s", flush=True)
    for figure, value in verdict.figures().items():
        print(f"rolling:   {figure}: {value}")
    for problem in verdict.problems[:20]:
        print(f"rolling:   {problem}")
    if verdict.problems:
        print(f"rolling:   {len(verdict.problems)} problems; the logs are in {folder}")
    return not verdict.problems


def _options():
    parser = argparse.ArgumentParser(prog="rolling", description=__doc__)
    parser.add_argument("--binary", required=True, type=pathlib.Path)
    parser.add_argument("--valkey", required=True, type=pathlib.Path, help="valkey-server")
    parser.add_argument("--work", required=True, type=pathlib.Path, help="a folder for configs and logs")
    parser.add_argument("--old", type=pathlib.Path, help="the binary that `rollout` replaces; default: the same one")
    parser.add_argument("--balancers", type=_names(BALANCERS), default=list(BALANCERS))
    parser.add_argument("--state", choices=STATES, default="server", help="what the gateways share")
    parser.add_argument("--tls", action="store_true", help="reach the state by TLS; the server must be built with it")
    parser.add_argument("--trials", type=_names(TRIALS), help="default: all that fit the state")
    parser.add_argument("--short", action="store_true", help="30 streams of 3 to 6 s, and one rollout")
    parser.add_argument("--streams", type=int)
    parser.add_argument("--rate", type=float, default=5.0, help="words per second of a stream")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.trials = options.trials or trials_for(options.state)
    if unfit := set(options.trials) - set(trials_for(options.state)):
        parser.error(f"with --state {options.state} there is no {', '.join(sorted(unfit))}")
    if options.short:
        options.shortest, options.longest, options.rounds = 3, 6, 1
        options.times = Times(endpoints=0.7, pre_stop=2, drain=15, grace=24)
    else:
        # The figures of k8s/base.
        options.shortest, options.longest, options.rounds = 20, 60, 2
        options.times = Times(endpoints=3, pre_stop=10, drain=60, grace=90)
    options.streams = options.streams or (30 if options.short else 300)
    return options


def _names(known):
    def parse(text):
        names = text.split(",")
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(known)}")
        return names

    return parse


if __name__ == "__main__":
    main()
