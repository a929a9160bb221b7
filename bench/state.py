"""What the shared state costs: one gateway with a real Valkey, and a fleet's commands without the gateways.

    python3 -B bench/state.py --valkey target/tools/valkey-server

needs what `make bench` has built. docs/scaling.md has the figures.
"""

import argparse
import asyncio
import contextlib
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import processes
from processes import ROOT
from tables import heading, table


class Valkey:
    """A server without persistence, and its own figures."""

    def __init__(self, program, cores):
        self.address = processes.free_address()
        host, port = self.address.split(":")
        words = ["taskset", "--cpu-list", str(cores[0]), program, "--port", port, "--bind", host, "--save", "",
                 "--appendonly", "no", "--dir", "/tmp", "--dbfilename", f"state-{port}.rdb", "--maxclients", "9000"]
        self._process = subprocess.Popen(list(map(str, words)), stdout=subprocess.DEVNULL)
        processes.wait_for(self.address)

    def stop(self):
        self._process.kill()
        self._process.wait()

    def command(self, *words):
        host, port = self.address.split(":")
        with socket.create_connection((host, int(port))) as connection, connection.makefile("rb") as answers:
            connection.sendall(packed(*words))
            return read_reply(answers)

    def figures(self):
        text = b"".join(self.command("INFO", section) for section in ("cpu", "stats", "memory")).decode()
        value = lambda name: float(re.search(rf"^{name}:([\d.]+)", text, re.MULTILINE)[1])
        return {
            "cpu": value("used_cpu_sys") + value("used_cpu_user"),
            "commands": value("total_commands_processed"),
            "memory": value("used_memory"),
            "in": value("total_net_input_bytes"),
            "out": value("total_net_output_bytes"),
            "when": time.monotonic(),
        }


def packed(*words):
    words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def read_reply(answers):
    line = answers.readline()
    kind, rest = line[:1], line[1:-2]
    if kind == b"$":
        return None if rest == b"-1" else answers.read(int(rest) + 2)[:-2]
    if kind == b"*":
        return [read_reply(answers) for _ in range(int(rest))]
    return rest


class StatefulBench(processes.Bench):
    """The bench whose gateway shares its state."""

    state = None

    def gateway_config(self, *words, **options):
        state = f"state: redis://{self.state.address}/0\n" if self.state else ""
        return super().gateway_config(*words, **options) + state

    @contextlib.contextmanager
    def gateway(self, *words, **options):
        with super().gateway(*words, **options) as proxy:
            self.proxy = proxy
            yield proxy


def round_trips(admin):
    with urllib.request.urlopen(f"http://{admin}/metrics", timeout=5) as answer:
        found = re.search(rb"^sluicegate_store_round_trips_total (\d+)", answer.read(), re.MULTILINE)
        return int(found[1])


def one_gateway(options, cores):
    """200 streams, a token every 20 ms, with and without a shared state."""
    rows = []
    for shared in (False, True):
        bench = StatefulBench(options, cores)
        valkey = Valkey(options.valkey, cores) if shared else None
        bench.state = valkey
        samples = []

        def watch():
            # In the middle of the measurement: streams of 30 s begin within 2 s.
            time.sleep(8)
            for _ in range(2):
                samples.append((valkey.figures(), round_trips(bench.proxy.admin)))
                time.sleep(8)

        watching = threading.Thread(target=watch, daemon=True) if shared else None
        if watching:
            watching.start()
        seen = bench.measure("state", "gateway", 1500, 1, 20_000, connections=200, seconds=20, ramp=2, warm=2, once=True)
        row = ["shared" if shared else "memory", f"{seen['cpu_us_per_token']:.1f}", seen["incomplete"]]
        if watching:
            watching.join()
            (first, trips), (second, later) = samples
            took = second["when"] - first["when"]
            rate = lambda name: (second[name] - first[name]) / took
            tokens = 200 * 50
            row += [f"{(later - trips) / took:.1f}", f"{rate('commands'):.0f}", f"{rate('cpu') * 100:.1f} %",
                    f"{rate('cpu') * 1e6 / tokens:.2f}", f"{rate('in') / 1e6:.2f}"]
            valkey.stop()
        rows.append(row + ["–"] * (8 - len(row)))
    heading("One gateway: 200 streams, 50 tokens a second each")
    table(["state", "gateway, CPU µs/token", "incomplete", "round trips/s", "commands/s", "Valkey's core",
               "Valkey, CPU µs/token", "MB/s"], rows)


def stream_memory(options, cores):
    """What one stream takes in the server: with its first entry, with 100 and 1000 tokens, and finished."""
    valkey = Valkey(options.valkey, cores)
    rows = []
    count = 2000
    for tokens, per_entry in ((0, 1), (100, 2), (1000, 2), (1000, 1)):
        before = valkey.figures()["memory"]
        for number in range(count if tokens < 1000 else count // 10):
            fill(valkey, number, tokens, per_entry)
        made = count if tokens < 1000 else count // 10
        each = (valkey.figures()["memory"] - before) / made
        rows.append([tokens, per_entry, f"{each / 1024:.2f}"])
        valkey.command("FLUSHALL", "SYNC")
    before = valkey.figures()["memory"]
    for number in range(count):
        valkey.command("SET", f"sluicegate:stream:st_{number:026d}:past", "1234", "PX", 630000)
    rows.append(["only how it ended", "–", f"{(valkey.figures()['memory'] - before) / count / 1024:.2f}"])
    valkey.stop()
    heading("Memory of a stream in the server")
    table(["tokens", "tokens in an entry", "KiB"], rows)


def event(stream, number):
    return b'id: %b.%d\nevent: token\ndata: {"text":" token%d"}\n\n' % (stream, number, number % 10)


def append(stream, first, count):
    """What a replica writes in one turn for one stream."""
    key = b"sluicegate:stream:" + stream
    events = b"".join(event(stream, number) for number in range(first, first + count))
    last = first + count + 1
    return (packed("XADD", key, f"0-{last}", "events", events, "owner", "web-app", "replica", "a" * 32)
            + packed("PEXPIRE", key, 3630000))


def register(stream):
    key = b"sluicegate:stream:" + stream
    return (packed("XADD", key, "0-1", "events", "", "owner", "web-app", "replica", "a" * 32, "model", "fast")
            + packed("PEXPIRE", key, 3630000))


def fill(valkey, number, tokens, per_entry):
    stream = b"st_%026d" % number
    commands = [register(stream)] + [append(stream, first, per_entry) for first in range(0, tokens, per_entry)]
    host, port = valkey.address.split(":")
    with socket.create_connection((host, int(port))) as connection, connection.makefile("rb") as answers:
        connection.sendall(b"".join(commands))
        for _ in range(2 * len(commands)):
            read_reply(answers)


def fleet(options, cores):
    """Replicas that take their turns, each over its own connection, with so many streams each."""
    rows = []
    for replicas, streams in ((100, 0), (1000, 0), (100, 10), (100, 50), (1000, 5), (1000, 10)):
        valkey = Valkey(options.valkey, cores)
        seen = asyncio.run(take_turns(valkey, replicas, streams, options.seconds * 10))
        valkey.stop()
        rows.append([replicas, streams, replicas * streams, *seen])
    heading("A fleet: one turn every 100 ms, two tokens for each stream in a turn")
    table(["replicas", "streams each", "streams", "turns/s", "commands/s", "Valkey's core", "CPU µs/turn",
               "turn, ms: p50", "p99"], rows)


async def take_turns(valkey, replicas, streams, seconds):
    host, port = valkey.address.split(":")
    delays, turns = [], 0
    stop = asyncio.Event()

    async def replica(number):
        nonlocal turns
        reader, writer = await asyncio.open_connection(host, int(port))
        names = [b"st_%013d%013d" % (number, each) for each in range(streams)]
        writer.write(b"".join(register(name) for name in names))
        alive = packed("SET", f"sluicegate:replica:{number:032d}", 1, "PX", 3000)
        fetch = packed("LPOP", f"sluicegate:replica:{number:032d}:commands", 64)
        pending = 2 * streams
        clock = asyncio.get_running_loop()
        due = clock.time() + (number % 100) / 1000
        turn = 0
        while not stop.is_set():
            await asyncio.sleep(max(0, due - clock.time()))
            commands = ([alive] if turn % 10 == 0 else []) + [fetch]
            commands += [append(name, 2 * turn, 2) for name in names]
            count = len(commands) + streams
            began = clock.time()
            writer.write(b"".join(commands))
            # Every reply but the entries' ids is one line.
            lines = 2 * streams + count - 2 * streams + streams + pending // 2 + pending
            await read_lines(reader, lines)
            pending = 0
            delays.append(clock.time() - began)
            turns += 1
            turn += 1
            due = max(due + 0.1, clock.time())
        writer.close()

    tasks = [asyncio.create_task(replica(number)) for number in range(replicas)]
    await asyncio.sleep(3)
    before, turns_before = valkey.figures(), turns
    delays.clear()
    await asyncio.sleep(seconds)
    after, turned = valkey.figures(), turns - turns_before
    stop.set()
    await asyncio.gather(*tasks)
    took = after["when"] - before["when"]
    cpu = after["cpu"] - before["cpu"]
    delays.sort()
    at = lambda share: f"{delays[int(share * (len(delays) - 1))] * 1000:.1f}"
    return [f"{turned / took:.0f}", f"{(after['commands'] - before['commands']) / took:.0f}", f"{cpu / took * 100:.0f} %",
            f"{cpu / turned * 1e6:.0f}", at(0.5), at(0.99)]


async def read_lines(reader, count):
    seen = 0
    while seen < count:
        data = await reader.read(65536)
        if not data:
            raise RuntimeError("the server closed the connection")
        seen += data.count(b"\r\n")


def limits(options, cores):
    """The script of a request: its address, and its key's requests, tokens and streams."""
    valkey = Valkey(options.valkey, cores)
    script = (ROOT / "src/limit/limits.lua").read_bytes()
    sha = valkey.command("SCRIPT", "LOAD", script)
    host, port = valkey.address.split(":")
    rows = []
    for name, steps in (
        ("admission: address, requests, streams, tokens", lambda n: [
            (f"sluicegate:address:{n % 5000:032d}", "take", 200000, 60000000, ""),
            (f"sluicegate:requests:{n % 100:032d}", "take", 1, 60000000, ""),
            (f"sluicegate:streams:{n % 100:032d}", "lease", f"{n:024d}", 10**9, ""),
            (f"sluicegate:tokens:{n % 100:032d}", "read", "", "", "")]),
        ("reservation: tokens", lambda n: [(f"sluicegate:tokens:{n % 100:032d}", "take", 100, 60 * 10**12, "")]),
        ("settlement of 256 streams", lambda n: [
            step for each in range(128) for step in (
                (f"sluicegate:tokens:{each % 100:032d}", "charge", 10, "", ""),
                (f"sluicegate:streams:{each % 100:032d}", "release", f"{each:024d}", "", ""))]),
    ):
        runs = 40000 if "256" not in name else 400
        calls = []
        for number in range(runs):
            all_steps = steps(number)
            keys = [step[0] for step in all_steps]
            values = [value for step in all_steps for value in step[1:]]
            calls.append(packed("EVALSHA", sha, len(keys), *keys, "", 20000000, *values))
        before = valkey.figures()
        with socket.create_connection((host, int(port))) as connection, connection.makefile("rb") as answers:
            for at in range(0, runs, 50):
                connection.sendall(b"".join(calls[at:at + 50]))
                for _ in range(min(50, runs - at)):
                    read_reply(answers)
        cpu = valkey.figures()["cpu"] - before["cpu"]
        rows.append([name, f"{cpu / runs * 1e6:.1f}", f"{runs / cpu:.0f}"])
    valkey.stop()
    heading("Limits: what the script costs the server")
    table(["script", "CPU µs", "a core's worth per second"], rows)


SECTIONS = {"gateway": one_gateway, "memory": stream_memory, "fleet": fleet, "limits": limits}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateway", default=ROOT / "target/release/sluicegate", type=pathlib.Path)
    parser.add_argument("--driver", default=ROOT / "bench/target/release/sluicegate-bench", type=pathlib.Path)
    parser.add_argument("--valkey", default=ROOT / "target/tools/valkey-server", type=pathlib.Path)
    parser.add_argument("--work", default=ROOT / "target/bench-state", type=pathlib.Path)
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS))
    parser.add_argument("--seconds", default=1.0, type=float)
    options = parser.parse_args()
    options.window, options.long = "30s", False
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("state: two cores are needed")
    for name in options.only or list(SECTIONS):
        SECTIONS[name](options, cores)


if __name__ == "__main__":
    main()
