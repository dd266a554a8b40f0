"""Depth and intrinsics at the photo's size, and turned as EXIF turns the photo."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam3d_gs.errors import BadInputError
from sam3d_gs.options import PhotoOptions
from sam3d_gs.photo import exif_orientation, load_photo, turn_upright
from sam3d_gs.rgbd import exif_turn
from sam3d_gs.rgbd.photo_fit import depth_of_photo, intrinsics_of_photo
from sam3d_gs.types import Photo


def photo(width: int, height: int, file_size: tuple[int, int] | None = None) -> Photo:
    return Photo(Path("desk.jpg"), "desk", np.zeros((height, width, 3), np.uint8), "", file_size=file_size)


def stored(path: Path, sensor: np.ndarray, orientation: int) -> Photo:
    """A photo whose file holds the sensor's pixels, (h, w, 3), and how to turn them."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(sensor).save(path, exif=exif, **({"lossless": True} if path.suffix == ".webp" else {}))
    return load_photo(path)


def sized(path: Path, camera: tuple[float, ...], size: tuple[int, int]) -> str:
    keys = dict(zip(("fx", "fy", "cx", "cy", "width", "height"), (*camera, *size), strict=True))
    path.write_text(json.dumps(keys))
    return str(path)


def four(K: np.ndarray) -> list[float]:
    return [K[0, 0], K[1, 1], K[0, 2], K[1, 2]]


# ---- EXIF ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_depth_and_camera_turn_as_the_photo_does(tmp_path: Path, orientation: int, suffix: str) -> None:
    """One bright pixel and one near pixel stay together, and the camera looks at them as before."""
    sensor = np.zeros((30, 50, 3), np.uint8)
    sensor[4, 41] = 255
    depth = np.full((30, 50), 9.0)
    depth[4, 41] = 1.0
    taken = stored(tmp_path / f"p.{suffix}", sensor, orientation)
    assert exif_orientation(taken.path) == orientation
    turned = turn_upright(depth, orientation)
    np.testing.assert_array_equal(turned == 1, taken.rgb[..., 0] == 255)
    fx, fy, cx, cy = exif_turn.turned_camera((60.0, 70.0, 22.0, 13.0), (50, 30), orientation)
    (y,), (x,) = np.nonzero(turned == 1)
    before = sorted((abs(41.5 - 22) / 60, abs(4.5 - 13) / 70))
    assert sorted((abs(x + 0.5 - cx) / fx, abs(y + 0.5 - cy) / fy)) == pytest.approx(before)


def test_orientation_of_files_without_one(tmp_path: Path) -> None:
    (tmp_path / "no.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n")
    for path in (tmp_path / "no.jpg", tmp_path / "absent.jpg", tmp_path):
        assert exif_orientation(path) == 1


@pytest.mark.parametrize("orientation", exif_turn.SWAPPING)
def test_depth_of_the_sensor_is_turned(tmp_path: Path, orientation: int, caplog: pytest.LogCaptureFixture) -> None:
    taken = stored(tmp_path / "p.jpg", np.zeros((60, 80, 3), np.uint8), orientation)
    depth = np.arange(1, 1201, dtype=np.float32).reshape(30, 40)
    found = depth_of_photo(depth, taken, "d.npy")
    np.testing.assert_array_equal(found, turn_upright(depth, orientation))
    assert "d.npy lies on its side as the sensor of p.jpg did: turned upright" in caplog.text
    caplog.clear()
    assert depth_of_photo(found, taken, "d.npy") is found  # drawn upright already
    assert not caplog.records


@pytest.mark.parametrize(("shape", "orientation"), [((60, 80), 3), ((60, 60), 6), ((60, 80), 2)])
def test_where_the_shape_does_not_tell_a_warning_does(
    tmp_path: Path, shape: tuple[int, int], orientation: int, caplog: pytest.LogCaptureFixture
) -> None:
    taken = stored(tmp_path / "p.jpg", np.zeros((*shape, 3), np.uint8), orientation)
    depth = np.ones(shape, np.float32)
    assert depth_of_photo(depth, taken, "d.npy") is depth
    assert "does not tell whether it was turned" in caplog.text


def test_depth_of_another_shape_is_refused() -> None:
    with pytest.raises(BadInputError, match=r"30 x 40 px, the photo 40 x 30 px: .* lies on its side"):
        depth_of_photo(np.ones((40, 30)), photo(40, 30), "d.npy")
    with pytest.raises(BadInputError, match=r"their shapes differ\. Give a depth map of the whole, upright photo"):
        depth_of_photo(np.ones((30, 30)), photo(40, 30), "d.npy")
    network = np.ones((392, 518))  # sides in patches
    assert depth_of_photo(network, photo(400, 300, (4000, 3000)), "d.npy") is network


# ---- intrinsics ----------------------------------------------------------------------------------------------------


def test_a_camera_of_the_sensor_is_turned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    taken = stored(tmp_path / "p.jpg", np.zeros((60, 80, 3), np.uint8), 6)
    source = sized(tmp_path / "k.json", (700, 710, 390, 310), (800, 600))
    assert four(intrinsics_of_photo(source, taken)) == pytest.approx([71, 70, 29, 39])
    assert "turned upright as EXIF of p.jpg says" in caplog.text
    upright = sized(tmp_path / "k.json", (71, 70, 29, 39), (60, 80))
    assert four(intrinsics_of_photo(upright, taken)) == [71, 70, 29, 39]


@pytest.mark.parametrize("size", [(640, 480), (1280, 960), (320, 240), (4032, 3024)])
def test_a_stated_size_is_scaled_to_the_photo_and_its_largest_side(tmp_path: Path, size: tuple[int, int]) -> None:
    ratio = size[0] / 640
    source = sized(tmp_path / "k.json", (600 * ratio, 610 * ratio, 322 * ratio, 238 * ratio), size)
    assert four(intrinsics_of_photo(source, photo(640, 480))) == pytest.approx([600, 610, 322, 238])
    assert four(intrinsics_of_photo(source, photo(320, 240, (640, 480)))) == pytest.approx([300, 305, 161, 119])


def test_a_large_photo_is_scaled_down_with_its_camera(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((300, 400, 3), np.uint8)).save(tmp_path / "p.png")
    taken = load_photo(tmp_path / "p.png", PhotoOptions(max_side_px=100))
    assert four(intrinsics_of_photo("360,364,208,144", taken)) == pytest.approx([90, 91, 52, 36])
    source = sized(tmp_path / "k.json", (720, 728, 416, 288), (800, 600))
    assert four(intrinsics_of_photo(source, taken)) == pytest.approx([90, 91, 52, 36])


@pytest.mark.parametrize(
    ("camera", "size", "words"),
    [
        ((900, 900, 640, 360), (1280, 720), "made for 1280 x 720 px, which has another shape"),
        ((600, 600, 240, 320), (480, 640), "which lies on its side"),
        ((600, 600, 700, 240), (640, 480), "principal point (700, 240) lies outside desk.jpg, 640 x 480 px"),
    ],
)
def test_a_camera_of_another_picture_is_refused(
    tmp_path: Path, camera: tuple[float, ...], size: tuple[int, int], words: str
) -> None:
    with pytest.raises(BadInputError) as caught:
        intrinsics_of_photo(sized(tmp_path / "k.json", camera, size), photo(640, 480))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("source", "size", "words"),
    [
        ("600,600,320,240", (4000, 3000), "Give pixels of the photo: --intrinsics 3750,3750,2000,1500."),
        ("3750,3750,200,150", (640, 480), "Give pixels of the photo: --intrinsics 6000,6000,320,240."),
        ("600,600,240,320", (640, 480), "lies on its side compared with desk.jpg"),
        ("600,600,0,240", (640, 480), "lies outside desk.jpg"),
        ("600,600,320,-5", (640, 480), "lies outside desk.jpg"),
        ("90000,90000,320,240", (640, 480), "a field of view of 0.41°"),
        ("17,17,320,240", (640, 480), "a field of view of 1.7e+02°"),
    ],
)
def test_numbers_of_another_picture_are_refused(source: str, size: tuple[int, int], words: str) -> None:
    with pytest.raises(BadInputError) as caught:
        intrinsics_of_photo(source, photo(*size))
    assert words in str(caught.value)


def test_units_of_the_sides_become_pixels(caplog: pytest.LogCaptureFixture) -> None:
    assert four(intrinsics_of_photo("0.9,1.2,0.5,0.5", photo(640, 480))) == pytest.approx([576, 576, 320, 240])
    assert "taken as units of the photo's sides" in caplog.text


def test_what_is_odd_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sam3d_gs")
    assert four(intrinsics_of_photo("600,610,322,238", photo(640, 480))) == [600, 610, 322, 238]
    assert not caplog.records
    (tmp_path / "k.txt").write_text("1 SIMPLE_RADIAL 1280 960 1200 640 480 0.1")
    odd = {
        "600,600,100,240": "is far from the middle of desk.jpg",
        "600,300,320,240": "pixels are not square",
        str(tmp_path / "k.txt"): "lens distortion is ignored",
    }
    for source, words in odd.items():
        intrinsics_of_photo(source, photo(640, 480))
        assert words in caplog.text
    assert "made for 1280 x 960 px, scaled to desk.jpg, 640 x 480 px" in caplog.text
