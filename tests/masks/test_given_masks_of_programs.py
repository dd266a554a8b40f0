"""Masks as annotation tools, networks and image editors write them."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from sam3d_gs.errors import BadInputError
from sam3d_gs.masks.given.found import Found
from sam3d_gs.masks.given.levels import Levels
from sam3d_gs.masks.given.placed import on_photo
from sam3d_gs.masks.given.reader import place_arrays, read_given
from sam3d_gs.photo import load_photo
from sam3d_gs.types import Photo

W, H = 96, 72
BOX, BALL, CONE = (np.zeros((H, W), bool) for _ in range(3))
BOX[20:50, 60:90] = True
BALL[(np.indices((H, W)) - np.array([25, 24])[:, None, None] + 0.5).__pow__(2).sum(0) < 144] = True
CONE[52:68, 20:50] = True
OBJECTS = (BOX, BALL, CONE)
COLOURS = ((250, 50, 83), (51, 221, 255), (255, 204, 51))  # CVAT's


@pytest.fixture
def photo(tmp_path: Path) -> Photo:
    rgb = np.random.default_rng(0).integers(90, 120, (H, W, 3)).astype(np.uint8)
    for mask, colour in zip(OBJECTS, COLOURS, strict=True):
        rgb[mask] = colour
    Image.fromarray(rgb).save(tmp_path / "desk.png")
    return load_photo(tmp_path / "desk.png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "masks").mkdir()
    return tmp_path / "masks"


def _same(found: list[Found], masks: tuple[np.ndarray, ...], at_least: float = 1.0) -> None:
    assert len(found) == len(masks), [item.source for item in found]
    for mask in masks:
        best = max((item.mask & mask).sum() / (item.mask | mask).sum() for item in found)
        assert best >= at_least, best


def _save(folder: Path, values: np.ndarray, name: str = "a.png", **options: Any) -> None:
    Image.fromarray(values).save(folder / name, **options)


# ---- label maps ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [20, 60, 200])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_many_small_labels_are_no_soft_mask(folder: Path, photo: Photo, count: int, dtype: Any) -> None:
    """Each covers far less than 0.3 % of the picture, and together they hold values from one end to the other."""
    values = np.zeros((H * 8, W * 8), dtype)
    for number in range(count):
        y, x = divmod(number, 20)
        values[10 + 50 * y : 30 + 50 * y, 10 + 37 * x : 30 + 37 * x] = number + 1
    _save(folder, values)
    found, _ = read_given(folder, photo)
    assert len(found) == count and all(item.mask.any() for item in found)


def test_specks_of_a_label_map_do_not_cost_the_large_label(folder: Path, photo: Photo) -> None:
    values = np.where(BOX, 1, 0).astype(np.uint8)
    values[5:7, 5:7] = 2
    values[10, 10] = 3
    _save(folder, values)
    assert [int(item.mask.sum()) for item in read_given(folder, photo)[0]] == [int(BOX.sum()), 4, 1]


def test_specks_of_a_colour_map_are_objects(folder: Path, photo: Photo) -> None:
    rgb = np.zeros((H, W, 3), np.uint8)
    rgb[BOX], rgb[BALL] = COLOURS[:2]
    rgb[5:7, 5:7] = COLOURS[2]
    _save(folder, rgb)
    assert sorted(int(item.mask.sum()) for item in read_given(folder, photo)[0]) == [
        4,
        *sorted([BALL.sum(), BOX.sum()]),
    ]


def test_of_two_values_without_0_one_is_said_to_be_the_background(folder: Path, photo: Photo) -> None:
    _save(folder, np.where(BOX, 2, 1).astype(np.uint8))
    found, warnings = read_given(folder, photo)
    _same(found, (BOX,))
    assert any("has no 0" in text for text in warnings)
    _save(folder, np.where(BOX, 235, 16).astype(np.uint8))  # black and white of video
    assert read_given(folder, photo)[1] == []


@pytest.mark.parametrize("kind", ["tif", "npy"])
def test_numbers_below_0_are_no_objects(folder: Path, photo: Photo, kind: str) -> None:
    values = np.zeros((H, W), np.int32)
    for number, mask in enumerate(OBJECTS, start=1):
        values[mask] = number
    unlabelled = values.copy()
    unlabelled[:4, :30] = -1
    for array, names in ((unlabelled, ["a 1", "a 2", "a 3"]), (values - 1, ["a 0", "a 1", "a 2"])):
        _save(folder, array, "a.tif") if kind == "tif" else np.save(folder / "a.npy", array)
        found, warnings = read_given(folder, photo)
        _same(found, OBJECTS)
        assert [item.name for item in found] == names
        assert any("below 0" in text for text in warnings)


def test_channels_that_overlap_are_pointed_out(folder: Path, photo: Photo) -> None:
    rgb = np.zeros((H, W, 3), np.uint8)
    rgb[BOX, 0] = 255
    rgb[10:40, 40:75, 1] = 255
    _save(folder, rgb)
    assert any("yellow, which may be where green and red overlap" in text for text in read_given(folder, photo)[1])
    rgb[BOX] = (255, 0, 0)
    _save(folder, rgb)
    assert not any("overlap" in text for text in read_given(folder, photo)[1])


@pytest.mark.parametrize("opacity", [40, 76, 128, 255])
def test_overlays_are_as_good_as_opaque_colours(folder: Path, photo: Photo, opacity: int) -> None:
    rgba = np.zeros((H, W, 4), np.uint8)
    for mask, colour in zip(OBJECTS, COLOURS, strict=True):
        rgba[mask] = (*colour, opacity)
    _save(folder, rgba)
    _same(read_given(folder, photo)[0], OBJECTS)


def test_a_dimmed_background_is_background(folder: Path, photo: Photo) -> None:
    _save(folder, np.dstack([photo.rgb, np.where(BALL, 255, 140).astype(np.uint8)]))
    _same(read_given(folder, photo)[0], (BALL,))


def test_a_transparent_label_map_of_many_colours(folder: Path, photo: Photo) -> None:
    rgba = np.zeros((H, W, 4), np.uint8)
    for number in range(30):
        y, x = divmod(number, 6)
        rgba[2 + 14 * y : 12 + 14 * y, 2 + 15 * x : 12 + 15 * x] = (
            8 * number,
            255 - 8 * number,
            number * 37 % 256,
            255,
        )
    _save(folder, rgba)
    assert len(read_given(folder, photo)[0]) == 30


# ---- masks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("colours", [((220, 20, 20), (0, 0, 0)), ((0, 200, 0), (255, 255, 255))])
@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_a_lossy_mask_in_one_colour(folder: Path, photo: Photo, colours: Any, suffix: str) -> None:
    size = (H * 4, W * 4)
    large = np.asarray(Image.fromarray(BALL).resize(size[::-1]))
    rgb = np.where(large[..., None], colours[0], colours[1]).astype(np.uint8)
    _save(folder, rgb, f"a.{suffix}", quality=90)
    _same(read_given(folder, photo)[0], (BALL,), 0.95)


def test_a_lossy_label_map_in_colour_is_refused(folder: Path, photo: Photo) -> None:
    rgb = np.zeros((H, W, 3), np.uint8)
    for mask, colour in zip(OBJECTS, COLOURS, strict=True):
        rgb[mask] = colour
    _save(folder, rgb, "a.jpg", quality=90)
    with pytest.raises(BadInputError, match=r"a\.jpg has several colours, blurred"):
        read_given(folder, photo)


def test_an_outline_that_is_not_filled_is_doubted(folder: Path, photo: Photo) -> None:
    for shape, doubted in (("outline", True), ("ring", False), ("cable", False)):
        image = Image.new("L", (W, H))
        draw = ImageDraw.Draw(image)
        if shape == "cable":
            draw.line([(5, 5), (40, 60), (90, 10)], fill=255, width=2)
        else:
            draw.ellipse([20, 10, 70, 60], outline=255, width=1 if shape == "outline" else 8)
        image.save(folder / "a.png")
        assert any("should be filled" in text for text in read_given(folder, photo)[1]) == doubted, shape


def test_what_is_thin_does_not_vanish_when_it_is_scaled(folder: Path, photo: Photo) -> None:
    values = np.zeros((H * 8, W * 8), np.uint8)
    values[100:102, 100:600] = 255
    _save(folder, values)
    assert read_given(folder, photo)[0][0].mask.sum() > 30


def test_a_smaller_copy_in_a_tiff_is_no_second_mask(folder: Path, photo: Photo) -> None:
    from PIL import TiffImagePlugin

    with TiffImagePlugin.AppendingTiffWriter(str(folder / "a.tif"), new=True) as file:
        Image.fromarray(BOX.astype(np.uint8) * 255).save(file, "TIFF")
        file.newFrame()
        Image.fromarray(BOX.astype(np.uint8)[::2, ::2] * 255).save(file, "TIFF", tiffinfo={254: 1})
        file.newFrame()
    _same(read_given(folder, photo)[0], (BOX,))


# ---- arrays ----------------------------------------------------------------------------------------------------------


def test_scores_and_boxes_beside_masks_are_left_out(folder: Path, photo: Photo) -> None:
    np.savez(
        folder / "sam.npz",
        masks=np.stack(OBJECTS),
        scores=np.ones(3, np.float32),
        boxes=np.ones((3, 4)),
        labels=np.array(["box", "ball", "cone"]),
    )
    found, warnings = read_given(folder, photo)
    _same(found, OBJECTS)
    assert [item.name for item in found] == ["box", "ball", "cone"]
    assert any("left out: scores (3,), boxes (3, 4)" in text for text in warnings)


def test_arrays_of_no_photo_are_refused_by_their_shapes(folder: Path, photo: Photo) -> None:
    np.savez(folder / "a.npz", scores=np.ones(3), boxes=np.ones((3, 4)))
    with pytest.raises(BadInputError, match=r"a\.npz.*scores \(3,\), boxes \(3, 4\)"):
        read_given(folder, photo)


def test_a_batch_of_one_photo(folder: Path, photo: Photo) -> None:
    np.save(folder / "a.npy", np.stack(OBJECTS)[None])
    _same(read_given(folder, photo)[0], OBJECTS)


# ---- outlines --------------------------------------------------------------------------------------------------------


CORNERS = [[60, 20], [90, 20], [90, 50], [60, 50]]
POLYGON = [float(number) for corner in CORNERS for number in corner]


def _coco(folder: Path, images: list[dict[str, Any]], annotations: list[dict[str, Any]] | None = None) -> None:
    rows = annotations or [{"id": 1, "image_id": 1, "category_id": 4, "segmentation": [POLYGON]}]
    data = {"images": images, "annotations": rows, "categories": [{"id": 4, "name": "box"}]}
    (folder / "coco.json").write_text(json.dumps(data))


def _image(name: str, number: Any = 1, **more: Any) -> dict[str, Any]:
    return {"id": number, "file_name": name, "width": W, "height": H, **more}


@pytest.mark.parametrize(
    "image",
    [
        _image("desk_png.rf.1f3c9a0b.jpg"),
        _image("whatever.jpg", extra={"name": "desk.png"}),
        _image("images/3/0f3c9a7e-desk.png"),
        _image("C:\\photos\\DESK.JPG"),
        _image("desk.png", "1"),
        {"id": 1, "file_name": "desk.png"},
    ],
    ids=["roboflow", "roboflow extra", "label studio", "windows", "text id", "no size"],
)
def test_the_photo_is_found_under_the_name_a_tool_gave_it(folder: Path, photo: Photo, image: dict[str, Any]) -> None:
    _coco(folder, [image, _image("other.png", 2)])
    found, warnings = read_given(folder, photo)
    _same(found, (BOX,))
    assert found[0].name == "box" and not warnings


def test_a_click_or_a_line_does_not_cost_the_other_outlines(folder: Path, photo: Photo) -> None:
    lines = [[[1, 2, 3, 4], POLYGON], [[5, 5, 6, 6]], []]
    rows = [{"id": n, "image_id": 1, "category_id": 4, "segmentation": lines[n]} for n in range(3)]
    _coco(folder, [_image("desk.png")], rows)
    found, warnings = read_given(folder, photo)
    _same(found, (BOX,))
    assert warnings == ["coco.json has 2 annotations of desk.png without an outline, which are left out."]


def test_fractions_of_the_photo_are_refused(folder: Path, photo: Photo) -> None:
    rows = [{"id": 1, "image_id": 1, "segmentation": [[0.6, 0.3, 0.9, 0.3, 0.9, 0.7]]}]
    _coco(folder, [_image("desk.png")], rows)
    with pytest.raises(BadInputError, match="coordinates from 0 to 1"):
        read_given(folder, photo)


def test_results_of_several_photos_are_refused(folder: Path, photo: Photo) -> None:
    rows = [{"image_id": number, "category_id": 1, "score": 0.9, "segmentation": [POLYGON]} for number in (1, 2)]
    (folder / "results.json").write_text(json.dumps(rows))
    with pytest.raises(BadInputError, match=r"results\.json.*about 2 photos"):
        read_given(folder, photo)
    (folder / "results.json").write_text(json.dumps(rows[:1]))
    _same(read_given(folder, photo)[0], (BOX,))


def test_a_file_of_sa_1b(folder: Path, photo: Photo) -> None:
    columns = BOX.T.ravel()
    runs = np.diff([0, *(np.flatnonzero(np.diff(columns)) + 1), columns.size]).tolist()
    rows = [{"id": 7, "segmentation": {"size": [H, W], "counts": runs}}]
    image = {"image_id": 3, "file_name": "desk.png", "width": W, "height": H}
    (folder / "sa_3.json").write_text(json.dumps({"image": image, "annotations": rows}))
    _same(read_given(folder, photo)[0], (BOX,))


def _labelme(folder: Path, *shapes: dict[str, Any], photo: str = "desk.png", name: str = "desk.json") -> None:
    data = {"shapes": shapes, "imagePath": photo, "imageWidth": W, "imageHeight": H}
    (folder / name).write_text(json.dumps(data))


@pytest.mark.parametrize("kind", ["rectangle", "rotation", "quadrilateral", "polygon", None])
def test_shapes_of_x_anylabeling(folder: Path, photo: Photo, kind: str | None) -> None:
    _labelme(folder, {"label": "box", "shape_type": kind, "points": CORNERS, "group_id": None})
    _same(read_given(folder, photo)[0], (BOX,))


def test_a_stray_click_is_left_out(folder: Path, photo: Photo) -> None:
    _labelme(folder, {"label": "box", "points": CORNERS}, {"label": "oops", "points": [[3, 4]]})
    found, warnings = read_given(folder, photo)
    _same(found, (BOX,))
    assert any("polygon 'oops'" in text for text in warnings)


def test_a_bomb_in_a_shape_is_refused(folder: Path, photo: Photo) -> None:
    import base64
    import struct
    import zlib

    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    shape = {"label": "b", "shape_type": "mask", "points": [[1, 1], [5, 5]], "mask": base64.b64encode(png).decode()}
    _labelme(folder, shape)
    with pytest.raises(BadInputError, match=r"desk\.json.*PNG of a shape"):
        read_given(folder, photo)


# ---- folders ---------------------------------------------------------------------------------------------------------


def test_a_folder_without_masks_says_what_it_holds(folder: Path, photo: Photo) -> None:
    (folder / "desk.txt").write_text("0 .5 .5 .6 .6")
    with pytest.raises(BadInputError, match=r"Not read, since masks have other endings: desk\.txt"):
        read_given(folder, photo)
    (folder / "chair").mkdir()
    with pytest.raises(BadInputError, match=r"but folders: chair/. Give one of them"):
        read_given(folder, photo)
    for name in ("one", "two"):
        _labelme(folder, {"label": "box", "points": CORNERS}, photo=f"{name}.jpg", name=f"{name}.json")
    with pytest.raises(BadInputError, match=r"No masks of desk\.png in .*about other photos"):
        read_given(folder, photo)


def test_a_pipe_is_not_waited_for(tmp_path: Path, photo: Photo) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(BadInputError, match=r"pipe\.png"):
        read_given(tmp_path / "pipe.png", photo)


def test_many_equal_masks_are_few_lines(folder: Path, photo: Photo) -> None:
    (folder / "sam.json").write_text(json.dumps([{"segmentation": [POLYGON]}] * 12))
    found, warnings = read_given(folder, photo)
    assert len(found) == 12 and len(warnings) == 6
    assert warnings[-1] == "61 more pairs of masks are the same area."


# ---- speed -----------------------------------------------------------------------------------------------------------


def test_values_below_0_and_of_any_type_are_told_apart() -> None:
    for dtype in (np.int8, np.int16, np.int64, np.uint8, np.uint32, np.float32):
        low = -3 if np.dtype(dtype).kind in "if" else 3
        array = np.full((5, 6), low, dtype)
        array[1:4, 1:4] = 9
        levels = Levels.of(array)
        assert levels.values.tolist() == [low, 9] and levels.values.dtype == dtype
        assert levels.count.tolist() == [21, 9] and levels.inner.tolist() == [0, 1]
        assert np.array_equal(levels.values[levels.index], array)


@pytest.mark.slow
def test_twelve_megapixels_take_seconds(folder: Path, tmp_path: Path) -> None:
    rgb = np.zeros((3000, 4000, 3), np.uint8)
    rgb[500:1500, 500:2000] = (250, 50, 83)
    rgb[2000:2500, 2500:3500] = (51, 221, 255)
    Image.new("RGB", (4000, 3000), "grey").save(tmp_path / "desk.jpg")
    photo = load_photo(tmp_path / "desk.jpg")
    _save(folder, rgb, compress_level=1)
    start = time.perf_counter()
    assert len(read_given(folder, photo)[0]) == 2
    assert time.perf_counter() - start < 20  # 2 on one free core; 9 when values were sorted


# ---- in memory -------------------------------------------------------------------------------------------------------


def test_arrays_in_memory_are_turned_with_the_photo_and_notes_are_kept(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(90, 120, (H, W, 3)).astype(np.uint8)
    rgb[BOX] = COLOURS[0]
    exif = Image.Exif()
    for orientation, undo in ((3, Image.Transpose.ROTATE_180), (6, Image.Transpose.ROTATE_90)):
        exif[0x0112] = orientation
        Image.fromarray(rgb).transpose(undo).save(tmp_path / "desk.png", exif=exif)
        photo = load_photo(tmp_path / "desk.png")
        stored = np.asarray(Image.fromarray(BOX).transpose(undo))
        for array, turned in ((stored, True), (BOX, False)):
            found, warnings = place_arrays([array], ["box"], photo)
            _same(found, (BOX,))
            assert any("turned" in text for text in warnings) == turned
    soft = np.where(BOX, 0.97, 0.02).astype(np.float32)
    soft[:, :4] = 0.45
    assert any("probabilities" in text for text in place_arrays([soft], ["box"], photo)[1])


def test_a_photo_in_memory_does_not_get_the_orientation_of_a_file_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (W, W)).save(tmp_path / "photo.png", exif=exif)
    monkeypatch.chdir(tmp_path)
    rgb = np.zeros((W, W, 3), np.uint8)
    rgb[:10, :10] = 255
    mask = rgb[..., 0] > 0
    found, warnings = place_arrays([mask], ["a"], Photo(Path("photo.png"), "photo", rgb, "0" * 64))
    assert np.array_equal(found[0].mask, mask) and not any("EXIF" in text for text in warnings)


# ---- orientation -----------------------------------------------------------------------------------------------------


def _textured(rng: np.random.Generator, masks: list[np.ndarray], contrast: float) -> np.ndarray:
    """(H, W, 3) uint8: soft background, grass in the lower half, objects that stand out a little."""
    shape = masks[0].shape
    grey = 110 + 15 * np.cumsum(rng.normal(0, 0.3, shape), 1) / 3 + rng.normal(0, 3, shape)
    grey[shape[0] // 2 :] += rng.normal(0, 25, (shape[0] - shape[0] // 2, shape[1]))
    for mask in masks:
        grey[mask] += contrast
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, -1)


@pytest.mark.parametrize("seed", range(12))
def test_texture_does_not_turn_masks(seed: int) -> None:
    """The edges of grass are stronger than those of an object on a table; masks belong to the upright photo."""
    rng = np.random.default_rng(seed)
    ys, xs = np.indices((240, 320))
    masks = [(ys - rng.integers(40, 100)) ** 2 + (xs - rng.integers(50, 270)) ** 2 < rng.integers(15, 35) ** 2]
    photo = Photo(Path("a.jpg"), "a", _textured(rng, masks, 10.0), "0" * 64)
    placed, _ = on_photo([Found("a", mask, "a") for mask in masks], photo, 3)
    assert np.array_equal(placed[0].mask, masks[0])


@pytest.mark.parametrize("seed", range(6))
def test_objects_that_stand_out_decide(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ys, xs = np.indices((240, 320))
    masks = [(ys - 60) ** 2 + (xs - rng.integers(50, 270)) ** 2 < 30**2, (abs(ys - 190) < 20) & (abs(xs - 90) < 40)]
    photo = Photo(Path("a.jpg"), "a", _textured(rng, masks, 60.0), "0" * 64)
    for raw in (True, False):
        given = [Found("a", mask[::-1, ::-1] if raw else mask, "a") for mask in masks]
        placed, warnings = on_photo(given, photo, 3)
        assert all(np.array_equal(item.mask, mask) for item, mask in zip(placed, masks, strict=True))
        assert bool(warnings) == raw
