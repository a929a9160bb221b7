"""The vendors' own SDKs and the common frameworks against a running gateway, which answers from the
fixtures: with `base_url` and key changed, an app must not notice anything else.

`python/test_*.py` are run by pytest, `node/*.test.mjs` by Node's test runner. Both find in their
environment what `settings` below puts there."""

import argparse
import contextlib
import os
import pathlib
import shutil
import subprocess
import sys

from programs import Demo, Gateway, Recite, Replay
from scripted import ScriptedUpstream

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
# A hanging client is a failure; nothing here takes long.
PATIENCE = 480
# The tests that are run with two generations of the AI SDK.
AI_SDK = ("ai-sdk.test.mjs", "ai-sdk-dialects.test.mjs", "ui-messages.test.mjs")


def main():
    options = _options()
    # Whatever was started is ended, the last first.
    with contextlib.ExitStack() as started:
        scripted = started.enter_context(contextlib.closing(ScriptedUpstream()))
        replay = _start(started, Replay, options.binary, ROOT / "proto-fixtures")
        reciters = _reciters(options, started)
        gateway = _start(started, Gateway, options.binary, options.work, replay, scripted.url, reciters)
        demo = _start(started, Demo, options.binary, options.work)
        settings = {
            "SLUICEGATE_URL": gateway.url,
            # The demo, for the snippets of the documents, and the folder with Node's packages.
            "SLUICEGATE_DEMO_URL": demo.url,
            "SLUICEGATE_NODE_FOLDER": str(options.work / "node"),
            "SLUICEGATE_ADMIN_URL": gateway.admin_url,
            # May use every model: `<wire>/<case>` for every wire and fixture, and `scripted/…`.
            "SLUICEGATE_KEY": gateway.keys["app"],
            # May use `openai-chat/text` alone.
            "SLUICEGATE_NARROW_KEY": gateway.keys["narrow"],
            # One request an hour.
            "SLUICEGATE_LIMITED_KEY": gateway.keys["limited"],
            "SLUICEGATE_WIRES": ",".join(replay.wires),
            "SLUICEGATE_SCRIPTED_URL": scripted.url,
            # A real model's wires, as `recite-<kind>-<wire>/any`; empty where there is none.
            "SLUICEGATE_RECITE_WIRES": ",".join(Recite.WIRES if reciters else []),
        }
        failed = [_python(options, settings), _node(options, settings)]
    sys.exit(any(failed))


def _start(started, program, *options):
    running = program(*options)
    started.callback(running.stop)
    return running


def _reciters(options, started):
    """The real models, where there is a server for them."""
    if not options.recite:
        print("clients: SKIPPED the tests with a real model: SLUICEGATE_SHARED names no folder with tools/recite.py")
        return []
    folder = options.work / "recite"
    python = folder / "bin" / "python"
    return [_start(started, Recite, python, options.recite, kind, folder) for kind in ("text", "think", "tool")]


def _options():
    parser = argparse.ArgumentParser(prog="clients", description=__doc__)
    parser.add_argument("--binary", required=True, type=pathlib.Path, help="the gateway")
    parser.add_argument("--work", required=True, type=pathlib.Path, help="where `make` installed the clients")
    parser.add_argument("--recite", type=pathlib.Path, help="the script that makes and serves a real model")
    parser.add_argument("--only", help="only tests whose name has this in it")
    options = parser.parse_args()
    options.binary = options.binary.resolve()
    options.work = options.work.resolve()
    return options


def _python(options, settings):
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", str(HERE / "python")]
    if options.only:
        command += ["-k", options.only]
    return _run(command, HERE, settings)


def _node(options, settings):
    return any([_node_in("node", ".test.mjs", options, settings), _node_in("ai7", AI_SDK, options, settings)])


def _node_in(name, endings, options, settings):
    """Runs the tests whose files end so with the packages of one folder."""
    # Node looks for packages from a test's own folder upwards, so the tests go where those are.
    folder = options.work / name
    for stale in folder.glob("*.mjs"):
        stale.unlink()
    # A package outside `node_modules` needs this ending.
    shutil.copy(ROOT / "clients" / "js" / "sluicegate.js", folder / "sluicegate.mjs")
    for source in sorted((HERE / "node").glob("*.mjs")):
        shutil.copy(source, folder)
    tests = sorted(file.name for file in folder.glob("*.test.mjs") if file.name.endswith(endings))
    command = ["node", "--test", "--test-reporter=spec"]
    if options.only:
        command.append(f"--test-name-pattern={options.only}")
    print(f"clients: Node's tests with the packages of {folder}", flush=True)
    return _run(command + tests, folder, settings)


def _run(command, folder, settings):
    # No credentials and no proxies of whoever runs this.
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
    environment = inherited | settings | {"PYTHONDONTWRITEBYTECODE": "1", "LANGSMITH_TRACING": "false"}
    try:
        done = subprocess.run(command, cwd=folder, env=environment, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        print(f"clients: {command[0]} did not end within {PATIENCE} s", file=sys.stderr)
        return True
    # pytest's 5 is no test of that name, which is another runner's affair.
    return done.returncode not in (0, 5)


main()
