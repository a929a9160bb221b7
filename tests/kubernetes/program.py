"""The gateway's binary: what it listens to, counts, accepts as options, and thinks of a config."""

import json
import os
import pathlib
import subprocess
import urllib.request

CERTIFICATES = pathlib.Path(__file__).parent.parent / "integration" / "exchange" / "certificates"
PATHS = ("/livez", "/readyz", "/metrics")


class Program:
    def __init__(self, binary, work):
        self.binary = binary.resolve()
        self.secrets = work / "secrets"
        self._checked = {}
        self._help = {}

    def facts(self):
        """The paths that the admin listener answers, and the names of the metrics."""
        command = [self.binary, "demo", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            admin = next(address for line in running.stderr if (address := _admin_address(line)))
            answers = {}
            for path in PATHS:
                with urllib.request.urlopen(f"http://{admin}{path}", timeout=10) as answer:
                    answers[path] = answer.read().decode()
        finally:
            running.terminate()
            running.communicate()
        metrics = {line.split()[2] for line in answers["/metrics"].splitlines() if line.startswith("# TYPE ")}
        return set(answers), metrics

    def check_config(self, text, variables):
        """What `sluicegate check` says against the config; empty if nothing. Every file that it names is there."""
        self._write_secrets(text)
        moved = text.replace("/run/secrets/", f"{self.secrets}/")
        if moved not in self._checked:
            file = self.secrets / "sluicegate.yaml"
            file.write_text(moved)
            environment = {"PATH": os.environ["PATH"]} | {name: "value" for name in variables}
            done = subprocess.run([self.binary, "check", "--config", file], env=environment, capture_output=True, text=True)
            self._checked[moved] = done.stderr if done.returncode else ""
        return self._checked[moved]

    def _write_secrets(self, text):
        tls = self.secrets / "tls"
        tls.mkdir(parents=True, exist_ok=True)
        (tls / "tls.crt").write_bytes((CERTIFICATES / "test-local.pem").read_bytes())
        (tls / "tls.key").write_bytes((CERTIFICATES / "test-key.pem").read_bytes())
        folder = self.secrets / "sluicegate"
        folder.mkdir(exist_ok=True)
        for reference in text.split("${file:/run/secrets/sluicegate/")[1:]:
            (folder / reference.split("}")[0]).write_text("secret")
        for file in self.secrets.glob("*/*"):
            file.chmod(0o600)

    def unknown_options(self, arguments):
        """The options in this command line that the binary does not have."""
        command = arguments[0]
        if command not in self._help:
            done = subprocess.run([self.binary, command, "--help"], check=True, capture_output=True, text=True)
            self._help[command] = done.stdout
        options = [argument.split("=")[0] for argument in arguments[1:] if argument.startswith("--")]
        return [option for option in options if f"{option} " not in self._help[command]]


def _admin_address(line):
    """The address of the admin listener, if this line of the log names it."""
    return json.loads(line).get("admin") if line.startswith("{") else None
