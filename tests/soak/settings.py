"""The upstreams and models of the soak: every protocol and every policy."""

import hashlib

KEY = "sk-soak-0000000000000000000000000000"
# name: wire. `once` closes its connection after each request.
UPSTREAMS = {
    "alder": "openai-chat",
    "birch": "openai-chat",
    "cedar": "openai-chat",
    "elm": "anthropic-messages",
    "fir": "anthropic-messages",
    "hazel": "openai-responses",
    "larch": "openai-responses",
    "maple": "gemini",
    "oak": "ollama-chat",
    "once": "openai-chat",
}
QUICK = {"connect": "500ms", "first_token": "1s", "idle": "1s", "total": "6s"}
BREAKER = {"failures": 3, "window": "10s", "open": "2s"}
RETRY = {"attempts": 3, "backoff": "100ms", "max_backoff": "1500ms"}
# name: (targets, settings). A target is an upstream, or an upstream and a priority.
MODELS = {
    "weighted": (["alder", "birch", "elm", "hazel"], {"affinity": "off"}),
    "fastest": (["birch", "cedar", "fir", "larch", "maple"], {"strategy": "fastest", "affinity": "off"}),
    "sessions": (["alder", "elm", "hazel", "oak"], {"affinity": "header:x-session-id"}),
    "sessions-auto": (["alder", "cedar", "fir", "once"], {}),
    "hedged": (["alder", "fir", "larch", "once"], {"affinity": "off", "hedge": {"after": "300ms"}}),
    "hedged-p95": (["birch", "elm", "maple"], {"affinity": "off", "hedge": {"after": "p95"}, "strategy": "fastest"}),
    "retried": (["cedar"], {"retry": RETRY, "breaker": "off"}),
    "retried-in-turn": (["oak", ("maple", 1)], {"retry": RETRY}),
    "broken-off": (["alder", ("birch", 1), ("once", 2)], {"retry": "off"}),
    "without-policies": (["alder", "fir"], {"retry": "off", "breaker": "off", "affinity": "off"}),
    "continued": (["elm", "fir", "oak"], {"continue": "on", "affinity": "off"}),
    "quick": (["hazel", "larch", "once"], {"timeouts": QUICK, "affinity": "off"}),
    "verbatim": (["elm", "fir"], {}),
    "responses": (["hazel", "larch"], {"hedge": {"after": "500ms"}}),
}
# Models that speak the protocol of embeddings.
PASSING = ["weighted", "retried", "broken-off"]
CONTINUED = ["continued"]


def config(upstreams, streams, random):
    """The gateway's config as JSON, which is YAML. The weights are random."""
    return {
        "upstreams": {upstream.name: _upstream(upstream) for upstream in upstreams.values()},
        "models": {
            **{name: _model(*model, random) for name, model in MODELS.items()},
            **{f"only-{name}": {"targets": [_target(name, random)], "retry": "off"} for name in UPSTREAMS},
        },
        "timeouts": {"connect": "1s", "first_token": "3s", "idle": "3s", "total": "60s"},
        "heartbeat": "1s",
        "keys": [{
            "name": "soak",
            "sha256": hashlib.sha256(KEY.encode()).hexdigest(),
            # A place that is not given back is missed here in time.
            "limits": {"requests": "100M/min", "tokens": "1000M/min", "streams": 3 * streams},
        }],
        "limits": {"streams": 4 * streams, "per_ip": {"requests": "100M/min"}, "frame": "64KiB"},
        "resume": {"window": "2s", "buffer": "256KiB"},
        "drain": "1s",
    }


def _upstream(upstream):
    reuse = {"reuse": "off"} if upstream.name == "once" else {}
    base = f"http://{upstream.address}{upstream.wire.base}"
    return {"wire": upstream.wire.name, "base_url": base, "api_key": "upstream-key-000000", **reuse}


def _model(targets, settings, random):
    return {
        "targets": [_target(target, random) for target in targets],
        "breaker": BREAKER,
        **settings,
    }


def _target(target, random):
    upstream, priority = (target, 0) if isinstance(target, str) else target
    return {"upstream": upstream, "model": "soak", "priority": priority, "weight": random.randint(1, 5)}
