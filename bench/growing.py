"""The workloads of the gateway alone: more threads, streams, tokens, connections, protocols, listeners."""

import resource

import configs
from tables import Series, heading, number, table
from workloads import held


def matrix(bench):
    heading("Every dialect and wire, as a multiple of native over openai-chat")
    pairs = [("native", wire) for wire in configs.WIRES] + [(dialect, "openai-chat") for dialect in configs.DIALECTS[1:]]
    rows, base = [], None
    for dialect, wire in pairs:
        pair = {"dialect": dialect, "wire": wire}
        fast = bench.measure("W1 matrix", "gateway", 500, 64, connections=64, seconds=2, **pair)
        prose = bench.measure("W1 matrix", "gateway", 500, 64, kind="prose", connections=64, seconds=2, **pair)
        paced = bench.measure("W2 matrix", "gateway", int(50 * (4 * bench.options.seconds + 3)), 1, 20_000,
                              connections=200, seconds=4, ramp=1, warm=1, once=True, **pair)
        costs = [seen["cpu_us_per_token"] for seen in (fast, prose, paced)]
        base = base or costs
        times = [f"{one / other:.2f}" if one and other else "–" for one, other in zip(costs, base)]
        cells = [cell for cost, time in zip(costs, times) for cell in (number(cost), time)]
        rows.append([dialect, wire, *cells, sum(seen["incomplete"] for seen in (fast, prose, paced))])
    table(["dialect", "wire", "W1 µs/token", "×", "realistic", "×", "W2 µs/token", "×", "incomplete"], rows)


def growth(bench):
    heading("Growth: CPU per token for longer streams (64 streams at full speed)")
    rows = []
    for tokens in [100, 1_000, 10_000, 100_000]:
        seen = Series([bench.measure("tokens per stream", "gateway", tokens, 64,
                                     connections=64 if tokens < 100_000 else 16, seconds=3)])
        rows.append([f"{tokens:,}", *seen.cost(), seen.incomplete()])
    table(["tokens/stream", "streams/s", "tokens/s", "CPU µs/token", "incomplete"], rows)
    heading("Growth: CPU per token for more streams (9,000 tokens a second in all)")
    rows = []
    for streams in [10, 100, 1_000, 9_000]:
        pace = streams * 1_000_000 // 9_000
        load = {"connections": streams, "seconds": 4, "ramp": 1 if streams < 9_000 else 5, "warm": 1, "once": True}
        tokens = int((4 * bench.options.seconds + load["ramp"] + 3) * 1_000_000 / pace)
        seen = Series([bench.measure("open streams", "gateway", tokens, 1, pace, **load)])
        rows.append([f"{streams:,}", *seen.cost()[1:], seen.incomplete()])
    table(["streams", "tokens/s", "CPU µs/token", "incomplete"], rows)


def scale(bench):
    heading("Scale: W1 with more worker threads, each with a core; the driver shares one of two")
    rows = []
    for workers in [1, 2]:
        seen = Series([bench.measure("scale", "gateway", 500, 64, workers=workers, connections=64)])
        rows.append([workers, *seen.cost(), seen.incomplete()])
    table(["workers", "streams/s", "tokens/s", "CPU µs/token", "incomplete"], rows)
    heading("Crowds")
    storm = bench.measure("storm", "gateway", 20, 1, 1_000, connections=2_000, once=True, storm=True, repeat=3,
                          ramp=0, warm=0)[-1]
    _, words, named = held("", bench, "crowd", "gateway", 9_500)
    crowd = bench.measure(*words, **named)
    storm2 = bench.multiplexed("storm over HTTP/2", 20, 1_000, streams=2_000, connections=20, ramp=0)
    crowd2 = bench.multiplexed("crowd over HTTP/2", 14, 1_000_000, streams=9_500, connections=95, ramp=5)
    table(["", "answers", "took, s", "first token, ms: p50", "p99", "incomplete"], [
        [name, seen["total_answers"], f"{seen['took_seconds']:.1f}", *Series([seen]).first_token(), seen["incomplete"]]
        for name, seen in [("2,000 connections at once", storm), ("2,000 over 20 HTTP/2 connections", storm2),
                           ("9,500 open streams", crowd), ("9,500 over 95 HTTP/2 connections", crowd2)]
    ])
    print(f"\n{crowd2['kib_per_stream']:.1f} KiB per stream over HTTP/2, {crowd['kib_per_stream']:.1f} over HTTP/1.1")


def listeners(bench):
    # One connection each, and as many files again are for upstreams.
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(10_000, (files - 64) // 2)
    heading(f"Listeners: {count:,} clients get an announcement, ten times")
    seen = bench.listeners(count)
    table(["listeners", "ms: p50", "p99", "max", "KiB/listener", "CPU s/announcement"], [[
        f"{count:,}", number(seen["p50_ms"]), number(seen["p99_ms"]), number(seen["max_ms"]),
        f"{seen['kib_per_listener']:.1f}", number(seen["cpu_seconds_per_announcement"])]])


SECTIONS = {
    "scale": scale,
    "growth": growth,
    "matrix": matrix,
    "listeners": listeners,
}
