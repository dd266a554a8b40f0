"""Who may talk to the live viewer: only a page of its own address, opened with the token in the printed URL.

A server on loopback is open to every page in the user's browser and to every user of the machine. viser answers them
all, and a client can ask it for a public tunnel. So each request, of HTTP and of WebSocket alike, passes three checks:

- Host is this server: a foreign name that resolves to 127.0.0.1 (DNS rebinding) is refused.
- Origin, if there is one, is this server: browsers send it with each WebSocket, so pages of other sites are refused.
- The path starts with the token: other users, other programs and mere links are refused. viser's client takes its
  page's path for the WebSocket too, so no cookie is needed, which browsers would send to every port of this machine.

viser has no setting for this. `guarded` puts the checks into the server that viser starts, and `check_guarded` knocks
at the door: should another version of viser go around them, nothing is served.
"""

from __future__ import annotations

import contextlib
import functools
import hmac
import http.client
import inspect
import logging
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sam3d_gs.errors import Sam3dGsError

# What clients may send besides their camera: the checkboxes and buttons. Not: a share request (a public tunnel),
# uploads, commands, forms, clicks into the scene.
ALLOWED_MESSAGES = ("GuiUpdateMessage",)

REFUSAL = "Refused. Open the address that sam3d-gs printed; through an SSH tunnel, use the same port on both sides.\n"
PAGE_HEADERS = {
    "Referrer-Policy": "no-referrer",  # the address holds the token
    "Content-Security-Policy": "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

_patching = threading.Lock()


class Guard:
    """The checks of one server."""

    def __init__(self) -> None:
        self.token = secrets.token_urlsafe()

    def admits(self, port: int, path: str, hosts: Sequence[str], origins: Sequence[str]) -> bool:
        """Whether a request to our port may pass, by its path and all its Host and Origin headers."""
        ours = {f"127.0.0.1:{port}", f"localhost:{port}"}
        if port == 80:  # browsers leave it out
            ours |= {"127.0.0.1", "localhost"}
        return (
            len(hosts) == 1
            and hosts[0].lower() in ours
            and all(origin.lower() in {f"http://{host}" for host in ours} for origin in origins)
            and hmac.compare_digest(_first_segment(path).encode(errors="surrogateescape"), self.token.encode())
        )

    def before(self, process_request: Callable[[Any, Any], Any] | None) -> Callable[[Any, Any], Any]:
        """`process_request` of a websockets server (None: every request is a WebSocket) behind the checks."""

        async def checked(connection: Any, request: Any) -> Any:
            port, headers = connection.local_address[1], request.headers
            if not self.admits(port, request.path, headers.get_all("Host"), headers.get_all("Origin")):
                response = connection.respond(http.HTTPStatus.FORBIDDEN, REFUSAL)
            else:
                request.path = request.path[len(self.token) + 1 :] or "/"
                response = process_request(connection, request) if process_request else None
                if inspect.isawaitable(response):
                    response = await response
            if response is not None:
                for name, value in PAGE_HEADERS.items():
                    response.headers[name] = value
            return response

        return checked


@contextlib.contextmanager
def guarded(guard: Guard, host: str) -> Iterator[None]:
    """While the block runs, a websockets server that is started on `host` gets the guard's checks."""
    import websockets.asyncio.server as module

    serve = module.serve

    def serve_guarded(*args: Any, **settings: Any) -> Any:
        if host in (*args[1:2], settings.get("host")):
            settings["process_request"] = guard.before(settings.get("process_request"))
            settings["logger"] = _quiet_logger()
        return serve(*args, **settings)

    with _patching:
        module.serve = serve_guarded  # type: ignore[misc, assignment, unused-ignore]
        try:
            yield
        finally:
            module.serve = serve  # type: ignore[misc, unused-ignore]


def check_guarded(server: Any, host: str) -> None:
    """Make a viser server, still empty, ignore all but ALLOWED_MESSAGES, and see whether it turns strangers away.

    Raises Sam3dGsError if it does not.
    """
    import viser

    try:
        connection = server._websock_server
        for message in list(connection._incoming_handlers):
            if message.__name__ not in ALLOWED_MESSAGES:
                connection.unregister_handler(message)
        refused = all(_status(server.get_port(), host, headers) == 403 for headers in ({}, _handshake()))
    except (AttributeError, OSError, http.client.HTTPException):
        refused = False
    if not refused:
        raise Sam3dGsError(
            f"This version of viser ({viser.__version__}) cannot be closed to other users and web pages, so nothing is "
            "served. Run `pip install 'viser==1.1.1'`; report.html shows the scene too."
        )


def _first_segment(path: str) -> str:
    return path[1:].partition("?")[0].partition("/")[0]


def _handshake() -> dict[str, str]:
    """Headers of a viser client that opens its WebSocket."""
    import viser

    return {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Protocol": f"viser-v{viser.__version__}",
    }


def _status(port: int, host: str, headers: dict[str, str]) -> int:
    """What the server answers to someone without the token."""
    with contextlib.closing(http.client.HTTPConnection(host, port, timeout=10)) as stranger:
        stranger.request("GET", "/", headers=headers)
        return stranger.getresponse().status


@functools.cache
def _quiet_logger() -> logging.Logger:
    """A logger without requests, which hold the token, and without tracebacks of what strangers sent."""
    logger = logging.getLogger("sam3d_gs.viewer")
    logger.setLevel(logging.ERROR)
    logger.addFilter(lambda record: not record.getMessage().startswith("opening handshake failed"))
    return logger
