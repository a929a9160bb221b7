"""What the gateways share: one Valkey server, a master with replicas behind Sentinels, or a cluster; with or without TLS."""

import asyncio
import re

from balancers import free_port
from certificates import Certificates

# How long servers may take to start, to find each other, and to replace one that failed.
TIMEOUT = 60


class Valkey:
    """A server that stores nothing on disk."""

    def __init__(self, program, folder, tls, more=()):
        self._program = program
        self._folder = folder
        self._tls = tls
        self._more = more
        self.port = free_port()
        self._process = None

    def words(self):
        port = ["--port", 0, "--tls-port", self.port] if self._tls else ["--port", self.port]
        words = [*port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", 0]
        words += ["--dir", self._folder, "--dbfilename", f"{self.port}.rdb", "--repl-diskless-load", "swapdb"]
        words += ["--logfile", self._folder / f"valkey-{self.port}.log"]
        for name, value in self._tls_settings():
            words += [f"--{name}", value]
        return words

    def _tls_settings(self):
        """Every connection is over TLS, those between the servers too, and both sides show a certificate."""
        if not self._tls:
            return []
        settings = [("tls-ca-cert-file", self._tls.ca), ("tls-auth-clients", "yes"), ("tls-replication", "yes")]
        return settings + [("tls-cert-file", self._tls.server.cert), ("tls-key-file", self._tls.server.key)]

    async def start(self):
        words = [self._program, *self.words(), *self._more]
        self._process = await asyncio.create_subprocess_exec(*map(str, words), stdout=asyncio.subprocess.DEVNULL)

        async def answers():
            try:
                return await self.command("PING") == "PONG"
            except (OSError, EOFError):
                return False

        await until(answers, f"a server starts: see {self._folder}")

    async def limit_memory(self, more):
        """Allows so many bytes more than there are now, and drops keys at random beyond."""
        used = await self._figure("memory", "used_memory")
        await self.command("CONFIG SET maxmemory-policy allkeys-random")
        await self.command(f"CONFIG SET maxmemory {used + more}")

    async def evicted(self):
        """How many keys were dropped."""
        return await self._figure("stats", "evicted_keys")

    async def _figure(self, section, name):
        text = await self.command(f"INFO {section}")
        return int(re.search(rf"^{name}:(\d+)", text, re.MULTILINE)[1])

    async def is_master(self):
        return (await self.command("ROLE"))[0] == "master"

    async def command(self, words):
        context = self._tls.context() if self._tls else None
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context)
        try:
            writer.write(f"{words}\r\n".encode())
            return await _answer(reader)
        finally:
            writer.close()

    async def stop(self):
        if self._process and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


class Sentinel(Valkey):
    """Watches a master under the name `main`."""

    def __init__(self, program, folder, tls, master):
        super().__init__(program, folder, tls)
        self._master = master

    def words(self):
        port = [("port", 0), ("tls-port", self.port)] if self._tls else [("port", self.port)]
        settings = [*port, ("bind", "127.0.0.1"), ("dir", self._folder), *self._tls_settings()]
        settings += [("logfile", self._folder / f"sentinel-{self.port}.log")]
        settings += [("sentinel monitor main 127.0.0.1", f"{self._master.port} 2")]
        settings += [("sentinel down-after-milliseconds main", 5000), ("sentinel failover-timeout main", 10000)]
        # A Sentinel writes to its config.
        file = self._folder / f"sentinel-{self.port}.conf"
        file.write_text("".join(f"{name} {value}\n" for name, value in settings))
        return [file, "--sentinel"]

    async def is_complete(self):
        """Whether it knows two linked replicas and the other Sentinels, so that it can replace the master."""
        replicas = await self.command("SENTINEL replicas main")
        linked = [fields for fields in replicas if fields[fields.index("master-link-status") + 1] == "ok"]
        return len(linked) == 2 and (await self.command("SENTINEL ckquorum main")).startswith("OK 3 usable")


class State:
    """The servers, and the setting `state` of the gateways."""

    def __init__(self, program, folder, tls):
        self._program = program
        self._folder = folder
        self.tls = Certificates(folder) if tls else None
        self.servers = []

    def _server(self, *more):
        self.servers.append(Valkey(self._program, self._folder, self.tls, more))
        return self.servers[-1]

    def _url(self, host):
        return f"{'rediss' if self.tls else 'redis'}://{host}"

    def _section(self, **settings):
        if self.tls:
            client = {"cert": str(self.tls.client.cert), "key": str(self.tls.client.key)}
            settings |= {"ca": str(self.tls.ca), "client_cert": client}
        return settings

    async def stop(self):
        for server in self.servers:
            await server.stop()


class OneServer(State):
    async def start(self):
        self.server = self._server()
        await self.server.start()

    def setting(self):
        return self._section(url=self._url(f"127.0.0.1:{self.server.port}/0"))

    async def restart(self, down):
        await self.server.stop()
        await asyncio.sleep(down)
        await self.server.start()


class BehindSentinel(State):
    """A master with two replicas, and three Sentinels."""

    async def start(self):
        # As docs/operations.md advises.
        safe = ("--min-replicas-to-write", 1)
        self._master = self._server(*safe)
        await self._master.start()
        self._replicas = [self._server(*safe, "--replicaof", "127.0.0.1", self._master.port) for _ in range(2)]
        for replica in self._replicas:
            await replica.start()
        self._sentinels = [Sentinel(self._program, self._folder, self.tls, self._master) for _ in range(3)]
        self.servers += self._sentinels
        for sentinel in self._sentinels:
            await sentinel.start()
        for sentinel in self._sentinels:
            await until(sentinel.is_complete, "the Sentinels find the replicas and each other")

    def setting(self):
        sentinels = [f"127.0.0.1:{sentinel.port}" for sentinel in self._sentinels]
        return self._section(url=self._url("main/0"), sentinels=sentinels)

    async def fail_over(self):
        """The master is killed. Returns when a replica has its place."""
        await self._master.stop()

        async def replaced():
            return any([await replica.is_master() for replica in self._replicas])

        await until(replaced, "a replica becomes the master")


class Sharded(State):
    """A cluster of three masters, each with a replica."""

    SLOTS = ((0, 5460), (5461, 10922), (10923, 16383))

    async def start(self):
        buses = {}
        for number in range(6):
            bus = free_port()
            more = ["--cluster-enabled", "yes", "--cluster-port", bus, "--cluster-node-timeout", 2000]
            more += ["--cluster-require-full-coverage", "no", "--cluster-config-file", f"nodes-{number}.conf"]
            more += ["--tls-cluster", "yes"] if self.tls else []
            server = self._server(*more)
            buses[server] = bus
            await server.start()
        self._masters, self._replicas = self.servers[:3], self.servers[3:]
        for master, (first, last) in zip(self._masters, self.SLOTS):
            await master.command(f"CLUSTER ADDSLOTSRANGE {first} {last}")
        for server in self.servers[1:]:
            await server.command(f"CLUSTER MEET 127.0.0.1 {self.servers[0].port} {buses[self.servers[0]]}")
        for server in self.servers:
            await until(lambda server=server: self._knows(server, "", 6), "the servers of the cluster find each other")
        for master, replica in zip(self._masters, self._replicas):
            name = await master.command("CLUSTER MYID")

            async def follows(replica=replica, name=name):
                return await replica.command(f"CLUSTER REPLICATE {name}") == "OK"

            await until(follows, "a replica follows its master")
            await until(lambda replica=replica: _is_linked(replica), "a replica has copied its master")
        for server in self.servers:
            await until(lambda server=server: self._knows(server, "slave ", 3), "every server knows the replicas")

    async def _knows(self, server, role, count):
        nodes = await server.command("CLUSTER NODES")
        return len(re.findall(rf"^[0-9a-f]{{40}} \S+ (?:myself,)?{role}", nodes, re.MULTILINE)) >= count and "handshake" not in nodes

    def setting(self):
        # The first server is the one that fails, so the gateways must know the others by then.
        return self._section(url=self._url(f"127.0.0.1:{self.servers[0].port}"), cluster="on")

    async def fail_over(self):
        """A master is killed. Returns when its replica has its place."""
        await self._masters[0].stop()
        await until(self._replicas[0].is_master, "the replica becomes a master")


async def _is_linked(replica):
    return "master_link_status:up" in await replica.command("INFO replication")


async def _answer(reader):
    """One answer: a text, or a list of answers. An error is a text that begins with `-`."""
    line = (await reader.readuntil(b"\r\n"))[:-2].decode()
    kind, rest = line[0], line[1:]
    if kind == "*":
        return [await _answer(reader) for _ in range(int(rest))]
    if kind == "$":
        return (await reader.readexactly(int(rest) + 2))[:-2].decode() if int(rest) >= 0 else None
    return line if kind == "-" else rest


async def until(test, what):
    for _ in range(TIMEOUT * 20):
        if await test():
            return
        await asyncio.sleep(0.05)
    raise RuntimeError(f"in vain: {what}")


STATES = {"server": OneServer, "sentinel": BehindSentinel, "cluster": Sharded}
