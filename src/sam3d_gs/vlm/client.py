"""Speak with an OpenAI-compatible server: one request at a time, with an end, by the standard library alone."""

from __future__ import annotations

import http.client
import ipaddress
import json
import logging
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sam3d_gs.errors import Sam3dGsError, UsageError

log = logging.getLogger("sam3d_gs")

MAX_RESPONSE_BYTES = 16 << 20


class ServerError(Sam3dGsError):
    """The language-model server did not give a usable response. `status`: the HTTP status, 0 when there was none."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class ServerTimeoutError(ServerError):
    """The server took longer than allowed."""


@dataclass(frozen=True)
class Reply:
    """One answer of a model."""

    content: str
    reasoning: str  # the thinking, where the server tells it apart
    finish_reason: str  # "stop", "length" (cut off at the token cap), ...
    tokens: int | None  # made, thinking included


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another place."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


class Client:
    """A server at `base_url`, which ends in /v1 as OpenAI's own clients want it. The key is sent, never shown."""

    def __init__(self, base_url: str, key: str = "") -> None:
        """Raises UsageError when the URL or the key cannot be used."""
        self.base_url = checked_url(base_url)
        self._key = key.strip()
        if not self._key.isascii() or not self._key.isprintable() or " " in self._key:
            raise UsageError("The API key holds characters that no key has. Set the environment variable anew.")
        host = urllib.parse.urlsplit(self.base_url).hostname or ""
        # A proxy knows nothing of this machine's own servers.
        proxies = [urllib.request.ProxyHandler({})] if is_loopback(host) else []
        self._opener = urllib.request.build_opener(_NoRedirect, *proxies)
        if self._key and self.base_url.startswith("http:") and not is_loopback(host):
            log.warning("The API key goes to %s without encryption. Use https, or leave the key out.", host)

    def models(self, timeout_s: float) -> list[str]:
        """The ids the server answers to. Raises ServerError."""
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
            reasoning = message.get("reasoning") or message.get("reasoning_content")  # the second: older servers
            usage = data.get("usage") or {}
            tokens = usage.get("completion_tokens")
            return Reply(
                _text(message.get("content")), _text(reasoning), str(choice.get("finish_reason") or ""), tokens
            )
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise ServerError(
                f"{self.base_url} gave JSON that is no chat completion ({_excerpt(json.dumps(data))}). "
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
                raw = _read(response, deadline_s)
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
                f"No answer from {self.base_url} ({_excerpt(str(reason) or type(reason).__name__)}). "
                "Is the server running, and is the address right?"
            ) from error
        try:
            data = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise ServerError(
                f"{self.base_url} answers with something else than JSON ({_excerpt(raw.decode('utf-8', 'replace'))}). "
                "Check --base-url; it usually ends in /v1."
            ) from error
        return data if isinstance(data, dict) else {}

    def _refused(self, error: urllib.error.HTTPError, path: str) -> ServerError:
        try:
            said = error.read(65536).decode("utf-8", "replace")
        except (OSError, http.client.HTTPException):
            said = ""
        if self._key:
            said = said.replace(self._key, "<key>")
        said = _excerpt(_message_in(said))
        if error.code in (401, 403):
            cure = "Put a valid key into the environment variable that --api-key-env names."
        elif error.code == 404:
            cure = "Check --model and --base-url, which usually ends in /v1."
        elif error.code == 429:
            cure = "The server allows no more requests now. Wait and try again."
        elif error.code >= 500:
            cure = "The fault is the server's: see its log, then try again."
        else:
            cure = "See `sam3d-gs phrases --help` for what can be changed about the request."
        return ServerError(f"{self.base_url}{path} refused with HTTP {error.code} ({said}). {cure}", error.code)


def checked_url(url: str) -> str:
    """`url` without a slash at the end. Raises UsageError when it is no plain http(s) address."""
    try:
        parts = urllib.parse.urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or not url.isascii() or not url.isprintable() or " " in url:
        raise UsageError(f"--base-url {url!r:.100} is no address. Expected e.g. http://127.0.0.1:8000/v1.")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UsageError("--base-url holds more than an address. Give the key by the environment variable instead.")
    return url.rstrip("/")


def is_loopback(host: str) -> bool:
    """True for names and addresses of this machine itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _read(response: http.client.HTTPResponse, deadline_s: float) -> bytes:
    """The body, whole. A server that sends byte by byte cannot hold us past the deadline."""
    parts, size = [], 0
    while part := response.read1(65536):
        parts.append(part)
        size += len(part)
        if time.monotonic() > deadline_s:
            raise TimeoutError
        if size > MAX_RESPONSE_BYTES:
            raise OSError(f"more than {MAX_RESPONSE_BYTES >> 20} MiB of response")
    if response.length:  # read1 does not say so itself
        raise OSError(f"the connection broke {response.length} bytes before the end")
    return b"".join(parts)


def _text(value: Any) -> str:
    """Content is text, nothing, or a list of parts of which some hold text."""
    if isinstance(value, list):
        return "".join(_text(part.get("text")) for part in value if isinstance(part, dict))
    return value if isinstance(value, str) else ""


def _message_in(body: str) -> str:
    """The message inside an error response, where it has the usual form; else all of it."""
    try:
        data = json.loads(body)
        error = data.get("error", data)
        return str(error.get("message", body)) if isinstance(error, dict) else str(error)
    except (ValueError, AttributeError, RecursionError):
        return body


def _excerpt(text: str, limit: int = 160) -> str:
    """One printable line."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= limit else line[: limit - 3] + "..."
