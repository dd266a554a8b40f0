"""Along the outline the back has the front's colours; away from it, its own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam3d_gs.embedded.shape.poisson_blend import GRID, blend_along_outline, solve_screened_poisson

RED, BLUE = np.array([0.9, 0.1, 0.1], np.float32), np.array([0.1, 0.2, 0.8], np.float32)


def disc(side: int, radius: float) -> np.ndarray:
    at = np.arange(side) + 0.5 - side / 2
    return np.asarray(at[None] ** 2 + at[:, None] ** 2 < radius**2)


@pytest.mark.parametrize("side", [GRID // 2, GRID, 350])
def test_the_back_begins_with_the_fronts_colour_and_goes_over_to_its_own(side: int) -> None:
    inside = disc(side, 0.45 * side)
    met = blend_along_outline(np.tile(BLUE, (side, side, 1)), np.tile(RED, (side, side, 1)), inside)
    middle = met[side // 2]
    first = int(np.flatnonzero(inside[side // 2])[0])
    np.testing.assert_allclose(middle[first], RED, atol=0.06)
    redness = middle[first : side // 2, 0]
    assert (np.diff(redness) <= 1e-4).all()
    assert redness[-1] < BLUE[0] + 0.4 * (RED - BLUE)[0]


def test_a_back_that_meets_the_front_already_stays() -> None:
    rng = np.random.default_rng(0)
    inside = disc(120, 50)
    front = np.tile(RED, (120, 120, 1))
    back = front.copy()
    back[50:70, 50:70] = rng.random((20, 20, 3))  # far from the outline
    np.testing.assert_allclose(blend_along_outline(back, front, inside), back, atol=1e-6)


def test_bands_go_round() -> None:
    side, inside = 200, disc(200, 80)
    bands = np.where((np.arange(side) // 40 % 2 == 0)[:, None, None], RED, BLUE) * np.ones((side, side, 1), np.float32)
    plain = np.tile((RED + BLUE) / 2, (side, side, 1))
    met = blend_along_outline(plain, bands, inside)
    near = inside & (np.abs(np.arange(side) - 100)[None] > 55) & (np.arange(side)[:, None] % 40 // 10 % 3 != 0)
    closer_to_band = np.abs(met - bands).sum(-1) < np.abs(met - (RED + BLUE - bands)).sum(-1)
    assert closer_to_band[near].mean() > 0.95


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_any_mask_is_met_with_colours_in_range(side: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    inside = rng.random((side, side)) < rng.random()
    inside.flat[rng.integers(side * side)] = True
    met = blend_along_outline(*rng.random((2, side, side, 3)).astype(np.float32), inside)
    assert met.shape == (side, side, 3)
    assert met.dtype == np.float32
    assert np.isfinite(met).all() and met.min() >= 0 and met.max() <= 1


def test_without_fading_a_plane_stays_a_plane() -> None:
    within = disc(40, 17)
    rows, columns = np.mgrid[:40, :40]
    plane = (0.3 * rows - 0.2 * columns + 1.0)[..., None]
    fixed = within & ~disc(40, 15)
    solved = solve_screened_poisson(plane, fixed, within, np.inf)
    np.testing.assert_allclose(solved[within], plane[within], atol=1e-9)
    assert not solved[~within].any()


def test_on_a_line_it_fades_as_the_equation_says() -> None:
    """x[k-1] - (2 + 1/r^2) x[k] + x[k+1] = 0 has the solution q^k with q + 1/q = 2 + 1/r^2."""
    within = np.ones((1, 200), bool)
    fixed = np.arange(200)[None] == 0
    values = np.zeros((1, 200, 1))
    values[0, 0] = 1.0
    solved = solve_screened_poisson(values, fixed, within, 5.0)[0, :40, 0]
    both = 2 + 1 / 25
    root = (both - np.sqrt(both**2 - 4)) / 2
    np.testing.assert_allclose(solved, root ** np.arange(40), rtol=1e-6)
