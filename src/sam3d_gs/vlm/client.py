"""A client for OpenAI-compatible servers: one request at a time, each with a deadline, standard library only."""

from __future__ import annotations

import http.client
import json
import logging
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sam3d_gs.errors import Sam3dGsError, UsageError
from sam3d_gs.redaction import HIDDEN, MIN_KEY, redacted
from sam3d_gs.system.addresses import is_loopback

log = logging.getLogger("sam3d_gs")

MAX_RESPONSE_BYTES = 16 << 20


class ServerError(Sam3dGsError):
    """The server gave no usable response. `status`: the HTTP status, 0 without one."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class ServerTimeoutError(ServerError):
    """The server took longer than allowed."""


@dataclass(frozen=True)
class Reply:
    """One answer of a model."""

    content: str
    reasoning: str  # the thinking, where the server separates it
    finish_reason: str  # "stop", "length" (cut off at the token cap), ...
    tokens: int | None = None  # generated, thinking included
    tool_arguments: str = ""  # of the functions that the model called instead of answering
    refusal: str = ""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuse redirects: they would send the key to another server."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


class Client:
    """A server at `base_url`, which usually ends in /v1. The key is sent to it alone, and never shown."""

    def __init__(self, base_url: str, key: str = "", key_over_http: bool = False) -> None:
        """Raises UsageError when the URL or the key cannot be used, and for a key that would be sent unencrypted to
        another machine, unless `key_over_http` allows that."""
        self.base_url = checked_url(base_url)
        self._key = key.strip()
        if not self._key.isascii() or not self._key.isprintable() or " " in self._key:
            raise UsageError(
                "The API key has a space or a character outside ASCII. Set its environment variable again."
            )
        host = urllib.parse.urlsplit(self.base_url).hostname or ""
        # No proxy for servers on this machine.
        proxies = [urllib.request.ProxyHandler({})] if is_loopback(host) else []
        self._opener = urllib.request.build_opener(_NoRedirect, *proxies)
        if self._key and self.base_url.startswith("http:") and not is_loopback(host):
            if not key_over_http:
                raise UsageError(
                    f"The API key would be sent to {host} unencrypted. Use https or a tunnel to this machine, send "
                    'none with --api-key-env "", or allow it with --key-over-http.'
                )
            log.warning("The API key is sent to %s unencrypted (--key-over-http).", host)

    def models(self, timeout_s: float) -> list[str]:
        """The model ids that the server accepts. Raises ServerError."""
        data = self._send("/models", None, timeout_s)
        rows = data.get("data")
        return (
            [str(row["id"]) for row in rows if isinstance(row, dict) and "id" in row] if isinstance(rows, list) else []
        )

    def chat(self, request: Mapping[str, Any], timeout_s: float) -> Reply:
        """Post a chat completion. Raises ServerError, ServerTimeoutError."""
        data = self._send("/chat/completions", json.dumps(request).encode(), timeout_s)
        try:
            choice = data["choices"][0]
            message = choice["message"]
            tokens = (data.get("usage") or {}).get("completion_tokens")
            return Reply(
                _text(message.get("content")),
                _text(message.get("reasoning")) or _text(message.get("reasoning_content")),  # the second: older servers
                str(choice.get("finish_reason") or "")[:80],
                tokens if isinstance(tokens, int) else None,
                _tool_arguments(message),
                _text(message.get("refusal")),
            )
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise ServerError(
                f"{self.base_url} returned JSON that is no chat completion ({excerpt(json.dumps(data))}). "
                "Check --base-url; it usually ends in /v1."
            ) from error

    def _send(self, path: str, body: bytes | None, timeout_s: float) -> dict[str, Any]:
        headers = {"Content-Type": "application/json", "User-Agent": "sam3d-gs"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        request = urllib.request.Request(self.base_url + path, data=body, headers=headers)
        deadline_s = time.monotonic() + timeout_s
        try:
            with self._opener.open(request, timeout=timeout_s) as response:
                raw = self._without_key(_read(response, deadline_s))
        except urllib.error.HTTPError as error:
            with error:
                raise self._refused(error, path) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, TimeoutError):
                raise ServerTimeoutError(
                    f"{self.base_url} did not answer within {timeout_s:g} s. Raise --request-timeout, or lower "
                    "--thinking-tokens and --max-tokens."
                ) from error
            raise ServerError(
                f"No answer from {self.base_url} ({excerpt(str(reason) or type(reason).__name__)}). "
                "Is the server running, and is the address right?"
            ) from error
        try:
            data = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise ServerError(
                f"{self.base_url} did not return JSON ({excerpt(raw.decode('utf-8', 'replace'))}). "
                "Check --base-url; it usually ends in /v1."
            ) from error
        return data if isinstance(data, dict) else {}

    def _without_key(self, body: bytes) -> bytes:
        """A response in which the server may repeat what it was sent; also as JSON writes it."""
        if len(self._key) >= MIN_KEY:
            for written in (self._key, json.dumps(self._key)[1:-1], self._key.replace("/", "\\/")):
                body = body.replace(written.encode(), HIDDEN.encode())
        return body

    def _refused(self, error: urllib.error.HTTPError, path: str) -> ServerError:
        try:
            text = self._without_key(error.read(65536)).decode("utf-8", "replace")
        except (OSError, http.client.HTTPException):
            text = ""
        message = excerpt(redacted(_message_in(text), self._key))
        if error.code in (401, 403):
            fix = "Put a valid key in the environment variable that --api-key-env names."
        elif error.code in (301, 302, 303, 307, 308):
            target = redacted(excerpt(str(error.headers.get("Location", ""))), self._key)
            fix = f"It redirects to {target or 'nowhere'}, and requests are not sent on. Check --base-url."
        elif error.code == 404:
            fix = "Check --model and --base-url, which usually ends in /v1."
        elif error.code == 429:
            fix = "The server accepts no more requests for now. Wait and try again."
        elif error.code >= 500:
            fix = "This is an error of the server: see its log, then try again."
        else:
            fix = "See `sam3d-gs phrases --help` for the options of the request."
        return ServerError(f"{self.base_url}{path} refused with HTTP {error.code} ({message}). {fix}", error.code)


def checked_url(url: str) -> str:
    """`url` without a trailing slash. Raises UsageError unless it is a plain http(s) address."""
    try:
        parts = urllib.parse.urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        good = good and bool(re.fullmatch(r"(?:[^@]*@)?(?:\[[\w.:%]+\]|[\w.-]+)(?::\d*)?", parts.netloc))
    except ValueError:
        good = False
    if not good or not url.isascii() or not url.isprintable() or " " in url:
        shown = "..." if "@" in url else redacted(url)  # a password may have any form
        raise UsageError(f"--base-url {shown!r:.100} is not an address. Expected e.g. http://127.0.0.1:8000/v1.")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UsageError("--base-url must have no user, query or fragment. Give the key in its environment variable.")
    return url.rstrip("/")


def _read(response: http.client.HTTPResponse, deadline_s: float) -> bytes:
    """The whole body. Raises TimeoutError at the deadline, also for a server that sends byte by byte."""
    parts, size = [], 0
    while part := response.read1(65536):
        parts.append(part)
        size += len(part)
        if time.monotonic() > deadline_s:
            raise TimeoutError
        if size > MAX_RESPONSE_BYTES:
            raise OSError(f"the response is larger than {MAX_RESPONSE_BYTES >> 20} MiB")
    if response.length:  # read1 does not raise for it
        raise OSError(f"the connection broke {response.length} bytes before the end")
    return b"".join(parts)


def _text(value: Any) -> str:
    """The text of a message's field: a string, null, a list of parts, or an object in place of its JSON."""
    if isinstance(value, list):
        return "".join(map(_text, value))
    if isinstance(value, dict):
        inner = value.get("text", value.get("value"))
        return _text(inner) if inner is not None or "type" in value else json.dumps(value, ensure_ascii=False)
    # Half of a surrogate pair could be written to no file.
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def _tool_arguments(message: Mapping[str, Any]) -> str:
    """The arguments of all functions that a message calls, one per line."""
    calls = message.get("tool_calls")
    calls = calls if isinstance(calls, list) else []
    functions = [call.get("function") for call in calls if isinstance(call, dict)] + [message.get("function_call")]
    return "\n".join(_text(function.get("arguments")) for function in functions if isinstance(function, dict))


def _message_in(body: str) -> str:
    """The message in an error response of the usual form, else the whole body."""
    try:
        data = json.loads(body)
        error = data.get("error", data)
        return str(error.get("message", body)) if isinstance(error, dict) else str(error)
    except (ValueError, AttributeError, RecursionError):
        return body


def excerpt(text: str, limit: int = 160) -> str:
    """`text` as one printable line of at most `limit` characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= limit else line[: limit - 3] + "..."
