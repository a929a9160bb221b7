"""The benchmark: nginx as a dumb pipe and the gateway in turn, under the same load, in one go.

Started by `make bench`, which builds everything first. docs/benchmarks.md says how to read what it
prints. The one who is measured has a core of its own; load and mock upstream share the other one.
"""

import argparse
import contextlib
import datetime
import hashlib
import json
import os
import pathlib
import platform
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
KEY = "sk-measured-0000000000000000000000000000"
WIRES = {
    # wire: what follows the mock upstream's address in a base URL
    "openai-chat": "/v1",
    "anthropic-messages": "",
    "bedrock-converse": "",
    "cohere-chat": "",
    "gemini": "/v1beta",
    "ollama-chat": "",
    "openai-responses": "/v1",
}
DIALECTS = ["native", "openai-chat", "anthropic", "openai-responses", "ui-messages"]
# The upstream's model for so many tokens, so many in a chunk, and so many µs from chunk to chunk.
MODEL = "bench-{}-{}-{}"


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
    parser.add_argument("--long", action="store_true", help="W2 and its memory for ten minutes")
    return parser.parse_args()


class Bench:
    """The results so far, and how to get more."""

    def __init__(self, options, cores):
        self.options = options
        self.cores = cores
        self.results = []
        self.work = options.work
        self.work.mkdir(parents=True, exist_ok=True)
        print(f"bench: {machine()}; the gateway has core {cores[1]}, all else core {cores[0]}", flush=True)

    def measure(self, workload, subject, tokens, per_chunk=1, pace_us=0, dialect="native",
                wire="openai-chat", workers=1, window=None, rounds=1, **load):
        """One load on one subject (`direct`, `nginx` or `gateway`): a dict, which is kept too.

        `rounds` repeats it with the same processes and gives the last one's figures.
        """
        load["seconds"] = load.get("seconds", 4.0) * self.options.seconds
        if subject != "gateway":
            dialect, wire = "openai-chat", "openai-chat"
        model = MODEL.format(tokens, per_chunk, pace_us)
        window = window or self.options.window
        with contextlib.ExitStack() as stack:
            upstream = stack.enter_context(self.upstream())
            target, ids = upstream.address, []
            if subject == "nginx":
                proxy = stack.enter_context(self.nginx(upstream.address))
                target, ids = proxy.address, family(proxy.id)
            if subject == "gateway":
                proxy = stack.enter_context(self.gateway(upstream.address, workers, window))
                target, ids = proxy.address, [proxy.id]
                model = f"{wire}/{model}"
            for _ in range(rounds):
                seen = self.load(target, dialect, model, ids, upstream.id, **load)
        seen = {
            "workload": workload, "subject": subject, "dialect": dialect, "wire": wire, "tokens_per_stream": tokens,
            "tokens_per_chunk": per_chunk, "pace_us": pace_us, "workers": workers, "window": window, **load, **seen,
        }
        seen["cpu_us_per_token"] = ratio(seen["cpu_seconds"] * 1e6, seen["tokens"])
        seen["cpu_us_per_answer"] = ratio(seen["cpu_seconds"] * 1e6, seen["answers"])
        seen["tokens_per_second"] = ratio(seen["tokens"], seen["seconds"])
        seen["answers_per_second"] = ratio(seen["answers"], seen["seconds"])
        seen["kib_per_stream"] = ratio(seen["memory_after_kib"] - seen["memory_before_kib"], seen["open"])
        self.results.append(seen)
        if seen["incomplete"]:
            print(f"bench: {workload}, {subject}: {seen['incomplete']} incomplete: {seen['reason']}", flush=True)
        return seen

    def load(self, target, dialect, model, watched, upstream, **load):
        words = [self.options.driver, "load", "--target", target, "--dialect", dialect, "--model", model,
                 "--key", KEY, "--upstream", str(upstream), "--watch", ",".join(map(str, watched))]
        for name, value in load.items():
            if value is True:
                words.append(f"--{name}")
            elif value is not False:
                words += [f"--{name}", str(value)]
        done = subprocess.run(words, stdout=subprocess.PIPE, check=True, timeout=1800)
        return json.loads(done.stdout)

    def multiplexed(self, workload, tokens, pace_us, streams, connections, ramp):
        """Streams of the native dialect over HTTP/2, many to a connection; kept as the others are."""
        model = "openai-chat/" + MODEL.format(tokens, 1, pace_us)
        with self.upstream() as upstream, self.gateway(upstream.address, 1, self.options.window) as proxy:
            words = [self.options.driver, "multiplexed", "--target", proxy.address, "--model", model, "--key", KEY,
                     "--streams", streams, "--connections", connections, "--ramp", ramp, "--watch", proxy.id]
            done = subprocess.run(list(map(str, words)), stdout=subprocess.PIPE, check=True, timeout=1800)
        seen = {"workload": workload, "subject": "gateway", "streams": streams, "connections": connections,
                **json.loads(done.stdout)}
        seen["kib_per_stream"] = ratio(seen["memory_after_kib"] - seen["memory_before_kib"], seen["open"])
        self.results.append(seen)
        if seen["incomplete"]:
            print(f"bench: {workload}: {seen['incomplete']} incomplete: {seen['reason']}", flush=True)
        return seen

    def listeners(self, count):
        """Clients that listen to notifications while something is announced."""
        with self.gateway("127.0.0.1:9", 1, self.options.window) as proxy:
            words = [self.options.driver, "listeners", "--target", proxy.address, "--admin", proxy.admin, "--key", KEY,
                     "--listeners", count, "--watch", proxy.id]
            done = subprocess.run(list(map(str, words)), stdout=subprocess.PIPE, check=True, timeout=600)
        seen = {"workload": "listeners", "subject": "gateway", "incomplete": 0, **json.loads(done.stdout)}
        self.results.append(seen)
        return seen

    @contextlib.contextmanager
    def upstream(self):
        address = free_address()
        with self.process([self.options.driver, "upstream", "--listen", address], "upstream", 0) as process:
            wait_for(address)
            yield Running(address, process.pid)

    @contextlib.contextmanager
    def nginx(self, upstream):
        address = free_address()
        folder = self.work / "nginx"
        folder.mkdir(exist_ok=True)
        (folder / "nginx.conf").write_text(NGINX.format(address=address, upstream=upstream, folder=folder))
        words = ["nginx", "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "error.log"]
        with self.process(words, "nginx", 1) as process:
            wait_for(address)
            yield Running(address, process.pid)

    @contextlib.contextmanager
    def gateway(self, upstream, workers, window):
        address, admin = free_address(), free_address()
        config = self.work / "gateway.yaml"
        config.write_text(gateway_config(address, admin, upstream, window))
        words = [self.options.gateway, "--config", config]
        environment = {"TOKIO_WORKER_THREADS": str(workers), "RUST_LOG": "info"}
        with self.process(words, "gateway", workers, environment) as process:
            wait_for(address)
            with urllib.request.urlopen(f"http://{admin}/readyz", timeout=5):
                pass
            yield Running(address, process.pid, admin)

    @contextlib.contextmanager
    def process(self, words, name, place, environment=None):
        """A child on the driver's core (0), on its own (1) or on both (2), until the block ends."""
        cores = {0: self.cores[:1], 1: self.cores[1:2], 2: self.cores[:2]}[place]
        words = ["taskset", "--cpu-list", ",".join(map(str, cores)), *map(str, words)]
        with open(self.work / f"{name}.log", "wb") as log:
            process = subprocess.Popen(words, stdout=log, stderr=log, env={**os.environ, **(environment or {})})
            try:
                yield process
                if process.poll() is not None:
                    raise RuntimeError(f"{name} has ended with {process.returncode}, see {log.name}")
            finally:
                # At once: what is under way here interests nobody.
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def finish(self):
        file = self.work / "results.json"
        file.write_text(json.dumps({
            "machine": machine(), "when": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "gateway": text_of([self.options.gateway, "--version"]), "nginx": text_of(["nginx", "-v"]),
            "results": self.results,
        }, indent=1) + "\n")
        incomplete = sum(seen["incomplete"] for seen in self.results)
        print(f"\n{len(self.results)} measurements, {incomplete} incomplete streams; all figures are in {file}")
        if incomplete:
            sys.exit(1)


class Running:
    def __init__(self, address, id, admin=None):
        self.address = address
        self.id = id
        self.admin = admin


def table_w1(bench):
    full_speed(bench, "W1", "64 streams of 500 tokens, 64 events in a chunk, as fast as they go", 64)


def table_w1k1(bench):
    full_speed(bench, "W1k1", "the same, one event in a chunk", 1)


def full_speed(bench, name, title, per_chunk):
    heading(f"{name}: {title}")
    rows = []
    for subject in ["direct", "nginx", "gateway"]:
        seen = bench.measure(name, subject, 500, per_chunk, connections=64)
        rows.append([subject, *cost(seen), busy(seen), seen["incomplete"]])
    table(["", "streams/s", "tokens/s", "CPU µs/token", "driver's core", "incomplete"], rows)


def table_w2(bench):
    heading("W2: 200 streams, a token every 20 ms")
    rows, direct = [], None
    for subject in ["direct", "nginx", "gateway"]:
        if bench.options.long:
            seen = bench.measure("W2 long", subject, 500, 1, 20_000, connections=200, ramp=10,
                                 seconds=600 if subject == "gateway" else 20)
        else:
            seen = bench.measure("W2", subject, int(50 * (8 * bench.options.seconds + 4)), 1, 20_000,
                                 connections=200, seconds=8, ramp=2, warm=1, once=True)
        direct = direct or seen
        rows.append([subject, *cost(seen), *added(seen, direct), busy(seen), seen["incomplete"]])
        if subject == "gateway" and bench.options.long:
            samples = seen["resident_kib"][len(seen["resident_kib"]) // 10:]
            print("gateway's resident memory, MiB: " + " ".join(f"{kib / 1024:.1f}" for kib in samples))
    table(["", "streams/s", "tokens/s", "CPU µs/token", "added per token, ms: p50", "p99",
           "added to the first, ms: p50", "p99", "driver's core", "incomplete"], rows)


def table_w3b(bench):
    heading("W3b: 9,000 open streams, a token a second")
    rows = []
    windows = dict.fromkeys(["0s", bench.options.window])
    for subject, window in [("nginx", "0s"), *(("gateway", window) for window in windows)]:
        seen = held(bench, "W3b", subject, 9_000, window)
        name = subject if subject == "nginx" else f"gateway, window {window}"
        rows.append([name, *cost(seen)[1:], f"{seen['kib_per_stream']:.1f}", busy(seen), seen["incomplete"]])
    table(["", "tokens/s", "CPU µs/token", "KiB/stream", "driver's core", "incomplete"], rows)


def held(bench, workload, subject, streams, window=None):
    seconds = 5
    return bench.measure(workload, subject, int(seconds * bench.options.seconds) + 9, 1, 1_000_000, window=window,
                         connections=streams, seconds=seconds, ramp=5, warm=2, once=True)


def table_w4(bench):
    heading("W4: small answers, not streamed, 64 at a time")
    rows = []
    for subject in ["direct", "nginx", "gateway"]:
        seen = bench.measure("W4", subject, 8, 8, dialect="openai-chat", connections=64, whole=True)
        rows.append([subject, f"{seen['answers_per_second']:,.0f}", number(seen["cpu_us_per_answer"]), busy(seen),
                     seen["incomplete"]])
    table(["", "requests/s", "CPU µs/request", "driver's core", "incomplete"], rows)


def table_matrix(bench):
    heading("Every dialect and wire, as a multiple of native over openai-chat")
    pairs = [("native", wire) for wire in WIRES] + [(dialect, "openai-chat") for dialect in DIALECTS[1:]]
    rows, base = [], None
    for dialect, wire in pairs:
        pair = {"dialect": dialect, "wire": wire}
        fast = bench.measure("W1 matrix", "gateway", 500, 64, connections=64, seconds=2, **pair)
        paced = bench.measure("W2 matrix", "gateway", int(50 * (4 * bench.options.seconds + 3)), 1, 20_000,
                              connections=200, seconds=4, ramp=1, warm=1, once=True, **pair)
        costs = [fast["cpu_us_per_token"], paced["cpu_us_per_token"]]
        base = base or costs
        times = [f"{one / other:.2f}" if one and other else "–" for one, other in zip(costs, base)]
        rows.append([dialect, wire, number(costs[0]), times[0], number(costs[1]), times[1],
                     fast["incomplete"] + paced["incomplete"]])
    table(["dialect", "wire", "W1 µs/token", "×", "W2 µs/token", "×", "incomplete"], rows)


def table_growth(bench):
    heading("Growth: CPU per token for longer streams (64 streams at full speed)")
    rows = []
    for tokens in [100, 1_000, 10_000, 100_000]:
        seen = bench.measure("tokens per stream", "gateway", tokens, 64, connections=64 if tokens < 100_000 else 16,
                             seconds=3)
        rows.append([f"{tokens:,}", *cost(seen), seen["incomplete"]])
    table(["tokens/stream", "streams/s", "tokens/s", "CPU µs/token", "incomplete"], rows)
    heading("Growth: CPU per token for more streams (9,000 tokens a second in all)")
    rows = []
    for streams in [10, 100, 1_000, 9_000]:
        pace = streams * 1_000_000 // 9_000
        load = {"connections": streams, "seconds": 4, "ramp": 1 if streams < 9_000 else 5, "warm": 1, "once": True}
        tokens = int((4 * bench.options.seconds + load["ramp"] + 3) * 1_000_000 / pace)
        seen = bench.measure("open streams", "gateway", tokens, 1, pace, **load)
        rows.append([f"{streams:,}", *cost(seen)[1:], seen["incomplete"]])
    table(["streams", "tokens/s", "CPU µs/token", "incomplete"], rows)


def table_scale(bench):
    heading("Scale: W1 with more worker threads, each with a core; the driver shares one of two")
    rows = []
    for workers in [1, 2]:
        seen = bench.measure("scale", "gateway", 500, 64, workers=workers, connections=64)
        rows.append([workers, *cost(seen), seen["incomplete"]])
    table(["workers", "streams/s", "tokens/s", "CPU µs/token", "incomplete"], rows)
    heading("Crowds")
    storm = bench.measure("storm", "gateway", 20, 1, 1_000, connections=2_000, once=True, storm=True, rounds=3,
                          ramp=0, warm=0)
    crowd = held(bench, "crowd", "gateway", 9_500)
    storm2 = bench.multiplexed("storm over HTTP/2", 20, 1_000, streams=2_000, connections=20, ramp=0)
    crowd2 = bench.multiplexed("crowd over HTTP/2", 14, 1_000_000, streams=9_500, connections=95, ramp=5)
    table(["", "answers", "took, s", "first token, ms: p50", "p99", "incomplete"], [
        [name, seen["total_answers"], f"{seen['took_seconds']:.1f}", number(seen["first_token_ms"]["p50"]),
         number(seen["first_token_ms"]["p99"]), seen["incomplete"]]
        for name, seen in [("2,000 connections at once", storm), ("2,000 over 20 HTTP/2 connections", storm2),
                           ("9,500 open streams", crowd), ("9,500 over 95 HTTP/2 connections", crowd2)]
    ])
    print(f"\n{crowd2['kib_per_stream']:.1f} KiB per stream over HTTP/2, {crowd['kib_per_stream']:.1f} over HTTP/1.1")


def table_listeners(bench):
    # One connection each, and as many files again are for upstreams.
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(10_000, (files - 64) // 2)
    heading(f"Listeners: {count:,} clients get an announcement, ten times")
    seen = bench.listeners(count)
    table(["listeners", "ms: p50", "p99", "max", "KiB/listener", "CPU s/announcement"], [[
        f"{count:,}", number(seen["p50_ms"]), number(seen["p99_ms"]), number(seen["max_ms"]),
        f"{seen['kib_per_listener']:.1f}", number(seen["cpu_seconds_per_announcement"])]])


SECTIONS = {
    "W1": table_w1,
    "W1k1": table_w1k1,
    "W2": table_w2,
    "W3b": table_w3b,
    "W4": table_w4,
    "scale": table_scale,
    "growth": table_growth,
    "matrix": table_matrix,
    "listeners": table_listeners,
}


def cost(seen):
    return [f"{seen['answers_per_second']:,.0f}", f"{seen['tokens_per_second']:,.0f}", number(seen["cpu_us_per_token"])]


def busy(seen):
    """How much of their core load and upstream used: near 100 % they are what was measured."""
    return f"{100 * seen['driver_cpu_seconds'] / seen['seconds']:.0f} %"


def added(seen, direct):
    """What is added to the direct way's latencies. Percentiles are subtracted, not single tokens."""
    cells = []
    for what in ["token_ms", "first_token_ms"]:
        for share in ["p50", "p99"]:
            value = seen[what][share]
            if seen is direct:
                cells.append(f"({number(value)})")
            else:
                cells.append(number(value - direct[what][share]))
    return cells


def ratio(amount, count):
    return amount / count if count else None


def number(value):
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def heading(text):
    print(f"\n{text}\n", flush=True)


def table(head, rows):
    """A Markdown table."""
    rows = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    line = lambda row: "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |"
    print(line(head))
    print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
    for row in rows:
        print(line(row))
    sys.stdout.flush()


def gateway_config(address, admin, upstream, window):
    """All that a production config switches on, with limits that are never reached."""
    lines = [f"listen: {address}", f"admin_listen: {admin}", "upstreams:"]
    for wire, path in WIRES.items():
        lines.append(f"  {wire}: {{ wire: {wire}, base_url: 'http://{upstream}{path}', api_key: upstream-key-000000 }}")
    lines.append("models:")
    for wire in WIRES:
        lines.append(f"  '{wire}/*': {{ targets: [ {{ upstream: {wire}, model: '*' }} ] }}")
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    lines += [
        "keys:",
        f"  - {{ name: bench, sha256: {digest}, limits: {{ requests: 100M/min, streams: 20000 }} }}",
        "limits: { streams: 20000, per_ip: { requests: 100M/min } }",
        f"resume: {{ window: {window} }}",
        "drain: 0s",
    ]
    return "\n".join(lines) + "\n"


NGINX = """
worker_processes 1;
worker_rlimit_nofile 20000;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 19900; }}
http {{
    access_log {folder}/access.log combined;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000;
    upstream model {{ server {upstream}; keepalive 256; }}
    server {{
        listen {address} backlog=4096;
        tcp_nodelay on;
        location / {{
            proxy_pass http://model;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_read_timeout 600s;
        }}
    }}
}}
"""


def free_address():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return "127.0.0.1:{}".format(listener.getsockname()[1])


def wait_for(address):
    host, port = address.rsplit(":", 1)
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"nobody listens on {address}")


def family(id):
    """A process and its children."""
    children = pathlib.Path(f"/proc/{id}/task/{id}/children").read_text()
    return [id, *map(int, children.split())]


def text_of(words):
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True)
    return (done.stdout + done.stderr).strip()


def machine():
    name = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    return f"{name}, {os.cpu_count()} cores, Linux {platform.release()}"


if __name__ == "__main__":
    if not shutil.which("nginx"):
        sys.exit("bench: nginx is not installed")
    main()
