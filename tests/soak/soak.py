"""The course of the soak, and what must hold at its end."""

import asyncio
import random
import statistics
import time

import faults
import settings
from clients import Clients
from gateway import Gateway
from upstreams import Upstream
from wires import WIRES
from words import Ledger

# How long everything may take to become quiet once the clients are gone.
QUIET = 45
# An idle connection to an upstream is closed after 30 s.
IDLE = 30
# How long the gateway remembers the ids of streams that are gone.
REMEMBERED = 600
# How many clients there are for each stream at the most.
MOST_CLIENTS = 2
# Gauges that are 0 where nothing is open.
GAUGES = ["open_streams", "connections", "request_memory_bytes", "stream_buffer_bytes", "readers"]


async def run(options, folder):
    """The problems that were found."""
    soak = Soak(options, folder)
    await soak.start()
    try:
        for part in [soak.warm_up, soak.hold, soak.recover, soak.count_attempts, soak.settle, soak.check_end]:
            began = time.monotonic()
            await part()
            print(f"soak: {part.__name__} took {time.monotonic() - began:.1f} s", flush=True)
    finally:
        await soak.stop()
    return soak.problems


class Soak:
    def __init__(self, options, folder):
        self.options = options
        self.random = random.Random(options.seed)
        self.ledger = Ledger()
        self.upstreams = {
            name: Upstream(name, WIRES[wire], self.ledger, random.Random(f"{options.seed}/{name}"))
            for name, wire in settings.UPSTREAMS.items()
        }
        self.gateway = Gateway(options.binary, folder)
        self.clients = Clients(self.gateway, self.ledger, random.Random(f"{options.seed}/clients"), options.short)
        self.own_problems = []
        self.opened = []
        # Samples of the memory in KiB, and the second of each.
        self.resident = []
        self.seconds = []
        self.base = None

    @property
    def problems(self):
        more = self.clients.outcomes["PROBLEM"] - len(self.clients.problems)
        left_out = [f"{more} more of the clients"] if more else []
        return [*self.own_problems, *self.clients.problems, *left_out]

    def check(self, holds, problem):
        if not holds:
            self.own_problems.append(problem)

    def config(self):
        return settings.config(self.upstreams, self.options.streams, self.random)

    async def start(self):
        await self.gateway.start(self.config())
        self.first = (self.gateway.descriptors(), self.gateway.memory())
        print(f"soak: at the start {self.first[0]} descriptors, {self.first[1] / 1024:.1f} MiB", flush=True)

    async def warm_up(self):
        await self.load(self.options.warm)
        await self.settle()
        self.base = self.measure()

    async def hold(self):
        for samples in [self.resident, self.seconds, self.opened]:
            samples.clear()
        await self.load(self.options.minutes * 60)

    async def load(self, seconds):
        stopped = asyncio.Event()
        clients = []
        self.begin_clients(clients, self.options.streams, stopped)
        others = [asyncio.create_task(task) for task in [self.reload(), self.sample(clients, stopped)]]
        others += [asyncio.create_task(self.change_moods(upstream)) for upstream in self.upstreams.values()]
        done, _ = await asyncio.wait(others, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        stopped.set()
        for task in others:
            task.cancel()
        await asyncio.gather(*clients)
        for task in done:
            task.result()

    def begin_clients(self, clients, count, stopped):
        count = min(count, MOST_CLIENTS * self.options.streams - len(clients))
        clients += [asyncio.create_task(self.clients.run_until(stopped)) for _ in range(count)]

    async def change_moods(self, upstream):
        scale = 0.2 if self.options.short else 1.0
        while True:
            upstream.set_mood(faults.choose_mood(upstream.random))
            await asyncio.sleep(scale * upstream.random.uniform(4, 25))

    async def reload(self):
        while True:
            await asyncio.sleep(self.options.reload)
            await self.gateway.reload(self.config())

    async def sample(self, clients, stopped):
        began, reported = time.monotonic(), 0
        while True:
            await asyncio.sleep(2)
            opened = (await self.gateway.metrics()).sum("open_streams")
            self.resident.append(self.gateway.memory())
            self.seconds.append(time.monotonic() - began)
            self.opened.append(opened)
            # Clients pause, come back to streams or are refused, so more of them than streams are needed.
            missing = self.options.streams - int(opened)
            self.begin_clients(clients, max(missing, 0) // 10, stopped)
            if time.monotonic() - reported > 30:
                reported = time.monotonic()
                print(f"soak: {reported - began:5.0f} s: {opened:.0f} open streams, {self.clients.active} clients, "
                      f"{self.upstream_connections()} upstream connections, {self.gateway.descriptors()} descriptors, "
                      f"{self.gateway.memory() / 1024:.1f} MiB, {self.gateway.cpu_seconds():.0f} s CPU, "
                      f"{self.clients.number} requests, {self.clients.outcomes['PROBLEM']} problems", flush=True)

    async def recover(self):
        """All upstreams are well again: every breaker closes once its target is asked."""
        for upstream in self.upstreams.values():
            upstream.set_mood("healthy")
        deadline = time.monotonic() + QUIET
        while time.monotonic() < deadline:
            await asyncio.gather(*(self.clients.run_once("read", f"only-{name}") for name in self.upstreams))
            metrics = await self.gateway.metrics()
            opened = [labels["upstream"] for labels, value in metrics.all("breaker_state") if value]
            if not opened:
                return
            await asyncio.sleep(0.5)
        self.check(False, f"the breakers of {opened} stay open though their upstreams are well")

    async def count_attempts(self):
        """Without clients that leave, every attempt is counted that an upstream saw, and every answer."""
        await self.settle()
        self.upstreams["birch"].set_mood("hasty")
        before, seen, outcomes = await self.gateway.metrics(), self.seen(), self.clients.outcomes.copy()
        models = [*settings.MODELS, *(f"only-{name}" for name in self.upstreams)]
        await asyncio.gather(*(self.clients.run_once("read", model) for model in models for _ in range(5)))
        await self.settle()
        after = await self.gateway.metrics()
        for name, count in self.seen().items():
            recorded = after.sum("attempts_total", upstream=name) - before.sum("attempts_total", upstream=name)
            # An attempt that loses to a faster one, or fails to connect, may end before its request is sent.
            lost = unsent(after, name) - unsent(before, name)
            self.check(recorded - lost <= count - seen[name] <= recorded,
                       f"{name} saw {count - seen[name]} requests, and {recorded:.0f} attempts were counted")
        done = self.clients.outcomes - outcomes
        complete = done["complete"] + done["complete, whole"]
        recorded = after.sum("requests_total", outcome="complete") - before.sum("requests_total", outcome="complete")
        self.check(recorded == complete, f"{complete} answers were complete and {recorded:.0f} were counted")

    def seen(self):
        return {name: upstream.requests for name, upstream in self.upstreams.items()}

    async def settle(self):
        """Waits until nothing is open any more."""
        deadline = time.monotonic() + QUIET
        while True:
            metrics = await self.gateway.metrics()
            opened = {name: value for name in GAUGES if (value := metrics.sum(name))}
            once = len(self.upstreams["once"].connections)
            if not opened and not once:
                break
            if time.monotonic() > deadline:
                self.check(False, f"still open {QUIET} s after the last client: {opened}, {once} not to be reused")
                break
            await asyncio.sleep(0.2)
        if not self.options.short:
            await self.wait_for_idle_connections()

    async def wait_for_idle_connections(self):
        deadline = time.monotonic() + IDLE + 15
        while opened := self.upstream_connections():
            if time.monotonic() > deadline:
                self.check(False, f"{opened} connections to upstreams are open {IDLE + 15} s after the last request")
                break
            await asyncio.sleep(0.2)

    def upstream_connections(self):
        return self.gateway.connections(upstream.address for upstream in self.upstreams.values())

    def measure(self):
        """Descriptors without those of idle connections, and memory in KiB."""
        return self.gateway.descriptors() - self.upstream_connections(), self.gateway.memory()

    async def check_end(self):
        most = self.base[0] * 1.1
        # The gateway closes the last request for its metrics a little later.
        deadline = time.monotonic() + QUIET
        while self.measure()[0] > most and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
        descriptors, memory = self.measure()
        self.check(descriptors <= most, f"{descriptors} descriptors, {self.base[0]} after the warm-up")
        if not self.options.short:
            self.check_memory(memory)
        metrics = await self.gateway.metrics()
        self.check_budgets(metrics)
        refusals = {tuple(labels.values()): value for labels, value in metrics.all("limit_refusals_total") if value}
        self.check(not refusals, f"limits refused requests: {refusals}")
        internal = metrics.sum("requests_total", outcome="internal") + metrics.sum("refusals_total", code="internal")
        self.check(not internal, f"{internal:.0f} internal errors")
        reloads = metrics.sum("config_reloads_total", outcome="accepted")
        self.check(reloads >= self.gateway.reloads, f"{reloads:.0f} of {self.gateway.reloads} reloads were accepted")
        self.check(not metrics.sum("config_reloads_total", outcome="refused"), "a reload was refused")
        self.report(metrics, descriptors, memory)

    def check_memory(self, memory):
        """Ids of streams that are gone are remembered for a while, and the allocator keeps freed memory, so levels
        are compared only after that while: under load with themselves, and at last without load with those."""
        late = [memory for second, memory in zip(self.seconds, self.resident) if second > REMEMBERED]
        if len(late) < 60:
            print("soak: the memory was not checked: that takes 13 minutes or more", flush=True)
            return
        half = len(late) // 2
        early, late = statistics.median(late[:half]), statistics.median(late[half:])
        self.check(late <= early * 1.1, f"{early / 1024:.1f} MiB under load grew to {late / 1024:.1f} MiB")
        self.check(memory <= early * 1.1, f"{memory / 1024:.1f} MiB without load, {early / 1024:.1f} MiB under load")
        print(f"soak: MiB under load after ten minutes, in two parts: {early / 1024:.1f}, {late / 1024:.1f}", flush=True)

    def check_budgets(self, metrics):
        for model in settings.MODELS:
            added = metrics.sum("retries_total", model=model) + metrics.sum("hedges_total", model=model)
            # Every configuration begins with ten.
            allowed = self.clients.sent[model] / 5 + 10 * (1 + self.gateway.reloads)
            self.check(added <= allowed, f"{model}: {added:.0f} requests were added, {allowed:.0f} may be")

    def report(self, metrics, descriptors, memory):
        attempts, seen = metrics.sum("attempts_total"), sum(self.seen().values())
        hedges = {labels["winner"]: 0 for labels, _ in metrics.all("hedges_total")}
        for labels, value in metrics.all("hedges_total"):
            hedges[labels["winner"]] += int(value)
        opened = sorted(self.opened) or [0]
        rows = {
            "requests": self.clients.number,
            "open streams: least, median, most": f"{opened[0]:.0f}, {opened[len(opened) // 2]:.0f}, {opened[-1]:.0f}",
            "requests at upstreams": seen,
            "attempts counted": f"{attempts:.0f}",
            "failovers, retries": f"{metrics.sum('failovers_total'):.0f}, {metrics.sum('retries_total'):.0f}",
            "hedges by winner": hedges,
            "reloads": self.gateway.reloads,
            "descriptors: start, after the warm-up, end": f"{self.first[0]}, {self.base[0]}, {descriptors}",
            "MiB: start, after the warm-up, end":
                ", ".join(f"{kib / 1024:.1f}" for kib in [self.first[1], self.base[1], memory]),
            "CPU seconds of the gateway": f"{self.gateway.cpu_seconds():.0f}",
            "outcomes": dict(self.clients.outcomes.most_common()),
            "faults": dict(sum((upstream.faults for upstream in self.upstreams.values()), start=type(
                self.clients.outcomes)()).most_common()),
            "log": dict(self.gateway.messages.most_common(12)),
        }
        for name, value in rows.items():
            print(f"soak: {name}: {value}", flush=True)

    async def stop(self):
        self.check(self.gateway.is_running, "the gateway ended by itself")
        code, seconds = await self.gateway.stop()
        self.check(code == 0, f"the gateway ended with {code}")
        for line in self.gateway.bad_lines[:20]:
            self.check(False, f"in the log: {line}")
        for upstream in self.upstreams.values():
            upstream.refuse()


def unsent(metrics, upstream):
    """How many attempts an upstream may not have seen."""
    outcomes = ["hedged", "upstream_timeout", "upstream_unavailable"]
    return sum(metrics.sum("attempts_total", upstream=upstream, outcome=outcome) for outcome in outcomes)
