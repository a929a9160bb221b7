"""The configs of those who are measured."""

import hashlib

KEY = "sk-measured-0000000000000000000000000000"
WIRES = {
    # wire: what follows the mock upstream's address in a base URL
    "openai-chat": "/v1",
    "anthropic-messages": "",
    "bedrock-converse": "",
    "cohere-chat": "",
    "gemini": "/v1beta",
    "ollama-chat": "",
    "openai-responses": "/v1",
}
DIALECTS = ["native", "openai-chat", "anthropic", "openai-responses", "ui-messages"]
# The wires that clients speak too, and the dialect in which they do.
SHARED = {"openai-chat": "openai-chat", "anthropic-messages": "anthropic", "openai-responses": "openai-responses"}
# An openai-chat upstream whose answers are passed on as they are.
VERBATIM_CHAT = "verbatim-chat"


def gateway(address, admin, upstream, window="30s", tls=None, key_label=False):
    """All that a production config switches on, with limits that are never reached."""
    lines = [f"listen: {address}", f"admin_listen: {admin}"]
    if tls:
        lines.append(f"tls: {{ cert: '{tls / 'cert.pem'}', key: '{tls / 'key.pem'}' }}")
    if key_label:
        lines.append("metrics: { key: on }")
    lines.append("upstreams:")
    for wire, path in WIRES.items():
        lines.append(f"  {wire}: {{ wire: {wire}, base_url: 'http://{upstream}{path}', api_key: upstream-key-000000 }}")
    lines.append(f"  {VERBATIM_CHAT}: {{ wire: openai-chat, fidelity: verbatim, "
                 f"base_url: 'http://{upstream}/v1', api_key: upstream-key-000000 }}")
    lines.append("models:")
    for name in [*WIRES, VERBATIM_CHAT]:
        lines.append(f"  '{name}/*': {{ targets: [ {{ upstream: {name}, model: '*' }} ] }}")
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    lines += [
        "keys:",
        f"  - {{ name: bench, sha256: {digest}, limits: {{ requests: 100M/min, streams: 20000 }} }}",
        "limits: { streams: 20000, per_ip: { requests: 100M/min } }",
        f"resume: {{ window: {window} }}",
        "drain: 0s",
    ]
    return "\n".join(lines) + "\n"


def nginx(address, upstream, folder, tls=None):
    listen, certificate = f"{address} backlog=4096", ""
    if tls:
        listen += " ssl"
        certificate = f"ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {tls / 'cert.pem'}; ssl_certificate_key {tls / 'key.pem'};"
    return NGINX.format(listen=listen, certificate=certificate, upstream=upstream, folder=folder)


NGINX = """
worker_processes 1;
worker_rlimit_nofile 20000;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 19900; }}
http {{
    access_log {folder}/access.log combined;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000;
    upstream model {{ server {upstream}; keepalive 256; }}
    server {{
        listen {listen};
        {certificate}
        tcp_nodelay on;
        location / {{
            proxy_pass http://model;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_read_timeout 600s;
        }}
    }}
}}
"""
