"""The chart, rendered by Helm's own engine, and the manifests for kustomize that are rendered from it."""

import pathlib
import re

import helm_python
import yaml

ROOT = pathlib.Path(__file__).parent.parent.parent
CHART = ROOT / "k8s" / "chart"
# The folders with values.yaml, and manifests.yaml rendered from it.
FOLDERS = [ROOT / "k8s" / name for name in ("base", "overlays/dev", "overlays/production")]
HEADER = "# Rendered by `make manifests` from k8s/chart and values.yaml. Edit those.\n"
# What is true of an object that Helm installed, and of no other.
HELM_LABELS = re.compile(r"^ +(helm\.sh/chart|app\.kubernetes\.io/managed-by): .*\n", re.MULTILINE)


class Refused(Exception):
    """The chart does not accept the values."""


def render(values, name="sluicegate", namespace="apps", folder=CHART):
    """The text of every template that is not empty, by its name."""
    with helm_python.Chart.load(folder) as chart:
        try:
            chart.validate_schema(values)
            texts = chart.render(values, name=name, namespace=namespace)
        except helm_python.HelmError as error:
            raise Refused(str(error)) from error
    return {path.split("/templates/", 1)[1]: text for path, text in texts.items() if text.strip()}


def objects(texts):
    """The objects of all templates; the notes are text for people."""
    manifests = (text for name, text in texts.items() if name != "NOTES.txt")
    return [found for text in manifests for found in yaml.safe_load_all(text) if found]


def manifests(folder):
    """The text of the folder's manifests.yaml."""
    values = yaml.safe_load((folder / "values.yaml").read_text())
    texts = render(values)
    parts = [
        HELM_LABELS.sub("", text).strip().removeprefix("---\n").strip()
        for name, text in texts.items()
        if name != "NOTES.txt" and not name.startswith("tests/")
    ]
    return HEADER + "\n---\n".join(parts) + "\n"
