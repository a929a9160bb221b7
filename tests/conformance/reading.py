"""What one answer says, whoever read it."""

import dataclasses
import json

# How an answer can fail. What a reader gives as `failed`, and what the gateway may call it.
IN_BAND = "error in the answer"
CUT = "no terminal marker"
UNPARSABLE = "does not parse"


@dataclasses.dataclass
class Call:
    id: str | None
    name: str | None
    # As it was sent: one JSON text, which a broken answer may leave incomplete.
    arguments: str

    def parsed(self):
        """The arguments as a JSON value; the text itself where it is none. Some vendors leave the text
        empty where a call has no arguments, others say `{}`."""
        try:
            return json.loads(self.arguments or "{}")
        except ValueError:
            return self.arguments


@dataclasses.dataclass
class Usage:
    """Counts in the gateway's meaning; None is what the vendor did not say."""

    input: int | None = None
    output: int | None = None
    cached: int | None = None
    reasoning: int | None = None


@dataclasses.dataclass
class Reading:
    text: str = ""
    reasoning: str = ""
    calls: list = dataclasses.field(default_factory=list)
    # In the gateway's words; None where the answer failed.
    finish: str | None = None
    usage: Usage = dataclasses.field(default_factory=Usage)
    # None, or one of the three above; from the gateway, its error code.
    failed: str | None = None
    message: str = ""
    # Vendor conventions that the reader had to know: what a reviewer wants to see beside the row.
    notes: list = dataclasses.field(default_factory=list)

    def note(self, words):
        if words not in self.notes:
            self.notes.append(words)

    def fail(self, how, message=""):
        self.failed, self.finish, self.message = how, None, str(message)
        return self

    def end(self, reason, mapping):
        """Takes a vendor's reason over in the gateway's words; one that is not known is `other`."""
        self.finish = mapping.get(reason, "other")


def count(value):
    """A token count; some vendors send floats. What is negative, has a fraction or is beyond what
    JSON readers count exactly is none."""
    known = value is not None and 0 <= value < 2**53 and value == int(value)
    return int(value) if known else None


def total(*counts):
    """The sum of what was stated, None where nothing was."""
    stated = [value for value in counts if value is not None]
    return sum(stated) if stated else None


def json_text(arguments):
    """Arguments as one JSON text; some SDKs and some vendors give the value itself."""
    if arguments is None:
        return ""
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
