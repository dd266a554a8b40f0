"""Photos as users have them: every mode, orientation and kind of damage."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam3d_gs.errors import BadInputError
from sam3d_gs.options import PhotoOptions
from sam3d_gs.photo import load_photo

RED = (204, 51, 51)


def _save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK", "L", "LA", "1", "YCbCr", "HSV"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    suffix = {"CMYK": "tif", "YCbCr": "jpg"}.get(mode, "png")
    image = Image.new("RGB", (20, 10), RED).convert(mode)
    if mode == "HSV":
        image = image.convert("RGB")
    photo = load_photo(_save(tmp_path / f"a.{suffix}", image))
    assert photo.rgb.shape == (10, 20, 3)
    assert photo.rgb.dtype == np.uint8
    if mode not in ("L", "LA", "1"):
        assert np.abs(photo.rgb[5, 5].astype(int) - RED).max() < 12


def test_cmyk_jpeg(tmp_path: Path) -> None:
    photo = load_photo(_save(tmp_path / "a.jpg", Image.new("CMYK", (16, 16), (0, 220, 220, 30))))
    assert photo.rgb[8, 8, 0] > 150 > photo.rgb[8, 8, 1]


def test_16_bit_grey_keeps_its_brightness(tmp_path: Path) -> None:
    values = np.full((8, 8), 32768, np.uint16)
    photo = load_photo(_save(tmp_path / "a.png", Image.fromarray(values)))
    assert abs(int(photo.rgb[0, 0, 0]) - 128) <= 1
    dark = load_photo(_save(tmp_path / "b.png", Image.fromarray(np.ones((8, 8), np.uint16))))
    assert dark.rgb.max() == 0


def test_float_tiff_with_nan(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    values[0, 0] = np.nan
    photo = load_photo(_save(tmp_path / "a.tif", Image.fromarray(values)))
    assert photo.rgb[0, 0].tolist() == [0, 0, 0]
    assert photo.rgb[-1, -1].tolist() == [255, 255, 255]


def test_transparent_parts_become_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    assert load_photo(_save(tmp_path / "a.png", image)).rgb.min() == 255


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (20, 10), "white")
    image.paste(RED, (0, 0, 10, 10))  # left half red
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned 90 degrees clockwise
    photo = load_photo(_save(tmp_path / "a.jpg", image, exif=exif))
    assert photo.rgb.shape == (20, 10, 3)
    assert photo.rgb[2, 5, 1] < 100 < photo.rgb[17, 5, 1]  # now the top half


def test_damaged_exif_does_not_cost_the_picture(tmp_path: Path) -> None:
    image = Image.new("RGB", (20, 10), RED)
    photo = load_photo(_save(tmp_path / "a.jpg", image, exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff\x12"))
    assert photo.rgb.shape == (10, 20, 3)
    assert photo.focal_px is None


def test_focal_length_from_exif(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 43  # about the film's diagonal of 43.27 mm
    photo = load_photo(_save(tmp_path / "a.jpg", Image.new("RGB", (300, 400)), exif=exif))
    assert photo.focal_px == pytest.approx(500 * 43 / 43.2666, rel=1e-4)
    small = load_photo(tmp_path / "a.jpg", PhotoOptions(max_side_px=200))
    assert small.rgb.shape == (200, 150, 3)
    assert small.focal_px == pytest.approx(photo.focal_px / 2)


def test_one_pixel(tmp_path: Path) -> None:
    assert load_photo(_save(tmp_path / "a.png", Image.new("RGB", (1, 1), RED))).rgb.shape == (1, 1, 3)


def test_very_long_photos_are_scaled_down(tmp_path: Path) -> None:
    photo = load_photo(_save(tmp_path / "a.png", Image.new("RGB", (20_000, 3), RED)))
    assert photo.rgb.shape == (1, 4096, 3)


def test_names_in_any_script(tmp_path: Path) -> None:
    path = tmp_path / "мой стол ☕" / "カップ 1.png"
    path.parent.mkdir()
    assert load_photo(_save(path, Image.new("RGB", (4, 4)))).name == "カップ 1"


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xff\xd8\xff"])
def test_no_image_names_the_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(BadInputError, match=r"a\.jpg") as caught:
        load_photo(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "gif", "bmp"])
@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_truncated_files(tmp_path: Path, suffix: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    path = _save(tmp_path / f"a.{suffix}", Image.fromarray(noise))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(BadInputError, match=r"a\."):
        load_photo(path)


def test_missing_and_folder(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="No such file"):
        load_photo(tmp_path / "nothing.png")
    with pytest.raises(BadInputError, match="folder"):
        load_photo(tmp_path)


def test_decompression_bomb(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)))
    with pytest.raises(BadInputError, match=r"bomb\.png.*Scale it down"):
        load_photo(path)
