"""Who is let into the live viewer: requests as programs and foreign pages send them. A browser is in tests/browser."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import logging
import socket
import time
import types
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sam3d_gs.errors import Sam3dGsError
from sam3d_gs.report import viewer
from sam3d_gs.report.viewer_guard import REFUSAL, Guard, _quiet_logger, check_guarded, guarded
from tests.toy_scene import write_workspace

viser = pytest.importorskip("viser", reason="needs viser")

PORT = 8080


@pytest.fixture
def live(tmp_path: Path) -> Iterator[viewer.Viewer]:
    with viewer.running(viewer.from_workspace(write_workspace(tmp_path)[0]), 0) as running:
        yield running


def parts(live: viewer.Viewer) -> tuple[str, str]:
    """host:port and path of the printed address."""
    host, _, path = live.url.removeprefix("http://").partition("/")
    return host, f"/{path}"


def answer(live: viewer.Viewer, path: str, headers: list[tuple[str, str]], upgrade: bool) -> bytes:
    """All that a client gets within a second, when it asks with exactly these headers."""
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    if upgrade:
        lines += ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
        lines += ["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", f"Sec-WebSocket-Protocol: viser-v{viser.__version__}"]
    received = b""
    with socket.create_connection(("127.0.0.1", live.server.get_port()), timeout=10) as client:
        client.sendall("\r\n".join([*lines, "", ""]).encode())
        end = time.monotonic() + 1
        while time.monotonic() < end:
            with contextlib.suppress(TimeoutError):
                client.settimeout(max(0.01, end - time.monotonic()))
                piece = client.recv(1 << 20)
                received += piece
                if not piece:
                    break
    return received


def is_refused(received: bytes) -> bool:
    head, _, body = received.partition(b"\r\n\r\n")
    return head.startswith(b"HTTP/1.1 403") and body == REFUSAL.encode()


@pytest.mark.parametrize("upgrade", [False, True], ids=["http", "websocket"])
def test_the_printed_address_is_let_in(live: viewer.Viewer, upgrade: bool) -> None:
    host, path = parts(live)
    for name in (host, host.replace("127.0.0.1", "localhost"), host.replace("127.0.0.1", "LocalHost")):
        for origin in ([], [("Origin", f"http://{name}")]):
            received = answer(live, path, [("Host", name), *origin], upgrade)
            assert received.startswith(b"HTTP/1.1 101" if upgrade else b"HTTP/1.1 200"), received[:200]
            assert len(received) > 10_000  # the scene, or viser's page


@pytest.mark.parametrize("upgrade", [False, True], ids=["http", "websocket"])
def test_strangers_get_not_one_byte(live: viewer.Viewer, upgrade: bool) -> None:
    host, path = parts(live)
    port, token = host.partition(":")[2], path.strip("/")
    ours = ("Host", host)
    hosts = [f"rebound.example:{port}", f"127.0.0.1.nip.io:{port}", "127.0.0.1:1", "127.0.0.1", f"0.0.0.0:{port}", ""]
    origins = ["http://foreign.example", "null", "http://127.0.0.1:1", f"https://{host}", f"http://{host}.example", ""]
    attempts = [(path, [("Host", stranger)]) for stranger in hosts]
    attempts += [(path, [ours, ("Origin", stranger)]) for stranger in origins]
    attempts += [
        (path, []),
        (path, [ours, ours]),
        (path, [ours, ("Origin", f"http://{host}"), ("Origin", "http://foreign.example")]),
    ]
    paths = ["/", "/wrong/", f"/{token[:-1]}/", f"/{token}x/", f"/?token={token}", f"/wrong/{token}/", f"//{token}/"]
    paths += [f"/{token.swapcase()}/", "/%2e%2e/", "/é/", f"http://{host}{path}"]
    attempts += [(stranger, [ours, ("Origin", f"http://{host}")]) for stranger in paths]
    for attempt in attempts:
        assert is_refused(answer(live, *attempt, upgrade)), attempt
    assert live.server.get_clients() == {}


@pytest.fixture
def _fresh_logger() -> None:
    """Without the filter that viser adds at the first request it answers."""
    logging.getLogger("sam3d_gs.viewer").filters.clear()
    _quiet_logger.cache_clear()


@pytest.mark.usefixtures("_fresh_logger")
def test_garbage_leaves_no_traceback(live: viewer.Viewer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for garbage in (b"\x00\xff\r\n\r\n", b"POST / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01"):
        with socket.create_connection(("127.0.0.1", live.server.get_port()), timeout=5) as client:
            client.sendall(garbage)
            client.shutdown(socket.SHUT_WR)
            while client.recv(1 << 16):
                pass
    answer(live, parts(live)[1], [("Host", parts(live)[0])], upgrade=True)
    assert "Traceback" not in caplog.text
    assert parts(live)[1] not in caplog.text  # the token is in no log, not even at level DEBUG


def test_each_viewer_has_a_token_of_its_own() -> None:
    tokens = {Guard().token for _ in range(20)}
    assert len(tokens) == 20
    assert min(map(len, tokens)) >= 32


def test_the_page_tells_its_address_to_nobody_and_cannot_be_framed(live: viewer.Viewer) -> None:
    host, path = parts(live)
    connection = http.client.HTTPConnection(host)
    connection.request("GET", path)
    headers = connection.getresponse().headers
    connection.close()
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Frame-Options"] == "DENY"


def test_the_default_port_of_http_is_left_out_by_browsers() -> None:
    guard = Guard()
    assert guard.admits(80, f"/{guard.token}/", ["127.0.0.1"], ["http://127.0.0.1"])
    assert not guard.admits(PORT, f"/{guard.token}/", ["127.0.0.1"], ["http://127.0.0.1"])


def send(live: viewer.Viewer, *messages: dict[str, Any]) -> None:
    """Send what viser's own client would, and wait until it was handled."""
    msgspec = pytest.importorskip("msgspec")
    client = pytest.importorskip("websockets.sync.client")
    version = [f"viser-v{viser.__version__}"]
    with client.connect(live.url.replace("http", "ws", 1), subprotocols=version, max_size=None) as connection:
        connection.recv()
        for message in messages:
            connection.send(msgspec.msgpack.encode(message))
        connection.ping().wait(10)
        time.sleep(0.3)


def test_a_share_request_opens_no_tunnel(live: viewer.Viewer, monkeypatch: pytest.MonkeyPatch) -> None:
    tunnels: list[object] = []
    monkeypatch.setattr("viser._viser.ViserTunnel", lambda *given: tunnels.append(given))
    send(live, {"type": "ShareUrlRequest"})
    assert tunnels == []


def test_nothing_but_the_switches_can_be_changed(live: viewer.Viewer) -> None:
    box = next(h for h in live.server.gui._gui_input_handle_from_uuid.values() if h.label == "red ball")
    upload = {"source_component_uuid": box._impl.uuid, "transfer_uuid": "a", "filename": "a", "mime_type": ""}
    send(
        live,
        {"type": "FileTransferStartUpload", **upload, "part_count": 0, "size_bytes": 0},
        {"type": "GuiUpdateMessage", "uuid": box._impl.uuid, "updates": {"value": False}},
    )
    assert box.value is False
    handlers = live.server._websock_server._incoming_handlers
    assert [message.__name__ for message in handlers] == ["GuiUpdateMessage"]


def test_a_viser_that_goes_around_the_guard_is_not_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = pytest.importorskip("websockets.asyncio.server")
    # As if viser had imported `serve` by its name.
    own = types.SimpleNamespace(serve=server.serve, ServerConnection=server.ServerConnection)
    monkeypatch.setattr(
        "viser.infra._infra.websockets",
        types.SimpleNamespace(
            asyncio=types.SimpleNamespace(server=own),
            datastructures=pytest.importorskip("websockets.datastructures"),
            exceptions=pytest.importorskip("websockets.exceptions"),
        ),
    )
    scene, ports = viewer.from_workspace(write_workspace(tmp_path)[0]), []
    monkeypatch.setattr(viewer, "_fill", lambda *_: pytest.fail("the scene was put into an open server"))
    monkeypatch.setattr(
        viewer, "check_guarded", lambda server, host: (ports.append(server.get_port()), check_guarded(server, host))
    )
    with pytest.raises(Sam3dGsError, match=r"nothing is served.*pip install 'viser=="), viewer.running(scene, 0):
        pass
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", ports[0]), timeout=5)


def test_a_viser_with_other_handlers_is_not_served() -> None:
    with pytest.raises(Sam3dGsError, match="nothing is served"):
        check_guarded(types.SimpleNamespace(get_port=lambda: 1), viewer.HOST)


def test_other_servers_of_the_process_are_left_alone() -> None:
    server = pytest.importorskip("websockets.asyncio.server")
    original = server.serve

    async def other() -> int:
        async with server.serve(
            lambda _: None, "localhost", 0, process_request=lambda c, _: c.respond(200, "other")
        ) as s:
            reader, writer = await asyncio.open_connection(*next(iter(s.sockets)).getsockname()[:2])
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            line = await reader.readline()
            writer.close()
            return int(line.split()[1])

    with guarded(Guard(), "127.0.0.1"), ThreadPoolExecutor(1) as thread:  # playwright's tests have a loop in this one
        assert thread.submit(lambda: asyncio.run(other())).result(timeout=60) == 200
    assert server.serve is original
