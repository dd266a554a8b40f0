"""Compressed formats, read back by gsply, whose readers are not ours."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sam3d_gs.assets import splat_formats as export
from sam3d_gs.errors import MissingPackageError, UsageError
from sam3d_gs.gaussians.pose import transform
from sam3d_gs.gaussians.zcurve import morton_order
from sam3d_gs.types import Gaussians, Pose
from tests.gaussians.helpers import FIELDS, random_gaussians

gsply = pytest.importorskip("gsply")

AWAY = Pose(np.array([1.0, 0.0, 0.0, 0.0]), np.array([0.5, -0.25, 4.0]), 1.0)


@pytest.fixture
def scene() -> Gaussians:
    """In front of a camera, all axes different, so that a swapped or negated one shows."""
    return transform(random_gaussians(3000), AWAY)


def ours(data: Any) -> Gaussians:
    arrays = (data.means, data.quats, data.scales, data.opacities, data.sh0)
    return Gaussians(*(np.array(array, dtype=np.float32) for array in arrays))


def sorted_as_written(gaussians: Gaussians) -> Gaussians:
    order = morton_order(gaussians.means)
    return Gaussians(*(getattr(gaussians, name)[order] for name in FIELDS))


def angles_deg(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.degrees(2 * np.arccos(np.clip(np.abs(np.sum(left * right, axis=1)), 0, 1)))


def test_compressed_ply(tmp_path: Path, scene: Gaussians) -> None:
    export.export(scene, tmp_path / "scene.compressed.ply")
    read, expected = ours(gsply.plyread(tmp_path / "scene.compressed.ply")), sorted_as_written(scene)
    # 10 or 11 bits over the box of 256 neighbours: half a step of at most 1 / 1023
    np.testing.assert_allclose(read.means, expected.means, atol=0.5 / 1023 + 1e-6)
    np.testing.assert_allclose(read.log_scales, expected.log_scales, atol=4.0 * 0.5 / 1023 + 1e-5)  # they span 4
    np.testing.assert_allclose(read.rgb, expected.rgb, atol=1 / 255)
    np.testing.assert_allclose(read.opacities, expected.opacities, atol=0.5 / 255 + 1e-5)
    assert angles_deg(read.quats, expected.quats).max() < 0.3  # three parts with 10 bits over -1/sqrt(2)..1/sqrt(2)
    assert (tmp_path / "scene.compressed.ply").stat().st_size < len(scene) * 17 + 2000


def test_spz_is_in_its_own_axes(tmp_path: Path, scene: Gaussians) -> None:
    export.export(scene, tmp_path / "scene.spz")
    stored = ours(gsply.read_spz(tmp_path / "scene.spz"))
    assert stored.means[:, 2].max() < -3.0  # z back: what is in front of the camera is negative
    back, turned = transform(stored, export.HALF_TURN), transform(scene, export.HALF_TURN)
    expected = transform(sorted_as_written(turned), export.HALF_TURN)
    grid = 2.0 ** -export.spz_fractional_bits(scene)
    assert grid <= 2.0**-18
    np.testing.assert_allclose(back.means, expected.means, atol=0.5 * grid + 1e-6)
    np.testing.assert_allclose(back.log_scales, expected.log_scales, atol=0.5 / 16 + 1e-6)  # steps of 1/16
    np.testing.assert_allclose(back.opacities, expected.opacities, atol=0.5 / 255 + 1e-5)
    np.testing.assert_allclose(back.sh0, expected.sh0, atol=0.5 / (0.15 * 255) + 1e-5)  # 8 bits over 0.15 a unit
    assert angles_deg(back.quats, expected.quats).max() < 0.5  # three parts with 9 bits and a sign


@pytest.mark.parametrize("far", [0.001, 3.0, 100.0, 3000.0, 1e6])
def test_spz_positions_fit_at_any_distance(tmp_path: Path, far: float) -> None:
    one = random_gaussians(300)
    scene = Gaussians(one.means * np.float32(2 * far), one.quats, one.log_scales, one.opacity_logits, one.sh0)
    export.export(scene, tmp_path / "scene.spz")
    read = transform(ours(gsply.read_spz(tmp_path / "scene.spz")), export.HALF_TURN)
    np.testing.assert_allclose(
        np.sort(read.means, axis=0), np.sort(scene.means, axis=0), atol=max(far * 2.0**-22, 2.0**-19) * 1.01
    )


def test_neighbours_in_the_file_are_neighbours_in_space() -> None:
    means = random_gaussians(4096).means
    order = morton_order(means)
    np.testing.assert_array_equal(np.sort(order), np.arange(4096))
    parts = means[order].reshape(16, 256, 3)
    volume = np.prod(np.ptp(parts, axis=1), axis=1).sum()
    assert volume < 4 * np.prod(np.ptp(means, axis=0))  # unsorted, each of the 16 parts spans nearly everything
    np.testing.assert_array_equal(morton_order(np.zeros((3, 3), np.float32)), [0, 1, 2])


def test_spz_takes_gaussians_that_have_its_axes_as_they_are(tmp_path: Path, scene: Gaussians) -> None:
    export.export(scene, tmp_path / "turned.spz")
    export.export(transform(scene, export.HALF_TURN), tmp_path / "as it is.spz", "y-up")
    turned, as_it_is = (gzip.decompress((tmp_path / name).read_bytes()) for name in ("turned.spz", "as it is.spz"))
    assert turned == as_it_is


def test_other_suffixes_are_refused(tmp_path: Path, scene: Gaussians) -> None:
    with pytest.raises(UsageError, match=r"\.compressed\.ply or \.spz"):
        export.export(scene, tmp_path / "scene.splat")


def test_without_gsply_the_cure_is_named(tmp_path: Path, scene: Gaussians, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gsply", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'sam3d_gs\[export\]'"):
        export.export(scene, tmp_path / "scene.spz")
