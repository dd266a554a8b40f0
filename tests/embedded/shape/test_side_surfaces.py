"""The colours of the sides that no photo shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sam3d_gs.embedded.shape.appearance import FineDetail, side_colours
from sam3d_gs.embedded.shape.cavity import cavity_colours
from sam3d_gs.embedded.shape.ray_shell import Shell
from sam3d_gs.embedded.shape.side_surfaces import EDGE_REACH, MIRROR_REACH, SideColours, SideKind

SIDE = 64


def colours(front: np.ndarray, detail: np.ndarray) -> SideColours:
    grey = np.full((SIDE, SIDE, 3), 0.5)
    return SideColours(front, np.zeros_like(grey), grey, detail, None)


def test_a_side_begins_with_its_edge_and_folds_the_fronts_detail_over() -> None:
    red = np.full((SIDE, SIDE, 3), (0.9, 0.1, 0.1))
    detail = np.zeros((SIDE, SIDE, 3))
    detail[10, :] = np.linspace(0, 0.2, SIDE)[:, None]  # told apart by its column
    behind = np.array([0.0, EDGE_REACH, 20, MIRROR_REACH + 3, 2 * MIRROR_REACH])
    place, inward = np.tile([10, 5], (len(behind), 1)), np.tile([0.0, 1.0], (len(behind), 1))
    made = colours(red, detail).mirrored_front(place, inward, behind)
    np.testing.assert_allclose(made[0], (0.9, 0.1, 0.1))
    for k, column in ((1, 5 + EDGE_REACH), (2, 25), (3, 5 + MIRROR_REACH - 3), (4, 5)):
        np.testing.assert_allclose(made[k], 0.5 + detail[10, column], atol=1e-6)


def test_a_fold_over_the_pictures_edge_stays_in_it() -> None:
    plain = np.zeros((SIDE, SIDE, 3))
    made = colours(plain, plain).mirrored_front(np.array([[1, 1]]), np.array([[-1.0, 0.0]]), np.array([20.0]))
    np.testing.assert_allclose(made, 0.5)


def test_one_odd_pixel_at_the_edge_colours_no_side() -> None:
    front = np.full((SIDE, SIDE, 3), 0.6, np.float32)
    inside = np.zeros((SIDE, SIDE), bool)
    inside[16:48, 16:48] = True
    front[30, 47] = 0.0
    smooth, detail = side_colours(front, inside, FineDetail.of(front, inside, 1.0), zoom=1.0)
    assert smooth[30, 47].min() > 0.55
    assert np.abs(detail[30, 47]).max() < 0.02


def test_a_texture_is_repeated_and_a_print_is_not() -> None:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    inside = np.ones((SIDE, SIDE), bool)
    front = np.repeat((0.5 + 0.04 * ((rows // 2 + columns // 2) % 2))[..., None], 3, axis=2).astype(np.float32)
    front[28:36, 28:36] = (0.9, 0.1, 0.1)
    _, detail = side_colours(front, inside, FineDetail.of(front, inside, 1.0), zoom=1.0)
    assert 0.01 < np.abs(detail[:20]).mean() < 0.04
    assert np.abs(detail[28:36, 28:36]).max() < 0.02


def shell_with_air(front: np.ndarray, back: np.ndarray, air: np.ndarray) -> Shell:
    inside = np.ones((SIDE, SIDE), bool)
    rays = np.zeros((SIDE, SIDE, 3))
    return Shell(inside, inside.astype(float), rays, front, back, air, np.array([0.0, 0, 1]), 3.0, 0.01)


def test_walls_of_an_inside_have_its_colours_and_a_rim_leads_to_them() -> None:
    flat = np.full((SIDE, SIDE), 1.0)
    shell = shell_with_air(flat, 2 * flat, np.stack([1.2 * flat, 1.8 * flat]))
    colours = {name: np.full((SIDE, SIDE, 3), value) for name, value in (("front", 0.2), ("back", 0.8), ("inner", 1.0))}
    made = SideColours(colours["front"], colours["back"], colours["front"], np.zeros((SIDE, SIDE, 3)), colours["inner"])
    place, inward = np.full((3, 2), 9), np.ones((3, 2))
    depths = np.array([1.0, 1.1, 1.2])
    np.testing.assert_allclose(made.at(shell, SideKind(0, to_cavity=True), place, inward, depths), 1.0)
    np.testing.assert_allclose(made.at(shell, SideKind(0), place, inward, depths)[:, 0], (0.2, 0.6, 1.0))
    np.testing.assert_allclose(made.at(shell, SideKind(1), place, inward, depths + 0.8)[:, 0], (1.0, 0.9, 0.8))
    unknown = replace(made, inside=None)  # from front to back as if there were no air
    np.testing.assert_allclose(
        unknown.at(shell, SideKind(0, to_cavity=True), place, inward, np.array([1.0, 1.5, 2.0]))[:, 0],
        (0.2, 0.5, 0.8),
    )


def test_the_outside_going_on_behind_the_air_is_not_its_inside() -> None:
    """Rows below 32 are closed. They lie a little behind where the air above begins: it is the same steep wall."""
    front_rgb = np.zeros((SIDE, SIDE, 3), np.float32)
    front_rgb[:16] = 1.0
    front, back = np.full((SIDE, SIDE), 1.0), np.full((SIDE, SIDE), 2.0)
    front[32:] = 1.3
    there = np.zeros((SIDE, SIDE), bool)
    there[16:32] = True
    shell = shell_with_air(front, back, np.where(there, np.stack([1.1 * front, 0.95 * back]), back))
    assert cavity_colours(shell, there, front_rgb) is None
    front[:16] = 1.9  # above it one looks in, as far as the far wall
    seen = cavity_colours(shell, there, front_rgb)
    assert seen is not None
    assert seen[there].min() > 0.9
