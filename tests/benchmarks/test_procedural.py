"""The evaluation set must be right before anything is measured with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("numba")

from procedural.families import FAMILIES, FIRST_SEED, make_shape
from procedural.files import save
from procedural.raycast import World, object_depth, render
from procedural.scene import (
    Placement,
    ProceduralScene,
    build_world,
    camera_pose,
    deformation_of,
    look_at,
    make_item,
    make_scene,
)
from procedural.sdf import shape_distance
from procedural.shape import BOX, ELLIPSOID, MAX_PRIMITIVES, Shape, ShapeBuilder
from procedural.textures import material_row

from sam3d_gs.gaussians.pose import quat_to_matrix, transform_points

SEED, SIZE_PX = 3, 128


@pytest.fixture(scope="module")
def scene() -> ProceduralScene:
    return make_scene(SEED, SIZE_PX, samples_per_side=1)


def one_primitive(kind: int, sizes: tuple[float, ...]) -> Shape:
    builder = ShapeBuilder()
    builder.add(kind, sizes)
    return builder.shape("test")


def world_of(
    shape: Shape, size: float, position: tuple[float, float, float], yaw_rad: float = 0.0
) -> tuple[World, Placement]:
    place = Placement(
        make_item("test", shape), size, yaw_rad, np.array(position), np.array([material_row((0.5,) * 3)] * 4)
    )
    light = np.array([0, 0, 1, 1, 1, 1, 0.1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 1.0])
    return build_world([place], np.array([[0.0, 0, 1, 0]]), np.array([material_row((0.4, 0.4, 0.4))]), light), place


def project(scene: ProceduralScene, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns (N, 2) int, and depth (N,), of camera-frame points."""
    pixels = points @ scene.K.T
    return np.floor(pixels[:, 1::-1] / pixels[:, 2:]).astype(int), points[:, 2]


def inside(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return ((pixels >= 0) & (pixels < mask.shape)).all(1)


@pytest.mark.slow
def test_a_sphere_has_the_depth_of_the_closed_form() -> None:
    radius, centre, eye = 0.5, np.array([0.0, 0.0, 1.0]), np.array([0.3, -4.0, 1.6])
    world, place = world_of(one_primitive(ELLIPSOID, (0.7, 0.7, 0.7)), 2 * radius, tuple(centre))
    camera = look_at(eye, centre, 40.0, 96, 72)
    depth = object_depth(world, camera, 0)
    columns, rows = np.meshgrid(np.arange(96) + 0.5, np.arange(72) + 0.5)
    rays = np.stack([(columns - 48) / camera.f_px, (rows - 36) / camera.f_px, np.ones_like(rows)], -1)
    c = camera_pose(camera, place).translation
    # |z ray - c| = radius, the nearer root
    a, b = (rays**2).sum(-1), rays @ c
    root = b * b - a * (c @ c - radius**2)
    expected = np.where(root > 0, (b - np.sqrt(np.maximum(root, 0))) / a, np.inf)
    both = np.isfinite(depth) & np.isfinite(expected)
    assert np.mean(np.isfinite(depth) == np.isfinite(expected)) > 0.99  # the item's own scale is sampled, so not all
    assert both.sum() > 500
    steep = root > 0.02  # away from the grazing outline
    assert np.abs(depth[both & steep] - expected[both & steep]).max() < 0.005


def test_distance_to_a_sphere_is_exact_and_its_gradient_is_the_normal() -> None:
    shape = one_primitive(ELLIPSOID, (0.4, 0.4, 0.4))
    points = np.random.default_rng(0).normal(size=(50, 3))

    def distance(p: np.ndarray) -> float:
        return float(shape_distance(shape.primitives, deformation_of(shape), *p)[0])

    for point in points:
        gradient = [(distance(point + h) - distance(point - h)) / 2e-4 for h in 1e-4 * np.eye(3)]
        assert distance(point) == pytest.approx(np.linalg.norm(point) - 0.4, abs=1e-9)
        np.testing.assert_allclose(gradient, point / np.linalg.norm(point), atol=1e-5)


@pytest.mark.slow
def test_a_box_seen_from_above_covers_the_pixels_it_should() -> None:
    world, _ = world_of(one_primitive(BOX, (0.5, 0.25, 0.5, 0.0)), 1.0, (0.0, 0.0, 0.25))
    camera = look_at(np.array([0.0, -1e-6, 4.25]), np.zeros(3), 40.0, 100, 100)
    _, ids, depth = render(world, camera, 1)
    width_px = camera.f_px * 1.0 / (4.25 - 0.5)  # the top face, one wide and half a unit up
    assert (ids == 1).sum() == pytest.approx(width_px**2, rel=0.08)
    assert depth[50, 50] == pytest.approx(3.75, abs=0.01)
    assert depth[2, 2] == pytest.approx(4.25, abs=0.01)  # the floor, along the axis and not along the ray


def test_surface_points_are_spread_by_area() -> None:
    """Of a box 2 x 1 x 1 the two end faces hold 2 of 10 parts of the area."""
    item = make_item("test", one_primitive(BOX, (1.0, 0.5, 0.5, 0.0)))
    assert np.ptp(item.points, axis=0) == pytest.approx([1.0, 0.5, 0.5], abs=0.01)
    ends = np.abs(item.points[:, 0]) > 0.499
    assert ends.mean() == pytest.approx(0.2, abs=0.02)


def test_pose_follows_the_convention_of_the_package() -> None:
    """x_cam = scale * R @ x_obj + t with z up: the top of a turned object, worked out through the world."""
    yaw, size, position = 0.7, 0.8, (0.2, -0.1, 0.5)
    _, place = world_of(one_primitive(BOX, (0.3, 0.5, 0.2, 0.0)), size, position, yaw)
    camera = look_at(np.array([1.0, -3.0, 2.0]), np.array(position), 50.0, 80, 60, roll_deg=3.0)
    pose = camera_pose(camera, place)
    in_object = np.array([[0.0, 0, 0.5], [0.3, -0.2, 0.1]])
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    in_world = size * in_object @ turn.T + position
    np.testing.assert_allclose(transform_points(pose, in_object), (in_world - camera.origin) @ camera.axes.T, atol=1e-9)
    assert np.linalg.det(camera.axes) == pytest.approx(1.0)


def test_camera_frame_is_x_right_y_down_z_forward() -> None:
    camera = look_at(np.array([0.0, -3.0, 1.0]), np.array([0.0, 0.0, 1.0]), 50.0, 80, 60)
    np.testing.assert_allclose(camera.axes, [[1, 0, 0], [0, 0, -1], [0, 1, 0]], atol=1e-12)


@pytest.mark.slow
def test_ids_are_the_objects(scene: ProceduralScene) -> None:
    assert len(scene.objects) >= 3
    assert set(np.unique(scene.ids)) == set(range(len(scene.objects) + 1))
    for i, thing in enumerate(scene.objects):
        np.testing.assert_array_equal(thing.mask, scene.ids == i + 1)
        assert not (thing.mask & ~thing.amodal_mask).any()


@pytest.mark.slow
def test_surfaces_project_into_their_masks(scene: ProceduralScene) -> None:
    for thing in scene.objects:
        pixels, depth = project(scene, thing.surface_camera)
        known = inside(pixels, thing.mask)
        rows, columns = pixels[known].T
        grown = np.zeros_like(thing.mask)  # a pixel is in the mask when its centre is, a point may be half a pixel off
        for step in np.ndindex(3, 3):
            grown |= np.roll(thing.amodal_mask, (step[0] - 1, step[1] - 1), (0, 1))
        assert grown[rows, columns].mean() > 0.995
        covered = np.zeros_like(thing.mask)
        covered[rows, columns] = True
        assert (covered & thing.mask).sum() > 0.9 * thing.mask.sum()  # and they leave no hole
        assert depth.min() > 0


def test_depth_agrees_with_the_surfaces(scene: ProceduralScene) -> None:
    """Of an object's own pixels no surface point lies in front of the depth, and the nearest one lies on it."""
    for thing in scene.objects:
        pixels, depth = project(scene, thing.surface_camera)
        known = inside(pixels, thing.mask)
        pixels, depth = pixels[known], depth[known]
        rows, columns = pixels[thing.mask[tuple(pixels.T)]].T
        depth = depth[thing.mask[tuple(pixels.T)]]
        around = np.where(thing.mask, scene.depth, np.inf)  # nearest depth of a pixel and its neighbours
        around = np.min([np.roll(around, (i - 1, j - 1), (0, 1)) for i, j in np.ndindex(3, 3)], axis=0)
        in_front = (around[rows, columns] - depth) / thing.pose.scale
        assert np.mean(in_front > 0.02) < 0.01
        nearest = np.full(thing.mask.shape, np.inf)
        np.minimum.at(nearest, (rows, columns), depth)
        seen = np.isfinite(nearest)
        pixel = thing.pose.translation[2] / scene.K[0, 0]  # how wide a pixel is there; its nearest point is no centre
        assert abs(np.median(nearest[seen] - scene.depth[seen])) < pixel


def test_objects_stand_upright_on_the_ground_or_on_each_other(scene: ProceduralScene) -> None:
    assert np.linalg.norm(scene.up_camera) == pytest.approx(1.0)
    for thing in scene.objects:
        np.testing.assert_allclose(quat_to_matrix(thing.pose.quat_wxyz)[:, 2], scene.up_camera, atol=1e-9)
        assert np.ptp(thing.surface, axis=0).max() == pytest.approx(1.0, abs=1e-4)
    assert scene.pitch_deg == pytest.approx(np.degrees(np.arcsin(-scene.up_camera[2])), abs=1e-6)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_scene(scene: ProceduralScene) -> None:
    again = make_scene(SEED, SIZE_PX, samples_per_side=1)
    np.testing.assert_array_equal(again.rgb, scene.rgb)
    np.testing.assert_array_equal(again.ids, scene.ids)
    np.testing.assert_array_equal(again.objects[0].surface, scene.objects[0].surface)


@pytest.mark.slow
def test_another_seed_gives_other_objects(scene: ProceduralScene) -> None:
    other = make_scene(SEED + 1, 48, samples_per_side=1)
    assert [thing.name for thing in other.objects] != [thing.name for thing in scene.objects]


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_makes_solid_shapes(family: str) -> None:
    for seed in range(FIRST_SEED, FIRST_SEED + 5):
        shape = make_shape(seed, family)
        assert shape.family == family
        assert 1 <= len(shape.primitives) <= MAX_PRIMITIVES
        assert np.isfinite(shape.primitives).all()
        assert len(make_item(family, shape, points=300).points) == 300


def test_saved_scenes_have_the_layout_of_labelled_photos(scene: ProceduralScene, tmp_path: Path) -> None:
    folder = save(scene, tmp_path)
    assert (folder / f"{folder.name}.png").exists()
    masks = sorted(folder.glob("mask_*.png"))
    assert len(masks) == len(scene.objects)
    for path, thing in zip(masks, scene.objects, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(path)) > 0, thing.mask)
    with np.load(folder / "truth.npz") as truth:
        np.testing.assert_array_equal(truth["ids"], scene.ids)
