"""The live viewer's server: loopback only, free ports, clear errors, Ctrl-C. What it shows is in tests/browser."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sam3d_gs.errors import BadInputError, MissingPackageError
from sam3d_gs.report import viewer
from sam3d_gs.scene_files import write_scene
from sam3d_gs.workspace import Workspace
from tests.gaussians.test_packed import random_gaussians
from tests.toy_scene import write_workspace

pytest.importorskip("viser", reason="needs viser")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return write_workspace(tmp_path)[0]


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that another program listens on."""
    with socket.socket() as other:
        other.bind((viewer.HOST, 0))
        other.listen()
        yield other.getsockname()[1]


def test_it_answers_on_this_machine_and_stops(workspace: Workspace) -> None:
    with viewer.running(viewer.from_workspace(workspace), 0) as running:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{32,}/", running.url)
        with urllib.request.urlopen(running.url, timeout=30) as answer:
            assert b"<html" in answer.read()
        assert running.server.get_host() == "127.0.0.1"
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(running.url, timeout=5)


def test_a_port_in_use_gives_another_one(
    workspace: Workspace, taken: int, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with viewer.running(viewer.from_workspace(workspace), taken) as running:
        assert f":{taken}/" not in running.url
    assert f"Port {taken} is in use" in caplog.text
    assert capsys.readouterr().out == ""  # viser's own banner


def test_names_switches_and_the_frustum_are_there(workspace: Workspace) -> None:
    with viewer.running(viewer.from_workspace(workspace), 0) as running:
        for name in ("00-red-ball-0", "01-green-ball-0", "02-blue-ball-0"):
            assert running.server.scene.get_handle_by_name(f"/objects/{name}") is not None
            assert running.server.scene.get_handle_by_name(f"/names/{name}") is not None
        assert not running.server.scene.get_handle_by_name("/photo").visible  # the view starts inside it


def test_without_a_scene_the_file_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(BadInputError, match=r"nothing\.json"),
        viewer.running(viewer.from_workspace(Workspace(tmp_path, "nothing")), 0),
    ):
        pass


def test_a_lost_object_is_named(workspace: Workspace) -> None:
    workspace.single_ply("01-green-ball-0").unlink()
    with pytest.raises(BadInputError, match="01-green-ball-0"), viewer.running(viewer.from_workspace(workspace), 0):
        pass


def test_a_scene_without_objects_says_so(tmp_path: Path) -> None:
    workspace, scene, _ = write_workspace(tmp_path)
    write_scene(workspace.scene_json, replace(scene, objects=()), {})
    with pytest.raises(BadInputError, match="no objects"), viewer.running(viewer.from_workspace(workspace), 0):
        pass


def test_without_viser_the_cure_is_named(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(MissingPackageError, match="pip install"), viewer.running(viewer.from_workspace(workspace), 0):
        pass


@pytest.mark.slow
def test_ctrl_c_ends_it_without_a_traceback(workspace: Workspace) -> None:
    code = (
        "from pathlib import Path; from sam3d_gs.report.viewer import serve; from sam3d_gs.workspace import Workspace\n"
        f"serve(Workspace(Path({str(workspace.root)!r}), 'balls'), port=0, open_browser=False)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ.copy()
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert re.match(r"balls: http://127\.0\.0\.1:\d+/[\w-]{32,}/ ", line), line
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    assert out == ""
    assert "Traceback" not in err


def test_covariances_are_those_of_the_rotated_axes() -> None:
    gaussians = random_gaussians(50, 3)
    covariances = viewer.covariances_of(gaussians)
    for covariance, scales, (w, x, y, z) in zip(covariances, gaussians.scales, gaussians.quats, strict=True):
        values, vectors = np.linalg.eigh(covariance.astype(np.float64))
        np.testing.assert_allclose(np.sqrt(np.maximum(values, 0)), np.sort(scales), rtol=1e-2, atol=1e-5)
        widest = [2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)]
        if scales[2] > 1.5 * max(scales[:2]):
            assert abs(vectors[:, 2] @ widest) > 0.999
