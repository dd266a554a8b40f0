"""The .spz of version 2, read back by gsply and byte by byte."""

from __future__ import annotations

import gzip
import re
import struct
from pathlib import Path

import numpy as np
import pytest

from sam3d_gs.assets.splat_formats import export
from sam3d_gs.errors import UsageError
from sam3d_gs.scene import make_scene
from sam3d_gs.types import Gaussians, Photo
from tests.gaussians.helpers import random_gaussians, random_object

gsply = pytest.importorskip("gsply")


def test_both_versions_hold_the_same(tmp_path: Path) -> None:
    scene = random_gaussians(2000)
    paths = [tmp_path / f"{version}.spz" for version in (2, 3)]
    for version, path in zip((2, 3), paths, strict=True):
        export(scene, path, "y-up", version)
    old, new = (gsply.read_spz(path) for path in paths)
    for name in ("means", "scales", "opacities", "sh0"):
        np.testing.assert_array_equal(getattr(old, name), getattr(new, name))
    angles = 2 * np.degrees(np.arccos(np.clip(np.abs(np.sum(old.quats * new.quats, axis=1)), 0, 1)))
    assert angles.mean() < 1
    assert angles.max() < 8


def test_the_layout_is_the_one_of_the_format(tmp_path: Path) -> None:
    one = Gaussians(
        means=np.float32([[1, -2, 0.5]]),
        quats=np.float32([[-0.5, 0.5, -0.5, 0.5]]),
        log_scales=np.float32([[-5, 0, -12]]),
        opacity_logits=np.float32([0]),
        sh0=np.float32([[0, 1, -9]]),
    )
    export(one, tmp_path / "one.spz", "opengl", 2)
    raw = gzip.decompress((tmp_path / "one.spz").read_bytes())
    magic, version, count, degree, bits, flags, reserved = struct.unpack("<IIIBBBB", raw[:16])
    assert (magic.to_bytes(4, "little"), version, count, degree, flags, reserved) == (b"NGSP", 2, 1, 0, 0, 0)
    whole = [int.from_bytes(raw[16 + 3 * i : 19 + 3 * i], "little", signed=True) for i in range(3)]
    assert whole == [2**bits, -(2**bits) * 2, 2**bits // 2]
    assert list(raw[25:32]) == [128, 128, 166, 0, 80, 160, 0]  # alpha, colours, scales
    np.testing.assert_allclose(np.array(list(raw[32:])) / 127.5 - 1, [-0.5, 0.5, -0.5], atol=0.005)  # w >= 0
    assert len(raw) == 35


def test_a_scene_in_memory_too(tmp_path: Path) -> None:
    photo = Photo(Path("a.png"), "a", np.zeros((48, 64, 3), np.uint8), "0" * 64)
    scene = make_scene(photo, [random_object("00-thing-0", 50)])
    for version in (2, 3):
        path = scene.save(tmp_path / f"{version}.spz", "y-up", spz_version=version)[0]
        assert gzip.decompress(path.read_bytes())[4] == version
    assert gzip.decompress(scene.save(tmp_path / "default.spz")[0].read_bytes())[4] == 3
    with pytest.raises(UsageError, match=r"\.spz version 4"):
        scene.save(tmp_path / "4.spz", spz_version=4)
    with pytest.raises(UsageError, match=r"is no \.spz"):
        scene.save(tmp_path / "a.ply", spz_version=2)


@pytest.mark.parametrize(
    ("form", "field", "value", "words"),
    [
        ("spz", "log_scales", -10.5, r"7 of 100 Gaussians are thinner than 4\.5e-05 units \(e\^-10\)"),
        ("spz", "log_scales", 7.0, "7 of 100 Gaussians are wider than 379 units"),
        ("spz", "sh0", 3.5, "7 of 100 Gaussians have a colour beyond"),
        ("spz", "means", 5e6, r"7 of 100 Gaussians are farther than 4\.19e\+06 units"),
        ("compressed.ply", "log_scales", -21.0, "7 of 100 Gaussians are thinner than 2.1e-09"),
    ],
)
@pytest.mark.parametrize("version", [2, 3])
def test_what_the_format_cannot_hold_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, form: str, field: str, value: float, words: str, version: int
) -> None:
    scene = random_gaussians(100)
    getattr(scene, field)[:7, 1] = value
    export(scene, tmp_path / f"scene.{form}", "y-up", version if form == "spz" else 3)
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert re.search(words, record.getMessage())
    caplog.clear()
    export(random_gaussians(100), tmp_path / f"scene.{form}", "y-up")
    assert not caplog.records


def test_rounding_is_no_loss(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scene = random_gaussians(100)
    scene.log_scales[0] = -10.03
    scene.opacity_logits[:2] = (-30, 30)
    export(scene, tmp_path / "scene.spz", "y-up")
    assert not caplog.records
