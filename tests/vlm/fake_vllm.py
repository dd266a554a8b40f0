"""A fake `vllm` program that a test writes to disk: it starts, answers, dies and ignores signals as planned."""

from __future__ import annotations

import json
import os
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

# PLAN is replaced by what to do. Started with `serve MODEL --port P --served-model-name NAME TOKEN ...`.
_PROGRAM = """#!/bin/sh
''':'
exec "{python}" "$0" "$@"
'''
import http.server, json, os, signal, subprocess, sys, time
plan = json.loads({plan!r})
here = {here!r}
arguments = sys.argv[1:]
with open(os.path.join(here, "starts.jsonl"), "a") as out:
    seen = {{k: os.environ.get(k) for k in ("CUDA_VISIBLE_DEVICES", "VLLM_API_KEY", "OPENAI_API_KEY", "HF_TOKEN")}}
    print(json.dumps({{"arguments": arguments, "pid": os.getpid(), "environment": seen}}), file=out)
if plan.get("ignores_term"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if plan.get("worker"):  # as vLLM's engine: in the group, and it outlives its parent
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    worker = subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE)
    worker.stdout.readline()
if "says" in plan:
    print(plan["says"], flush=True)
if "exits" in plan:
    sys.exit(plan["exits"])
if plan.get("hangs"):
    time.sleep(60)
port = int(arguments[arguments.index("--port") + 1])
names = arguments[arguments.index("--served-model-name") + 1 :][:2]
asked = []

class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_): pass
    def answer(self, value, status=200):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def refused(self):  # as vLLM does when it has a key
        key = os.environ.get("VLLM_API_KEY")
        if key and self.headers.get("Authorization") != "Bearer " + key:
            self.answer({{"error": "Unauthorized"}}, 401)
            return True
    def do_GET(self):
        if self.refused():
            return
        self.answer({{"data": [{{"id": name}} for name in names]}}, plan.get("status", 200))
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.refused():
            return
        asked.append(1)
        if plan.get("dies_at") == len(asked):
            print("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", flush=True)
            os._exit(1)
        if plan.get("sleeps_at") == len(asked):
            open(os.path.join(here, "asked"), "w").close()
            time.sleep(60)
        content = json.dumps({{"objects": [{{"phrase": "red cup"}}, {{"phrase": "spoon"}}]}})
        message = {{"content": content, "reasoning": "Two things.", "role": "assistant"}}
        self.answer({{"choices": [{{"message": message, "finish_reason": "stop"}}], "usage": {{}}}})

http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever(poll_interval=0.02)
"""


def write(folder: Path, **plan: Any) -> Path:
    """The program; what it was started with is read by `starts`."""
    folder.mkdir(exist_ok=True)
    path = folder / "vllm"
    path.write_text(_PROGRAM.format(python=sys.executable, plan=json.dumps(plan), here=str(folder)))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def starts(folder: Path) -> list[dict[str, Any]]:
    path = folder / "starts.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def group_members(group: int) -> list[int]:
    """Living processes of a process group."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == group and fields[0] not in "ZX":
                found.append(int(entry.name))
    return found


def end(group: int) -> None:
    """For tests that leave one running on purpose."""
    with suppress(ProcessLookupError):
        os.killpg(group, 9)
