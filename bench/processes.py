"""The processes of the benchmark: the mock upstream, the load generator, and who is measured between them."""

import contextlib
import datetime
import json
import os
import pathlib
import platform
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import configs
from tables import ratio

ROOT = pathlib.Path(__file__).resolve().parent.parent
# The upstream's model of so many tokens, so many in a chunk, and so many µs from chunk to chunk.
MODEL = "{}-{}-{}-{}"


class Running:
    """A process that is asked: where, under which names of models, and with which headers of its own."""

    def __init__(self, address, id, admin=None, prefix="", headers=""):
        self.address = address
        self.id = id
        self.admin = admin
        self.prefix = prefix
        self.headers = headers


class Bench:
    """The results so far, and how to get more."""

    def __init__(self, options, cores):
        self.options = options
        self.cores = cores
        self.results = []
        self.work = options.work
        self.work.mkdir(parents=True, exist_ok=True)
        print(f"bench: {machine()}; the gateway has core {cores[1]}, all else core {cores[0]}", flush=True)

    def measure(self, workload, subject, tokens, per_chunk=1, pace_us=0, kind="bench", dialect="native",
                wire="openai-chat", loaded=False, repeat=1, window=None, workers=1, options=None, **load):
        """One load on one subject (`direct`, `nginx` or `gateway`): a dict, which is kept too.

        `kind` is `bench` for tokens that are alike and `prose` for realistic ones. With `loaded` the subject was
        under full load before; `repeat` repeats the load with the same processes and gives all of them. `options` are
        those of the subject's config. Nobody but the gateway changes the protocol: a client of the others speaks the
        wire's.
        """
        load["seconds"] = load.get("seconds", 4.0) * self.options.seconds
        model = MODEL.format(kind, tokens, per_chunk, pace_us)
        window, options = window or self.options.window, options or {}
        if "tls" in options:
            load["tls"] = options["tls"] / "cert.pem"
        if subject != "gateway":
            dialect = configs.SHARED.get(wire, "openai-chat")
        with self.upstream() as upstream, self.subject(subject, upstream, wire, workers, window, **options) as asked:
            measured = {"target": asked.address, "dialect": dialect, "headers": asked.headers, "upstream": upstream.id,
                        "watch": ",".join(map(str, family(asked.id) if asked.id else []))}
            if loaded:
                full = asked.prefix + MODEL.format(kind, 500, 64, 0)
                self.load(full, **measured, connections=64, seconds=4.0 * self.options.seconds)
            rounds = [self.load(asked.prefix + model, **measured, **load) for _ in range(repeat)]
        about = {
            "workload": workload, "subject": subject, "dialect": dialect, "wire": wire, "kind": kind,
            "tokens_per_stream": tokens, "tokens_per_chunk": per_chunk, "pace_us": pace_us, "workers": workers,
            "window": window, "loaded": loaded, "options": sorted(options), **load,
        }
        about.pop("tls", None)
        seen = [self.keep({**about, **figures}) for figures in rounds]
        return seen if repeat > 1 else seen[0]

    def keep(self, seen):
        """Adds a measurement to the results, with what follows from its figures."""
        for what, amount, count in (
            ("cpu_us_per_token", "cpu_seconds", "tokens"), ("cpu_us_per_answer", "cpu_seconds", "answers"),
        ):
            if count in seen:
                seen[what] = ratio(seen[amount] * 1e6, seen[count])
        for what in ("tokens", "answers"):
            if what in seen:
                seen[f"{what}_per_second"] = ratio(seen[what], seen["seconds"])
        if "open" in seen:
            seen["kib_per_stream"] = ratio(seen["memory_after_kib"] - seen["memory_before_kib"], seen["open"])
        self.results.append(seen)
        if seen["incomplete"]:
            print(f"bench: {seen['workload']}, {seen['subject']}: {seen['incomplete']} incomplete: {seen['reason']}",
                  flush=True)
        return seen

    @contextlib.contextmanager
    def subject(self, name, upstream, wire, workers, window, **options):
        if name == "nginx":
            with self.nginx(upstream.address, **options) as proxy:
                yield proxy
        elif name == "gateway":
            with self.gateway(upstream.address, workers, window, **options) as proxy:
                proxy.prefix = f"{wire}/"
                yield proxy
        else:
            yield Running(upstream.address, None)

    def load(self, model, **arguments):
        return self.drive("load", model=model, key=configs.KEY, **arguments)

    def drive(self, command, **arguments):
        return drive(self.options.driver, command, **arguments)

    def multiplexed(self, workload, tokens, pace_us, streams, connections, ramp):
        """Streams of the native dialect over HTTP/2, many to a connection; kept as the others are."""
        model = "openai-chat/" + MODEL.format("bench", tokens, 1, pace_us)
        with self.upstream() as upstream, self.gateway(upstream.address, 1, self.options.window) as proxy:
            seen = self.drive("multiplexed", target=proxy.address, model=model, key=configs.KEY, streams=streams,
                              connections=connections, ramp=ramp, watch=proxy.id)
        return self.keep({"workload": workload, "subject": "gateway", "streams": streams, "connections": connections,
                          **seen})

    def listeners(self, count):
        """Clients that listen to notifications while something is announced."""
        with self.gateway("127.0.0.1:9", 1, self.options.window) as proxy:
            seen = self.drive("listeners", target=proxy.address, admin=proxy.admin, key=configs.KEY, listeners=count,
                              watch=proxy.id)
        return self.keep({"workload": "listeners", "subject": "gateway", "incomplete": 0, **seen})

    @contextlib.contextmanager
    def upstream(self):
        address = free_address()
        with self.process([self.options.driver, "upstream", "--listen", address], "upstream", 0) as process:
            wait_for(address)
            yield Running(address, process.pid)

    @contextlib.contextmanager
    def nginx(self, upstream, **options):
        address = free_address()
        folder = self.work / "nginx"
        folder.mkdir(exist_ok=True)
        (folder / "nginx.conf").write_text(configs.nginx(address, upstream, folder, **options))
        words = ["nginx", "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "error.log"]
        with self.process(words, "nginx", 1) as process:
            wait_for(address)
            yield Running(address, process.pid)

    def gateway_config(self, *words, **options):
        return configs.gateway(*words, **options)

    @contextlib.contextmanager
    def gateway(self, upstream, workers, window, traces=None, **options):
        """With `traces`, the address of an OTLP receiver; the other options are those of the config."""
        address, admin = free_address(), free_address()
        config = self.work / "gateway.yaml"
        config.write_text(self.gateway_config(address, admin, upstream, window, **options))
        words = [self.options.gateway, "--config", config]
        environment = {"TOKIO_WORKER_THREADS": str(workers), "RUST_LOG": "info"}
        if traces:
            environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = traces
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


def drive(driver, command, **arguments):
    """What the load generator prints."""
    words = [driver, command]
    for name, value in arguments.items():
        if value is True:
            words.append(f"--{name}")
        elif value is not False:
            words += [f"--{name}", str(value)]
    done = subprocess.run(words, stdout=subprocess.PIPE, check=True, timeout=1800)
    return json.loads(done.stdout)


def free_address():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return "127.0.0.1:{}".format(listener.getsockname()[1])


def wait_for(address, seconds=60):
    host, port = address.rsplit(":", 1)
    for _ in range(seconds * 20):
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"nobody listens on {address}")


def family(id):
    """A process and its children, and theirs."""
    children = pathlib.Path(f"/proc/{id}/task/{id}/children").read_text()
    return [id, *(member for child in children.split() for member in family(int(child)))]


def text_of(words):
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True)
    return (done.stdout + done.stderr).strip()


def machine():
    name = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    return f"{name}, {os.cpu_count()} cores, Linux {platform.release()}"
