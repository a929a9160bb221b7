"""Everything that runs in a cluster, without one: the chart rendered by Helm's engine with many values, every object
against Kubernetes' schemas, every config through `sluicegate check`, and every name that the manifests share with the
binary compared with the binary. The manifests for kustomize must be what the chart renders."""

import argparse
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import helm_python
import jsonschema
import kubernetes_validate
import yaml

import chart
import custom
import packages
import valkey
import wiring
from program import Program
from variations import REFUSALS, VARIATIONS

# The oldest that the chart's kubeVersion admits, and the newest that the schemas know.
VERSIONS = ("1.30", "1.37")
HERE = pathlib.Path(__file__).parent
METRIC = re.compile(r"\bsluicegate_[a-z_]+")


class Checks:
    def __init__(self, options):
        self.options = options
        self.program = Program(options.binary, options.work)
        self.paths, self.metrics = self.program.facts()
        self.passed = self.failed = 0
        self.valid = set()

    def run(self, name, problems):
        problems = list(problems)
        self.passed += not problems
        self.failed += bool(problems)
        for problem in problems:
            print(f"kubernetes: {name}: {problem}", file=sys.stderr)

    def rendering(self, objects):
        """What is wrong with the objects of one rendering."""
        for check in wiring.CHECKS:
            yield from (f"{check.__name__}: {problem}" for problem in check(objects))
        for found in objects:
            yield from (f"{found['kind']} {found['metadata']['name']}: {problem}" for problem in self._schema(found))
        yield from self._config(objects)
        yield from self._binary(objects)

    def _schema(self, found):
        key = yaml.safe_dump(found)
        if key in self.valid:
            return
        try:
            if custom.is_custom(found):
                custom.validate(found)
            else:
                for version in VERSIONS:
                    kubernetes_validate.validate(found, version, strict=True)
        except (jsonschema.ValidationError, kubernetes_validate.ValidationError) as error:
            yield f"{error.message} at {list(error.path)}"
        else:
            self.valid.add(key)

    def _config(self, objects):
        text = wiring.config(objects)
        if text is None:
            return
        containers = [container for _, spec in wiring.pods(objects) for container in spec["containers"]]
        variables = {entry["name"] for container in containers for entry in container.get("env", [])}
        if any(container.get("envFrom") for container in containers):
            variables |= set(re.findall(r"\$\{([A-Z_]+)\}", text))
        if problem := self.program.check_config(text, variables):
            yield f"sluicegate check: {problem}"

    def _binary(self, objects):
        for _, spec in wiring.pods(objects):
            for container in spec["containers"]:
                if "sluicegate" not in container["image"]:
                    continue
                if unknown := self.program.unknown_options(container["args"]):
                    yield f"{container['args']}: the binary has no {unknown}"
                for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                    path = container.get(probe, {}).get("httpGet", {}).get("path")
                    if path is not None and path not in self.paths:
                        yield f"{probe}: the binary does not answer {path}"
        for found in objects:
            if found["kind"] in ("HorizontalPodAutoscaler", "ScaledObject"):
                for metric in METRIC.findall(yaml.safe_dump(found)):
                    if metric not in self.metrics:
                        yield f"the binary does not count {metric}"
            for endpoint in found.get("spec", {}).get("endpoints", []) + found.get("spec", {}).get("podMetricsEndpoints", []):
                if endpoint["path"] not in self.paths:
                    yield f"{found['kind']}: the binary does not answer {endpoint['path']}"

    def rules(self, objects):
        """Prometheus' own tool reads the rules and the query of KEDA."""
        groups = []
        for found in objects:
            if found["kind"] == "PrometheusRule":
                groups += found["spec"]["groups"]
            if found["kind"] == "ScaledObject":
                query = found["spec"]["triggers"][0]["metadata"]["query"]
                groups.append({"name": "keda", "rules": [{"record": "query", "expr": query}]})
        if not groups:
            return
        file = self.options.work / "rules.yaml"
        file.write_text(yaml.safe_dump({"groups": groups}))
        done = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True)
        if done.returncode:
            yield done.stdout + done.stderr


def refusal(values, words):
    try:
        chart.render(values)
    except chart.Refused as refused:
        if words not in str(refused):
            yield f"the message does not contain {words!r}: {refused}"
    else:
        yield "the chart accepts it"


def lint():
    for values in (None, VARIATIONS["all together"]):
        yield from helm_python.lint(chart.CHART, values, strict=True)["errors"]


def committed(folder):
    if (folder / "manifests.yaml").read_text() != chart.manifests(folder):
        yield "manifests.yaml is not what the chart renders: run `make manifests`"


def kustomize(folder):
    """What kubectl makes of the folder is what the chart renders, and an overlay can replace image and config."""
    expected = list(yaml.safe_load_all(chart.manifests(folder)))
    if _sorted(_kustomize(folder)) != _sorted(expected):
        yield "kubectl kustomize gives something else than the chart"
    if folder.name != "base":
        return
    with tempfile.TemporaryDirectory(dir=folder.parent) as overlay:
        overlay = pathlib.Path(overlay)
        (overlay / "sluicegate.yaml").write_text("open: true\n")
        (overlay / "kustomization.yaml").write_text(OVERLAY)
        found = _kustomize(overlay)
    if wiring.config(found) != "open: true\n":
        yield "an overlay does not replace the config"
    images = {container["image"] for _, spec in wiring.pods(found) for container in spec["containers"]}
    if images != {"registry.example/sluicegate:1.2.3"}:
        yield f"an overlay does not replace the image: {images}"
    yield from (problem for check in wiring.CHECKS if check is not wiring.drain for problem in check(found))


# As docs/kubernetes.md shows it.
OVERLAY = """
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [../base]
images:
  - { name: sluicegate, newName: registry.example/sluicegate, newTag: 1.2.3 }
generatorOptions: { disableNameSuffixHash: true }
configMapGenerator:
  - { name: sluicegate, behavior: replace, files: [sluicegate.yaml] }
"""


def _kustomize(folder):
    done = subprocess.run(["kubectl", "kustomize", folder], check=True, capture_output=True, text=True)
    return list(yaml.safe_load_all(done.stdout))


def _sorted(objects):
    return sorted(objects, key=lambda found: (found["kind"], found["metadata"]["name"]))


def hadolint():
    tool = pathlib.Path(sys.executable).parent / "hadolint"
    done = subprocess.run([tool, chart.ROOT / "Dockerfile"], capture_output=True, text=True)
    if done.returncode:
        yield done.stdout + done.stderr


def checkov(options):
    """Checkov's opinion of everything that the chart can write, and of the Dockerfile."""
    folder = options.work / "checkov"
    folder.mkdir()
    shutil.copy(chart.ROOT / "Dockerfile", folder)
    objects = chart.objects(chart.render(VARIATIONS["all together"]))
    (folder / "all.yaml").write_text(yaml.safe_dump_all(objects))
    command = [options.checkov, "--directory", folder, "--config-file", HERE / "checkov.yaml"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        yield done.stdout + done.stderr


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--checkov", type=pathlib.Path, help="its program, in an environment of its own")
    parser.add_argument("--valkey", type=pathlib.Path, help="the program of a server")
    options = parser.parse_args()
    options.work = options.work.resolve()
    shutil.rmtree(options.work, ignore_errors=True)
    options.work.mkdir(parents=True)
    checks = Checks(options)
    for name, values in VARIATIONS.items():
        objects = chart.objects(chart.render(values))
        checks.run(f"with {name}", checks.rendering(objects))
        checks.run(f"rules with {name}", checks.rules(objects))
    for name, (values, words) in REFUSALS.items():
        checks.run(f"refusal of {name}", refusal(values, words))
    checks.run("lint", lint())
    checks.run("packaging of an image", packages.image(options.work))
    checks.run("packaging of the chart", packages.packaged_chart(options.work))
    for folder in chart.FOLDERS:
        name = str(folder.relative_to(chart.ROOT))
        objects = list(yaml.safe_load_all(chart.manifests(folder)))
        checks.run(name, committed(folder))
        checks.run(name, checks.rendering(objects))
        checks.run(f"kustomize {name}", kustomize(folder))
    checks.run("Dockerfile", hadolint())
    if options.checkov:
        checks.run("Checkov", checkov(options))
    if options.valkey:
        checks.run("Valkey", valkey.problems(options.valkey.resolve(), options.work))
    print(f"kubernetes: {checks.passed} passed, {checks.failed} failed")
    sys.exit(bool(checks.failed))


main()
