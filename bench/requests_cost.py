"""How many instructions and allocations a small request costs in the gateway, for `bench/instructions.py`.

The gateway runs under callgrind, with a config as in production, and is asked by the benchmark's load generator. Two
runs with different numbers of requests have everything in common but these requests and their time, so the difference is
theirs, less what the gateway does in this time by itself; a run that only waits longer shows that. The kernel's
instructions are not in it.
"""

import concurrent.futures
import os
import re
import signal
import subprocess
import time

import configs
import processes

# The answers are of 10 realistic tokens in one chunk.
MODEL = "openai-chat/prose-10-10-0"
FORMS = {
    "chat, whole": {"dialect": "openai-chat", "whole": True},
    "chat, streamed": {"dialect": "openai-chat"},
    "native, streamed": {"dialect": "native"},
}
# How many requests every run has of each form, and how many one run has of its form in addition.
FEW, MORE = 50, 200
CONNECTIONS = 4
# How long one run only waits, in seconds.
IDLE = 6
# What the program allocates with: mimalloc's functions.
ALLOCATORS = re.compile(r"mi_(?:heap_)?(?:m|z|c|re)alloc(?:_\w+)?$")


def measure(options):
    """Each form's name, instructions and allocations per request."""
    address = processes.free_address()
    upstream = subprocess.Popen([options.driver, "upstream", "--listen", address], stdout=subprocess.DEVNULL)
    try:
        processes.wait_for(address)
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            idle, base, *runs = pool.map(lambda name: run(options, address, name), ["idle", "base", *FORMS])
    finally:
        upstream.kill()
        upstream.wait()
    *by_itself, seconds = difference(idle, base)
    for form, found in zip(FORMS, runs):
        *costs, longer = difference(found, base)
        instructions, allocations = ((cost - other * longer / seconds) / MORE for cost, other in zip(costs, by_itself))
        yield form, round(instructions), allocations


def difference(one, other):
    return [left - right for left, right in zip(one, other)]


def run(options, upstream, longest):
    """The instructions, allocations and seconds of a gateway's life in which one form is asked for more often."""
    name = longest.replace(", ", "-")
    address, admin = processes.free_address(), processes.free_address()
    config, out = options.work / f"requests-{name}.yaml", options.work / f"requests-{name}.counts"
    config.write_text(configs.gateway(address, admin, upstream))
    words = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", options.gateway, "--config", config]
    environment = {**os.environ, "TOKIO_WORKER_THREADS": "1", "RUST_LOG": "info"}
    with open(options.work / f"requests-{name}.log", "wb") as log:
        gateway = subprocess.Popen(list(map(str, words)), stdout=log, stderr=log, env=environment)
        try:
            processes.wait_for(address)
            began = time.monotonic()
            for form, how in FORMS.items():
                ask(options, address, FEW + (MORE if form == longest else 0), how)
            if longest == "idle":
                time.sleep(IDLE)
            seconds = time.monotonic() - began
            gateway.send_signal(signal.SIGTERM)
            gateway.wait(60)
        finally:
            gateway.kill()
            gateway.wait()
    text = out.read_text()
    out.unlink()
    return int(re.search(r"^(?:summary|totals): (\d+)", text, re.MULTILINE)[1]), allocations(text), seconds


def ask(options, address, requests, how):
    named = {"target": address, "model": MODEL, "key": configs.KEY, "connections": CONNECTIONS, "requests": requests,
             "seconds": 300, "ramp": 0, "warm": 0, **how}
    seen = processes.drive(options.driver, "load", **named)
    if seen["total_answers"] != requests:
        raise RuntimeError(f"{seen['total_answers']} of {requests} answers are complete: {seen['reason']}")


def allocations(text):
    """How often the program called its allocator, from callgrind's file: a function's name is written once, and its
    number stands for it from then on."""
    names, caller, called, calls = {}, "", "", 0
    for line in text.splitlines():
        if found := re.match(r"(c?fn)=\((\d+)\)(?: (.*))?", line):
            kind, number, name = found.groups()
            name = names.setdefault(number, name)
            if kind == "fn":
                caller = name
            else:
                called = name
        elif line.startswith("calls=") and ALLOCATORS.match(called) and not caller.startswith(("mi_", "_mi_")):
            calls += int(line[6:].split()[0])
    return calls
