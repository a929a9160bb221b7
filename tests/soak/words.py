"""The texts of the answers: each word names its place and the attempt that sent it.

A text is correct if its places count up from 0 without a gap and one attempt sent all of it. An attempt is
one request at one scripted upstream. Only a model that continues answers may change from one attempt to
another, and its count goes on.
"""

import collections
import re

WORD = re.compile(r"(\d+):(\d+):([a-z0-9-]+)\.(\d+)(?:~[^;]*)?;")
PROMPT = re.compile(rb"soak-(\d+)-n(\d+)-p(\d+)-f(\d+)\.")
# What encoders have to escape, and characters that may be cut between two reads.
SPICE = '~ä"\\\n\u2713\U0001f600</x>'


class Attempt:
    """One request at one upstream."""

    def __init__(self, upstream, number, serial, first):
        self.upstream = upstream
        self.number = number
        self.serial = serial
        # The place of its first word, and of the one after its last.
        self.first = self.next = first
        self.has_ended = False
        self.text = ""

    def word(self, filler):
        place = self.next
        self.next += 1
        more = SPICE if place % 7 == 3 else ""
        if filler:
            more += "~" + "x" * filler
        word = f"{place}:{self.number}:{self.upstream}.{self.serial}{more};"
        # Long texts are only streamed.
        self.text += "" if filler else word
        return word


class Ledger:
    """What the upstreams sent for each request."""

    # Of these many requests at least; clients ask for theirs right after their end.
    KEPT = 20_000

    def __init__(self):
        self._attempts = collections.OrderedDict()

    def begin(self, upstream, number, first):
        attempts = self._attempts.setdefault(number, [])
        attempt = Attempt(upstream, number, len(attempts), first)
        attempts.append(attempt)
        while len(self._attempts) > self.KEPT:
            self._attempts.popitem(last=False)
        return attempt

    def count(self, number):
        return len(self._attempts.get(number, ()))

    def problem(self, number, text, is_complete, may_continue=False, begins_anywhere=False):
        """What is wrong with the text that a client got; `None` if it is right."""
        attempts = self._attempts.get(number, [])
        at, last, expected = 0, None, None
        while at < len(text):
            found = WORD.match(text, at)
            if not found:
                return f"no word at {at}: {text[at:at + 80]!r}"
            at = found.end()
            place, owner, serial = int(found[1]), int(found[2]), int(found[4])
            if owner != number or serial >= len(attempts) or attempts[serial].upstream != found[3]:
                return f"a word of another request: {found[0]!r}"
            if expected is None and begins_anywhere:
                expected = place
            if place != (expected or 0):
                return f"place {place} follows {expected}"
            expected = place + 1
            attempt = attempts[serial]
            if attempt is not last and last is not None and not may_continue:
                return f"two attempts: {found[0]!r} after {last.upstream}.{last.serial}"
            if not attempt.first <= place < attempt.next:
                return f"the upstream did not send {found[0]!r}"
            last = attempt
        if is_complete and last is None:
            return "complete without a text"
        if is_complete and not (last.has_ended and last.next == expected):
            return f"complete after {expected} of {last.next} words, ended: {last.has_ended}"
        return None
