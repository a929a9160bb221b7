"""What happens to the pods while clients read, and what the clients must get."""

import asyncio
import itertools
import random

from clients import Clients
from cluster import KEY, Cluster, Times
from wire import Connection


class Load:
    """A steady number of clients: where one has ended, the next one begins."""

    def __init__(self, cluster, options, seed):
        self._cluster = cluster
        self._clients = Clients(cluster.balancer.port, KEY)
        self._options = options
        self._random = random.Random(seed)
        self._numbers = itertools.count(1)
        self._running = True
        self.outcomes = []

    async def run(self, trouble):
        """Keeps the load up until the trouble is over, then lets every client come to its end."""
        clients = [asyncio.create_task(self._repeat(number)) for number in range(self._options.streams)]
        try:
            await asyncio.sleep(self._options.shortest / 2)
            await trouble
        finally:
            self._running = False
        await asyncio.gather(*clients)

    async def _repeat(self, number):
        # Not all at once.
        await asyncio.sleep(self._random.uniform(0, self._options.shortest / 2))
        kept = Connection(self._cluster.balancer.port)
        while self._running:
            if number % 10 == 0:
                outcome = await self._clients.whole(kept, self._prompt(0.5, 2))
            elif number % 10 == 1:
                outcome = await self._clients.chat(self._prompt(self._options.shortest, self._options.longest))
            else:
                prompt = self._prompt(self._options.shortest, self._options.longest)
                model = "continued" if number % 2 else "plain"
                leaves_after = self._random.randrange(1, prompt["words"]) if self._random.random() < 0.3 else None
                outcome = await self._clients.native(model, prompt, leaves_after)
            self.outcomes.append(outcome)
        kept.close()

    def _prompt(self, shortest, longest):
        seconds = self._random.uniform(shortest, longest)
        words = max(2, int(seconds * self._options.rate))
        return {"number": next(self._numbers), "words": words, "seconds": round(seconds, 3)}


class Verdict:
    """Counts what clients got, and collects what should not have happened."""

    def __init__(self, name, outcomes, pods):
        self.name = name
        self.outcomes = outcomes
        self.pods = pods
        self.problems = []
        # Figures of one trial.
        self.more = {}

    def count(self, test):
        return sum(1 for outcome in self.outcomes if test(outcome))

    def figures(self):
        refusals = [refusal for outcome in self.outcomes for refusal in outcome.refusals]
        seen = {f"{status} {code}": refusals.count((status, code)) for status, code in sorted(set(refusals))}
        drains = [pod.ended for pod in self.pods if pod.ended]
        return {
            "streams": self.count(lambda outcome: outcome.kind != "whole"),
            "whole answers": self.count(lambda outcome: outcome.kind == "whole"),
            "words": sum(outcome.prompt["words"] for outcome in self.outcomes),
            "exact": self.count(lambda outcome: outcome.is_exact()),
            "ended in an error": self.count(lambda outcome: outcome.has_clean_error()),
            "lost": self.count(lambda outcome: not outcome.is_exact() and not outcome.has_clean_error()),
            "events missing": sum(outcome.missing for outcome in self.outcomes),
            "events repeated": sum(outcome.repeated for outcome in self.outcomes),
            "resumes": sum(outcome.resumes for outcome in self.outcomes),
            "broken connections": sum(outcome.breaks for outcome in self.outcomes),
            "refusals before a retry": seen,
            "longest termination (s)": round(max(drains), 1) if drains else None,
            "pods that had to be killed": sum(pod.was_killed for pod in self.pods),
        } | self.more

    def expect(self, holds, what):
        if not holds:
            self.problems.append(what)

    def expect_no_lie(self):
        """Every stream is whole, or its client got an error after the beginning of the answer."""
        for outcome in self.outcomes:
            self.expect(
                outcome.is_exact() or outcome.has_clean_error(),
                f"{outcome.kind} {outcome.prompt}: {outcome.end} {outcome.detail}, {len(outcome.text)} bytes: "
                f"…{outcome.text[-40:]!r}, refusals {outcome.refusals}",
            )
            self.expect(not outcome.missing and not outcome.repeated, f"{outcome.prompt}: events missing or repeated")

    def expect_exact(self, kinds):
        for outcome in self.outcomes:
            if outcome.kind in kinds:
                what = f"{outcome.kind} {outcome.prompt}: {outcome.end} {outcome.detail}, {outcome.refusals}"
                self.expect(outcome.is_exact(), what)


async def rollout(name, options, folder, balancer, upstream, old_binary=None):
    """Every stream has enough time: all clients get their whole answers."""
    cluster = Cluster(options, folder, balancer, upstream.port, options.times, old_binary)

    async def trouble():
        for _ in range(options.rounds):
            await cluster.roll()

    verdict = await _try(name, options, cluster, trouble())
    verdict.expect_no_lie()
    verdict.expect_exact(("plain", "continued", "chat", "whole"))
    for pod in cluster.gone:
        verdict.expect(not pod.was_killed, f"{pod.name} had to be killed")
        verdict.expect(pod.process.returncode == 0, f"{pod.name} ended with status {pod.process.returncode}")
    # Nothing is asked twice: neither a retry nor a continuation was needed.
    again = sum(count - 1 for count in upstream.asked.values())
    verdict.expect(again == 0, f"{again} requests reached the model more than once")
    return verdict


async def short_grace(name, options, folder, balancer, upstream, old_binary=None):
    """The drain ends before the streams do: what can be continued goes on at another pod, the rest gets an error."""
    short = Times(options.times.endpoints, options.times.pre_stop, options.shortest / 2, options.times.grace)
    cluster = Cluster(options, folder, balancer, upstream.port, short, old_binary)
    verdict = await _try(name, options, cluster, cluster.roll())
    verdict.expect_no_lie()
    verdict.expect_exact(("continued", "whole"))
    for pod in cluster.gone:
        verdict.expect(not pod.was_killed, f"{pod.name} had to be killed")
    errors = verdict.count(lambda outcome: outcome.has_clean_error())
    verdict.expect(errors > 0, "the drain was not too short for any stream")
    return verdict


async def kill_at_grace(name, options, folder, balancer, upstream, old_binary=None):
    """The grace ends before the drain does, so Kubernetes kills pods that still have streams."""
    times = options.times
    short = Times(times.endpoints, times.pre_stop, times.drain, times.pre_stop + options.shortest / 3)
    cluster = Cluster(options, folder, balancer, upstream.port, short, old_binary)
    verdict = await _try(name, options, cluster, cluster.roll())
    verdict.expect_no_lie()
    verdict.expect_exact(("continued", "whole"))
    verdict.expect(any(pod.was_killed for pod in cluster.gone), "no pod had to be killed")
    return verdict


async def sigkill(name, options, folder, balancer, upstream, old_binary=None):
    """A pod is killed without any notice."""
    cluster = Cluster(options, folder, balancer, upstream.port, options.times, old_binary)

    async def trouble():
        await cluster.lose()
        # Takeovers take up to 5 s.
        await asyncio.sleep(6)

    verdict = await _try(name, options, cluster, trouble())
    verdict.expect_no_lie()
    verdict.expect_exact(("continued", "whole"))
    return verdict


async def valkey_restart(name, options, folder, balancer, upstream, old_binary=None):
    """The shared state loses everything and comes back. Streams continue on the replicas that produce them."""
    cluster = Cluster(options, folder, balancer, upstream.port, options.times, old_binary)

    async def trouble():
        await cluster.state.restart(2)
        await asyncio.sleep(options.shortest / 2)

    verdict = await _try(name, options, cluster, trouble())
    verdict.expect_no_lie()
    verdict.expect_exact(("chat", "whole"))
    return verdict


async def evicting_state(name, options, folder, balancer, upstream, old_binary=None):
    """The shared state is full and drops keys at random. Every client gets its whole answer, or an error."""
    cluster = Cluster(options, folder, balancer, upstream.port, options.times, old_binary)
    evicted = 0

    async def trouble():
        nonlocal evicted
        await cluster.state.server.limit_memory(options.streams * 400)
        await asyncio.sleep(2 * options.longest)
        evicted = await cluster.state.server.evicted()

    verdict = await _try(name, options, cluster, trouble())
    verdict.expect_no_lie()
    verdict.expect_exact(("chat", "whole"))
    verdict.expect(evicted > 0, "nothing was dropped")
    return verdict


async def state_failover(name, options, folder, balancer, upstream, old_binary=None):
    """A server of the shared state fails in the middle of a rollout, and another one takes its place."""
    cluster = Cluster(options, folder, balancer, upstream.port, options.times, old_binary)
    took = 0

    async def trouble():
        nonlocal took
        rollout = asyncio.create_task(cluster.roll())
        # The first pods have begun to drain.
        await asyncio.sleep(options.times.pre_stop + 1)
        clock = asyncio.get_running_loop()
        failed = clock.time()
        await cluster.state.fail_over()
        took = clock.time() - failed
        await rollout

    verdict = await _try(name, options, cluster, trouble())
    verdict.more["state without its server (s)"] = round(took, 1)
    verdict.expect_no_lie()
    verdict.expect_exact(("chat", "whole"))
    for pod in cluster.gone:
        verdict.expect(not pod.was_killed, f"{pod.name} had to be killed")
    return verdict


async def _try(name, options, cluster, trouble):
    load = Load(cluster, options, options.seed)
    try:
        await cluster.start()
        await load.run(trouble)
    finally:
        await cluster.stop()
    return Verdict(name, load.outcomes, cluster.pods + cluster.gone)


TRIALS = {
    "rollout": rollout,
    "short-drain": short_grace,
    "short-grace": kill_at_grace,
    "sigkill": sigkill,
    "valkey-restart": valkey_restart,
    "evicting-state": evicting_state,
    "state-failover": state_failover,
}
# Those that need one server, and those that need another one beside it.
SINGLE = {"valkey-restart", "evicting-state"}
REPLICATED = {"state-failover"}


def trials_for(state):
    return [name for name in TRIALS if name not in (REPLICATED if state == "server" else SINGLE)]
