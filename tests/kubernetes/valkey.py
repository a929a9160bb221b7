"""The command of the chart's Valkey pod, run with a real server: the password is needed, nothing is saved, and SIGTERM ends
the server itself, not a shell before it."""

import os
import socket
import subprocess
import time

import chart
from variations import VARIATIONS

PASSWORD = "0123456789abcdef"


def _script(work, port):
    objects = chart.objects(chart.render(VARIATIONS["Valkey"]))
    deployment = next(o for o in objects if o["kind"] == "Deployment" and o["metadata"]["name"].endswith("-valkey"))
    shell, options, text = deployment["spec"]["template"]["spec"]["containers"][0]["command"]
    text = text.replace("/run/secrets/valkey", str(work)).replace("dir /tmp", f"dir {work}\nport {port}\nbind 127.0.0.1")
    return [shell, options, text]


def _free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _connect(port, server):
    deadline = time.monotonic() + 60
    while server.poll() is None and time.monotonic() < deadline:
        try:
            return socket.create_connection(("127.0.0.1", port), 10)
        except ConnectionRefusedError:
            time.sleep(0.02)
    raise RuntimeError("the server does not listen")


def _start(binary, work, password):
    work.mkdir(exist_ok=True)
    (work / "password").write_text(password + "\n")
    programs = work / "bin"
    programs.mkdir(exist_ok=True)
    link = programs / "valkey-server"
    if not link.exists():
        link.symlink_to(binary)
    port = _free_port()
    environment = {"PATH": f"{programs}:{os.environ['PATH']}"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return port, subprocess.Popen(_script(work, port), env=environment, **pipes)


def problems(binary, work):
    work = work / "valkey"
    port, server = _start(binary, work, PASSWORD)
    try:
        with _connect(port, server) as connection:
            stream = connection.makefile("rwb", buffering=0)

            def ask(command, lines=1):
                stream.write(command.encode() + b"\r\n")
                return b" ".join(stream.readline().strip() for _ in range(lines))

            if not ask("PING").startswith(b"-NOAUTH"):
                yield "it answers without the password"
            if ask(f"AUTH {PASSWORD}") != b"+OK":
                yield "it refuses the password"
            for setting, value in {"maxmemory-policy": b"noeviction", "maxmemory": b"4294967296", "save": b""}.items():
                if ask(f"CONFIG GET {setting}", 5).split(b" ")[4:] != [value]:
                    yield f"{setting} is not {value}"
        with open(f"/proc/{server.pid}/cmdline") as file:
            if PASSWORD in file.read():
                yield "the password is in the command line"
    finally:
        server.terminate()
        output, _ = server.communicate(timeout=60)
    if server.returncode:
        yield f"exit status {server.returncode} after SIGTERM: {output[-500:]}"
    for bad in ("", "with space", "a$(id)"):
        _, server = _start(binary, work, bad)
        output, _ = server.communicate(timeout=60)
        if server.returncode != 1 or "letters and digits" not in output:
            yield f"the password {bad!r} is accepted: {output[-500:]}"
