"""The Z curve, against codes written bit by bit."""

from __future__ import annotations

import numpy as np

from sam3d_gs.gaussians.zcurve import morton_order


def code(cell: tuple[int, int, int]) -> int:
    """Bits of z, y and x in turn, the highest first."""
    return int("".join(f"{z}{y}{x}" for x, y, z in zip(*(f"{axis:010b}" for axis in cell), strict=True)), 2)


def test_the_order_is_that_of_interleaved_bits() -> None:
    cells = np.random.default_rng(0).integers(0, 1024, (500, 3))
    cells[:2] = [[0, 0, 0], [1023, 1023, 1023]]
    means = (cells / 1023 * [2.0, 0.5, 7.0] + [-1.0, 3.0, 0.0]).astype(np.float32)
    # A point of 1023 / 1024 of the way would be in the last cell; these are spread over 1024 cells of equal width.
    expected = np.argsort([code(tuple(np.minimum(cell * 1024 // 1023, 1023))) for cell in cells], kind="stable")
    found = morton_order(means)
    same = (cells[found] == cells[expected]).all(1)
    assert same.mean() > 0.99  # rounding may put a point on a border into the next cell
    assert found.dtype == np.int64


def test_equal_means_keep_their_order() -> None:
    np.testing.assert_array_equal(morton_order(np.ones((5, 3), np.float32)), np.arange(5))
    line = np.zeros((4, 3), np.float32)
    line[:, 1] = [3, 1, 2, 0]
    np.testing.assert_array_equal(morton_order(line), [3, 1, 2, 0])
