"""Reading the numbers of depth files: every format, and files that are none."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from sam3d_gs.errors import BadInputError, MissingPackageError
from sam3d_gs.rgbd.depth_files import read_values

VALUES = np.array([[1.5, 0, 2], [3, 4, 5]])


def write_pfm(path: Path, values: np.ndarray, order: str = "<") -> Path:
    height, width = values.shape
    header = f"Pf\n{width} {height}\n{'-1.0' if order == '<' else '1.0'}\n"
    path.write_bytes(header.encode() + values[::-1].astype(f"{order}f4").tobytes())
    return path


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.uint8, np.uint16, np.int32])
@pytest.mark.parametrize("shape", [(2, 3), (1, 2, 3), (2, 3, 1)])
def test_npy_as_it_is_stored(tmp_path: Path, dtype: type, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "d.npy", VALUES.astype(dtype).reshape(shape))
    values = read_values(tmp_path / "d.npy")
    assert values.dtype == dtype
    np.testing.assert_array_equal(values, VALUES.astype(dtype))


def test_npz_by_name_or_alone(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "named.npz", depth=VALUES, depth_std=VALUES * 0, rgb=np.ones((4, 5, 3)))
    np.savez(tmp_path / "alone.NPZ", VALUES)
    np.savez(tmp_path / "like.npz", metric_depth=VALUES, K=np.eye(3))
    for name in ("named.npz", "like.npz", "alone.NPZ.npz"):
        np.testing.assert_array_equal(read_values(tmp_path / name), VALUES)
    np.savez(tmp_path / "two.npz", a=VALUES, b=VALUES)
    with pytest.raises(BadInputError, match=r"holds the arrays a, b\. Save the one to use as 'depth'"):
        read_values(tmp_path / "two.npz")


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_pictures_of_one_channel(tmp_path: Path, dtype: type) -> None:
    names = ["d.tif", "d.TIFF"] + ["d.png"] * (dtype is np.uint16)
    for name in names:
        Image.fromarray(VALUES.astype(dtype)).save(tmp_path / name)
        np.testing.assert_array_equal(read_values(tmp_path / name), VALUES.astype(dtype))


@pytest.mark.parametrize("order", ["<", ">"])
def test_pfm_is_upside_down_in_either_byte_order(tmp_path: Path, order: str) -> None:
    np.testing.assert_array_equal(read_values(write_pfm(tmp_path / "d.pfm", VALUES, order)), VALUES)


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


@pytest.mark.parametrize(
    ("names", "value"), [(("A", "Z"), 2), (("anything",), 1), (("B", "G", "R"), 3), (("normal.Z", "L.Depth.V"), 2)]
)
def test_exr_channels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, names: tuple[str, ...], value: float) -> None:
    assert (read_values(_with_exr(monkeypatch, tmp_path, *names)) == value).all()


def test_exr_without_depth_damaged_or_without_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = _with_exr(monkeypatch, tmp_path, "normal.x", "normal.y")
    with pytest.raises(BadInputError, match=r"normal\.x, normal\.y"):
        read_values(path)
    path.write_bytes(b"no")
    with pytest.raises(BadInputError, match="not an EXR file"):
        read_values(path)
    monkeypatch.setitem(sys.modules, "OpenEXR", None)
    with pytest.raises(MissingPackageError, match="pip install OpenEXR"):
        read_values(path)


def bomb(path: Path) -> None:
    """An archive whose member claims 10**12 numbers."""
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000), }"
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    path.with_suffix(".npy").write_bytes(data + bytes(80))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("depth.npy", data + bytes(80))


def test_unusable_depth_files(tmp_path: Path) -> None:
    def refused(name: str, reason: str) -> None:
        with pytest.raises(BadInputError, match=reason) as caught:
            read_values(tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)

    def written(name: str, content: bytes) -> str:
        (tmp_path / name).write_bytes(content)
        return name

    def saved(name: str, values: np.ndarray) -> str:
        np.save(tmp_path / name, values)
        return name

    refused("absent.npy", "No depth file")
    refused(written("d.jpg", b"\xff\xd8"), "no depth file. Give one of .npy, .npz, .png")
    for content in (b"\x93NUMPY nonsense", b"", b"\x93NUMPY\x03\x00\x00"):
        refused(written("bad.npy", content), "no readable .npy")
    np.save(tmp_path / "pickle.npy", np.array([{}], dtype=object), allow_pickle=True)
    refused("pickle.npy", "Python objects, not numbers")
    refused(written("text.npy", b"hello"), "no readable .npy file: (?!.*pickle)")  # no advice to run what is in it
    np.savez(tmp_path / "archive.npz", np.ones((4, 5)))
    (tmp_path / "archive.npz").rename(tmp_path / "archive.npy")
    refused("archive.npy", "no readable .npy")
    refused(saved("rgb.npy", np.ones((4, 5, 3))), "one number per pixel")
    refused(saved("bool.npy", np.ones((4, 5), bool)), "one number per pixel")
    refused(saved("empty.npy", np.ones((0, 5))), "one number per pixel")
    refused(saved("complex.npy", np.ones((4, 5), complex)), "one number per pixel")
    bomb(tmp_path / "bomb.npz")
    refused("bomb.npy", "1000000 x 1000000 numbers")
    refused("bomb.npz", "1000000 x 1000000 numbers")
    refused(written("bad.npz", b"PK"), "no readable .npz")
    np.savez(tmp_path / "pickled.npz", depth=np.array([{}], dtype=object))
    refused("pickled.npz", "Python objects")
    Image.fromarray(np.ones((4, 5, 3), np.uint8)).save(tmp_path / "rgb.png")
    refused("rgb.png", "picture of mode RGB, not depth: a depth map has one number per pixel")
    Image.fromarray(np.ones((4, 5), np.uint8)).convert("P").save(tmp_path / "palette.png")
    refused("palette.png", "mode P")
    refused(written("bad.png", b"\x89PNG"), "cannot be read|not an image")
    refused(written("bad.pfm", b"Pf\n3 2\n"), "cut off")
    refused(written("short.pfm", b"Pf\n3 2\n-1\n1234"), "4 of 24 bytes")
    refused(written("rgb.pfm", b"PF\n3 2\n-1\n" + bytes(72)), "three channels")
    refused(written("wild.pfm", b"Pf\n300000 200000\n-1\n"), "header is wrong")
