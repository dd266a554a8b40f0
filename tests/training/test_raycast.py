"""The CPU build of the ray caster against solids whose entries and exits are known, and against another program."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from procedural.families import make_shape
from procedural.shape import BOX, ELLIPSOID, SUBTRACT, TORUS, Shape, ShapeBuilder, turn_y
from torch import Tensor

from training.objects.layout import MATERIAL_LENGTH, MATERIALS, PLANES, VIEW, VIEW_LENGTH, header
from training.objects.raycast import Shapes, render
from training.objects.shapes import FURTHER, PoolChoice, make_pool, pack, shape_of

pytestmark = pytest.mark.skipif(not shutil.which("g++"), reason="the ray caster's CPU build needs g++")

SIDE, HALF = 48, 1.0
SURFACE = 0.0015 * HALF  # rays stop this far before a surface
AXIS = (np.arange(SIDE) + 0.5) * 2 / SIDE - 1
X, Y = np.meshgrid(AXIS, -AXIS)


def pictures(shapes: Shapes, turn: np.ndarray = np.eye(3)) -> Tensor:
    views = torch.zeros(len(shapes), VIEW_LENGTH)
    views[:, :9] = torch.from_numpy(turn.astype(np.float32)).flatten()
    views[:, VIEW["HALF"]] = HALF
    views[:, VIEW["BUMP_HEIGHT"] : VIEW["BUMP_HEIGHT"] + 4] = shapes.deformations
    views[:, VIEW["SUN"] + 2] = 1
    return render(shapes, views, torch.zeros(len(shapes), MATERIALS, MATERIAL_LENGTH), SIDE)


def layers_of(builder: ShapeBuilder, turn: np.ndarray = np.eye(3)) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Seen (S, S), four depths (4, S, S), hollow (S, S)."""
    planes = pictures(pack([builder.shape("test")], [False]), turn)[0].numpy()
    return planes[PLANES["SEEN"]] > 0, planes[PLANES["LAYERS"] :][:4], planes[PLANES["HOLLOW"]] > 0


def test_a_sphere_is_entered_and_left_where_it_should_be() -> None:
    builder = ShapeBuilder()
    builder.add(ELLIPSOID, (0.7, 0.7, 0.7))
    seen, layers, hollow = layers_of(builder)
    height = np.sqrt(np.maximum(0.49 - X**2 - Y**2, 0))
    assert seen[height > 0.1].all()
    assert not seen[np.hypot(X, Y) > 0.71].any()
    sure = height > 0.3
    np.testing.assert_allclose(layers[0][sure], height[sure], atol=4 * SURFACE)
    np.testing.assert_allclose(layers[3][sure], -height[sure], atol=4 * SURFACE)
    np.testing.assert_allclose(layers[1][sure], 0, atol=4 * SURFACE)  # no gap: halfway
    assert not hollow.any()


def test_a_turned_box_has_the_depth_of_its_diagonal() -> None:
    builder = ShapeBuilder()
    builder.add(BOX, (0.4, 0.6, 0.4, 0.001))
    half_right = np.sqrt(0.5)
    about_y = np.array([[half_right, 0, half_right], [0, 1, 0], [-half_right, 0, half_right]])
    seen, layers, _ = layers_of(builder, about_y)
    height = 0.4 * np.sqrt(2) - np.abs(X)
    sure = (np.abs(X) < 0.5) & (np.abs(Y) < 0.57)
    assert seen[sure].all()
    np.testing.assert_allclose(layers[0][sure], height[sure], atol=4 * SURFACE)
    np.testing.assert_allclose(layers[3][sure], -height[sure], atol=4 * SURFACE)


def test_a_ring_seen_from_the_side_is_crossed_twice() -> None:
    builder = ShapeBuilder()
    builder.add(TORUS, (0.5, 0.15, np.pi, 1.0))
    about_x = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # the ring now lies in the x-z plane
    seen, layers, hollow = layers_of(builder, about_x)
    middle_rows = np.abs(Y) < 0.05
    sure = middle_rows & (np.abs(X) < 0.2)
    assert seen[sure].all() and hollow[sure].all()
    tube = np.sqrt(np.maximum(0.15**2 - Y**2, 0))
    outer, inner = (np.sqrt(np.maximum((0.5 + side * tube) ** 2 - X**2, 0)) for side in (1, -1))
    for layer, expected in zip(layers, (outer, inner, -inner, -outer), strict=True):
        np.testing.assert_allclose(layer[sure], expected[sure], atol=6 * SURFACE)


def test_a_cup_is_hollow_and_a_solid_is_not() -> None:
    builder = ShapeBuilder()
    builder.add(BOX, (0.6, 0.6, 0.6, 0.01))
    assert not layers_of(builder)[2].any()
    builder.add(BOX, (0.5, 0.6, 0.5, 0.01), (0, 0.2, 0), operation=SUBTRACT)
    _, layers, hollow = layers_of(builder)
    sure = (np.abs(X) < 0.45) & (Y > -0.35) & (Y < 0.55)
    assert hollow[sure].all()
    np.testing.assert_allclose(layers[1][sure], 0.5, atol=0.01)
    np.testing.assert_allclose(layers[2][sure], -0.5, atol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [3, 11, 29])
def test_rays_end_on_the_surface_that_the_evaluation_set_has(seed: int) -> None:
    """Two programs, one in C++ and one in Numba, agree on where the surface of a shape is."""
    sdf = pytest.importorskip("procedural.sdf")
    made: Shape = make_shape(seed)
    planes = pictures(pack([made], [False]))[0].numpy()
    seen = planes[PLANES["SEEN"]] > 0
    assert seen.sum() > 30
    deformation = np.array([made.bump_height, made.bump_frequency, made.twist_per_unit, made.taper_per_unit])
    for layer in (planes[PLANES["LAYERS"]], planes[PLANES["LAYERS"] + 3]):
        points = np.stack([X, Y, layer], axis=-1)[seen].astype(np.float64)
        distances = [sdf.shape_distance(made.primitives, deformation, *point)[0] for point in points]
        assert np.quantile(np.abs(distances), 0.95) < 3 * SURFACE


def test_the_header_has_every_column_once() -> None:
    lines = header().splitlines()
    names = [line.split()[1] for line in lines]
    assert len(names) == len(set(names))
    assert f"#define V_HALF {VIEW['HALF']}" in lines


def test_shapes_are_the_same_for_any_number_of_processes() -> None:
    alone, together = make_pool(PoolChoice(24, 7), 1), make_pool(PoolChoice(24, 7), 3)
    for first, second in ((alone.rows, together.rows), (alone.tumbles, together.tumbles)):
        assert torch.equal(first, second)


def test_without_the_further_families_shapes_are_those_of_the_evaluation_set() -> None:
    made, _ = shape_of(123, further=False)
    assert np.array_equal(made.primitives, make_shape(123).primitives)


@pytest.mark.slow
@pytest.mark.parametrize("family", FURTHER)
def test_every_further_family_shows_something_and_stays_within_reach(family: str) -> None:
    grammar, _ = FURTHER[family]
    made = [grammar(np.random.default_rng(seed)) for seed in range(6)]
    planes = pictures(pack(made, [False] * 6), turn_y(1.0))
    assert (planes[:, PLANES["SEEN"]].sum((1, 2)) > 5).all()  # of 48 x 48; wires are thin
    assert torch.isfinite(planes).all()
