"""A small OpenAI-compatible server that answers in the shapes recorded from vLLM, and as badly as real ones do."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Say = Callable[["Handler", dict[str, Any]], None]  # writes the response to one chat request


@dataclass
class Stub:
    """What to answer, in turn (the last one again and again), and what was asked."""

    answers: list[Say]
    models: list[str] = field(default_factory=lambda: ["Qwen/Qwen3-VL-8B-Thinking"])
    key: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    stub: Stub

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.refused():
            return
        self.json(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in self.stub.models]})

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.refused():
            return
        self.stub.requests.append(request)
        self.stub.headers.append(dict(self.headers))
        say = self.stub.answers[min(len(self.stub.requests), len(self.stub.answers)) - 1]
        say(self, request)

    def refused(self) -> bool:
        if self.stub.key and self.headers.get("Authorization") != f"Bearer {self.stub.key}":
            self.json(401, {"error": f"Unauthorized: {self.headers.get('Authorization')}"})
            return True
        return False

    def json(self, status: int, value: Any) -> None:
        self.send(status, json.dumps(value).encode(), "application/json")

    def send(self, status: int, body: bytes, kind: str, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)


def chat(content: Any, reasoning: str | None = None, finish: str = "stop") -> Say:
    """A chat completion as vLLM 0.32 gives it."""

    def say(handler: Handler, request: dict[str, Any]) -> None:
        message = {"role": "assistant", "content": content, "refusal": None, "tool_calls": [], "reasoning": reasoning}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish, "stop_reason": None}
        usage = {"prompt_tokens": 900, "completion_tokens": 42, "total_tokens": 942}
        handler.json(
            200,
            {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "created": 1,
                "model": request["model"],
                "choices": [choice],
                "usage": usage,
            },
        )

    return say


def endless(handler: Handler, request: dict[str, Any]) -> None:
    """Thinking that was never closed: the grammar never started."""
    chat(None, "The picture shows a cup. Wait, the picture shows a cup. Wait,", "length")(handler, request)


def status(code: int, message: str = "it broke") -> Say:
    error = {"message": message, "type": "BadRequestError", "param": None, "code": code}
    return lambda handler, _: handler.json(code, {"error": error})


def raw(body: bytes, kind: str = "text/html", code: int = 200, length: int | None = None) -> Say:
    return lambda handler, _: handler.send(code, body, kind, length)


def never(handler: Handler, request: dict[str, Any]) -> None:
    time.sleep(1.5)


def drip(handler: Handler, request: dict[str, Any]) -> None:
    """Always a byte more, so that no single read takes long."""
    handler.send(200, b"{", "application/json", 10_000)
    for _ in range(30):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)


def closes(handler: Handler, request: dict[str, Any]) -> None:
    handler.close_connection = True


def redirect(target: str) -> Say:
    def say(handler: Handler, request: dict[str, Any]) -> None:
        handler.send_response(302)
        handler.send_header("Location", target)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return say


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: object) -> None:
        """Clients that give up are part of the tests."""


@contextmanager
def serve(*answers: Say, **settings: Any) -> Iterator[Stub]:
    stub = Stub(list(answers), **settings)
    server = _Quiet(("127.0.0.1", 0), type("StubHandler", (Handler,), {"stub": stub}))
    stub.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
