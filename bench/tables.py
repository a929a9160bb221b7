"""What the benchmark prints: headings, Markdown tables, and figures over several rounds."""

import statistics
import sys


def heading(text):
    print(f"\n{text}\n", flush=True)


def table(head, rows):
    """A Markdown table."""
    rows = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    line = lambda row: "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |"
    print(line(head))
    print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
    for row in rows:
        print(line(row))
    sys.stdout.flush()


def ratio(amount, count):
    return amount / count if count else None


def number(value):
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


class Series:
    """The measurements of one row, one for each round. A cell has their median, and behind it the least
    and the most where there are several."""

    def __init__(self, seen):
        self.seen = seen

    def cell(self, figure, write=None):
        """`figure` is a key of a measurement, or a function that takes one."""
        write = write or number
        pick = figure if callable(figure) else lambda seen: seen[figure]
        values = [value for value in map(pick, self.seen) if value is not None]
        if not values:
            return "–"
        middle = write(statistics.median(values))
        return middle if len(values) == 1 else f"{middle} ({write(min(values))} to {write(max(values))})"

    def median(self, pick):
        return statistics.median(map(pick, self.seen))

    def cost(self):
        return [self.cell("answers_per_second", whole), self.cell("tokens_per_second", whole),
                self.cell("cpu_us_per_token")]

    def first_token(self):
        return [self.cell(lambda seen: seen["first_token_ms"][share]) for share in ("p50", "p99")]

    def added_per_token(self, direct):
        """What is added to the direct way's delays. Percentiles are subtracted, not single tokens. The
        direct way's own are in parentheses."""
        cells = []
        for share in ("p50", "p99"):
            pick = lambda seen: seen["token_ms"][share]
            if self is direct:
                cells.append(f"({number(self.median(pick))})")
            else:
                least = direct.median(pick)
                cells.append(self.cell(lambda seen: pick(seen) - least))
        return cells

    def busy(self):
        """How much of their core load and upstream used: near 100 % they are what was measured."""
        return self.cell(lambda seen: 100 * seen["driver_cpu_seconds"] / seen["seconds"], "{:.0f} %".format)

    def incomplete(self):
        return sum(seen["incomplete"] for seen in self.seen)


def whole(value):
    return f"{value:,.0f}"
