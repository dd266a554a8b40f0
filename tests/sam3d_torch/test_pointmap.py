"""Depth and intrinsics that a user supplies, and the pointmap made from them."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional as F

from sam3d_gs.errors import BadInputError, MissingPackageError
from sam3d_gs.sam3d_torch import pointmap

K = np.array([[50.0, 0, 20], [0, 60, 15], [0, 0, 1]])


def test_to_pytorch3d_flips_two_axes_and_drops_half_valid_points() -> None:
    points = torch.tensor([[1.0, 2, 3], [math.inf, 2, 3], [1, math.nan, 3], [1, 2, -math.inf]])
    before = points.clone()
    flipped = pointmap.to_pytorch3d(points)
    assert flipped[0].tolist() == [-1, -2, 3]
    assert bool(flipped[1:].isnan().all())
    assert torch.equal(points.nan_to_num(9.0), before.nan_to_num(9.0))


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 40), st.integers(2, 30))
def test_points_project_to_the_centres_of_their_pixels(width: int, height: int) -> None:
    depth = np.random.default_rng(0).uniform(0.5, 9, (height, width))
    points = -pointmap.from_depth(depth, K, (width, height)).double().numpy()
    points[..., 2] *= -1  # PyTorch3D to OpenCV
    pixels = points @ K.T
    pixels = pixels[..., :2] / pixels[..., 2:]
    np.testing.assert_allclose(pixels[..., 0], np.broadcast_to(np.arange(width) + 0.5, depth.shape), atol=1e-4)
    np.testing.assert_allclose(
        pixels[..., 1], np.broadcast_to(np.arange(height)[:, None] + 0.5, depth.shape), atol=1e-4
    )
    np.testing.assert_allclose(points[..., 2], depth, rtol=1e-6)


def test_a_smaller_depth_map_covers_the_same_view() -> None:
    small = pointmap.from_depth(np.full((15, 20), 2.0), K, (40, 30))
    large = pointmap.from_depth(np.full((30, 40), 2.0), K, (40, 30))
    torch.testing.assert_close(small, (large[::2, ::2] + large[1::2, 1::2]) / 2)


def test_invalid_depth_becomes_nan() -> None:
    depth = np.array([[1.0, 0.0, -1.0], [math.nan, math.inf, 2.0]])
    points = pointmap.from_depth(depth, K, (3, 2))
    assert points.isnan().any(-1).tolist() == [[False, True, True], [True, True, False]]
    assert points.isnan().all(-1).tolist() == [[False, True, True], [True, True, False]]
    assert torch.equal(pointmap.from_depth(depth[::-1], K, (3, 2))[..., 2].isnan(), points[..., 2].flip(0).isnan())
    with pytest.raises(BadInputError, match="no valid pixel"):
        pointmap.from_depth(np.zeros((2, 3)), K, (3, 2))


def test_a_turned_depth_map_is_refused() -> None:
    with pytest.raises(BadInputError, match="30 x 40 px, the photo 40 x 30 px"):
        pointmap.from_depth(np.ones((40, 30)), K, (40, 30))
    assert pointmap.from_depth(np.ones((392, 518)), K, (4000, 3000)).shape == (392, 518, 3)  # sides in patches


def test_moge_intrinsics_become_pixels() -> None:
    normalised = torch.tensor([[0.8, 0, 0.5], [0, 1.1, 0.5], [0, 0, 1]])
    wanted = [[80, 0, 50], [0, 66, 30], [0, 0, 1]]
    np.testing.assert_allclose(pointmap.pixel_intrinsics(normalised, (100, 60)), wanted, rtol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60))
def test_resize_is_torchs_nearest(source: int, height: int, width: int) -> None:
    points = torch.rand(source, source + 3, 3)
    wanted = F.interpolate(points.permute(2, 0, 1)[None], size=(height, width), mode="nearest")[0].permute(1, 2, 0)
    assert torch.equal(pointmap.resize(points, height, width), wanted)


# --- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(2, 3), (1, 2, 3), (2, 3, 1)])
def test_npy_metres(tmp_path: Path, dtype: type, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "d.npy", np.array([1.5, 0, -2, math.nan, math.inf, 3], dtype=dtype).reshape(shape))
    depth = pointmap.read_depth(tmp_path / "d.npy")
    assert depth.dtype == np.float32 and depth.shape == (2, 3)
    np.testing.assert_array_equal(depth, np.array([[1.5, np.nan, np.nan], [np.nan, np.nan, 3]], np.float32))


def test_integers_are_millimetres_unless_told_otherwise(tmp_path: Path) -> None:
    values = np.array([[1500, 0], [65535, 1]], np.uint16)
    np.save(tmp_path / "d.npy", values)
    Image.fromarray(values).save(tmp_path / "d.PNG")
    for name in ("d.npy", "d.PNG"):
        wanted = np.array([[1.5, np.nan], [65.535, 0.001]], np.float32)
        np.testing.assert_allclose(pointmap.read_depth(tmp_path / name), wanted, rtol=1e-6)
        np.testing.assert_allclose(pointmap.read_depth(tmp_path / name, unit_m=1 / 256), wanted * 1000 / 256, rtol=1e-6)


class _Exr(ModuleType):
    """Stands in for the package OpenEXR: one file with the channels given."""

    def __init__(self, channels: dict[str, np.ndarray]) -> None:
        super().__init__("OpenEXR")
        outer = self
        self.channel_arrays = channels

        class Channel:
            def __init__(self, pixels: np.ndarray) -> None:
                self.pixels = pixels

        class File:
            def __init__(self, path: str, separate_channels: bool) -> None:
                assert separate_channels
                if Path(path).read_bytes() != b"exr":
                    raise RuntimeError("not an EXR file")

            def __enter__(self) -> File:
                return self

            def __exit__(self, *_: object) -> None:
                pass

            def channels(self) -> dict[str, Channel]:
                return {name: Channel(pixels) for name, pixels in outer.channel_arrays.items()}

        self.File = File


def _with_exr(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *names: str) -> Path:
    path = tmp_path / "d.exr"
    path.write_bytes(b"exr")
    arrays = {name: np.full((2, 3), 1.0 + i, np.float32) for i, name in enumerate(names)}
    monkeypatch.setitem(sys.modules, "OpenEXR", _Exr(arrays))
    return path


@pytest.mark.parametrize(("names", "value"), [(("A", "Z"), 2), (("anything",), 1), (("B", "G", "R"), 3)])
def test_exr_channels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, names: tuple[str, ...], value: float) -> None:
    assert (pointmap.read_depth(_with_exr(monkeypatch, tmp_path, *names)) == value).all()


def test_exr_without_depth_damaged_or_without_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = _with_exr(monkeypatch, tmp_path, "normal.x", "normal.y")
    with pytest.raises(BadInputError, match=r"normal\.x, normal\.y"):
        pointmap.read_depth(path)
    path.write_bytes(b"no")
    with pytest.raises(BadInputError, match="not an EXR file"):
        pointmap.read_depth(path)
    monkeypatch.setitem(sys.modules, "OpenEXR", None)
    with pytest.raises(MissingPackageError, match="pip install OpenEXR"):
        pointmap.read_depth(path)


def test_unusable_depth_files(tmp_path: Path) -> None:
    def refused(name: str, reason: str) -> None:
        with pytest.raises(BadInputError, match=reason) as caught:
            pointmap.read_depth(tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)

    refused("absent.npy", "No depth file")
    (tmp_path / "d.tiff").write_bytes(b"II")
    refused("d.tiff", "no depth file")
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY nonsense")
    refused("bad.npy", "no readable .npy")
    (tmp_path / "empty.npy").write_bytes(b"")
    refused("empty.npy", "no readable .npy")
    np.save(tmp_path / "pickle.npy", np.array([{}], dtype=object), allow_pickle=True)
    refused("pickle.npy", "no readable .npy")
    (tmp_path / "text.npy").write_text("hello")
    refused("text.npy", "no readable .npy file: (?!.*pickle)")  # no advice to run what is in it
    np.savez(tmp_path / "archive.npz", np.ones((4, 5)))
    (tmp_path / "archive.npz").rename(tmp_path / "archive.npy")
    refused("archive.npy", "no readable .npy")
    np.save(tmp_path / "rgb.npy", np.ones((4, 5, 3)))
    refused("rgb.npy", "one number per pixel")
    np.save(tmp_path / "bool.npy", np.ones((4, 5), bool))
    refused("bool.npy", "one number per pixel")
    np.save(tmp_path / "zero.npy", np.zeros((4, 5)))
    refused("zero.npy", "no valid depth")
    Image.fromarray(np.ones((4, 5), np.uint8)).save(tmp_path / "grey.png")
    refused("grey.png", "16-bit")
    (tmp_path / "bad.png").write_bytes(b"\x89PNG")
    refused("bad.png", "cannot be read|not an image")


# --- intrinsics ----------------------------------------------------------------------------------------------------


def test_intrinsics_from_text_and_files(tmp_path: Path) -> None:
    np.save(tmp_path / "k.npy", K)
    np.savetxt(tmp_path / "k.txt", K)
    (tmp_path / "four.txt").write_text("50 60\n20 15\n")
    contents = {
        "keys": {"fx": 50, "fy": 60, "cx": 20, "cy": 15},
        "matrix": K.tolist(),
        "K": {"K": K.tolist()},
        "camera_matrix": {"camera_matrix": K.ravel().tolist()},
    }
    for name, content in contents.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    files = [str(path) for path in tmp_path.iterdir()]
    assert len(files) == 7
    for source in ["50,60,20,15", " 50.0, 6e1 ,20,15", *files]:
        np.testing.assert_array_equal(pointmap.read_intrinsics(source), K, err_msg=source)


def test_intrinsics_that_know_their_size_follow_the_photo(tmp_path: Path) -> None:
    path = tmp_path / "k.json"
    path.write_text(json.dumps({"fx": 100, "fy": 120, "cx": 40, "cy": 30, "width": 80, "height": 60}))
    np.testing.assert_allclose(pointmap.read_intrinsics(str(path), (40, 30)), K)
    assert pointmap.read_intrinsics(str(path))[0, 0] == 100


@pytest.mark.parametrize(
    "source",
    [
        "",
        "50,60,20",
        "50,60,20,a",
        "nan,60,20,15",
        "-50,60,20,15",
        "0.8,1.1,0.5,0.5",
        "50,2,20,0,60,15,0,0,1",
        "50,0,20,0,60,15,0,0,2",
    ],
)
def test_unusable_intrinsics(source: str) -> None:
    with pytest.raises(BadInputError, match="fx,fy,cx,cy in pixels") as caught:
        pointmap.read_intrinsics(source)
    assert "\n" not in str(caught.value)


def test_unusable_intrinsics_files(tmp_path: Path) -> None:
    for name in ("k.json", "k.npy", "k.txt"):
        with pytest.raises(BadInputError, match=f"No file of camera intrinsics at .*{name}"):
            pointmap.read_intrinsics(str(tmp_path / name))
    for matrix in (np.eye(3) * 1j, np.full((3, 3), "50"), np.eye(3) > 0):
        np.save(tmp_path / "k.npy", matrix)
        with pytest.raises(BadInputError, match=r"k\.npy.*no numbers"):
            pointmap.read_intrinsics(str(tmp_path / "k.npy"))
    contents = [
        '{"fx": 50}',
        '{"K": "no"}',
        "{",
        "[[1,2],[3]]",
        '{"K": [50,60,20,15], "width": 0, "height": 4}',
        '"text"',
    ]
    for content in contents:
        (tmp_path / "k.json").write_text(content)
        with pytest.raises(BadInputError, match=r"k\.json"):
            pointmap.read_intrinsics(str(tmp_path / "k.json"))
