"""The shadow on the floor, against a plain implementation cell by cell."""

from __future__ import annotations

import math
from itertools import product

import numpy as np

from sam3d_gs.gaussians.shadow import BORDER, CELLS, DARKNESS, with_floor_shadow
from sam3d_gs.types import SH_C0, Gaussians
from tests.gaussians.helpers import assert_same, random_gaussians


def points(means: np.ndarray) -> Gaussians:
    n = len(means)
    return Gaussians(
        means=means.astype(np.float32),
        quats=np.tile(np.float32([1, 0, 0, 0]), (n, 1)),
        log_scales=np.full((n, 3), -5, np.float32),
        opacity_logits=np.full(n, 3, np.float32),
        sh0=np.zeros((n, 3), np.float32),
    )


def shadow_of(thing: Gaussians) -> Gaussians:
    """The splats that were added; those of the thing stay in front of them, unchanged."""
    both = with_floor_shadow(thing)
    assert_same(both.take(slice(len(thing))), thing)
    return both.take(slice(len(thing), None))


def test_each_cell_is_as_dark_as_a_plain_implementation_says() -> None:
    rng = np.random.default_rng(3)
    means = rng.uniform((-0.2, 0.1, -0.5), (0.6, 0.4, 0.3), (300, 3)).astype(np.float32).astype(np.float64)
    low, high = means.min(0), means.max(0)
    size = high[0] - low[0]  # it is wider than deep
    cell = size * (1 + 2 * BORDER) / CELLS
    left, front = (low + high)[:2] / 2 - size * (0.5 + BORDER)
    shade: dict[tuple[int, int], float] = {}
    for x, y, z in means:
        at = int((x - left) / cell), int((y - front) / cell)
        hangs = (z - low[2]) / max(high[2] - low[2], 0.3 * size)
        shade[at] = max(shade.get(at, 0.0), math.exp(-3 * hangs))
    for _ in range(3):
        around = {(i + a, j + b) for (i, j), a, b in product(shade, (-1, 0, 1), (-1, 0, 1))}
        shade = {
            (i, j): sum(shade.get((i + a, j + b), 0.0) for a, b in product((-1, 0, 1), (-1, 0, 1))) / 9
            for i, j in around
        }
    made = shadow_of(points(means))
    columns = np.rint((made.means[:, 0] - left) / cell - 0.5).astype(int)
    rows = np.rint((made.means[:, 1] - front) / cell - 0.5).astype(int)
    np.testing.assert_allclose(made.means[:, 0], left + (columns + 0.5) * cell, atol=1e-6)
    np.testing.assert_allclose(made.means[:, 1], front + (rows + 0.5) * cell, atol=1e-6)
    assert {*zip(columns, rows, strict=True)} == {at for at, dark in shade.items() if DARKNESS * dark > 0.01}
    covered = 1 - (1 - made.opacities.astype(np.float64)) ** 2.3  # each point lies under so many splats
    expected = [DARKNESS * shade[at] for at in zip(columns, rows, strict=True)]
    np.testing.assert_allclose(covered, expected, atol=1e-5)


def test_it_lies_flat_and_dark_at_the_lowest_point() -> None:
    means = np.random.default_rng(0).uniform(-0.5, 0.5, (500, 3))
    made = shadow_of(points(means))
    assert set(made.means[:, 2]) == {means.astype(np.float32)[:, 2].min()}
    cell = (np.ptp(means[:, :2], axis=0).max() * (1 + 2 * BORDER)) / CELLS
    np.testing.assert_allclose(
        np.exp(made.log_scales), np.tile(cell * np.array([0.6, 0.6, 0.01]), (len(made), 1)), 1e-4
    )
    np.testing.assert_array_equal(made.quats, np.tile([1, 0, 0, 0], (len(made), 1)))
    np.testing.assert_allclose(0.5 + SH_C0 * made.sh0, 0.05, atol=1e-6)


def test_a_flat_thing_is_darkest_and_what_hangs_high_is_lighter() -> None:
    x, y = (axis.ravel() for axis in np.meshgrid(*[np.linspace(-0.5, 0.5, 31)] * 2))
    slab = np.stack([x, y, 0 * x], axis=1)
    darkest = 1 - (1 - shadow_of(points(slab)).opacities.max()) ** 2.3
    np.testing.assert_allclose(darkest, DARKNESS, rtol=1e-4)
    hung = np.vstack([slab + np.array([0, 0, 1]), np.zeros(3)])
    covered = 1 - (1 - shadow_of(points(hung)).opacities) ** 2.3
    np.testing.assert_allclose(np.median(covered), DARKNESS * np.exp(-3), rtol=1e-3)


def test_nothing_and_a_point_have_no_shadow() -> None:
    none, point = random_gaussians(0), points(np.ones((1, 3)))
    assert with_floor_shadow(none) is none
    assert with_floor_shadow(point) is point
    stick = points(np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]))
    assert with_floor_shadow(stick) is stick
