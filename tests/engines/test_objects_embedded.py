"""The embedded objects engine as the stage calls it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation

from sam3d_gs.embedded.placement.pitch import Pitch
from sam3d_gs.embedded.shape.crops import Crop
from sam3d_gs.embedded.shape.object_net import DepthLayers, ObjectNet, ObjectNetConfig, save_object_net
from sam3d_gs.engines.api import FailedObject
from sam3d_gs.engines.objects_embedded import EmbeddedObjects
from sam3d_gs.gaussians.pose import quat_to_matrix, transform
from sam3d_gs.gaussians.render import Camera, render_numba
from sam3d_gs.options import EmbeddedObjectOptions
from sam3d_gs.types import Gaussians, InstanceMask, Photo, PlacedObject

torch.set_num_threads(2)


@pytest.fixture(scope="module")
def engine() -> EmbeddedObjects:
    return EmbeddedObjects(EmbeddedObjectOptions())


def photo_of(rgb: np.ndarray, focal_px: float | None = None) -> Photo:
    return Photo(Path("kitchen.png"), "kitchen", rgb, "0", focal_px)


def kitchen(zoom: int = 1, mirrored: bool = False) -> tuple[Photo, list[InstanceMask]]:
    """A red ball in front of a green crate, and a small yellow ball far behind."""
    y, x = (np.mgrid[: 150 * zoom, : 200 * zoom] + 0.5) / zoom
    shapes = {
        "00-red-ball-0": (np.hypot(x - 70, y - 105) < 30, (200, 40, 30)),
        "01-green-crate-0": ((np.abs(x - 130) < 35) & (np.abs(y - 75) < 30), (30, 160, 60)),
        "02-yellow-ball-0": (np.hypot(x - 40, y - 55) < 12, (220, 200, 40)),
    }
    rgb = np.full((*x.shape, 3), 190, np.uint8)
    masks = []
    for shape, colour in reversed(shapes.values()):
        rgb[shape] = colour
    for name, (shape, _) in shapes.items():
        mask = shape & ~shapes["00-red-ball-0"][0] if name != "00-red-ball-0" else shape
        masks.append(InstanceMask(name, name[3:-2], mask[:, ::-1] if mirrored else mask, 0.8))
    return photo_of(rgb[:, ::-1] if mirrored else rgb), masks


def placed(engine: EmbeddedObjects, photo: Photo, masks: list[InstanceMask]) -> list[PlacedObject]:
    results = list(engine.objects(photo, masks, [m.object_id for m in masks]))
    assert all(isinstance(r, PlacedObject) for r in results)
    return [r for r in results if isinstance(r, PlacedObject)]


@pytest.fixture(scope="module")
def scene(engine: EmbeddedObjects) -> list[PlacedObject]:
    return placed(engine, *kitchen())


def in_camera(item: PlacedObject) -> Gaussians:
    return transform(item.gaussians, item.pose)


@pytest.mark.slow
def test_every_object_reprojects_onto_its_mask(scene: list[PlacedObject]) -> None:
    masks = kitchen()[1]
    ball = masks[0].mask
    for item, mask in zip(scene, masks, strict=True):
        assert item.object_id == mask.object_id
        alpha = render_numba(in_camera(item), Camera(item.K, *item.image_size, np.eye(4))).alpha > 0.5
        if "crate" in mask.object_id:  # it may go on behind the red ball, whose rim it may touch
            alpha &= ~(binary_dilation(ball, np.ones((5, 5))) & ~mask.mask)
        assert not (alpha & ~binary_dilation(mask.mask)).any()  # within a pixel, which is much of the smallest ball
        assert not (mask.mask & ~alpha).any()
        assert (alpha & mask.mask).sum() / (alpha | mask.mask).sum() > (0.94 if mask.area_px > 1000 else 0.88)
        assert set(item.scores) == {"mask", "visible", "shape"} and all(0 <= s <= 1 for s in item.scores.values())


def test_frames_are_as_promised(scene: list[PlacedObject]) -> None:
    for item in scene:
        means = item.gaussians.means
        np.testing.assert_allclose(means.max(0) + means.min(0), 0, atol=1e-4)
        assert np.ptp(means, axis=0).max() == pytest.approx(1, abs=1e-4)
        rotation = quat_to_matrix(item.pose.quat_wxyz)
        assert rotation[1, 2] < -0.5  # object z is up, camera y is down
        assert rotation[2, 2] <= 0  # the camera never looks up
        assert (in_camera(item).means[:, 2] > 0).all()


def test_what_stands_lower_and_hides_another_is_nearer(scene: list[PlacedObject]) -> None:
    red, green, yellow = (float(np.median(in_camera(o).means[:, 2])) for o in scene)
    assert red < green and red < yellow


def test_colours_come_from_the_photo(scene: list[PlacedObject]) -> None:
    item = scene[0]
    picture = render_numba(in_camera(item), Camera(item.K, *item.image_size, np.eye(4))).rgb
    inside = picture[90:120, 55:85]
    np.testing.assert_allclose(inside, np.broadcast_to(np.array([200, 40, 30]) / 255, inside.shape), atol=0.08)


@pytest.mark.slow
def test_a_result_does_not_depend_on_what_else_is_wanted(engine: EmbeddedObjects, scene: list[PlacedObject]) -> None:
    photo, masks = kitchen()
    whole = scene[1]
    (alone,) = engine.objects(photo, masks, [masks[1].object_id])
    assert isinstance(alone, PlacedObject)
    np.testing.assert_array_equal(alone.gaussians.means, whole.gaussians.means)
    np.testing.assert_array_equal(alone.pose.translation, whole.pose.translation)
    assert list(engine.objects(photo, masks, [])) == []


@pytest.mark.slow
@pytest.mark.parametrize("pitch_deg", [-45.0, 0.0, 35.0, 85.0])
def test_a_pitch_that_the_user_knows_is_taken(pitch_deg: float) -> None:
    photo, masks = kitchen()
    told = EmbeddedObjects(EmbeddedObjectOptions(pitch_deg=pitch_deg))
    for item, mask in zip(placed(told, photo, masks), masks, strict=True):
        up = quat_to_matrix(item.pose.quat_wxyz)[:, 2]
        assert np.degrees(np.arctan2(-up[2], -up[1])) == pytest.approx(pitch_deg, abs=1e-3)
        alpha = render_numba(in_camera(item), Camera(item.K, *item.image_size, np.eye(4))).alpha > 0.5
        assert (alpha & mask.mask).sum() / (alpha | mask.mask).sum() > 0.85
        assert 0.5 < item.pose.translation[2] < 20  # looking up, the ground says nothing, and nothing flies away


@pytest.mark.slow
def test_a_larger_photo_scales_K_and_leaves_the_scene(engine: EmbeddedObjects, monkeypatch: pytest.MonkeyPatch) -> None:
    # Discs of one colour have no up: what the network guesses may change with every pixel of their outline.
    monkeypatch.setattr("sam3d_gs.embedded.reconstruct.estimate_pitch", lambda *_: Pitch(25.0, 3.0))
    for a, b in zip(placed(engine, *kitchen()), placed(engine, *kitchen(zoom=2)), strict=True):
        np.testing.assert_allclose(b.K[:2], 2 * a.K[:2])
        np.testing.assert_allclose(b.pose.translation, a.pose.translation, rtol=0.06, atol=0.02)
        assert b.pose.scale == pytest.approx(a.pose.scale, rel=0.1)


@pytest.mark.slow
def test_a_mirrored_photo_gives_a_mirrored_scene(engine: EmbeddedObjects, scene: list[PlacedObject]) -> None:
    for a, b in zip(scene, placed(engine, *kitchen(mirrored=True)), strict=True):
        np.testing.assert_allclose(b.pose.translation * [-1, 1, 1], a.pose.translation, atol=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["shipped", None])
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (40, 30)])
def test_the_smallest_masks_give_a_sane_small_object(size: tuple[int, int], weights: str | None) -> None:
    mask = np.zeros(size[::-1], bool)
    mask[-1, -1] = True
    photo = photo_of(np.full((*size[::-1], 3), 77, np.uint8))
    dot = InstanceMask("00-dot-0", "dot", mask, 1.0)
    (item,) = EmbeddedObjects(EmbeddedObjectOptions(), weights).objects(photo, [dot], ["00-dot-0"])
    assert isinstance(item, PlacedObject)
    assert len(item.gaussians) and np.isfinite(item.gaussians.means).all()
    assert np.isfinite(item.gaussians.log_scales).all() and np.isfinite(item.pose.translation).all()


@pytest.mark.slow
def test_an_empty_or_wrong_mask_fails_alone(engine: EmbeddedObjects) -> None:
    photo, masks = kitchen()
    empty = InstanceMask("03-ghost-0", "ghost", np.zeros((150, 200), bool), 0.5)
    wrong = InstanceMask("04-wrong-0", "wrong", np.ones((10, 10), bool), 0.5)
    results = list(engine.objects(photo, [*masks, empty, wrong], [masks[0].object_id, "03-ghost-0", "04-wrong-0"]))
    failed = {r.object_id: r.reason for r in results if isinstance(r, FailedObject)}
    assert failed.keys() == {"03-ghost-0", "04-wrong-0"}
    assert "empty" in failed["03-ghost-0"] and "10x10" in failed["04-wrong-0"]
    assert [r.object_id for r in results if isinstance(r, PlacedObject)] == [masks[0].object_id]


@pytest.mark.slow
def test_exif_focal_length_is_used(engine: EmbeddedObjects) -> None:
    photo, masks = kitchen()
    with_focal = photo_of(photo.rgb, focal_px=333.0)
    assert placed(engine, with_focal, masks[:1])[0].K[0, 0] == 333.0


@pytest.mark.slow
def test_without_weights_inflation_takes_over() -> None:
    engine = EmbeddedObjects(EmbeddedObjectOptions(), weights=None)
    photo, masks = kitchen()
    item = placed(engine, photo, masks)[0]
    assert np.ptp(item.gaussians.means, axis=0) == pytest.approx([1, 1, 1], abs=0.25)  # a disc becomes a ball


@pytest.mark.slow
def test_a_saucer_goes_on_below_its_cup_and_stays_hidden(engine: EmbeddedObjects) -> None:
    y, x = np.mgrid[:240, :320] + 0.5
    cup = (np.abs(x - 160) < 30) & (np.abs(y - 110) < 35)
    saucer = (((x - 160) / 110) ** 2 + ((y - 125) / 80) ** 2 < 1) & ~cup
    rgb = np.full((240, 320, 3), 90, np.uint8)
    rgb[saucer], rgb[cup] = (200, 60, 40), (240, 240, 235)
    masks = [InstanceMask("00-saucer-0", "saucer", saucer, 1.0), InstanceMask("01-cup-0", "cup", cup, 1.0)]
    plate, mug = placed(engine, photo_of(rgb), masks)
    camera = Camera(plate.K, *plate.image_size, np.eye(4))
    below, above = (render_numba(in_camera(o), camera) for o in (plate, mug))
    assert (below.alpha[cup] > 0.5).mean() > 0.9
    middle = np.zeros_like(cup)
    middle[90:130, 145:175] = True
    assert (below.depth[middle] > above.depth[middle]).all()


@pytest.mark.slow
def test_a_net_of_another_size_with_four_layers_works_too(tmp_path: Path) -> None:
    """Untrained, so only the plumbing is tested: crops of its size, air inside, pitch from its up vector."""
    torch.manual_seed(0)
    net = ObjectNet(ObjectNetConfig(64, (8, 8, 16, 16, 16), layers=4, uncertain=True, upright=True))
    with torch.no_grad():
        net.head.bias[1] = 1.0  # thick
        net.head.bias[6:10] = torch.tensor([-1.0, 1.0, -1.0, 4.0])  # with much air inside
    save_object_net(net, tmp_path / "objects.safetensors")
    engine = EmbeddedObjects(EmbeddedObjectOptions(), tmp_path / "objects.safetensors")
    photo, masks = kitchen()
    made = placed(engine, photo, masks)
    assert [item.object_id for item in made] == [item.object_id for item in masks]
    for item in made:
        assert np.isfinite(item.gaussians.means).all()
        assert len(item.gaussians) > 2000


@pytest.fixture
def telling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EmbeddedObjects:
    """An engine whose network takes everything for the middle of a larger, nearer thing, and says how sure it is."""

    def answers(_: ObjectNet, crops: list[Crop]) -> list[DepthLayers]:
        side = np.ones(crops[0].coverage.shape, np.float32)
        error = np.full((*side.shape, 2), 0.2, np.float32)
        fronts = [np.where(crop.coverage > 0, 0.1, 2.0).astype(np.float32) for crop in crops]
        return [
            DepthLayers(front, 0.4 * side, crop.rgb, side, amodal=side, depth_error=error)
            for front, crop in zip(fronts, crops, strict=True)
        ]

    save_object_net(ObjectNet(ObjectNetConfig(64, (8, 8, 16, 16, 16), layers=4)), tmp_path / "objects.safetensors")
    monkeypatch.setattr("sam3d_gs.embedded.reconstruct.predict", answers)
    return EmbeddedObjects(EmbeddedObjectOptions(), tmp_path / "objects.safetensors")


@pytest.mark.slow
def test_what_the_network_expects_behind_another_object_is_there_and_hidden(telling: EmbeddedObjects) -> None:
    photo, masks = kitchen()
    ball, crate, _ = placed(telling, photo, masks)
    camera = Camera(crate.K, *crate.image_size, np.eye(4))
    before, behind = (render_numba(in_camera(o), camera) for o in (ball, crate))
    added = masks[0].mask & (behind.alpha > 0.5)
    assert added.sum() > 500  # as far as the crop reaches
    assert (behind.depth[added] > before.depth[added]).mean() > 0.9  # but for the rim, where masks end in stairs
    assert np.abs(behind.rgb[added] - np.array([30, 160, 60]) / 255).mean() < 0.1
    alone = before.alpha > 0.5
    assert not (alone & ~binary_dilation(masks[0].mask)).any(), "the ball is in front: nothing hides more of it"


@pytest.mark.slow
def test_the_expected_error_is_the_object_s_score(telling: EmbeddedObjects) -> None:
    photo, masks = kitchen()
    yellow = placed(telling, photo, masks)[2]
    assert yellow.scores["shape"] == pytest.approx(1 - 0.2 * 1.08, abs=0.02)


@pytest.mark.slow
def test_the_focal_length_is_exifs_the_users_or_a_usual_one() -> None:
    """On a plain ground, where the object fills the picture, a longer one."""
    plain, masks = kitchen()
    noise = np.random.default_rng(0).integers(60, 200, plain.rgb.shape, dtype=np.uint8)
    around = ~np.logical_or.reduce([item.mask for item in masks])
    busy = photo_of(np.where(around[..., None], noise, plain.rgb))

    def fov_deg(photo: Photo, options: EmbeddedObjectOptions = EmbeddedObjectOptions()) -> float:
        (made,) = EmbeddedObjects(options, None).objects(photo, masks, [masks[0].object_id])
        assert isinstance(made, PlacedObject)
        return float(np.degrees(2 * np.arctan(photo.width_px / 2 / made.K[0, 0])))

    assert fov_deg(plain) == pytest.approx(30)
    assert fov_deg(busy) == pytest.approx(55)
    assert fov_deg(plain, EmbeddedObjectOptions(fov_deg=40)) == pytest.approx(40)
    assert fov_deg(photo_of(plain.rgb, 100.0)) == pytest.approx(90)


@pytest.mark.slow
def test_a_field_of_view_that_exif_overrides_is_said(engine: EmbeddedObjects, caplog: pytest.LogCaptureFixture) -> None:
    photo, masks = kitchen()
    wide = EmbeddedObjects(EmbeddedObjectOptions(fov_deg=90.0), weights=None)
    list(wide.objects(photo, masks, [masks[0].object_id]))
    assert "--fov" not in caplog.text
    (item,) = wide.objects(photo_of(photo.rgb, focal_px=333.0), masks, [masks[0].object_id])
    assert isinstance(item, PlacedObject)
    assert item.K[0, 0] == 333.0
    assert "EXIF gives its focal length, so --fov is not used" in caplog.text
