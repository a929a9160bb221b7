"""Runs another gateway, which you have installed, through the benchmark's workloads, by turns with nginx and this one.

    python3 -B bench/peers/run.py litellm --command /path/to/litellm

needs what `make bench` has built. README.md says what each peer needs, and which of the configs were run.
"""

import argparse
import contextlib
import os
import pathlib
import resource
import shlex
import string
import sys

PEERS = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(PEERS.parent))

import configs
from processes import ROOT, Bench, Running, free_address, wait_for
from tables import heading, table
from workloads import by_turns, row

# What follows the command; `$FOLDER` has the config. `models` goes before the names of models.
KNOWN = {
    "litellm": {"words": "--config $FOLDER/config.yaml --host 127.0.0.1 --port $PORT --num_workers 1",
                "environment": {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}},
    "portkey": {"words": "--headless --port=$PORT",
                "headers": "x-portkey-provider: openai|x-portkey-custom-host: http://$UPSTREAM/v1"},
    "bifrost": {"words": "-app-dir $FOLDER -host 127.0.0.1 -port $PORT -log-level info -log-style json",
                "models": "openai/", "environment": {"GOMAXPROCS": "1"}},
    "agentgateway": {"words": "-f $FOLDER/config.yaml", "environment": {"WORKER_THREADS": "1"}},
    "busbar": {"words": "", "environment": {
        "BUSBAR_CONFIG": "$FOLDER/config.yaml", "BUSBAR_PROVIDERS": "$FOLDER/providers.yaml",
        "BUSBAR_WORKER_THREADS": "1", "BENCH_UPSTREAM_KEY": "upstream-key-000000"}},
    # Its address is its own choice.
    "envoy-ai-gateway": {"words": "run", "address": "127.0.0.1:1975", "environment": {
        "OPENAI_API_KEY": "upstream-key-000000", "OPENAI_BASE_URL": "http://$UPSTREAM/v1"}},
}
WORKLOADS = {
    "W1": ((500, 64, 0), {"connections": 64}),
    "W1 realistic": ((500, 64, 0), {"connections": 64, "kind": "prose"}),
    "W2": ((600, 1, 20_000), {"connections": 200, "seconds": 8, "ramp": 2, "warm": 1, "once": True, "kind": "prose"}),
    "W4": ((10, 10, 0), {"connections": 64, "whole": True, "kind": "prose"}),
}


class PeerBench(Bench):
    @contextlib.contextmanager
    def subject(self, name, upstream, wire, workers, window, **options):
        if name != self.options.peer:
            with super().subject(name, upstream, wire, workers, window, **options) as asked:
                yield asked
            return
        peer = KNOWN[name]
        address = peer.get("address") or free_address()
        folder = self.work / name
        values = {"FOLDER": folder.resolve(), "PORT": address.rsplit(":", 1)[1], "UPSTREAM": upstream.address,
                  "KEY": configs.KEY}
        fill = lambda text: string.Template(text).substitute(values)
        folder.mkdir(exist_ok=True)
        if (PEERS / name).is_dir():
            for file in (PEERS / name).iterdir():
                (folder / file.name).write_text(fill(file.read_text()))
        words = shlex.split(self.options.command) + shlex.split(fill(peer["words"]))
        environment = {key: fill(value) for key, value in peer.get("environment", {}).items()}
        with self.process(words, name, 1, environment) as process:
            # Some take minutes on a busy machine.
            wait_for(address, seconds=300)
            yield Running(address, process.pid, prefix=peer.get("models", ""), headers=fill(peer.get("headers", "")))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=list(KNOWN))
    parser.add_argument("--command", required=True, help="the program, and words before the ones that it gets here")
    parser.add_argument("--gateway", default=ROOT / "target/release/sluicegate", type=pathlib.Path)
    parser.add_argument("--driver", default=ROOT / "bench/target/release/sluicegate-bench", type=pathlib.Path)
    parser.add_argument("--work", default=ROOT / "target/bench-peers", type=pathlib.Path)
    parser.add_argument("--rounds", default=1, type=int)
    parser.add_argument("--only", nargs="+", choices=list(WORKLOADS))
    options = parser.parse_args()
    options.window, options.seconds = "30s", 1.0
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("peers: two cores are needed: one for who is measured, one for everything else")
    os.sched_setaffinity(0, {cores[0]})
    bench = PeerBench(options, cores)
    heading(f"nginx, {options.peer} and this gateway (clients of OpenAI Chat)")
    rows = [row([name, subject], name, subject, *words, dialect="openai-chat", **named)
            for name, (words, named) in WORKLOADS.items() if name in (options.only or WORKLOADS)
            for subject in ("nginx", options.peer, "gateway")]
    table(["", "", "tokens/s", "CPU µs/token", "requests/s", "CPU µs/request", "first token, ms: p50", "p99",
           "driver's core", "incomplete"],
          [[*about, *series.cost()[1:], series.cell("answers_per_second"), series.cell("cpu_us_per_answer"),
            *series.first_token(), series.busy(), series.incomplete()] for about, series in by_turns(bench, rows)])
    bench.finish()


if __name__ == "__main__":
    main()
