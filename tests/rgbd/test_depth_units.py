"""The unit of a depth map: assumed, stated, and refused where it gives no photo of objects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam3d_gs.errors import BadInputError, UsageError
from sam3d_gs.options import NativeOptions, depth_units_per_metre
from sam3d_gs.rgbd.depth_units import DepthMap, read_depth

DESK_M = np.random.default_rng(0).uniform(0.6, 2.5, (30, 40))


def read(path: Path, values: np.ndarray, unit: str | None = None) -> DepthMap:
    if path.suffix == ".npy":
        np.save(path, values)
    else:
        Image.fromarray(values).save(path)
    return read_depth(path, unit)


def u16(values: np.ndarray) -> np.ndarray:
    return np.round(values).astype(np.uint16)


@pytest.mark.parametrize(
    ("name", "values", "unit", "told"),
    [
        ("d.npy", DESK_M, None, "metres"),
        ("d.npy", DESK_M.astype(np.float32), "m", "metres"),
        ("d.tif", DESK_M.astype(np.float32), None, "metres"),
        ("d.npy", u16(DESK_M * 1000), None, "millimetres"),
        ("d.png", u16(DESK_M * 1000), None, "millimetres"),
        ("d.png", u16(DESK_M * 1000), "1000", "millimetres"),
        ("d.npy", DESK_M * 1000, "mm", "millimetres"),
        ("d.npy", DESK_M * 100, "cm", "centimetres"),
        ("d.png", u16(DESK_M * 5000), "5000", "1/5000 m"),
        ("d.png", u16(DESK_M * 256), "256", "1/256 m"),
        ("d.npy", (DESK_M * 1e6).astype(np.int32), "1e6", "1/1000000 m"),
        ("d.png", np.round(DESK_M * 100).astype(np.uint8), "cm", "centimetres"),
    ],
)
def test_metres_in_the_end(tmp_path: Path, name: str, values: np.ndarray, unit: str | None, told: str) -> None:
    depth = read(tmp_path / name, values, unit)
    assert (depth.unit, depth.warnings) == (told, ())
    assert depth.metres.dtype == np.float32
    np.testing.assert_allclose(depth.metres, DESK_M, atol=0.006)
    assert f"{name}: depth in {told}{'' if unit else ' (assumed; --depth-unit sets it)'}, 0.6" in depth.summary


@pytest.mark.parametrize(
    ("values", "none"),
    [
        (u16(DESK_M * 1000), 0),
        (u16(DESK_M * 1000), 65535),
        (u16(DESK_M * 1000).astype(np.int32), 65535),
        (u16(DESK_M * 1000).astype(np.int32), 2**31 - 1),
        (u16(DESK_M * 1000).astype(np.int64), 2**32 - 1),
        (u16(DESK_M * 1000).astype(np.int16), 32767),
        (u16(DESK_M * 1000).astype(np.int16), -1),
        (DESK_M, np.nan),
        (DESK_M, np.inf),
        (DESK_M, -1.0),
        (DESK_M, 65.535),
        (DESK_M.astype(np.float32), 1e10),
        (DESK_M.astype(np.float16), 65504.0),
        (DESK_M, 65535 / 256),
    ],
)
def test_numbers_that_stand_for_none(tmp_path: Path, values: np.ndarray, none: float) -> None:
    values = values.copy()
    values[:20] = none  # most of the map: not even the median tells
    depth = read(tmp_path / "d.npy", values)
    assert np.isnan(depth.metres[:20]).all()
    np.testing.assert_allclose(depth.metres[20:], DESK_M[20:], atol=2e-3)
    assert ("800 pixels at full scale" in depth.summary) == bool(np.isfinite(none) and none > 0)


@pytest.mark.parametrize(
    ("values", "unit", "advice"),
    [
        (DESK_M * 1000, None, "Try --depth-unit mm (1.5"),
        (DESK_M * 1000, "m", "Try --depth-unit mm (1.5"),
        (DESK_M * 5000, None, "5000 (1.5"),
        (DESK_M * 100, None, "Try --depth-unit cm (1.5"),
        (DESK_M, "mm", "Try --depth-unit m (1.5"),
        (np.full((3, 4), 2), None, "Try --depth-unit m (2 m)"),
        ((DESK_M * 1e6).astype(np.int32), None, "Try --depth-unit 1000000 (1.5"),
        (DESK_M * 1e-4, None, "Give metric depth"),
    ],
)
def test_a_median_of_no_photo_is_refused(tmp_path: Path, values: np.ndarray, unit: str | None, advice: str) -> None:
    with pytest.raises(BadInputError) as caught:
        read(tmp_path / "d.npy", values, unit)
    assert "which no photo of objects has" in str(caught.value)
    assert advice in str(caught.value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (u16(DESK_M * 5000), "Try --depth-unit 5000 (1.5"),
        (u16(np.round(DESK_M * 400) * 5), "multiples of 5, as where 5000 count a metre"),
        (u16(DESK_M * 256 * 20), "256 ("),
        (u16(DESK_M * 100 / 2), "--depth-unit mm confirms millimetres"),
        (DESK_M * 40, "Try --depth-unit cm (0.6"),
        (DESK_M / 2.5, "numbers lie between 0 and 1"),
        (np.where(np.eye(30, 40) > 0, DESK_M, 0), "only 2.5 % of its pixels have depth"),
    ],
)
def test_a_suspicious_map_is_read_with_a_warning(tmp_path: Path, values: np.ndarray, words: str) -> None:
    assert any(words in warning for warning in read(tmp_path / "d.npy", values).warnings)


def test_a_stated_unit_settles_it(tmp_path: Path) -> None:
    for values, unit in ((u16(np.round(DESK_M * 1000) * 5), "mm"), (DESK_M / 2.5, "m"), (DESK_M * 100, "m")):
        assert not read(tmp_path / "d.npy", values, unit).warnings


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("d.png", np.round(DESK_M * 80).astype(np.uint8), "8 bits per pixel"),
        ("d.npy", np.round(DESK_M * 80).astype(np.uint8), "a picture of depth"),
        ("d.png", u16(np.linspace(0, 65535, 1200).reshape(30, 40)), "fills the whole range of 16 bits"),
        ("d.npy", np.linspace(0, 1, 1200).reshape(30, 40), "as relative depth does"),
        ("d.npy", np.zeros((4, 5)), "no valid depth"),
        ("d.npy", np.full((4, 5), 65535, np.uint16), "no valid depth"),
        ("d.npy", np.full((4, 5), np.nan), "no valid depth"),
    ],
)
def test_what_is_no_metric_depth_is_refused(tmp_path: Path, name: str, values: np.ndarray, words: str) -> None:
    with pytest.raises(BadInputError, match=words):
        read(tmp_path / name, values)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0.001", "Is it metres per unit? Then give 1000"),
        ("0.00025", "Then give 4000"),
        ("inch", "is not m, cm, mm"),
        ("", "is not m, cm, mm"),
        ("nan", "is not m, cm, mm"),
        ("-5", "is not m, cm, mm"),
    ],
)
def test_units_that_are_none(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        NativeOptions(depth=Path("d.png"), depth_unit=text).check()
    assert words in str(caught.value)


def test_units_as_typed() -> None:
    assert [depth_units_per_metre(text) for text in ("m", " MM ", "cm", "5000", "1e3")] == [1, 1000, 100, 5000, 1000]
    with pytest.raises(UsageError, match="--depth-unit needs --depth"):
        NativeOptions(depth_unit="mm").check()
