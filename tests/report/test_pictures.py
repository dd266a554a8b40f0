"""Turntables, contact sheets, mask overlays and animation files."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam3d_gs.errors import Sam3dGsError
from sam3d_gs.gaussians.orbit import photo_camera
from sam3d_gs.gaussians.pose import inverse, transform_points
from sam3d_gs.gaussians.render import render
from sam3d_gs.gaussians.shadow import with_floor_shadow
from sam3d_gs.report.overlay import MAX_SIDE_PX, MIN_SIDE_PX, object_colour
from sam3d_gs.report.pictures import (
    BACKDROP,
    contact_sheet,
    direction_to_camera,
    mask_overlay,
    object_turntable,
    save_animation,
    scene_views,
    turntable,
)
from sam3d_gs.types import SH_C0, Gaussians, InstanceMask, Photo, Pose

K = np.array([[300.0, 0.0, 150.0], [0.0, 300.0, 110.0], [0.0, 0.0, 1.0]])
SIZE = (320, 240)
RED, GREEN, BLUE = (0.9, 0.1, 0.1), (0.1, 0.8, 0.1), (0.1, 0.1, 0.9)


def ball(centre: tuple[float, float, float], radius: float, rgb: tuple[float, float, float]) -> Gaussians:
    n = 600
    points = np.random.default_rng(0).normal(size=(n, 3))
    points *= radius / np.linalg.norm(points, axis=1, keepdims=True)
    return Gaussians(
        means=(points + centre).astype(np.float32),
        quats=np.tile(np.float32([1, 0, 0, 0]), (n, 1)),
        log_scales=np.full((n, 3), np.log(0.12 * radius), np.float32),
        opacity_logits=np.full(n, 5, np.float32),
        sh0=np.tile(np.float32((np.array(rgb) - 0.5) / SH_C0), (n, 1)),
    )


def joined(*parts: Gaussians) -> Gaussians:
    return Gaussians(*(np.concatenate([getattr(p, name) for p in parts]) for name in Gaussians.__dataclass_fields__))


def pixels_of(picture: Image.Image, rgb: tuple[float, float, float]) -> int:
    """How many pixels are close to a colour."""
    return int((np.abs(np.asarray(picture, float) / 255 - rgb).max(-1) < 0.15).sum())


@pytest.fixture(scope="module")
def scene() -> Gaussians:
    """In the camera frame: red at the left, green at the right, blue hidden behind red."""
    return joined(ball((-0.8, 0, 4), 0.4, RED), ball((0.8, 0, 4), 0.4, GREEN), ball((-1.2, 0, 6), 0.3, BLUE))


def test_frame_0_is_the_photos_view(scene: Gaussians) -> None:
    first, *others = turntable(scene, K, SIZE, frames=4, side_px=160)
    seen = render(scene, photo_camera(K, SIZE, 160), None)
    backdrop = np.linspace(*BACKDROP, 120)[:, None, None]
    expected = 255 * (seen.rgb + (1 - seen.alpha[..., None]) * backdrop)
    assert np.abs(np.asarray(first, float) - expected).max() <= 1.0
    assert len(others) == 3
    assert {frame.size for frame in others} == {(160, 120)}


def test_views_show_what_is_hidden_from_the_photo(scene: Gaussians) -> None:
    front, right, left, side, back = scene_views(scene, K, SIZE, side_px=160)
    assert pixels_of(front, BLUE) < 20
    for view in (left, back):
        assert pixels_of(view, BLUE) > 50
    assert pixels_of(right, GREEN) > pixels_of(left, GREEN), "nearer"
    assert pixels_of(side, RED) < pixels_of(side, GREEN), "partly hidden"

    def middle(view: Image.Image, rgb: tuple[float, float, float]) -> float:
        return float(np.nonzero(np.abs(np.asarray(view, float) / 255 - rgb).max(-1) < 0.15)[1].mean())

    assert middle(front, RED) < middle(front, GREEN)
    assert middle(back, RED) > middle(back, GREEN)


def test_many_gaussians_are_thinned_without_holes(scene: Gaussians, monkeypatch: pytest.MonkeyPatch) -> None:
    (full,) = scene_views(scene, K, SIZE, [30.0], 160)
    monkeypatch.setattr("sam3d_gs.report.pictures.MAX_GAUSSIANS", 900)
    (thin,) = scene_views(scene, K, SIZE, [30.0], 160)
    for colour in (RED, GREEN, BLUE):
        assert pixels_of(thin, colour) == pytest.approx(pixels_of(full, colour), rel=0.3)


def test_a_contact_sheet_shows_the_sides_in_order() -> None:
    # Object frame, Z up: the photo's camera is at +x, so red is in front, blue at the right (+y), green at the back.
    thing = joined(ball((0.3, 0, 0), 0.2, RED), ball((0, 0.3, 0), 0.2, BLUE), ball((-0.3, 0, 0), 0.2, GREEN))
    sheet = contact_sheet(thing, front=(1.0, 0.0, 0.3), side_px=128)
    assert sheet.width == 4 * 128
    front, _, side, back = (sheet.crop((i * 128, 0, (i + 1) * 128, 128)) for i in range(4))
    assert pixels_of(front, RED) > 3 * pixels_of(front, GREEN)
    assert pixels_of(back, GREEN) > 3 * pixels_of(back, RED)
    assert pixels_of(side, BLUE) > 1.5 * pixels_of(front, BLUE)


def test_an_object_turntable_is_small_and_whole() -> None:
    frames = object_turntable(ball((0, 0, 0), 0.4, RED), frames=6, side_px=64)
    assert len(frames) == 6
    for frame in frames:
        assert frame.size == (64, 64)
        edge = np.asarray(frame, float)
        edge = np.concatenate([edge[0], edge[-1], edge[:, 0], edge[:, -1]])
        assert (edge.max(-1) - edge.min(-1)).max() < 12, "no red at the edge"


def test_the_shadow_lies_flat_under_the_object() -> None:
    thing = ball((0.1, 0.2, 0.3), 0.2, RED)
    shadow = with_floor_shadow(thing)
    assert np.array_equal(shadow.means[: len(thing)], thing.means)
    floor = shadow.means[len(thing) :]
    assert len(floor) > 50
    assert floor[:, 2] == pytest.approx(thing.means[:, 2].min(), abs=1e-4)
    weights = shadow.opacities[len(thing) :]
    assert np.average(floor[:, :2], axis=0, weights=weights) == pytest.approx([0.1, 0.2], abs=0.02)
    assert weights.max() < 0.5


def test_pictures_of_nothing_are_empty() -> None:
    none = Gaussians(*(getattr(ball((0, 0, 1), 1, RED), name)[:0] for name in Gaussians.__dataclass_fields__))
    assert len(turntable(none, K, SIZE, frames=2, side_px=64)) == 2
    assert contact_sheet(none, side_px=64).width == 256
    assert len(object_turntable(none, frames=2, side_px=32)) == 2


@pytest.mark.parametrize("suffix", ["webp", "gif"])
def test_animations_loop_for_ever(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (32, 24), (40 * i, 80, 120)) for i in range(5)]
    path = tmp_path / "new folder" / f"turn.{suffix}"
    save_animation(frames, path, frame_s=0.08)
    with Image.open(path) as opened:
        assert (opened.format, opened.n_frames, opened.size) == (suffix.upper(), 5, (32, 24))
        assert opened.info["loop"] == 0
        assert opened.info.get("duration", 80) == 80
    assert [other.name for other in path.parent.iterdir()] == [path.name]
    with pytest.raises(ValueError, match="at least one"):
        save_animation([], path)


def test_an_animation_that_cannot_be_written_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Sam3dGsError, match=r"turn\.webp"):
        save_animation([Image.new("RGB", (4, 4))], tmp_path / "file" / "turn.webp")


def photo_of(width: int, height: int) -> Photo:
    rgb = np.full((height, width, 3), 200, np.uint8)
    return Photo(Path("p.png"), "p", rgb, "0")


def square(i: int, width: int, height: int, box: tuple[int, int, int, int], phrase: str = "cup") -> InstanceMask:
    mask = np.zeros((height, width), bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return InstanceMask(f"{i:02d}-cup-0", phrase, mask, 0.9)


def test_masks_are_tinted_with_their_colour_and_others_left_alone() -> None:
    masks = [square(0, 800, 600, (100, 100, 300, 300)), square(1, 800, 600, (500, 200, 700, 500))]
    picture = np.asarray(mask_overlay(photo_of(800, 600), masks), float)
    for number, (x, y) in enumerate([(120, 280), (520, 480)], 1):
        colour = np.array(object_colour(number))
        assert picture[y, x] == pytest.approx(200 + 0.4 * (colour - 200), abs=1.5)
    assert (picture[400:590, 20:480] == 200).all()
    assert picture[200, 100] == pytest.approx(object_colour(1)), "the outline"
    assert picture[350, 600 - 13] == pytest.approx(object_colour(2)), "the number's disc, in the middle"
    assert picture.shape[0] > 600, "the legend"


def test_dropped_masks_are_not_drawn() -> None:
    dropped = InstanceMask("00-cup-0", "cup", np.ones((600, 800), bool), 0.2, dropped="score")
    picture = mask_overlay(photo_of(800, 600), [dropped])
    assert picture.size == (800, 600)
    assert (np.asarray(picture) == 200).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("width", "height"), [(1, 1), (7, 5), (400, 300), (9000, 40), (12, 3000), (2000, 3000), (4096, 4096)]
)
def test_photos_of_any_size_give_pictures_of_a_readable_size(width: int, height: int) -> None:
    masks = [square(i, width, height, (0, 0, max(1, width // (i + 1)), max(1, height // (i + 1)))) for i in range(12)]
    picture = mask_overlay(photo_of(width, height), masks)
    assert MIN_SIDE_PX <= max(picture.size) <= 1.6 * MAX_SIDE_PX


@pytest.mark.slow
@pytest.mark.parametrize(
    "phrase",
    ["", "Übertopf", "红色杯子", "line\nbreak\tand\x00nul", "\ud800", "🪑 chair", "word " * 80, "كوب أحمر"],
)
def test_any_phrase_can_be_in_the_legend(phrase: str) -> None:
    picture = mask_overlay(photo_of(300, 200), [square(0, 300, 200, (50, 50, 100, 100), phrase)])
    assert picture.height > 400


def test_an_empty_mask_does_not_fail() -> None:
    mask_overlay(photo_of(300, 200), [square(0, 300, 200, (0, 0, 0, 0))])


def test_labels_keep_apart() -> None:
    from sam3d_gs.report.overlay import _label_place

    same = [square(i, 640, 480, (100, 100, 400, 400)) for i in range(5)]
    places: list[tuple[float, float]] = []
    for mask in same:
        places.append(_label_place(mask, (640, 480), places, 15))
    assert min(np.hypot(a[0] - b[0], a[1] - b[1]) for a, b in combinations(places, 2)) > 20


def test_twelve_colours_can_be_told_apart() -> None:
    color = pytest.importorskip("skimage.color")
    lab = color.rgb2lab(np.array([[object_colour(i) for i in range(1, 13)]], float) / 255)[0]
    assert min(np.linalg.norm(a - b) for a, b in combinations(lab, 2)) > 20
    assert object_colour(3) == object_colour(3)


def test_the_front_of_an_object_is_where_the_camera_is() -> None:
    turned = Pose(np.array([0.6, 0.0, 0.8, 0.0]), np.array([1.0, -0.5, 4.0]), 0.7)
    camera = transform_points(inverse(turned), np.zeros((1, 3)))[0]  # in the object frame
    np.testing.assert_allclose(direction_to_camera(turned), camera / np.linalg.norm(camera), atol=1e-12)
    at_the_camera = Pose(np.array([1.0, 0, 0, 0]), np.zeros(3), 1.0)
    assert np.linalg.norm(direction_to_camera(at_the_camera)) == 1
