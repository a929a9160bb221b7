"""Differences between an independent reading of an answer and the gateway's."""

import dataclasses

from reading import CUT, IN_BAND, UNPARSABLE, Reading

# The gateway's error codes for each kind of failure.
CODES = {
    IN_BAND: ("upstream_error",),
    CUT: ("stream_interrupted",),
    UNPARSABLE: ("bad_upstream_data",),
}
SHORT = 90


def differences(expected, heard):
    """A list of (field, difference), empty if both agree."""
    found = []

    def check(field, want, got):
        if want != got:
            found.append((field, _both(want, got)))

    if expected.failed:
        codes = CODES[expected.failed]
        if dataclasses.replace(expected, notes=[]) == Reading().fail(CUT):
            # An empty body is not an interrupted answer.
            codes = (*CODES[UNPARSABLE], "upstream_unavailable")
        if heard.failed not in codes:
            found.append(("outcome", f"{expected.failed} ({expected.message[:SHORT]}) | {_outcome(heard)}"))
    elif heard.failed:
        found.append(("outcome", f"{expected.finish} | {_outcome(heard)}"))
    else:
        check("finish", expected.finish, heard.finish)
    check("text", expected.text, heard.text)
    check("reasoning", expected.reasoning, heard.reasoning)
    found.extend(_calls(expected, heard))
    # An error has usage only if the upstream sent it before the error.
    if not expected.failed:
        for field in ("input", "output"):
            check(f"usage.{field}", getattr(expected.usage, field), getattr(heard.usage, field))
        for field in ("cached", "reasoning"):
            # The native stream has 0 for a partial count that the vendor left out.
            check(f"usage.{field}", getattr(expected.usage, field) or 0, getattr(heard.usage, field) or 0)
    return found


def _calls(expected, heard):
    if len(expected.calls) != len(heard.calls):
        yield "calls", _both([call.name for call in expected.calls], [call.name for call in heard.calls])
        return
    ids = [call.id for call in heard.calls]
    if not all(ids) or len(set(ids)) < len(ids):
        yield "calls", f"ids missing or not unique: {ids}"
    for at, (want, got) in enumerate(zip(expected.calls, heard.calls)):
        # The gateway makes ids if the vendor sends none.
        if want.id and want.id != got.id:
            yield f"calls[{at}].id", _both(want.id, got.id)
        if want.name != got.name:
            yield f"calls[{at}].name", _both(want.name, got.name)
        if want.parsed() != got.parsed():
            yield f"calls[{at}].arguments", _both(want.arguments, got.arguments)


def _outcome(heard):
    return f"{heard.failed} ({heard.message[:SHORT]})" if heard.failed else heard.finish


def _both(want, got):
    """Both values, shortened to the first difference."""
    if isinstance(want, str) and isinstance(got, str):
        at = next((at for at, (a, b) in enumerate(zip(want, got)) if a != b), min(len(want), len(got)))
        start = max(0, at - 20)
        cut = f" (from character {start}; {len(want)} and {len(got)} in all)" if len(want) + len(got) > SHORT else ""
        return f"{want[start:start + SHORT]!r} | {got[start:start + SHORT]!r}{cut}"
    return f"{want!r} | {got!r}"
