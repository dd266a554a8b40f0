"""A fake Hugging Face hub on loopback: the endpoints that huggingface_hub uses for downloads, and ways to fail."""

from __future__ import annotations

import hashlib
import json
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

COMMIT = "c0ffee" * 6 + "c0de"
GOOD_TOKEN = "hf_good"
LOG_IN = "You must have access to it and be authenticated to access it. Please log in."
# How the real hub answers for a gated repository: status, X-Error-Code, X-Error-Message.
GATES = {
    "not asked for": (
        403,
        "GatedRepo",
        "Access to model {id} is restricted and you are not in the authorized list. "
        "Visit https://huggingface.co/{id} to ask for access.",
    ),
    "pending": (403, "GatedRepo", "Your request to access model {id} is awaiting a review from the repo authors."),
    "refused": (403, "GatedRepo", "Your request to access model {id} has been rejected by the repo's authors."),
    "reset": (
        403,
        "GatedRepo",
        "Your request to access model {id} has been reset by the repo's authors. "
        "Visit https://huggingface.co/{id} to submit a new request.",
    ),
    "token may not": (
        403,
        "",
        "Please enable access to public gated repositories in your fine-grained token settings to view this repo.",
    ),
    "granted": (200, "", ""),
}


@dataclass
class Fault:
    """What goes wrong with a file's bytes, in the first `times` requests for them."""

    kind: str  # "drop", "short", "corrupt", "no range", "500"
    after: int = 0  # bytes that still arrive
    times: int = 10**9


@dataclass
class Canned:
    """One answer to the next request whose path contains `path`."""

    path: str
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    times: int = 1


@dataclass
class Request:
    method: str
    host: str
    path: str
    range: str
    authorization: str


@dataclass
class FakeHub:
    """Repositories by id: name -> bytes. Files of 64 bytes and more redirect to another host, as large files do."""

    repositories: dict[str, dict[str, bytes]]
    gates: dict[str, str] = field(default_factory=dict)  # id -> key of GATES
    faults: dict[str, Fault] = field(default_factory=dict)  # file name -> what goes wrong
    requests: list[Request] = field(default_factory=list)
    port: int = 0
    listed: dict[str, str] = field(default_factory=dict)  # file name -> the name that the list of files gives it
    without: set[str] = field(default_factory=set)  # headers that are not sent, in lower case
    model: Callable[[dict[str, Any]], object] = lambda answer: answer  # what becomes of the list of files
    canned: list[Canned] = field(default_factory=list)  # answers instead of the usual ones, each given once
    elsewhere: str = ""  # address that large files redirect to, instead of another name of this host
    certificate: Path | None = None  # PEM with key, to speak TLS

    @property
    def endpoint(self) -> str:
        return f"{'https' if self.certificate else 'http'}://127.0.0.1:{self.port}"

    def transfers(self, name: str = "") -> list[Request]:
        """The requests for the bytes of one file, or of any."""
        return [r for r in self.requests if r.method == "GET" and "/api/" not in r.path and r.path.endswith(name)]


@contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    class Handler(_Handler):
        fake = hub

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.port = server.server_address[1]
        if hub.certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(hub.certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: FakeHub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._serve(head=True)

    def do_GET(self) -> None:
        self._serve(head=False)

    def _serve(self, head: bool) -> None:
        path = urlsplit(self.path).path
        self.fake.requests.append(
            Request(
                self.command,
                self.headers.get("Host", ""),
                path,
                self.headers.get("Range", ""),
                self.headers.get("Authorization", ""),
            )
        )
        canned = next((one for one in self.fake.canned if one.times > 0 and one.path in path), None)
        if canned:
            canned.times -= 1
            return self._answer(canned.status, canned.body, canned.headers)
        if model := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/[^/]+)?", path):
            self._model(model[1])
        elif file := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            self._resolve(file[1], file[2], head)
        elif stored := re.fullmatch(r"/stored/([^/]+/[^/]+)/(.+)", path):
            self._send(self.fake.repositories[stored[1]][stored[2]], stored[2])
        else:
            self._answer(404)

    def _model(self, repository: str) -> None:
        if repository not in self.fake.repositories:
            return self._answer(401 if not self._token() else 404, code="RepoNotFound")
        siblings = []
        for name, data in self.fake.repositories[repository].items():
            row: dict[str, object] = {
                "rfilename": self.fake.listed.get(name, name),
                "size": len(data),
                "blobId": _git_sha1(data),
            }
            if len(data) >= 64:
                row["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
            siblings.append(row)
        answer = self.fake.model({"id": repository, "sha": COMMIT, "siblings": siblings, "private": False})
        body = json.dumps(answer).encode()
        self._answer(200, body, {"Content-Type": "application/json"})

    def _resolve(self, repository: str, name: str, head: bool) -> None:
        token = self._token()
        if token and token != GOOD_TOKEN:
            return self._answer(401, message="Invalid credentials in Authorization header")
        if repository not in self.fake.repositories:
            if not token:
                return self._answer(401, message="Invalid username or password.")
            return self._answer(404, code="RepoNotFound", message="Repository not found")
        gate = self.fake.gates.get(repository)
        if gate and not token:
            return self._answer(401, code="GatedRepo", message=f"Access to model {repository} is restricted. {LOG_IN}")
        if gate and GATES[gate][0] != 200:
            status, code, words = GATES[gate]
            return self._answer(status, code=code, message=words.format(id=repository))
        data = self.fake.repositories[repository].get(name)
        if data is None:
            return self._answer(404, code="EntryNotFound", message="Entry not found")
        more = {"X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if len(data) >= 64:  # on another host, which must not see the token
            more |= {"X-Linked-Size": str(len(data)), "X-Linked-Etag": f'"{hashlib.sha256(data).hexdigest()}"'}
            base = self.fake.elsewhere or self.fake.endpoint.replace("127.0.0.1", "localhost")
            more["Location"] = f"{base}/stored/{repository}/{name}"
            return self._answer(302, headers=more)
        more["ETag"] = f'"{_git_sha1(data)}"'
        if head:
            self._answer(200, data, more)
        else:
            self._send(data, name, more)

    def _send(self, data: bytes, name: str, headers: dict[str, str] | None = None) -> None:
        fault = self.fake.faults.get(name)
        kind = ""
        if fault and fault.times > 0:
            fault.times -= 1
            kind = fault.kind
        start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        first = int(start[1]) if start and kind != "no range" else 0
        if kind == "500":
            return self._answer(500)
        if kind == "corrupt":
            data = bytes(len(data))
        if kind == "short":  # a server that believes the file ends here
            assert fault
            data = data[: fault.after]
        if first and first >= len(data):
            return self._answer(416)
        body = data[first:]
        status = 206 if start and kind != "no range" else 200
        if kind == "drop":
            assert fault
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: fault.after])
            self.close_connection = True
            return None
        more = {"Content-Range": f"bytes {first}-{len(data) - 1}/{len(data)}"} if status == 206 else {}
        return self._answer(status, body, {**(headers or {}), **more})

    def _answer(
        self, status: int, body: bytes = b"", headers: dict[str, str] | None = None, code: str = "", message: str = ""
    ) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            if key.lower() not in self.fake.without:
                self.send_header(key, value)
        if code:
            self.send_header("X-Error-Code", code)
        if message:
            self.send_header("X-Error-Message", message)
        if "content-length" in self.fake.without:
            self.send_header("Connection", "close")
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")


def _git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
