"""The content of one answer, independent of the reader."""

import dataclasses
import json

# Kinds of failure: the `failed` of a reading.
IN_BAND = "error in the answer"
CUT = "no terminal marker"
UNPARSABLE = "does not parse"


@dataclasses.dataclass
class Call:
    id: str | None
    name: str | None
    # As sent: one JSON text, incomplete if the answer was cut.
    arguments: str

    def parsed(self):
        """The arguments as a JSON value, or the text if it is not JSON. For a call without arguments some
        vendors send an empty text, others `{}`."""
        try:
            return json.loads(self.arguments or "{}")
        except ValueError:
            return self.arguments


@dataclasses.dataclass
class Usage:
    """Counts with the gateway's definitions. None means that the vendor sent no count."""

    input: int | None = None
    output: int | None = None
    cached: int | None = None
    reasoning: int | None = None


@dataclasses.dataclass
class Reading:
    text: str = ""
    reasoning: str = ""
    calls: list = dataclasses.field(default_factory=list)
    # The gateway's finish reason, None if the answer failed.
    finish: str | None = None
    usage: Usage = dataclasses.field(default_factory=Usage)
    # None or one of the kinds above; the error code in a reading of the gateway.
    failed: str | None = None
    message: str = ""
    # Vendor conventions that the reader applied, shown beside the row.
    notes: list = dataclasses.field(default_factory=list)

    def note(self, words):
        if words not in self.notes:
            self.notes.append(words)

    def fail(self, how, message=""):
        self.failed, self.finish, self.message = how, None, str(message)
        return self

    def end(self, reason, mapping):
        """Sets the finish reason from the vendor's word. An unknown word is `other`."""
        self.finish = mapping.get(reason, "other")


def count(value):
    """A token count; some vendors send floats. Negative numbers, fractions and numbers above 2^53 - 1 are
    None."""
    known = value is not None and 0 <= value < 2**53 and value == int(value)
    return int(value) if known else None


def total(*counts):
    """The sum of the counts that are not None, None if all are."""
    stated = [value for value in counts if value is not None]
    return sum(stated) if stated else None


def json_text(arguments):
    """Arguments as one JSON text; some SDKs and vendors give a JSON value."""
    if arguments is None:
        return ""
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
