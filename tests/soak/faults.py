"""How the scripted upstreams misbehave: moods that last for a while, and the fault of each request."""

# Faults of a whole request; `moods` below says how often each is.
REFUSALS = {
    # fault: (status, more headers)
    "rate-limited": (429, {"retry-after": "1"}),
    "rate-limited-without-time": (429, {}),
    "rate-limited-for-long": (429, {"retry-after": "30"}),
    "status-500": (500, {}),
    "status-502": (502, {}),
    "status-503": (503, {"retry-after": "1"}),
    "status-529": (529, {}),
    "bad-request": (400, {}),
    "no-such-model": (404, {}),
    "forbidden": (403, {}),
}
# What happens before the first word.
BEFORE = ["reset-before-head", "close-before-head", "silent", "no-head-but-garbage", "error-first", "html", "empty",
          "head-without-body"]
# What happens at a random word.
MIDWAY = ["reset", "cut", "end-without-marker", "stall", "garbage-line", "oversize-frame", "error", "error-with-word"]

# An error that comes together with the first word.
HASTY = {"error-with-first-word": 1, "none": 1}

MOODS = {
    # mood: (how likely it is, {fault: weight})
    "healthy": (40, {"none": 97, "slow": 3}),
    "slow": (10, {"slow": 70, "very-slow": 10, "none": 20}),
    "limited": (8, {"rate-limited": 50, "rate-limited-without-time": 30, "rate-limited-for-long": 5, "none": 15}),
    "failing": (8, {"status-500": 25, "status-502": 25, "status-503": 25, "status-529": 25}),
    "refusing": (6, {}),
    "silent": (5, {"silent": 80, "none": 20}),
    "broken": (8, {**dict.fromkeys(MIDWAY, 10), "none": 20, "junk-behind-end": 10}),
    "unwell": (15, {"none": 60, "slow": 8, "rate-limited": 4, "status-500": 4, "bad-request": 1, "no-such-model": 1,
                    "forbidden": 1, "junk-behind-end": 2, **dict.fromkeys(BEFORE, 2), **dict.fromkeys(MIDWAY, 2)}),
}


def choose_mood(random):
    return random.choices(list(MOODS), [likely for likely, _ in MOODS.values()])[0]


def choose_fault(mood, random):
    faults = HASTY if mood == "hasty" else MOODS[mood][1]
    return random.choices(list(faults), list(faults.values()))[0] if faults else "none"
