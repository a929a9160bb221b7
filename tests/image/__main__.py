"""The image that `make image` wrote, unpacked and run as a container without an engine: the demo answers, the health
check works, names are resolved, the certificates are there, and the root stays as it was."""

import argparse
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import threading
import urllib.request

from container import Container
from layout import Layout

MAX_BYTES = 25_000_000


def check(condition, problem):
    if not condition:
        raise AssertionError(problem)


def ready(running):
    """The addresses of the clients' listener and the admin listener."""
    for line in running.stderr:
        fields = json.loads(line)
        if fields.get("message") == "serving":
            # Nobody reads the rest otherwise, and the program would stop at a full pipe.
            threading.Thread(target=running.stderr.read, daemon=True).start()
            return fields["clients"], fields["admin"]
    raise AssertionError(f"it ended with {running.wait()}")


def stop(running):
    running.terminate()
    check(running.wait(60) == 0, f"exit status {running.returncode}")


def demo(container, status):
    running = container.start(["demo", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
    clients, admin = ready(running)
    with urllib.request.urlopen(f"http://{clients}/v1/streams?model=demo&prompt=Hello", timeout=60) as answer:
        text = answer.read().decode()
    check("event: token" in text and "event: complete" in text, text)
    port = admin.rsplit(":", 1)[1]
    status(running.pid)
    for name in ("localhost", "gateway", "gateway.cluster.example"):
        code, _, error = container.run(["healthcheck", "--admin", f"{name}:{port}"])
        check(code == 0, f"healthcheck at {name}: {error}")
    stop(running)
    code, _, _ = container.run(["healthcheck", "--admin", f"localhost:{port}"])
    check(code == 1, f"healthcheck of a gateway that stopped: {code}")


def status(pid):
    """The process is the image's user, and has no rights."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    check(fields["Uid"].split()[0] == "65532", fields["Uid"])
    for name in ("CapEff", "CapPrm", "CapBnd"):
        check(int(fields[name], 16) == 0, f"{name} {fields[name]}")
    check(fields["NoNewPrivs"] == "1", "new privileges")


def without_config(container):
    code, _, error = container.run()
    check(code == 2, f"exit status {code}: {error}")
    check("/etc/sluicegate/sluicegate.yaml" in error and "mount your config there" in error, error)


def with_config(container, folder):
    """A config that is mounted, with an upstream over TLS: the certificates must be there."""
    (folder / "sluicegate.yaml").write_text(
        "listen: 127.0.0.1:0\nadmin_listen: 127.0.0.2:0\nupstreams: { openai: { api_key: k } }\n"
        "models: { m: { targets: [ { upstream: openai, model: m } ] } }\n"
    )
    mount = container.root / "etc" / "sluicegate"
    subprocess.run(["mount", "--bind", folder, mount], check=True)
    running = container.start()
    ready(running)
    stop(running)
    # Without the certificates, it would have refused to start.
    empty = folder / "empty"
    empty.touch()
    certificates = container.root / "etc" / "ssl" / "certs" / "ca-certificates.crt"
    subprocess.run(["mount", "--bind", empty, certificates], check=True)
    code, _, error = container.run()
    check(code == 1 and "certificates" in error, f"{code}: {error}")
    subprocess.run(["umount", certificates], check=True)
    subprocess.run(["umount", mount], check=True)


def contents(root):
    """Only what the image needs; every file is readable for everyone and writable for its owner alone."""
    files = {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file()}
    documents = "usr/share/doc/sluicegate/"
    expected = {"etc/passwd", "etc/group", "etc/ssl/certs/ca-certificates.crt", "usr/local/bin/sluicegate"}
    expected |= {documents + name for name in ("LICENSE", "THIRD-PARTY-LICENSES.txt.gz", "sluicegate.cdx.json")}
    check(set(files) == expected, f"files {sorted(files)}")
    for name, path in files.items():
        mode = path.stat().st_mode & 0o777
        check(mode == (0o755 if name.endswith("bin/sluicegate") else 0o644), f"{name}: mode {mode:o}")
    parts = json.loads(files[documents + "sluicegate.cdx.json"].read_text())
    names = {component["name"] for component in parts["components"]}
    check({"tokio", "rustls", "hyper"} <= names and "proptest" not in names, f"the SBOM names {len(names)} crates")
    for component in parts["components"]:
        check(component.get("licenses") and component.get("hashes"), f"the SBOM lacks facts of {component['name']}")


def resolver():
    """A name server that gives 127.0.0.1 for every name: the program's own resolver must ask it."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))

    def serve():
        while True:
            query, client = server.recvfrom(512)
            end = query.index(b"\0", 12) + 5
            question, kind = query[12:end], query[end - 4 : end - 2]
            record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x7f\0\0\1" if kind == b"\0\1" else b""
            count = b"\0\1" if record else b"\0\0"
            server.sendto(query[:2] + b"\x81\x80\0\1" + count + b"\0\0\0\0" + question + record, client)

    threading.Thread(target=serve, daemon=True).start()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layout", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    options = parser.parse_args()
    if os.environ.get("SLUICEGATE_IN_NAMESPACES") != "yes":
        isolate = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
        os.environ["SLUICEGATE_IN_NAMESPACES"] = "yes"
        os.execvp(isolate[0], [*isolate, sys.executable, "-B", *sys.argv])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    resolver()
    shutil.rmtree(options.work, ignore_errors=True)
    root, folder = options.work / "root", options.work / "config"
    root.mkdir(parents=True)
    folder.mkdir()
    layout = Layout(options.layout)
    packed, unpacked = layout.unpack(root)
    check(unpacked < MAX_BYTES, f"{unpacked} bytes")
    contents(root)
    container = Container(root.resolve(), layout.config)
    demo(container, status)
    without_config(container)
    with_config(container, folder)
    print(f"image: {packed / 1e6:.1f} MB packed, {unpacked / 1e6:.1f} MB unpacked; runs as {layout.config['User']} on a read-only root")


main()
