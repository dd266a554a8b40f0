"""Photos as users have them: every mode, orientation and kind of damage."""

from __future__ import annotations

import contextlib
import os
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from sam3d_gs import photo as photo_module
from sam3d_gs.errors import BadInputError
from sam3d_gs.options import PhotoOptions
from sam3d_gs.photo import load_photo, open_image

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


# ---- what is no photo ------------------------------------------------------------------------------------------------


OTHERS = {
    "eps.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\n{} loop\n", "PostScript"),
    "dos.png": (b"\xc5\xd0\xd3\xc6" + b"\x1e\0\0\0" * 7 + b"%!PS\n{} loop", "PostScript"),
    "mac.tif": (b"\x04%!PS-Adobe-3.0 EPSF-3.0\n{} loop", "PostScript"),
    "a.pdf.png": (b"%PDF-1.7\n", "PDF"),
    "p.jpg": (b"8BPS\0\1" + bytes(40), "Photoshop"),
    "j.jpg": (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40), "JPEG 2000"),
    "s.png": (b'<?xml version="1.0"?>\n<svg xmlns="x"/>', "SVG"),
    "login.jpg": (b"<!DOCTYPE html><html>", "web page"),
    "lfs.png": (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
    "v.jpg": (b"\0\0\0\x18ftypisom" + bytes(40), "video"),
    "i.png": (b"\0\0\1\0\1\0" + bytes(40), "icon"),
    "w.png": (b"\xd7\xcd\xc6\x9a" + bytes(40), "metafile"),
    "z.png": (b"PK\x03\x04" + bytes(40), "zip"),
    "n.png": (b"\x93NUMPY\1\0" + bytes(40), "NumPy"),
    "r.png": (bytes(range(7, 200)), "not an image this program can read. It reads PNG, JPEG"),
    "fits.png": (b"SIMPLE  =                    T" + b" " * 2850, "not an image this program can read"),
    "heic.jpg": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40), r"HEIC photo. Run `pip install pillow-heif`"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_file_that_is_no_picture_says_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # not installed
    content, reason = OTHERS[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInputError, match=reason) as raised:
        open_image(tmp_path / name)
    assert str(raised.value).startswith(str(tmp_path / name))


def test_no_program_in_a_photo_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow hands PostScript to Ghostscript. One that loops would hang for ever."""
    from PIL import EpsImagePlugin

    called = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *a, **k: called.append(a) or Image.new("RGB", (9, 9)))
    monkeypatch.setattr(EpsImagePlugin, "has_ghostscript", lambda: True)
    for name in ("eps.jpg", "dos.png"):
        (tmp_path / name).write_bytes(OTHERS[name][0])
        with pytest.raises(BadInputError):
            load_photo(tmp_path / name)
    assert not called


@pytest.mark.parametrize("tags", [{254: 1}, {50706: b"\1\4\0\0"}], ids=["preview", "DNG"])
def test_the_preview_in_a_raw_file_is_not_taken_for_the_photo(tmp_path: Path, tags: dict[int, object]) -> None:
    path = tmp_path / "p.nef"
    Image.new("RGB", (16, 12), RED).save(path, "TIFF", tiffinfo=tags)
    with pytest.raises(BadInputError, match=r"p\.nef holds camera raw data"):
        load_photo(path)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "PPM", "AVIF"])
def test_damaged_files_are_one_line_whatever_the_decoder_raises(tmp_path: Path, form: str) -> None:
    Image.init()
    if form not in Image.SAVE:
        pytest.skip(f"this Pillow has no {form}")
    path = tmp_path / f"a.{form.lower()}"
    rng = np.random.default_rng(3)
    Image.fromarray(rng.integers(0, 255, (12, 16, 3), np.uint8)).save(path, form)
    whole = path.read_bytes()
    for _ in range(60):
        data = bytearray(whole)
        for place in rng.integers(0, min(len(data), 200), 4):
            data[place] = rng.integers(256)
        path.write_bytes(data)
        with contextlib.suppress(BadInputError):
            load_photo(path)


@pytest.mark.parametrize("size", [(20, 10), (12, 12)])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_orientations(tmp_path: Path, orientation: int, size: tuple[int, int]) -> None:
    upright = Image.new("RGB", size, "white")
    upright.paste(RED, (0, 0, 4, 6))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # EXIF -> Pillow's Transpose
    stored = upright.transpose(Image.Transpose(undo[orientation])) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(load_photo(tmp_path / "a.png").rgb, np.asarray(upright))


def test_every_picture_is_opened_in_one_place() -> None:
    """Image.open without a list of formats would open them all."""
    source = Path(photo_module.__file__).parent
    places = {p.relative_to(source).as_posix() for p in source.rglob("*.py") if "Image.open(" in p.read_text("utf-8")}
    assert places == {"photo.py", "masks/given/outlines.py", "stages/claim.py"}
    for place in places:
        for line in (source / place).read_text("utf-8").splitlines():
            assert "Image.open(" not in line or "formats=" in line


@pytest.mark.parametrize("make", [lambda p: os.mkfifo(p), lambda p: p.mkdir(), lambda p: p.symlink_to("/dev/zero")])
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "a.png")
    with pytest.raises(BadInputError, match=r"a regular file|a folder"):
        open_image(tmp_path / "a.png")


def test_heic_is_read_when_pillow_heif_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Heif(ImageFile.ImageFile):
        format = "HEIF"

        def _open(self) -> None:
            self._size, self._mode = (3, 2), "RGB"

        def load(self) -> Any:
            self.im = Image.new("RGB", (3, 2), "red").im
            return super().load()

    def register() -> None:
        Image.register_open("HEIF", Heif, lambda start: start[4:12] == b"ftypheic")

    monkeypatch.setitem(sys.modules, "pillow_heif", SimpleNamespace(register_heif_opener=register))
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    (tmp_path / "a.jpg").write_bytes(OTHERS["heic.jpg"][0])
    assert load_photo(tmp_path / "a.jpg").rgb[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_an_animation_says_that_its_first_frame_is_the_photo(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str
) -> None:
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "green", "blue")]
    path = tmp_path / f"a.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:], **({"lossless": True} if suffix == "webp" else {}))
    with caplog.at_level("WARNING", "sam3d_gs"):
        rgb = load_photo(path).rgb
    assert rgb[0, 0].tolist() == [255, 0, 0]
    assert "has 3 frames or pages: the first is the photo" in caplog.text
