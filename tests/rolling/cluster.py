"""Gateways as pods of a Deployment, the way Kubernetes replaces them."""

import asyncio
import hashlib
import json
import os
import re
import signal

from states import STATES
from wire import Broken, Connection

STARTING = 20
KEY = "sk-sg-rolling-0123456789abcdef0123456789abcdef"


class Times:
    """The figures of a Deployment, in seconds."""

    def __init__(self, endpoints, pre_stop, drain, grace):
        # How long it takes until the balancer knows that a pod terminates.
        self.endpoints = endpoints
        self.pre_stop = pre_stop
        self.drain = drain
        # From the beginning of the termination to SIGKILL.
        self.grace = grace


class Pod:
    """One gateway process."""

    def __init__(self, name, binary, folder, config):
        self.name = name
        self.port = self.admin_port = None
        self.ended = None
        # Whether Kubernetes would have had to kill it.
        self.was_killed = False
        self._binary = binary
        self._log = folder / f"{name}.log"
        self._config = config
        self.process = None

    async def start(self):
        anywhere = "127.0.0.1:0"
        words = [self._binary, "serve", "--config", self._config, "--listen", anywhere, "--admin-listen", anywhere]
        environment = {"PATH": os.environ.get("PATH", ""), "RUST_LOG": "info"}
        with open(self._log, "wb") as log:
            self.process = await asyncio.create_subprocess_exec(*map(str, words), env=environment, stderr=log)
        for _ in range(STARTING * 20):
            if found := re.search(r'"serving".*', self._log.read_text("utf-8", "replace")):
                fields = dict(re.findall(r'"(clients|admin)":"[^"]*:(\d+)"', self._line(found[0])))
                self.port, self.admin_port = int(fields["clients"]), int(fields["admin"])
                break
            await asyncio.sleep(0.05)
        else:
            raise RuntimeError(f"a gateway did not start: see {self._log}")
        while not await self.is_ready():
            await asyncio.sleep(0.05)

    def _line(self, found):
        lines = self._log.read_text("utf-8", "replace").splitlines()
        return next(line for line in lines if found in line)

    async def is_ready(self):
        connection = Connection(self.admin_port)
        try:
            response = await connection.send("GET", "/readyz", {})
            await response.body()
            return response.status == 200
        except Broken:
            return False
        finally:
            connection.close()

    async def metrics(self):
        connection = Connection(self.admin_port)
        try:
            response = await connection.send("GET", "/metrics", {})
            return (await response.body()).decode()
        finally:
            connection.close()

    async def terminate(self, times):
        """preStop, SIGTERM, and SIGKILL when the grace has passed."""
        clock = asyncio.get_running_loop()
        began = clock.time()
        await asyncio.sleep(times.pre_stop)
        self.process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.process.wait(), began + times.grace - clock.time())
        except TimeoutError:
            self.was_killed = True
            await self.kill()
        self.ended = clock.time() - began

    async def kill(self):
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


class Cluster:
    """Pods behind a balancer."""

    def __init__(self, options, folder, balancer, upstream_port, times, old_binary=None):
        self.balancer = balancer
        self.state = STATES[options.state](options.valkey, folder, options.tls)
        self.pods = []
        self.gone = []
        self.times = times
        # A rollout replaces pods of this binary.
        self._old_binary = old_binary
        self._binary = options.binary
        self._folder = folder
        self._upstream_port = upstream_port
        self._count = 0
        self._config = None

    async def start(self, replicas=3):
        await self.state.start()
        # Once: a pod that reads the file again while it is written would load half of it.
        self._config = self._write_config()
        await self.balancer.start()
        for _ in range(replicas):
            await self._add(self._old_binary or self._binary)

    async def stop(self):
        for pod in self.pods + self.gone:
            await pod.kill()
        await self.balancer.stop()
        await self.state.stop()

    async def _add(self, binary):
        self._count += 1
        pod = Pod(f"pod{self._count}", binary, self._folder, self._config)
        await pod.start()
        self.pods.append(pod)
        await self.balancer.add(pod)
        return pod

    async def roll(self, times=None):
        """Replaces every pod: maxSurge 1, maxUnavailable 0. Pods that terminate do not hold up the next one."""
        terminating = []
        for pod in list(self.pods):
            await self._add(self._binary)
            self.pods.remove(pod)
            self.gone.append(pod)
            terminating.append(asyncio.create_task(self._terminate(pod, times or self.times)))
        await asyncio.gather(*terminating)

    async def _terminate(self, pod, times):
        async def leave_endpoints():
            await asyncio.sleep(times.endpoints)
            await self.balancer.remove(pod)

        await asyncio.gather(leave_endpoints(), pod.terminate(times))
        self.balancer.forget(pod)

    async def lose(self):
        """A pod is killed, for example with its node. It leaves the endpoints later, and is replaced."""
        pod = self.pods.pop(0)
        self.gone.append(pod)
        await pod.kill()
        await asyncio.sleep(self.times.endpoints)
        await self.balancer.remove(pod)
        self.balancer.forget(pod)
        await self._add(self._binary)

    def _write_config(self):
        config = {
            "upstreams": {"a": {"wire": "openai-chat", "base_url": f"http://127.0.0.1:{self._upstream_port}/v1"}},
            "models": {
                "plain": {"targets": [{"upstream": "a", "model": "scripted"}]},
                "continued": {"continue": "on", "targets": [{"upstream": "a", "model": "scripted"}]},
            },
            "keys": [
                {
                    "name": "app",
                    "sha256": hashlib.sha256(KEY.encode()).hexdigest(),
                    "limits": {"requests": "100000/min", "tokens": "100000k/min", "streams": 5000},
                }
            ],
            "trusted_proxies": ["127.0.0.1/32"],
            "resume": {"window": "60s"},
            "drain": f"{self.times.drain}s",
            "state": self.state.setting(),
        }
        path = self._folder / "gateway.yaml"
        # JSON is YAML.
        path.write_text(json.dumps(config, indent=1), "utf-8")
        return path
