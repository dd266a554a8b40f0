"""Shared by all tests: nothing may touch the user's own files or the network."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sam3d_gs.photo import load_photo
from sam3d_gs.stages.bookkeeping import Context
from sam3d_gs.stages.claim import claimed


def pytest_configure() -> None:
    """Before anything loads OpenMP or starts a program."""
    # Rendering leaves torch with as many threads as numba has. On busy cores, those of OpenMP that wait for work in a
    # loop keep others from theirs: the same tests then take many times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # Programs that the tests start and interrupt must not inherit a Ctrl-C that is ignored, as in a background job.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--servers", action="store_true", help="the tests marked servers, and no others")
    parser.addoption("--fast", action="store_true", help="without the tests marked slow")


LEFT_OUT = pytest.StashKey[int]()  # number of tests that --fast leaves out


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked `servers` are a job of their own, and those marked `slow` are no part of the fast one."""
    servers, fast = config.getoption("--servers"), config.getoption("--fast")
    chosen = [item for item in items if bool(item.get_closest_marker("servers")) == servers]
    slow = {item for item in chosen if fast and item.get_closest_marker("slow")}
    config.stash[LEFT_OUT] = len(slow)
    left_out = {*items} - {*chosen} | slow
    if left_out:
        config.hook.pytest_deselected(items=[item for item in items if item in left_out])
        items[:] = [item for item in items if item not in left_out]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """pytest-xdist's workers tell the process that started them, which collects no tests itself."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = session.config.stash.get(LEFT_OUT, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    node.config.stash[LEFT_OUT] = getattr(node, "workeroutput", {}).get("left_out", 0)  # each collects all tests


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if left_out := config.stash.get(LEFT_OUT, 0):
        terminalreporter.write_line(f"--fast left out {left_out} slow tests")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SAM3D_GS_WORKSPACE", "SAM3D_GS_PROFILE", "SAM3D_GS_QUIET", "SAM3D_GS_PHOTO"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _logger_as_it_was() -> Iterator[None]:
    """The command line, called in this process, takes the logger to itself; later tests look at it with `caplog`."""
    logger = logging.getLogger("sam3d_gs")
    handlers, propagate, level = logger.handlers[:], logger.propagate, logger.level
    yield
    logger.handlers[:] = handlers
    logger.propagate = propagate
    logger.setLevel(level)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A small photo with two coloured squares."""
    rgb = np.full((48, 64, 3), 200, np.uint8)
    rgb[12:36, 4:28] = (200, 40, 30)
    rgb[12:36, 36:60] = (30, 60, 200)
    path = tmp_path / "kitchen.png"
    Image.fromarray(rgb).save(path)
    return path


@pytest.fixture
def context(tmp_path: Path, picture: Path) -> Context:
    photo = load_photo(picture)
    with claimed(tmp_path / "out", photo) as workspace:
        return Context(workspace, photo)
