"""The gateway: the real program, its config, its log, its metrics and what the system says of it."""

import asyncio
import collections
import json
import pathlib
import re
import signal

from http1 import read_answer_head, read_whole

STARTING = 30
METRIC = re.compile(r"^(\w+?)(?:\{(.*)\})? (\S+)$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Gateway:
    """Stops with `stop`; its log is read all the time and not kept."""

    def __init__(self, binary, folder):
        self._binary = binary
        self._config = folder / "gateway.yaml"
        self._process = None
        self._serving = asyncio.get_running_loop().create_future()
        self.reloads = 0
        self.bad_lines = []
        self.messages = collections.Counter()
        self.last_lines = collections.deque(maxlen=200)

    async def start(self, config):
        self._write(config)
        anywhere = "127.0.0.1:0"
        command = [self._binary, "serve", "--config", self._config, "--listen", anywhere, "--admin-listen", anywhere]
        self._process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT, env={"RUST_LOG": "info", "RUST_BACKTRACE": "1"}, limit=1 << 20)
        self._reader = asyncio.create_task(self._read_log())
        await asyncio.wait([self._serving, self._reader], timeout=STARTING, return_when=asyncio.FIRST_COMPLETED)
        if not self._serving.done():
            raise RuntimeError("the gateway did not start:\n" + "\n".join(self.last_lines))
        fields = self._serving.result()
        self.clients, self.admin = fields["clients"], fields["admin"]

    async def reload(self, config):
        self._write(config)
        self._process.send_signal(signal.SIGHUP)
        self.reloads += 1

    async def stop(self):
        """The exit code, and how many seconds it took."""
        began = asyncio.get_running_loop().time()
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            code = await asyncio.wait_for(self._process.wait(), STARTING)
        except TimeoutError:
            self._process.kill()
            code = await self._process.wait()
        await self._reader
        return code, asyncio.get_running_loop().time() - began

    @property
    def is_running(self):
        return self._process.returncode is None

    def memory(self):
        """The resident memory in KiB."""
        status = pathlib.Path(f"/proc/{self._process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1])

    def descriptors(self):
        return len(list(pathlib.Path(f"/proc/{self._process.pid}/fd").iterdir()))

    def connections(self, addresses):
        """How many connections to these it has open, with those that the other side has closed."""
        ports = {f":{int(address.rsplit(':', 1)[1]):04X}" for address in addresses}
        _, *lines = pathlib.Path("/proc/net/tcp").read_text().splitlines()
        rows = (line.split() for line in lines)
        # The last one is the socket's file; 0 where the program has none any more.
        return sum(row[2][-5:] in ports and row[9] != "0" for row in rows)

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / 100

    async def metrics(self):
        _, text = await get(self.admin, "/metrics")
        return Metrics(text)

    def _write(self, config):
        # In one step: the gateway also looks at the file by itself.
        new = self._config.with_suffix(".new")
        new.write_text(json.dumps(config, indent=1), "utf-8")
        new.rename(self._config)

    async def _read_log(self):
        async for line in self._process.stdout:
            text = line.decode(errors="replace").rstrip("\n")
            self.last_lines.append(text)
            try:
                fields = json.loads(text)
            except ValueError:
                # Every line of the log is JSON; a panic's is not. Warnings of the config come before the log.
                if not text.startswith("warning: "):
                    self.bad_lines.append(text)
                continue
            fields = {**fields, **fields.get("fields", {})}
            level, message = fields.get("level"), fields.get("message")
            self.messages[f"{level} {message}"] += 1
            if level == "ERROR":
                self.bad_lines.append(text)
            if message == "serving" and not self._serving.done():
                self._serving.set_result(fields)


class Metrics:
    def __init__(self, text):
        self._values = []
        for line in text.splitlines():
            if found := METRIC.match(line):
                self._values.append((found[1], dict(LABEL.findall(found[2] or "")), float(found[3])))

    def sum(self, name, **labels):
        return sum(value for _, value in self.all(name, **labels))

    def all(self, name, **labels):
        """Each labels and value of a metric that has these labels among its own."""
        for found, own, value in self._values:
            if found == f"sluicegate_{name}" and labels.items() <= own.items():
                yield own, value


async def get(address, path):
    host, port = address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 22)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n".encode())
        first, headers = await read_answer_head(reader)
        return int(first.split()[1]), (await read_whole(reader, headers)).decode()
    finally:
        writer.close()
