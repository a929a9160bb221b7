#!/usr/bin/env -S python3 -B
"""Writes an OCI image without an engine: the files of a folder, and the settings of the Dockerfile's last stage.

    image.py --rootfs DIR --out DIR [--tag TAG]

DIR becomes an OCI layout, and DIR.tar the same as one file for `docker load`, `podman load` or
`skopeo copy oci-archive:`. The same files give the same bytes: times come from SOURCE_DATE_EPOCH, owners are root.
"""

import argparse
import hashlib
import json
import pathlib
import re
import shlex
import shutil
import time

import archive

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = "usr/local/bin/sluicegate"
MACHINES = {62: "amd64", 183: "arm64"}


def last_stage(text):
    """The instructions of the last stage, as pairs of a word and the rest of the line."""
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    instructions = [line.split(None, 1) for line in lines if line and not line.startswith("#")]
    start = max(n for n, instruction in enumerate(instructions) if instruction[0] == "FROM")
    return [(word, rest.strip()) for word, rest in instructions[start + 1 :]]


def settings(dockerfile, arguments):
    """The part `config` of an image. `${NAME}` in the Dockerfile becomes the argument of that name."""
    made = {"Env": [], "ExposedPorts": {}, "Labels": {}}
    for word, rest in last_stage(dockerfile):
        rest = re.sub(r"\$\{(\w+)\}", lambda found: arguments[found.group(1)], rest)
        if word == "USER":
            made["User"] = rest
        elif word == "WORKDIR":
            made["WorkingDir"] = rest
        elif word == "ENV":
            made["Env"] += shlex.split(rest)
        elif word == "EXPOSE":
            made["ExposedPorts"] |= {f"{port}/tcp": {} for port in rest.split()}
        elif word == "LABEL":
            made["Labels"] |= dict(pair.split("=", 1) for pair in shlex.split(rest))
        elif word in ("ENTRYPOINT", "CMD"):
            made[word.capitalize()] = json.loads(rest)
        elif word == "HEALTHCHECK":
            made["Healthcheck"] = _health(rest)
        elif word not in ("ARG", "COPY"):
            raise SystemExit(f"image: the Dockerfile's last stage has {word}, which is unknown here")
    made["Entrypoint"] = made.pop("Entrypoint")
    return made


def _health(rest):
    options, _, command = rest.partition(" CMD ")
    seconds = {name: int(value) * 10**9 for name, value in re.findall(r"--([a-z-]+)=(\d+)s", options)}
    return {
        "Test": ["CMD", *json.loads(command)],
        "Interval": seconds["interval"],
        "Timeout": seconds["timeout"],
        "StartPeriod": seconds["start-period"],
    }


def layer(rootfs, wanted):
    """The wanted entries as a layer, packed; and the digest of what is in the package."""
    content = archive.pack(entry for entry in archive.tree(rootfs) if wanted(entry[0]))
    return archive.compress(content), digest(content)


def digest(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


def machine(rootfs):
    """The processor that the binary is made for, from its ELF header."""
    header = (rootfs / BINARY).read_bytes()[:20]
    return MACHINES.get(int.from_bytes(header[18:20], "little"), "amd64")


class Layout:
    def __init__(self, folder):
        self.folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "blobs" / "sha256").mkdir(parents=True)
        (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')

    def blob(self, content, kind):
        name = digest(content)
        (self.folder / "blobs" / "sha256" / name.removeprefix("sha256:")).write_bytes(content)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": name, "size": len(content)}

    def document(self, value, kind):
        return self.blob(json.dumps(value, sort_keys=True, separators=(",", ":")).encode(), kind)

    def pack(self):
        """The whole folder as one file."""
        self.folder.with_suffix(".tar").write_bytes(archive.pack(archive.tree(self.folder)))


def _path(part):
    return "blobs/sha256/" + part["digest"].removeprefix("sha256:")


def write(rootfs, out, tag, arguments):
    layout = Layout(out)
    # The binary is last: the layer before it seldom changes.
    parts = [layer(rootfs, lambda name: name != BINARY), layer(rootfs, lambda name: name == BINARY)]
    layers = [layout.blob(packed, "layer.v1.tar+gzip") for packed, _ in parts]
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(archive.EPOCH))
    architecture = machine(rootfs)
    config = {
        "architecture": architecture,
        "os": "linux",
        "created": created,
        "config": settings((ROOT / "Dockerfile").read_text(), arguments),
        "rootfs": {"type": "layers", "diff_ids": [content for _, content in parts]},
        "history": [{"created": created, "created_by": "packaging/image.py"} for _ in parts],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": layout.document(config, "config.v1+json"),
        "layers": layers,
        "annotations": config["config"]["Labels"] | {"org.opencontainers.image.created": created},
    }
    entry = layout.document(manifest, "manifest.v1+json") | {
        "platform": {"architecture": architecture, "os": "linux"},
        "annotations": {"org.opencontainers.image.ref.name": tag},
    }
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]}
    (out / "index.json").write_text(json.dumps(index, sort_keys=True))
    # For `docker load` before version 25, which reads this file alone.
    saved = {
        "Config": _path(manifest["config"]),
        "RepoTags": [f"sluicegate:{tag}"],
        "Layers": [_path(part) for part in layers],
    }
    (out / "manifest.json").write_text(json.dumps([saved], sort_keys=True))
    layout.pack()
    return sum(part["size"] for part in layers)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rootfs", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--tag", default="latest")
    parser.add_argument("--revision", default="unknown")
    options = parser.parse_args()
    size = write(options.rootfs, options.out, options.tag, {"VERSION": options.tag, "SLUICEGATE_REVISION": options.revision})
    print(f"image: {options.out} and {options.out.with_suffix('.tar')}, {size / 1e6:.1f} MB of layers")


if __name__ == "__main__":
    main()
