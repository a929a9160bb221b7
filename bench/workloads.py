"""The workloads in which nginx and the gateway take turns."""

import configs
from tables import Series, heading, number, table

KINDS = {"bench": "alike", "prose": "realistic"}


def by_turns(bench, rows):
    """Measures all rows in turn, `--rounds` times. A row is its name and the arguments of `measure`."""
    seen = [(name, []) for name, *_ in rows]
    for _ in range(bench.options.rounds):
        for (_, kept), (_, words, named) in zip(seen, rows):
            found = bench.measure(*words, **named)
            kept.extend(found if isinstance(found, list) else [found])
    return [(name, Series(kept)) for name, kept in seen]


def row(name, *words, **named):
    return name, words, named


def w1(bench):
    full_speed(bench, "W1", "64 streams of 500 tokens, 64 events in a chunk, as fast as they go", 64, "bench")


def w1k1(bench):
    full_speed(bench, "W1k1", "the same as W1, one event in a chunk", 1, "bench")


def w1_realistic(bench):
    full_speed(bench, "W1 realistic", "the same as W1, with the texts that models write", 64, "prose")


def w1k1_realistic(bench):
    full_speed(bench, "W1k1 realistic", "the same as W1k1, with the texts that models write", 1, "prose")


def full_speed(bench, name, title, per_chunk, kind):
    heading(f"{name}: {title}")
    seen = by_turns(bench, [row(subject, name, subject, 500, per_chunk, kind=kind, connections=64)
                            for subject in ["direct", "nginx", "gateway"]])
    table(["", "streams/s", "tokens/s", "CPU µs/token", "driver's core", "incomplete"],
          [[subject, *series.cost(), series.busy(), series.incomplete()] for subject, series in seen])


def verbatim(bench):
    """Clients that speak the upstream's protocol: the gateway passes on what it has read."""
    for per_chunk, name in ((64, "W1"), (1, "W1k1")):
        heading(f"Verbatim: {name} with clients of the upstream's own protocol")
        rows = []
        for kind, what in KINDS.items():
            for wire, dialect in configs.SHARED.items():
                names = {"nginx": wire, "gateway": configs.VERBATIM_CHAT if wire == "openai-chat" else wire}
                rows += [row([wire, what, subject], f"{name} verbatim", subject, 500, per_chunk, kind=kind,
                             wire=names[subject], dialect=dialect, connections=64) for subject in names]
            rows.append(row(["openai-chat", what, "gateway, repaired"], f"{name} repaired", "gateway", 500, per_chunk,
                            kind=kind, dialect="openai-chat", connections=64))
        table(["protocol", "tokens", "", "streams/s", "tokens/s", "CPU µs/token", "driver's core", "incomplete"],
              [[*about, *series.cost(), series.busy(), series.incomplete()]
               for about, series in by_turns(bench, rows)])


def w2(bench):
    heading("W2: 200 streams, a token every 20 ms")
    if bench.options.long:
        return w2_long(bench)
    tokens = int(50 * (8 * bench.options.seconds + 4))
    rows = [row(subject + (", after full load" if loaded else ""), "W2", subject, tokens, 1, 20_000, kind="prose",
                loaded=loaded, connections=200, seconds=8, ramp=2, warm=1, once=True)
            for loaded, subject in [(False, "direct"), (False, "nginx"), (False, "gateway"), (True, "nginx"),
                                    (True, "gateway")]]
    print_w2(by_turns(bench, rows))


def print_w2(seen):
    _, direct = seen[0]
    table(["", "tokens/s", "CPU µs/token", "added per token, ms: p50", "p99", "first token, ms: p50", "p99",
           "driver's core", "incomplete"],
          [[name, *series.cost()[1:], *series.added_per_token(direct), *series.first_token(), series.busy(),
            series.incomplete()] for name, series in seen])


def w2_long(bench):
    seen = by_turns(bench, [row(subject, "W2 long", subject, 500, 1, 20_000, kind="prose", connections=200, ramp=10,
                                seconds=600 if subject == "gateway" else 20)
                            for subject in ["direct", "nginx", "gateway"]])
    resident = seen[-1][1].seen[-1]["resident_kib"]
    samples = resident[len(resident) // 10:]
    print("gateway's resident memory, MiB: " + " ".join(f"{kib / 1024:.1f}" for kib in samples))
    print_w2(seen)


def w3b(bench):
    heading("W3b: 9,000 streams, opened within 5 s, a token a second")
    windows = dict.fromkeys(["0s", bench.options.window])
    rows = [held("nginx", bench, "W3b", "nginx", 9_000, "0s")]
    rows += [held(f"gateway, window {window}", bench, "W3b", "gateway", 9_000, window) for window in windows]
    table(["", "tokens/s", "CPU µs/token", "KiB/stream", "first token, ms: p50", "p99", "driver's core", "incomplete"],
          [[name, *series.cost()[1:], series.cell("kib_per_stream"), *series.first_token(), series.busy(),
            series.incomplete()] for name, series in by_turns(bench, rows)])


def held(name, bench, workload, subject, streams, window=None):
    seconds = 5
    return row(name, workload, subject, int(seconds * bench.options.seconds) + 9, 1, 1_000_000, window=window,
               connections=streams, seconds=seconds, ramp=5, warm=2, once=True)


def burst(bench):
    heading("Burst: 200 requests at once, over open connections, ten times")
    rows = [row(subject + (", after full load" if loaded else ""), "burst", subject, 10, 1, 1_000, kind="prose",
                loaded=loaded, repeat=10, connections=200, once=True, storm=True, settle=0.3, ramp=0, warm=0)
            for loaded in (False, True) for subject in ("nginx", "gateway")]
    table(["", "first token, ms: p50", "p99", "incomplete"],
          [[name, *series.first_token(), series.incomplete()] for name, series in by_turns(bench, rows)])


def w4(bench):
    heading("W4: small answers of 10 tokens, 64 at a time")
    rows = []
    for form in ("whole", "streamed"):
        for connections, fresh in (("kept", False), ("new", True)):
            subjects = [("direct", "direct", "openai-chat"), ("nginx", "nginx", "openai-chat"),
                        ("gateway", "gateway", "openai-chat")]
            if form == "streamed":
                subjects.append(("gateway, native", "gateway", "native"))
            rows += [row([form, connections, name], "W4", subject, 10, 10, kind="prose", dialect=dialect,
                         connections=64, whole=form == "whole", fresh=fresh) for name, subject, dialect in subjects]
    table(["answer", "connections", "", "requests/s", "CPU µs/request", "driver's core", "incomplete"],
          [[*about, series.cell("answers_per_second"), series.cell("cpu_us_per_answer"), series.busy(),
            series.incomplete()] for about, series in by_turns(bench, rows)])


SECTIONS = {
    "W1": w1,
    "W1k1": w1k1,
    "W1-realistic": w1_realistic,
    "W1k1-realistic": w1k1_realistic,
    "verbatim": verbatim,
    "W2": w2,
    "W3b": w3b,
    "burst": burst,
    "W4": w4,
}
