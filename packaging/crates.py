#!/usr/bin/env -S python3 -B
"""The crates that a binary is made of, written down in two files: an SBOM in the form of CycloneDX 1.6, and the
licences of all of them. Both depend on Cargo.lock and the sources of the crates alone, so they are reproducible.

    crates.py --target x86_64-unknown-linux-musl --sbom FILE --licences FILE
"""

import argparse
import json
import os
import pathlib
import subprocess
import time
import tomllib
import uuid

ROOT = pathlib.Path(__file__).resolve().parent.parent
# What a crate's authors call the file with its licence.
LICENCES = ("license", "licence", "copying", "copyright", "notice", "unlicense")
# What is linked besides the crates.
TOOLCHAIN = ("rust-std.txt", "musl.txt")


def cargo(*arguments):
    return subprocess.run(["cargo", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def linked(target):
    """The names and versions of the crates whose code is in the binary, or made code that is in it."""
    lines = cargo("tree", "--locked", "--edges", "normal", "--target", target, "--prefix", "none", "--format", "{p}")
    words = (line.split() for line in lines.splitlines() if line)
    return {(name, version.removeprefix("v")) for name, version, *_ in words}


def packages(target):
    """Their packages, the graph between them, and the program's own package."""
    data = json.loads(cargo("metadata", "--locked", "--format-version", "1", "--filter-platform", target))
    wanted = linked(target)
    found = {p["id"]: p for p in data["packages"] if (p["name"], p["version"]) in wanted}
    nodes = {node["id"]: node for node in data["resolve"]["nodes"]}
    graph = {
        id: sorted(
            dep["pkg"]
            for dep in nodes[id]["deps"]
            if dep["pkg"] in found and any(kind["kind"] is None for kind in dep["dep_kinds"])
        )
        for id in found
    }
    return found, graph, data["resolve"]["root"]


def purl(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def checksums():
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    return {(p["name"], p["version"]): p.get("checksum") for p in lock["package"]}


def component(package, checksum, kind):
    made = {
        "type": kind,
        "bom-ref": purl(package),
        "name": package["name"],
        "version": package["version"],
        "purl": purl(package),
    }
    if package["description"]:
        made["description"] = " ".join(package["description"].split())
    if package["license"]:
        # Some crates write the old form, in which `/` means `or`.
        made["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    if checksum:
        made["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    return made


def sbom(found, graph, root):
    sums = checksums()
    parts = {
        id: component(p, sums.get((p["name"], p["version"])), "application" if id == root else "library")
        for id, p in found.items()
    }
    when = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    made = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when)),
            "component": parts[root],
        },
        "components": sorted((part for id, part in parts.items() if id != root), key=lambda part: part["bom-ref"]),
        "dependencies": sorted(
            ({"ref": purl(found[id]), "dependsOn": [purl(found[dep]) for dep in deps]} for id, deps in graph.items()),
            key=lambda entry: entry["ref"],
        ),
    }
    content = json.dumps(made, sort_keys=True)
    return {"serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, content)}"} | made


def texts(package):
    folder = pathlib.Path(package["manifest_path"]).parent
    files = sorted(file for file in folder.iterdir() if file.name.lower().startswith(LICENCES) and file.is_file())
    if package["license_file"]:
        files.append(folder / package["license_file"])
    return [file.read_text(errors="replace").strip() for file in dict.fromkeys(files)]


def licences(found, root):
    """One text: every crate with its licence, then every licence's text once, with the crates that have it."""
    crates, holders, lacking = [], {}, []
    for id, package in sorted(found.items(), key=lambda entry: purl(entry[1])):
        if id == root:
            continue
        name = f"{package['name']} {package['version']}"
        crates.append(f"{name}: {package['license'] or 'see its text'}")
        own = texts(package)
        if not own:
            lacking.append(name)
        for text in own:
            holders.setdefault(text, []).append(name)
    for file in TOOLCHAIN:
        text = (ROOT / "packaging" / "licences" / file).read_text().strip()
        holders.setdefault(text, []).append(file.removesuffix(".txt"))
    parts = ["Sluicegate contains these works of others.\n\n" + "\n".join(crates)]
    if lacking:
        parts.append("These come without a file for their licence; the texts are those of the others:\n" + ", ".join(lacking))
    for text, names in sorted(holders.items(), key=lambda entry: entry[1]):
        parts.append(", ".join(names) + ":\n\n" + text)
    return ("\n\n" + "-" * 80 + "\n\n").join(parts) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", required=True)
    parser.add_argument("--sbom", type=pathlib.Path, required=True)
    parser.add_argument("--licences", type=pathlib.Path, required=True)
    options = parser.parse_args()
    found, graph, root = packages(options.target)
    options.sbom.write_text(json.dumps(sbom(found, graph, root), indent=1) + "\n")
    options.licences.write_text(licences(found, root))


if __name__ == "__main__":
    main()
