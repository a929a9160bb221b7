"""Every snippet of the README and of `docs/dialects` runs as it stands against the demo: only the demo's
address is put in place of the documented one. Snippets in TSX need React and a page, so they are not run."""

import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
DOCUMENTED = "http://127.0.0.1:8080"
NODE = pathlib.Path(os.environ["SLUICEGATE_NODE_FOLDER"])
DEMO = os.environ["SLUICEGATE_DEMO_URL"]
# The interpreter of each language's snippets, and the file that it runs.
RUN = {"python": ([sys.executable], "snippet.py"), "js": (["node"], "snippet.mjs"), "sh": (["bash"], "snippet.sh")}
# In seconds; each takes a few on an idle machine.
TIMEOUT = 120
# Node 20 has neither `EventSource` nor a page.
PAGE = (pathlib.Path(__file__).parent / "page.mjs").read_text("utf-8")


def _snippets():
    """By place, the language and the code of each."""
    snippets = {}
    for path in [ROOT / "README.md", *sorted((ROOT / "docs" / "dialects").glob("*.md"))]:
        text = path.read_text("utf-8")
        for match in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            if match[1] in RUN:
                line = text.count("\n", 0, match.start()) + 1
                snippets[f"{path.relative_to(ROOT)}:{line}"] = match.groups()
    return snippets


SNIPPETS = _snippets()


def _run(language, code, folder):
    command, name = RUN[language]
    # Node looks for packages in the folder of the file and above.
    folder = pathlib.Path(tempfile.mkdtemp(dir=NODE if language == "js" else folder))
    if "EventSource" in code:
        code = PAGE + code
    (folder / name).write_text(code.replace(DOCUMENTED, DEMO), "utf-8")
    environment = {"PATH": os.environ["PATH"], "SLUICEGATE_URL": DEMO, "LANGSMITH_TRACING": "false"}
    try:
        return subprocess.run(
            [*command, name], cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT
        )
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """What each snippet printed. They spend most of their time waiting for the demo, so they run together."""
    folder = tmp_path_factory.mktemp("snippets")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        running = {place: pool.submit(_run, *snippet, folder) for place, snippet in SNIPPETS.items()}
        return {place: future.result() for place, future in running.items()}


def _answer():
    """The demo's whole answer."""
    body = json.dumps({"model": "demo", "messages": [{"role": "user", "content": "Hello"}]}).encode()
    with urllib.request.urlopen(f"{DEMO}/v1/chat/completions", body, timeout=TIMEOUT) as response:
        return json.load(response)["choices"][0]["message"]["content"]


@pytest.mark.parametrize("place", SNIPPETS)
def test_a_snippet_prints_the_answer(place, finished):
    done = finished[place]
    assert done.returncode == 0, done.stderr
    printed = done.stdout
    if SNIPPETS[place][0] == "sh":
        # The events of an interrupted stream, and of the rest of it.
        texts = re.findall(r'^data: \{"text":("(?:[^"\\]|\\.)*")', printed, re.MULTILINE)
        printed = "".join(map(json.loads, texts))
    # Some clients print the answer within a JSON or Python literal.
    answer = _answer()
    assert any(text in printed for text in (answer, json.dumps(answer)[1:-1], repr(answer)[1:-1])), done.stderr


def test_the_page_s_snippet_notices_a_permanent_refusal(tmp_path):
    code = next(code for _, code in SNIPPETS.values() if "readyState" in code)
    done = _run("js", code.replace('"demo"', '"demo-openai-chat/no-such-case"'), tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "The gateway refused the request."
