"""The live viewer in a real browser."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sam3d_gs.report.viewer import Viewer, from_workspace, running
from tests.browser.conftest import PATIENCE_MS, Tab
from tests.toy_scene import BALLS, SIZE, Ball, K, write_workspace

pytest.importorskip("viser", reason="needs viser")
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
    allowed = (live.url, live.url.replace("http:", "ws:"), f"blob:{live.url}", "data:")
    assert [url for url in tab.requests if not url.startswith(allowed)] == []


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
