"""The scripts in `packaging`, on small files: what they write can be read, and is the same every time. `make image`
runs the program itself."""

import os
import pathlib
import shutil
import subprocess
import sys

import helm_python

import chart
from variations import VARIATIONS

PACKAGING = chart.ROOT / "packaging"
sys.path += [str(chart.ROOT / "tests" / "image"), str(PACKAGING)]

from layout import Layout  # noqa: E402 (the path is set above)

FILES = {
    "usr/local/bin/sluicegate": b"\x7fELF\x02\x01\x01" + bytes(11) + b"\xb7\0" + b"program" * 1000,
    "etc/passwd": b"sluicegate:x:65532:65532::/:/sbin/nologin\n",
}


def _image(work, number):
    """The layout of a small image, whose files are written anew: at another time, in another folder."""
    rootfs, out = work / f"rootfs{number}", work / f"image{number}"
    shutil.rmtree(rootfs, ignore_errors=True)
    for name, content in FILES.items():
        path = rootfs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o755 if name.startswith("usr") else 0o600)
        os.utime(path, (number, number))
    options = ["--rootfs", rootfs, "--out", out, "--tag", "1.2.3", "--revision", "abc"]
    subprocess.run([PACKAGING / "image.py", *options], check=True, stdout=subprocess.DEVNULL)
    return out


def image(work):
    first, second = _image(work, 1), _image(work, 2)
    if first.with_suffix(".tar").read_bytes() != second.with_suffix(".tar").read_bytes():
        yield "two images of the same files differ"
    layout = Layout(first)
    target = work / "unpacked"
    target.mkdir()
    layout.unpack(target)
    for name, content in FILES.items():
        if (target / name).read_bytes() != content:
            yield f"{name} differs"
        mode = (target / name).stat().st_mode & 0o777
        if mode != (0o755 if name.startswith("usr") else 0o644):
            yield f"{name}: mode {mode:o}"
    if layout.platform != {"architecture": "arm64", "os": "linux"}:
        yield f"the binary is for arm64, the image for {layout.platform}"
    yield from _settings(layout.config)


def _settings(config):
    labels = config["Labels"]
    if (labels["org.opencontainers.image.version"], labels["org.opencontainers.image.revision"]) != ("1.2.3", "abc"):
        yield f"labels {labels}"
    expected = {
        "User": "65532:65532",
        "Entrypoint": ["/usr/local/bin/sluicegate"],
        "Cmd": ["serve"],
        "Env": ["SLUICEGATE_CONFIG=/etc/sluicegate/sluicegate.yaml"],
        "ExposedPorts": {"8080/tcp": {}, "9090/tcp": {}},
    }
    for name, value in expected.items():
        if config[name] != value:
            yield f"{name}: {config[name]}, the Dockerfile has {value}"


def packaged_chart(work):
    """Helm reads the package, and renders the same as from the folder."""
    found = []
    for number in (1, 2):
        out = work / f"chart{number}"
        out.mkdir()
        subprocess.run([PACKAGING / "chart.py", out], check=True, stdout=subprocess.DEVNULL)
        found += out.iterdir()
    if found[0].read_bytes() != found[1].read_bytes():
        yield "two packages of the same chart differ"
    values = VARIATIONS["all together"]
    if chart.render(values, folder=found[0]) != chart.render(values):
        yield "the packaged chart renders something else"
    # Helm's own package has the same files.
    own = pathlib.Path(helm_python.package(chart.CHART, destination=work))
    with helm_python.Chart.load(own) as expected, helm_python.Chart.load(found[0]) as packaged:
        if (expected.files, expected.templates) != (packaged.files, packaged.templates):
            yield "Helm packages other files"
