"""The agents under test: how each is started without a user, and which of its tools a script calls."""

import json
import os
import pathlib
import struct
import subprocess
import sys
import zlib

import cases

HERE = pathlib.Path(__file__).parent
# A hanging agent is a failure.
PATIENCE = 180


class Agent:
    cases = [
        cases.session,
        cases.tool_search,
        cases.rate_limit,
        cases.overload,
        cases.silence,
        cases.silence_before,
        cases.compaction,
    ]

    def __init__(self, binaries, url, key):
        self.binary = binaries / self.executable
        self.url, self.key = url, key

    @classmethod
    def cases_on(cls, wire):
        return cls.cases

    def start(self, folder, model, prompt, options):
        """Runs the agent in `folder` to its end and returns what it printed."""
        home = folder / "home"
        home.mkdir()
        work = folder / "work"
        work.mkdir()
        (work / "word.txt").write_text(options["word"])
        (work / "picture.png").write_bytes(_png())
        (work / "page.pdf").write_bytes(_pdf(options["word"]))
        mcp = [sys.executable, str(HERE / "mcp_server.py"), options["word"]]
        command, settings = self.command(home, work, model, prompt, mcp, options)
        environment = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8"} | settings
        try:
            done = subprocess.run(
                command, cwd=work, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE
            )
        except subprocess.TimeoutExpired as late:
            return f"TIMEOUT {late.stdout} {late.stderr}"
        return f"{done.stdout}\n{done.stderr}"


class ClaudeCode(Agent):
    name, title, executable, own_wire = "claude-code", "Claude Code", "claude", "anthropic-messages"
    package = "@anthropic-ai/claude-code"
    allowed = "Read,Write,WebSearch,ToolSearch,mcp__colors__lookup"
    tool_search = ("ToolSearch", {"query": "select:mcp__colors__lookup"})

    def command(self, home, work, model, prompt, mcp, options):
        servers = {"mcpServers": {"colors": {"command": mcp[0], "args": mcp[1:]}}}
        tools, settings = "Read,Write,WebSearch", {}
        if options.get("deferred"):
            tools, settings = f"{tools},ToolSearch", {"ENABLE_TOOL_SEARCH": "true"}
        if options.get("compaction"):
            settings["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] = "200000"
        command = [self.binary, "-p", prompt, "--allowedTools", self.allowed, "--tools", tools]
        command += ["--mcp-config", json.dumps(servers), "--strict-mcp-config"]
        return command, {
            "ANTHROPIC_BASE_URL": self.url,
            "ANTHROPIC_AUTH_TOKEN": self.key,
            "ANTHROPIC_MODEL": model,
            "ANTHROPIC_DEFAULT_HAIKU_MODEL": model,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        } | settings

    @staticmethod
    def steps(work, word):
        """What the script has the agent do, one after another: feature, tool, arguments."""
        return [
            ("file", "Read", {"file_path": str(work / "word.txt")}),
            ("mcp", "lookup", {"color": "blue"}),
            ("edit", "Write", {"file_path": str(work / "new.txt"), "content": word}),
            ("png", "Read", {"file_path": str(work / "picture.png")}),
            ("search", "WebSearch", {"query": "the word"}),
            # Last, because a vendor without documents ends the session here.
            ("pdf", "Read", {"file_path": str(work / "page.pdf")}),
        ]


class Codex(Agent):
    name, title, executable, own_wire = "codex", "Codex", "codex", "openai-responses"
    package = "@openai/codex"
    tool_search = ("tool_search", {"query": "look up a color"})
    cases = [*Agent.cases, cases.remote_compaction]

    def command(self, home, work, model, prompt, mcp, options):
        # Without the gateway's list Codex asks its own what a model can do.
        catalog = "" if options.get("deferred") else f'model_catalog_url = "{self.url}/v1/models"'
        (home / "config.toml").write_text(
            f"""
            model = "{model}"
            model_provider = "gateway"
            approval_policy = "never"
            sandbox_mode = "danger-full-access"
            check_for_update_on_startup = false
            {"model_auto_compact_token_limit = 100000" if options.get("compaction") else ""}
            [features]
            plugins = false
            [analytics]
            enabled = false
            [model_providers.gateway]
            name = "{options.get("provider", "gateway")}"
            base_url = "{self.url}/v1"
            env_key = "GATEWAY_KEY"
            wire_api = "responses"
            {catalog}
            stream_idle_timeout_ms = {options.get("idle", 60_000)}
            [mcp_servers.colors]
            command = "{mcp[0]}"
            args = {json.dumps(mcp[1:])}
            default_tools_approval_mode = "approve"
            """
        )
        command = [self.binary, "exec", "--skip-git-repo-check", prompt]
        return command, {"CODEX_HOME": str(home), "GATEWAY_KEY": self.key}

    @staticmethod
    def steps(work, word):
        patch = f"*** Begin Patch\n*** Add File: new.txt\n+{word}\n*** End Patch"
        return [
            ("file", "exec_command", {"cmd": "cat word.txt"}),
            ("mcp", "lookup", {"color": "blue"}),
            ("edit", "apply_patch", {"input": patch}),
            ("png", "view_image", {"path": str(work / "picture.png")}),
        ]


class Opencode(Agent):
    name, title, executable, own_wire = "opencode", "opencode", "opencode", "openai-chat"
    package = "opencode-ai"

    @classmethod
    def cases_on(cls, wire):
        # A start takes several seconds of computing.
        return [case for case in cls.cases if case is not cases.tool_search] if wire == cls.own_wire else [cases.session]

    def command(self, home, work, model, prompt, mcp, options):
        provider = {
            "npm": "@ai-sdk/openai-compatible",
            "name": "gateway",
            "options": {"baseURL": f"{self.url}/v1", "apiKey": self.key},
            "models": {
                model: {
                    "attachment": True,
                    "modalities": {"input": ["text", "image", "pdf"], "output": ["text"]},
                    "limit": {"context": 150_000, "output": 8_000},
                }
            },
        }
        config = {
            "provider": {"gateway": provider},
            "model": f"gateway/{model}",
            "small_model": f"gateway/{model}",
            "mcp": {"colors": {"type": "local", "command": mcp}},
            "permission": "allow",
            "snapshot": False,
        }
        (work / "opencode.json").write_text(json.dumps(config))
        # With a title it does not ask a model for one.
        command = [self.binary, "run", "--pure", "--title", "Test", prompt]
        # It has all that it needs, and must not wait for the network.
        return command, {
            "OPENCODE_DISABLE_AUTOUPDATE": "1",
            "OPENCODE_DISABLE_DEFAULT_PLUGINS": "1",
            "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
            "OPENCODE_DISABLE_MODELS_FETCH": "1",
            "npm_config_offline": "true",
        }

    @staticmethod
    def steps(work, word):
        return [
            ("file", "read", {"filePath": str(work / "word.txt")}),
            ("mcp", "lookup", {"color": "blue"}),
            ("edit", "write", {"filePath": str(work / "new.txt"), "content": word}),
            ("png", "read", {"filePath": str(work / "picture.png")}),
            ("pdf", "read", {"filePath": str(work / "page.pdf")}),
        ]


AGENTS = [ClaudeCode, Codex, Opencode]


def _png():
    """A picture of 8 by 8 points, large enough for what agents check."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + b"\xff\0\0" * 8 for _ in range(8))
    head = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def _pdf(text):
    """A document of one page."""
    stream = f"BT /F1 24 Tf 20 100 Td ({text}) Tj ET".encode()
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 200]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length %d>>\nstream\n%b\nendstream" % (len(stream), stream),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    out, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    start = len(out)
    out += b"xref\n0 6\n0000000000 65535 f \n" + table
    return out + b"trailer<</Size 6/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % start
