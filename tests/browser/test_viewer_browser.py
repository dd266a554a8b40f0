"""The live viewer in a real browser: what its own page shows, and what foreign pages do not get."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sam3d_gs.report.viewer import Viewer, from_workspace, running
from tests.browser.conftest import PATIENCE_MS, Tab
from tests.toy_scene import BALLS, SIZE, Ball, K, write_workspace

viser = pytest.importorskip("viser", reason="needs viser")
pytestmark = pytest.mark.browser

OpenTab = Callable[..., Tab]


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Viewer]:
    with running(from_workspace(write_workspace(tmp_path)[0]), 0) as viewer:
        yield viewer


@pytest.fixture
def tab(live: Viewer, open_tab: OpenTab) -> Tab:
    """Wide enough that viser's panel leaves the red and the blue ball free."""
    opened = open_tab(1200, 400)
    opened.page.goto(live.url)
    opened.page.wait_for_selector("text=green ball")
    return opened


def switch(tab: Tab, name: str) -> Any:
    return tab.page.get_by_role("checkbox", name=name, exact=True)


def colour_at(picture: np.ndarray, ball: Ball) -> np.ndarray:
    height, width = picture.shape[:2]
    pixel = (ball.pixel - np.array(SIZE) / 2) * height / SIZE[1] + np.array([width, height]) / 2
    x, y = pixel.round().astype(int)
    return np.asarray(picture[y - 1 : y + 2, x - 1 : x + 2].mean((0, 1)) / 255)


def wait_for(tab: Tab, ball: Ball, there: bool) -> bool:
    """Whether the ball gets to be in the picture, or out of it, at its place in the photo's view."""
    end = time.monotonic() + PATIENCE_MS / 1000
    while time.monotonic() < end:
        colour = colour_at(tab.picture("body"), ball)
        seen = np.abs(colour - ball.rgb).max() < 0.15
        gone = colour.min() > 0.9  # viser's white backdrop
        if seen if there else gone:
            return True
        time.sleep(0.3)
    return False


@pytest.mark.slow
def test_the_view_starts_at_the_photo_and_a_switch_works(tab: Tab, live: Viewer) -> None:
    red, _, blue = BALLS
    switch(tab, "Names").uncheck()  # a label may cover the spot that is looked at
    assert wait_for(tab, red, there=True)
    assert wait_for(tab, blue, there=True)
    switch(tab, "red ball").uncheck()
    assert wait_for(tab, red, there=False)
    assert wait_for(tab, blue, there=True)
    switch(tab, "red ball").check()
    assert wait_for(tab, red, there=True)
    origin = live.url.rsplit("/", 2)[0]
    allowed = (origin, origin.replace("http:", "ws:"), f"blob:{origin}", "data:")
    assert [url for url in tab.requests if not url.startswith(allowed)] == []
    tab.page.reload()
    tab.page.wait_for_selector("text=green ball")


@pytest.fixture
def foreign() -> Iterator[str]:
    """Address of an empty page of another server on this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>foreign</title><body>foreign")

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


# What a page can try; each answers with what it got.
ATTACKS = """async ([address, version]) => {
  const socket = await new Promise((done) => {
    const ws = new WebSocket(address.replace("http", "ws"), [version]);
    ws.onmessage = () => done("scene");
    ws.onopen = () => setTimeout(() => done("open"), 2000);
    ws.onerror = () => done("refused");
  });
  const get = (mode) => fetch(address, { mode, credentials: "include" }).then((r) => r.text(), () => "refused");
  const frame = document.createElement("iframe");
  frame.src = address;
  document.body.append(frame);
  await new Promise((done) => { frame.onload = done; });
  return [socket, await get("cors"), await get("no-cors")];
}"""


@pytest.mark.slow
def test_a_foreign_page_gets_nothing_even_with_the_token(live: Viewer, foreign: str, open_tab: OpenTab) -> None:
    mine = open_tab(1200, 400)
    mine.page.goto(live.url)
    mine.page.wait_for_selector("text=green ball")  # the user's own tab is open meanwhile
    version = f"viser-v{viser.__version__}"
    for site in (foreign, foreign.replace("127.0.0.1", "rebound.example")):
        for address in (live.url, live.url.rsplit("/", 2)[0] + "/"):
            page = mine.page.context.new_page()
            page.goto(site)
            socket, cors, no_cors = page.evaluate(ATTACKS, [address, version])
            assert (socket, cors) == ("refused", "refused")
            assert no_cors in ("", "refused")
            (frame,) = page.frames[1:]
            frame.wait_for_url(re.compile("."))  # a busy browser tells it late
            assert frame.url == "chrome-error://chromewebdata/"  # not shown
            page.close()
    assert len(live.server.get_clients()) == 1


@pytest.mark.slow
def test_a_foreign_name_for_this_machine_and_a_link_without_the_token_are_refused(
    live: Viewer, open_tab: OpenTab
) -> None:
    tab = open_tab()
    for url in (live.url.replace("127.0.0.1", "rebound.example"), live.url.rsplit("/", 2)[0] + "/"):
        answer = tab.page.goto(url)
        assert answer.status == 403
        assert "Open the address that sam3d-gs printed" in tab.page.inner_text("body")
    tab.page.goto(live.url.replace("127.0.0.1", "localhost"))
    tab.page.wait_for_selector("text=green ball")


@pytest.mark.slow
def test_the_frustum_appears_when_the_view_leaves_it_and_the_button_goes_back(tab: Tab, live: Viewer) -> None:
    frustum = live.server.scene.get_handle_by_name("/photo")
    (client,) = live.server.get_clients().values()
    client.camera.position = (-2.0, -1.0, -1.0)

    def frustum_is(visible: bool) -> bool:
        end = time.monotonic() + PATIENCE_MS / 1000
        while frustum.visible != visible and time.monotonic() < end:
            time.sleep(0.2)
        return bool(frustum.visible == visible)

    assert frustum_is(True)
    tab.page.get_by_role("button", name="Photo's camera").click()
    assert frustum_is(False)
    np.testing.assert_allclose(client.camera.position, 0, atol=1e-6)
    assert client.camera.fov == pytest.approx(2 * np.arctan(SIZE[1] / 2 / K[1, 1]), rel=1e-6)
