"""HAProxy and nginx, configured as their Kubernetes ingress controllers configure them."""

import asyncio
import os
import socket

SLOTS = 8

# The timeouts and the slots of haproxy-ingress, which changes slots at run time and does not reload.
HAPROXY = """
global
    maxconn 8000
    stats socket {folder}/haproxy.sock mode 600 level admin
defaults
    mode http
    option redispatch
    retries 3
    timeout connect 5s
    timeout client 50s
    timeout server 50s
    timeout client-fin 50s
    timeout tunnel 1h
    timeout queue 5s
    timeout http-request 5s
    timeout http-keep-alive 1m
frontend clients
    bind 127.0.0.1:{port}
    option forwardfor
    default_backend gateway
backend gateway
    balance roundrobin
    option httpchk GET /readyz
    http-check expect status 200
    default-server check inter 1s fall 2 rise 1 disabled
{slots}
"""

# The settings of ingress-nginx. Changed endpoints are a reload, as in NGINX's own controller.
NGINX = """
daemon off;
worker_processes 1;
worker_shutdown_timeout 240s;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_timeout 75s;
    upstream gateway {{
{servers}
        keepalive 320;
        keepalive_timeout 60s;
        keepalive_requests 10000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location / {{
            proxy_pass http://gateway;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_connect_timeout 5s;
            proxy_send_timeout 60s;
            proxy_read_timeout 60s;
            proxy_buffering off;
            proxy_next_upstream error timeout;
            proxy_next_upstream_tries 3;
            client_max_body_size 10m;
        }}
    }}
}}
"""


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Balancer:
    """A balancer with a set of endpoints: gateways that take new requests."""

    name = ""

    def __init__(self, folder):
        self.folder = folder / self.name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.process = None

    async def start(self):
        self.process = await asyncio.create_subprocess_exec(*self.command(), stderr=self._log(), stdout=self._log())
        for _ in range(200):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.close()
                return
            except OSError:
                await asyncio.sleep(0.05)
        raise RuntimeError(f"{self.name} did not start: see {self.folder}")

    def _log(self):
        return open(self.folder / "output.log", "ab")

    async def stop(self):
        if self.process and self.process.returncode is None:
            self.process.terminate()
            await self.process.wait()


class Haproxy(Balancer):
    name = "haproxy"

    def command(self):
        slots = "\n".join(f"    server slot{number} 127.0.0.1:1 check port 1" for number in range(SLOTS))
        config = self.folder / "haproxy.cfg"
        config.write_text(HAPROXY.format(folder=self.folder, port=self.port, slots=slots))
        self._slots = {}
        return ["haproxy", "-db", "-f", config]

    async def add(self, pod):
        slot = next(number for number in range(SLOTS) if number not in self._slots.values())
        self._slots[pod.name] = slot
        server = f"set server gateway/slot{slot}"
        await self._run(f"{server} addr 127.0.0.1 port {pod.port}")
        await self._run(f"{server} check-port {pod.admin_port}")
        await self._run(f"{server} health up")
        await self._run(f"{server} state ready")

    async def remove(self, pod):
        """New requests go elsewhere; open streams stay."""
        slot = self._slots.get(pod.name)
        if slot is not None:
            await self._run(f"set server gateway/slot{slot} state maint")

    def forget(self, pod):
        """The pod has ended, so its slot may be used again."""
        self._slots.pop(pod.name, None)

    async def _run(self, command):
        reader, writer = await asyncio.open_unix_connection(self.folder / "haproxy.sock")
        writer.write(command.encode() + b"\n")
        answer = (await reader.read()).decode()
        writer.close()
        if "no such" in answer.lower() or "invalid" in answer.lower() or "require" in answer.lower():
            raise RuntimeError(f"haproxy: {command}: {answer}")


class Nginx(Balancer):
    name = "nginx"

    def command(self):
        self._pods = []
        self._write()
        return ["nginx", "-p", self.folder, "-c", self.folder / "nginx.conf", "-e", self.folder / "nginx.log"]

    async def add(self, pod):
        self._pods.append(pod)
        await self._reload()

    async def remove(self, pod):
        if pod in self._pods:
            self._pods.remove(pod)
            await self._reload()

    def forget(self, pod):
        pass

    async def _reload(self):
        self._write()
        self.process.send_signal(1)
        await asyncio.sleep(0)

    def _write(self):
        # Without an endpoint nginx would not start.
        servers = [f"        server 127.0.0.1:{pod.port};" for pod in self._pods] or ["        server 127.0.0.1:1;"]
        text = NGINX.format(folder=self.folder, port=self.port, servers="\n".join(servers))
        if os.geteuid() == 0:
            text = "user root;\n" + text
        (self.folder / "nginx.conf").write_text(text)


BALANCERS = {"haproxy": Haproxy, "nginx": Nginx}
