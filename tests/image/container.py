"""Runs the program of an unpacked image as a container would: its own root that cannot be written, its user, no
capabilities, no new privileges. Needs root, and name spaces that the caller has left (`unshare`)."""

import ctypes
import os
import pathlib
import subprocess

PR_SET_NO_NEW_PRIVS, PR_CAPBSET_DROP = 38, 24
CAPABILITIES = 41
# What every runtime makes in the root before it closes it.
HOSTS = "127.0.0.1 localhost gateway\n::1 localhost\n"


class Container:
    def __init__(self, root, config):
        self.root, self.config = pathlib.Path(root), config
        for name in ("proc", "dev", "sys"):
            (self.root / name).mkdir(exist_ok=True)
        (self.root / "etc" / "hosts").write_text(HOSTS)
        (self.root / "etc" / "resolv.conf").write_text("nameserver 127.0.0.1\n")
        _mount("--bind", self.root, self.root)
        _mount("-t", "proc", "proc", self.root / "proc")
        _mount("-o", "remount,bind,ro", self.root)

    def command(self, arguments=None):
        """The image's own command, or others behind its entry point."""
        return self.config["Entrypoint"] + (self.config["Cmd"] if arguments is None else arguments)

    def start(self, arguments=None, **environment):
        variables = dict(pair.split("=", 1) for pair in self.config["Env"]) | environment
        return subprocess.Popen(
            self.command(arguments),
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=self._enter,
        )

    def run(self, arguments=None, **environment):
        with self.start(arguments, **environment) as running:
            output, error = running.communicate(timeout=60)
        return running.returncode, output, error

    def _enter(self):
        user, group = map(int, self.config["User"].split(":"))
        libc = ctypes.CDLL(None, use_errno=True)
        os.chroot(self.root)
        os.chdir("/")
        for capability in range(CAPABILITIES):
            libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
        os.setgroups([])
        os.setgid(group)
        os.setuid(user)
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _mount(*arguments):
    subprocess.run(["mount", *arguments], check=True)
