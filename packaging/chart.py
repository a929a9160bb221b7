#!/usr/bin/env -S python3 -B
"""Packages the Helm chart, so that the same chart gives the same bytes: chart.py OUT writes OUT/sluicegate-VERSION.tgz."""

import pathlib
import re
import sys

import archive

CHART = pathlib.Path(__file__).resolve().parent.parent / "k8s" / "chart"


def package(out):
    version = re.search(r"^version: (\S+)$", (CHART / "Chart.yaml").read_text(), re.MULTILINE)[1]
    # Helm wants the files alone, below the chart's name.
    entries = [(name, path) for name, path in archive.tree(CHART, "sluicegate/") if path.is_file()]
    target = out / f"sluicegate-{version}.tgz"
    target.write_bytes(archive.compress(archive.pack(entries)))
    return target


if __name__ == "__main__":
    print(f"chart: {package(pathlib.Path(sys.argv[1]))}")
