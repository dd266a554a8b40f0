"""Masks from outside, of every kind: nothing is taken for something else without a word."""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from sam3d_gs.errors import BadInputError, Sam3dGsError
from sam3d_gs.masks.given.found import Found
from sam3d_gs.masks.given.greys import labels_of
from sam3d_gs.masks.given.outlines import _decompressed, from_runs
from sam3d_gs.masks.given.reader import read_given
from sam3d_gs.photo import load_photo
from sam3d_gs.types import Photo

W, H = 96, 72


def _disc(x: float, y: float, r: float, size: tuple[int, int] = (W, H)) -> np.ndarray:
    columns, rows = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
    return np.asarray((columns - x) ** 2 + (rows - y) ** 2 < r**2)


CUP, BALL, POT = _disc(24, 30, 12), _disc(60, 22, 9), _disc(70, 54, 11)
OBJECTS = (CUP, BALL, POT)


_UNDO = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # EXIF orientation -> Pillow's Transpose that stores a picture so


@pytest.fixture
def photo(tmp_path: Path) -> Photo:
    return _photo(tmp_path / "desk.png")


def _photo(path: Path, orientation: int = 1) -> Photo:
    """A photo whose objects are where the masks are, stored turned if it has an EXIF orientation."""
    rng = np.random.default_rng(0)
    rgb = rng.integers(90, 110, (H, W, 3)).astype(np.uint8)
    for mask, colour in zip(OBJECTS, ((220, 30, 30), (30, 220, 30), (30, 30, 220)), strict=True):
        rgb[mask] = colour
    stored = Image.fromarray(rgb)
    if orientation != 1:
        stored = stored.transpose(Image.Transpose(_UNDO[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(path, exif=exif)
    return load_photo(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "masks").mkdir()
    return tmp_path / "masks"


def _ids(dtype: Any = np.uint8, ids: tuple[int, ...] = (1, 2, 3)) -> np.ndarray:
    values = np.zeros((H, W), dtype)
    for mask, number in zip(OBJECTS, ids, strict=True):
        values[mask] = number
    return values


def _check(found: list[Found], masks: tuple[np.ndarray, ...] = OBJECTS, at_least: float = 1.0) -> None:
    assert len(found) == len(masks), [item.source for item in found]
    for item, mask in zip(found, masks, strict=True):
        iou = (item.mask & mask).sum() / (item.mask | mask).sum()
        assert iou >= at_least, f"{item.source}: {iou}"


# ---- one mask in one picture -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("foreground", [1, 2, 3, 38, 63, 64, 127, 200, 254, 255])
@pytest.mark.parametrize("background", [0, 1])
def test_any_two_values_are_a_mask(folder: Path, photo: Photo, foreground: int, background: int) -> None:
    if foreground == background:
        return
    Image.fromarray(np.where(CUP, foreground, background).astype(np.uint8)).save(folder / "cup.png")
    _check(read_given(folder, photo)[0], (CUP,))


@pytest.mark.parametrize("kind", ["smooth", "blurred", "jpg", "jpg 50", "webp", "16 bit", "float", "grey rgb jpg"])
def test_soft_edges_and_lossy_files_are_one_mask(folder: Path, photo: Photo, kind: str) -> None:
    large = Image.fromarray(np.uint8(255) * _disc(24 * 8, 30 * 8, 12 * 8, (W * 8, H * 8)))
    smooth = large.resize((W, H), Image.Resampling.BOX)
    if kind == "smooth":
        smooth.save(folder / "cup.png")
    elif kind == "blurred":
        smooth.filter(ImageFilter.GaussianBlur(2)).save(folder / "cup.png")
    elif kind.startswith("jpg"):
        smooth.save(folder / "cup.jpg", quality=50 if "50" in kind else 85)
    elif kind == "grey rgb jpg":
        smooth.convert("RGB").save(folder / "cup.jpeg", quality=80)
    elif kind == "webp":
        smooth.save(folder / "cup.webp", quality=70)
    elif kind == "16 bit":
        Image.fromarray(np.asarray(smooth).astype(np.uint16) * 257).save(folder / "cup.png")
    else:
        Image.fromarray(np.asarray(smooth).astype(np.float32) / 255).save(folder / "cup.tif")
    _check(read_given(folder, photo)[0], (CUP,), 0.9)


def test_class_numbers_in_a_png_are_no_noise_and_in_a_jpeg_they_are(folder: Path, photo: Photo) -> None:
    Image.fromarray(_ids(ids=(7, 7, 7))).save(folder / "a.png")
    Image.fromarray(np.uint8(20) * CUP).save(folder / "b.jpg")
    found, warnings = read_given(folder, photo)
    _check(found[:1], (CUP | BALL | POT,))
    assert not found[1].mask.any()
    assert any("b.jpg is black but for noise" in text for text in warnings)


# ---- several objects in one picture ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "ids"),
    [
        (np.uint8, (1, 2, 3)),
        (np.uint8, (10, 20, 200)),
        (np.uint8, (85, 170, 255)),
        (np.uint16, (1, 300, 60000)),
        (np.int32, (5, 70000, 1_000_000)),
    ],
)
def test_label_maps_by_number(folder: Path, photo: Photo, dtype: Any, ids: tuple[int, ...]) -> None:
    Image.fromarray(_ids(dtype, ids)).save(folder / "desk masks.tif")
    found, warnings = read_given(folder, photo)
    _check(found)
    assert [item.name for item in found] == [f"desk masks {number}" for number in ids]
    assert any("holds 3 labels" in text for text in warnings)


@pytest.mark.parametrize("background", [255, 7, 200])
def test_the_label_along_the_outline_is_background_where_there_is_no_zero(
    folder: Path, photo: Photo, background: int
) -> None:
    values = _ids(ids=(70, 80, 90))
    values[values == 0] = background
    Image.fromarray(values).save(folder / "a.png")
    found, warnings = read_given(folder, photo)
    _check(found)
    assert any(f"has no 0: {background}, along its outline" in text for text in warnings)


def test_a_transparent_label_map_is_no_cut_out(folder: Path, photo: Photo) -> None:
    rgba = np.zeros((H, W, 4), np.uint8)
    for mask, colour in zip(OBJECTS, ((0, 0, 255, 255), (0, 255, 0, 255), (250, 128, 4, 255)), strict=True):
        rgba[mask] = colour
    Image.fromarray(rgba).save(folder / "a.png")
    assert len(read_given(folder, photo)[0]) == 3
    rgba[..., :3] = np.random.default_rng(0).integers(0, 255, (H, W, 3))  # a photo's
    Image.fromarray(rgba).save(folder / "a.png")
    _check(read_given(folder, photo)[0], (CUP | BALL | POT,))


def test_small_labels_are_not_lost(folder: Path, photo: Photo) -> None:
    values = _ids()
    values[2:4, 2:4] = 4
    Image.fromarray(values).save(folder / "a.png")
    found, _ = read_given(folder, photo)
    assert [int(item.mask.sum()) for item in found][3] == 4


@pytest.mark.parametrize("void", ["border", "area"])
def test_the_void_of_voc_is_no_object(folder: Path, photo: Photo, void: str) -> None:
    values = _ids(ids=(1, 15, 20))
    ring = _disc(24, 30, 13) & ~CUP if void == "border" else _disc(10, 60, 8)
    values[ring] = 255
    image = Image.fromarray(values)
    image.putpalette(_voc_palette())
    Image.fromarray(values).save(folder / "a.png")
    found, warnings = read_given(folder, photo)
    _check(found)
    assert any("unlabelled" in text for text in warnings)
    image.save(folder / "a.png")  # with the palette
    found, warnings = read_given(folder, photo)
    assert len(found) == 3
    assert sorted(int(item.mask.sum()) for item in found) == sorted(int(mask.sum()) for mask in OBJECTS)


def _voc_palette() -> list[int]:
    palette = []
    for index in range(256):
        r = g = b = 0
        rest = index
        for bit in range(8):
            r |= (rest & 1) << (7 - bit)
            g |= (rest >> 1 & 1) << (7 - bit)
            b |= (rest >> 2 & 1) << (7 - bit)
            rest >>= 3
        palette += [r, g, b]
    return palette


@pytest.mark.parametrize("background", [(0, 0, 0), (255, 255, 255), (40, 80, 120)])
def test_label_maps_by_colour(folder: Path, photo: Photo, background: tuple[int, int, int]) -> None:
    rgb = np.full((H, W, 3), background, np.uint8)
    for mask, colour in zip(OBJECTS, ((0, 0, 255), (0, 255, 0), (250, 128, 4)), strict=True):
        rgb[mask] = colour
    Image.fromarray(rgb).save(folder / "desk.bmp")
    found, warnings = read_given(folder, photo)
    _check(found)
    assert [item.name for item in found] == ["desk blue", "desk green", "desk #fa8004"]
    assert any("one object each" in text for text in warnings)
    assert any("is the background" in text for text in warnings) == (background == (40, 80, 120))


def test_a_palette_in_any_order_is_read_by_its_colours(folder: Path, photo: Photo) -> None:
    image = Image.fromarray(np.where(CUP, 0, 1).astype(np.uint8))  # white has index 0
    image.putpalette([255, 255, 255, 0, 0, 0])
    image.save(folder / "cup.png")
    _check(read_given(folder, photo)[0], (CUP,))


@pytest.mark.parametrize("suffix", [".tif", ".gif"])
def test_pages_are_one_object_each(folder: Path, photo: Photo, suffix: str) -> None:
    pages = [Image.fromarray(np.uint8(255) * mask) for mask in OBJECTS]
    pages[0].save(folder / f"all{suffix}", save_all=True, append_images=pages[1:])
    found, warnings = read_given(folder, photo)
    _check(found)
    assert any("3 pages" in text for text in warnings)


@given(st.lists(st.integers(1, 2**31 - 1), min_size=3, max_size=3, unique=True), st.booleans())
@settings(max_examples=40, deadline=None)
def test_any_ids_come_back(ids: list[int], dense: bool) -> None:
    values = np.zeros((H, W), np.int64)
    for mask, number in zip(OBJECTS, sorted(ids), strict=True):
        values[mask] = number
    labels = labels_of(values, "x")
    assert [np.array_equal(a, b) for a, b in zip(labels.masks.values(), OBJECTS, strict=True)] == [True] * 3


# ---- what is no mask -------------------------------------------------------------------------------------------------


def _noise(folder: Path) -> None:
    rng = np.random.default_rng(1)
    smooth = Image.fromarray(rng.integers(0, 255, (9, 12, 3)).astype(np.uint8)).resize((W, H), Image.Resampling.BICUBIC)
    smooth.save(folder / "a.png")


def _depth(folder: Path) -> None:
    Image.fromarray((np.linspace(500, 4000, H * W).reshape(H, W)).astype(np.uint16)).save(folder / "a.png")


def _smoothed_labels(folder: Path) -> None:
    Image.fromarray(_ids(ids=(80, 160, 240))).resize((W * 2, H * 2), Image.Resampling.BICUBIC).save(folder / "a.png")


def _lossy_labels(folder: Path) -> None:
    Image.fromarray(_ids(ids=(80, 160, 240))).save(folder / "a.jpg", quality=85)


def _grey_photo(folder: Path) -> None:
    _noise(folder)
    with Image.open(folder / "a.png") as image:
        image.convert("L").save(folder / "a.jpg")
    (folder / "a.png").unlink()


def _nan(folder: Path) -> None:
    Image.fromarray(np.full((H, W), np.nan, np.float32)).save(folder / "a.tif")


def _folder_of_that_name(folder: Path) -> None:
    (folder / "a.png").mkdir()


def _postscript(folder: Path) -> None:
    (folder / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 96 72\n{} loop\n")


def _pickle(folder: Path) -> None:
    np.save(folder / "a.npy", np.array([{"segmentation": 1}], dtype=object), allow_pickle=True)


def _huge_claim(folder: Path) -> None:
    np.save(folder / "a.npy", np.zeros((H, W), bool))
    raw = (folder / "a.npy").read_bytes().replace(b"(72, 96)", b"(9**9,9)"[:8])
    (folder / "a.npy").write_bytes(raw.replace(b"(9**9,9)", b"(9,9**9)"))


def _cut_npz(folder: Path) -> None:
    np.savez_compressed(folder / "a.npz", a=_ids())
    (folder / "a.npz").write_bytes((folder / "a.npz").read_bytes()[:150])


def _pipe(folder: Path) -> None:
    os.mkfifo(folder / "a.png")


@pytest.mark.parametrize(
    "make",
    [
        _noise,
        _depth,
        _smoothed_labels,
        _lossy_labels,
        _grey_photo,
        _nan,
        _folder_of_that_name,
        _postscript,
        _pickle,
        _huge_claim,
        _cut_npz,
        _pipe,
    ],
)
def test_what_is_no_mask_is_refused_by_name(folder: Path, photo: Photo, make: Callable[[Path], None]) -> None:
    make(folder)
    with pytest.raises(BadInputError, match=r"a\.\w+") as raised:
        read_given(folder, photo)
    assert "\n" not in str(raised.value)


def test_files_that_are_not_read_are_named(folder: Path, photo: Photo) -> None:
    Image.fromarray(CUP).save(folder / "cup.png")
    for name in ("labels.txt", "desk.xml", "Thumbs.db", ".DS_Store"):
        (folder / name).write_text("x")
    _, warnings = read_given(folder, photo)
    assert warnings == ["Not read, since masks have other endings: desk.xml, labels.txt."]


# ---- inverted, doubled, turned ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3])
def test_dark_objects_on_white_are_inverted_with_a_word(folder: Path, photo: Photo, count: int) -> None:
    for number, mask in enumerate(OBJECTS[:count]):
        Image.fromarray(~mask).save(folder / f"{number}.png")
    found, warnings = read_given(folder, photo)
    _check(found, OBJECTS[:count])
    assert any("inverted" in text for text in warnings)


def test_one_background_among_objects_is_kept_and_doubted(folder: Path, photo: Photo) -> None:
    Image.fromarray(CUP).save(folder / "0.png")
    Image.fromarray(~CUP & ~BALL).save(folder / "wall.png")
    found, warnings = read_given(folder, photo)
    _check(found, (CUP, ~CUP & ~BALL))
    assert [text for text in warnings if text.startswith("wall.png looks like background")]


def test_the_same_object_twice_is_named(folder: Path, photo: Photo) -> None:
    for name in ("a.png", "b.png"):
        Image.fromarray(CUP).save(folder / name)
    assert read_given(folder, photo)[1] == ["a.png and b.png are the same area: two objects in one place."]


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("raw", [False, True])
def test_masks_of_the_unturned_photo(tmp_path: Path, folder: Path, orientation: int, raw: bool) -> None:
    photo = _photo(tmp_path / "desk.jpg", orientation)
    for number, mask in enumerate(OBJECTS):
        picture = Image.fromarray(mask)
        stored = picture.transpose(Image.Transpose(_UNDO[orientation])) if raw else picture
        stored.save(folder / f"{number}.png")
    found, warnings = read_given(folder, photo)
    _check(found)
    assert any("turned" in text for text in warnings) == raw


def test_a_turn_that_nothing_tells_is_asked_about(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "flat.jpg"
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.new("RGB", (W, H), (90, 90, 90)).save(path, exif=exif)
    Image.fromarray(CUP).save(folder / "a.png")
    found, warnings = read_given(folder, load_photo(path))
    _check(found, (CUP,))
    assert any("compare overlay.png" in text for text in warnings)


def test_a_turned_mask_of_an_upright_photo_says_so(folder: Path, photo: Photo) -> None:
    Image.fromarray(np.ascontiguousarray(CUP.T)).save(folder / "a.png")
    with pytest.raises(BadInputError, match="It fits when turned by 90 degrees"):
        read_given(folder, photo)


# ---- arrays ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "array",
    [
        np.stack(OBJECTS),
        np.stack(OBJECTS, -1),
        np.stack(OBJECTS)[:, None],
        np.stack(OBJECTS).astype(np.uint8) * 255,
        np.where(np.stack(OBJECTS), 4.0, -6.0).astype(np.float32),
        np.where(np.stack(OBJECTS), 0.9, 0.02).astype(np.float16),
        _ids(np.int64),
        _ids(np.float32),
    ],
)
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_arrays(tmp_path: Path, photo: Photo, array: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"mine.{suffix}"
    np.save(path, array) if suffix == "npy" else np.savez_compressed(path, masks=array)
    _check(read_given(path, photo)[0])


def test_arrays_have_their_names(tmp_path: Path, photo: Photo) -> None:
    np.savez(tmp_path / "a.npz", red_cup=CUP, ball=BALL)
    assert [item.name for item in read_given(tmp_path / "a.npz", photo)[0]] == ["red cup", "ball"]


# ---- COCO and labelme ------------------------------------------------------------------------------------------------


def _coco(segmentations: list[Any], file_name: str = "img/desk.png") -> dict[str, Any]:
    rows = [{"id": i, "image_id": 7, "category_id": i, "segmentation": s} for i, s in enumerate(segmentations)]
    other = {"id": 99, "image_id": 8, "category_id": 0, "segmentation": [[0, 0, 9, 0, 9, 9]]}
    return {
        "images": [
            {"id": 7, "file_name": file_name, "width": W, "height": H},
            {"id": 8, "file_name": "other.png", "width": 10, "height": 10},
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate(("red cup", "ball", "pot"))],
        "annotations": [*rows, other],
    }


def _runs(mask: np.ndarray) -> list[int]:
    flat = mask.T.ravel()
    changes = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *changes, len(flat)]).tolist()
    return [0, *counts] if flat[0] else counts


def _compressed(counts: list[int]) -> str:
    """As cocoapi writes run lengths."""
    text = ""
    for i, count in enumerate(counts):
        x = count - counts[i - 2] if i > 2 else count
        while True:
            bits = x & 31
            x >>= 5
            more = x != (-1 if bits & 16 else 0)
            text += chr((bits | 32 if more else bits) + 48)
            if not more:
                break
    return text


def _polygon(x: float, y: float, r: float) -> list[float]:
    turn = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    return np.stack([x + r * np.cos(turn), y + r * np.sin(turn)], -1).ravel().tolist()


@pytest.mark.parametrize("kind", ["polygons", "counts", "compressed"])
def test_coco(tmp_path: Path, photo: Photo, kind: str) -> None:
    segmentations: list[Any] = [[_polygon(24, 30, 12)], [_polygon(60, 22, 9)], [_polygon(70, 54, 11)]]
    if kind != "polygons":
        segmentations = [{"size": [H, W], "counts": _runs(mask)} for mask in OBJECTS]
    if kind == "compressed":
        segmentations = [{"size": [H, W], "counts": _compressed(_runs(mask))} for mask in OBJECTS]
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(_coco(segmentations)))
    found, _ = read_given(path, photo)
    _check(found, OBJECTS, 0.93 if kind == "polygons" else 1.0)
    assert [item.name for item in found] == ["red cup", "ball", "pot"]


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=30))
def test_compressed_run_lengths_come_back(counts: list[int]) -> None:
    assert _decompressed(_compressed(counts)) == counts


def test_run_lengths_as_pycocotools_writes_them() -> None:
    square = np.zeros((4, 6), bool)
    square[1:3, 2:4] = True
    assert np.array_equal(from_runs(_decompressed("92207"), (6, 4)), square)
    large = np.zeros((300, 400), bool)
    large[20:250, 30:390] = True
    assert np.array_equal(from_runs(_decompressed("li8V7V2" + "0" * 717 + "Tm2"), (400, 300)), large)
    rows = ["001000001", "000001101", "100100100", "101001101", "011011110", "110100010", "100010011"]
    mixed = np.array([[c == "1" for c in row] for row in rows])
    assert np.array_equal(from_runs(_decompressed("221030MO112ON030L000012231KL10"), (9, 7)), mixed)


def test_a_list_of_sams_masks(tmp_path: Path, photo: Photo) -> None:
    rows = [{"segmentation": {"size": [H, W], "counts": _runs(mask)}, "area": 9} for mask in OBJECTS]
    (tmp_path / "sam.json").write_text(json.dumps(rows))
    _check(read_given(tmp_path / "sam.json", photo)[0])


def _labelme(**more: Any) -> dict[str, Any]:
    small = io.BytesIO()
    Image.fromarray(POT[43:65, 59:81]).save(small, "PNG")
    shapes = [
        {"label": "cup", "points": np.reshape(_polygon(24, 30, 12), (-1, 2)).tolist(), "shape_type": "polygon"},
        {"label": "ball", "points": [[60, 22], [60, 31]], "shape_type": "circle"},
        {
            "label": "pot",
            "points": [[59, 43], [81, 65]],
            "shape_type": "mask",
            "mask": base64.b64encode(small.getvalue()).decode(),
        },
        {"label": "tip", "points": [[3, 3]], "shape_type": "point"},
    ]
    return {"version": "5.4", "shapes": shapes, "imagePath": "desk.png", "imageHeight": H, "imageWidth": W, **more}


def test_labelme(tmp_path: Path, photo: Photo) -> None:
    (tmp_path / "desk.json").write_text(json.dumps(_labelme()))
    found, warnings = read_given(tmp_path / "desk.json", photo)
    _check(found, OBJECTS, 0.92)
    assert [item.name for item in found] == ["cup", "ball", "pot"]
    assert any("point 'tip'" in text for text in warnings)


def test_labelme_groups_are_one_object(tmp_path: Path, photo: Photo) -> None:
    data = _labelme()
    for shape in data["shapes"][:2]:
        shape.update(group_id=4, label="set")
    (tmp_path / "desk.json").write_text(json.dumps(data))
    _check(read_given(tmp_path / "desk.json", photo)[0], (CUP | BALL, POT), 0.92)


def test_labelme_files_of_other_photos_in_the_folder(folder: Path, photo: Photo) -> None:
    (folder / "desk.json").write_text(json.dumps(_labelme()))
    (folder / "sofa.json").write_text(json.dumps(_labelme(imagePath="..\\sofa.jpg")))
    assert len(read_given(folder, photo)[0]) == 3


BAD_JSON: list[Any] = [
    {},
    [],
    3,
    {"shapes": []},
    {"shapes": [{"label": "a", "points": [[0, 0]], "shape_type": "polygon"}]},
    {"shapes": [{"label": "a", "points": [[0, "x"], [1, 1], [2, 2]]}]},
    {"shapes": [{"label": "a", "points": [[0, 0], [5, 5]], "shape_type": "mask", "mask": "??"}]},
    {"annotations": [], "images": []},
    _coco([[[1, 2, 3]]]),
    _coco([[["a", 2]]]),
    _coco([{"size": [H, W], "counts": [1, 2]}]),
    _coco([{"size": [10**9, 10**9], "counts": "0"}]),
    _coco([{"size": [H, W], "counts": "~~~~"}]),
    _coco([{"size": [H, W], "counts": "o" * 99}]),
    _coco(["rle"]),
    _coco([[]]),
    _coco([[_polygon(24, 30, 12)]], file_name="another.png"),
    [{"segmentation": None}],
    [{"bbox": [1, 2, 3, 4]}],
]


@pytest.mark.parametrize("data", BAD_JSON)
def test_bad_outlines_are_one_line(tmp_path: Path, photo: Photo, data: Any) -> None:
    (tmp_path / "a.json").write_text(json.dumps(data))
    with pytest.raises(Sam3dGsError, match=r"a\.json"):
        read_given(tmp_path / "a.json", photo)


def test_names_from_files_are_one_line_of_words(tmp_path: Path, photo: Photo) -> None:
    data = _labelme()
    data["shapes"][0]["label"] = "../../\x1b[31m red\ncup\u202e " + "x" * 300
    (tmp_path / "a.json").write_text(json.dumps(data))
    name = read_given(tmp_path / "a.json", photo)[0][0].name
    assert name.startswith("../../ [31m red cup xx")
    assert len(name) <= 100
    assert name.isprintable()


def test_a_drawn_polygon_covers_its_pixels() -> None:
    """The corner of the first pixel is (0, 0): half of a photo is half of its pixels."""
    from sam3d_gs.masks.given.outlines import _filled

    half = _filled([[(0, 0), (W / 2, 0), (W / 2, H), (0, H)]], (W, H))
    assert int(half.sum()) == W * H // 2
