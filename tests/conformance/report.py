"""The outcome of a run: rows, the table, the exit status."""

import collections
import dataclasses
import json

AGREE, DIFFER, SKIPPED = "agree", "differ", "not compared"


@dataclasses.dataclass
class Row:
    path: str
    protocol: str
    wire: str
    verdict: str
    # The independent reader.
    reader: str = ""
    # (mode, field, words)
    differences: list = dataclasses.field(default_factory=list)
    notes: list = dataclasses.field(default_factory=list)


def print_table(rows):
    groups = collections.defaultdict(list)
    for row in rows:
        groups[row.wire, row.protocol].append(row)
    print(f"{'wire':<20} {'protocol':<30} {'files':>6} {AGREE:>6} {DIFFER:>6} {SKIPPED:>13}")
    for (wire, protocol), group in sorted(groups.items()):
        _print_line(wire, protocol, group)
    _print_line("all", "", rows)


def print_details(rows):
    differing = [row for row in rows if row.verdict == DIFFER]
    if differing:
        print("\nThe independent reading | the gateway's:")
    for row in differing:
        words = "; ".join(f"{mode}: {field}: {words}" for mode, field, words in row.differences)
        print(f"  {row.path} [{row.reader}]: {words}")
    _print_counts("Not compared", [row for row in rows if row.verdict == SKIPPED])
    _print_counts("What a reader had to know", [row for row in rows if row.verdict != SKIPPED])


def write(rows, path):
    with open(path, "w", encoding="utf-8") as out:
        json.dump([dataclasses.asdict(row) for row in rows], out, indent=1, ensure_ascii=False)


def _print_line(wire, protocol, group):
    count = collections.Counter(row.verdict for row in group)
    print(f"{wire:<20} {protocol:<30} {len(group):>6} {count[AGREE]:>6} {count[DIFFER]:>6} {count[SKIPPED]:>13}")


def _print_counts(title, rows):
    counts = collections.Counter((row.wire, note) for row in rows for note in row.notes)
    if counts:
        print(f"\n{title}:")
    for (wire, note), times in sorted(counts.items()):
        print(f"  {times:>4} × {wire}: {note}")
