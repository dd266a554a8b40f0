"""A shell of surfels: on the photo's pixels from the front, closed from every side, coloured by the object alone."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_erosion
from scipy.spatial.transform import Rotation

from sam3d_gs.embedded.shape.crops import Crop, crop_object
from sam3d_gs.embedded.shape.inflate import inflate
from sam3d_gs.embedded.shape.object_net import Cavity, DepthLayers
from sam3d_gs.embedded.shape.side_surfaces import subtract_intervals
from sam3d_gs.embedded.shape.surfel_builder import MIN_OPACITY, build_surfels
from sam3d_gs.embedded.shape.surfels import Surfels, matrices_to_quats, to_gaussians
from sam3d_gs.gaussians.render import Camera, render_numba
from sam3d_gs.photo import intrinsics
from sam3d_gs.types import Gaussians

SIZE = (160, 120)  # width, height


@cache
def scene(kind: str) -> tuple[np.ndarray, np.ndarray, Crop, DepthLayers]:
    """A red object on blue: a ball (inflated), a box with upright sides, or a ring whose front jumps."""
    y, x = np.mgrid[: SIZE[1], : SIZE[0]] + 0.5
    if kind == "box":
        mask = (np.abs(x - 90) < 35) & (np.abs(y - 60) < 25)
    elif kind == "ring":
        distance = np.hypot(x - 70, y - 60)
        mask = (distance < 40) & (distance > 15)
    else:
        mask = np.hypot(x - 60, y - 50) < 34
    rgb = np.where(mask[..., None], [210, 40, 30], [20, 60, 250]).astype(np.uint8)
    crop = crop_object(rgb, mask)
    if kind == "ball":
        layers = inflate(crop)
    else:
        front = np.full(crop.coverage.shape, 0.2, np.float32)
        if kind == "ring":
            front[:, 80:] -= 0.5  # a step inside the object
        layers = DepthLayers(front, np.full_like(front, 0.9), crop.rgb, np.ones_like(front))
    return rgb, mask, crop, layers


@cache
def gaussians_of(kind: str) -> tuple[Gaussians, np.ndarray, np.ndarray]:
    rgb, mask, crop, layers = scene(kind)
    K = intrinsics(*SIZE, None, 55.0)
    surfels = build_surfels(rgb, mask, crop, layers, K, depth=3.0, seed=0)
    return to_gaussians(surfels, np.eye(3), np.zeros(3), 1.0), K, mask


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ball", "box", "ring"])
def test_reprojects_onto_its_mask(kind: str) -> None:
    gaussians, K, mask = gaussians_of(kind)
    alpha = render_numba(gaussians, Camera(K, *SIZE, np.eye(4))).alpha > 0.5
    assert (alpha & mask).sum() / (alpha | mask).sum() > 0.92


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ball", "box", "ring"])
@pytest.mark.parametrize("yaw_deg", [35, 90, 140, 180, 270])
def test_is_closed_from_every_side(kind: str, yaw_deg: float) -> None:
    """From any yaw there are no pin-holes, and the silhouette is opaque up to its edge."""
    from scipy.ndimage import label

    gaussians, K, _ = gaussians_of(kind)
    center = (gaussians.means.min(0) + gaussians.means.max(0)) / 2
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("y", yaw_deg, degrees=True).as_matrix()
    turn[:3, 3] = [0, 0, 3] - turn[:3, :3] @ center
    alpha = render_numba(gaussians, Camera(K, *SIZE, turn)).alpha
    seen = alpha > 0.5
    solid = binary_erosion(seen, iterations=2)
    assert solid.sum() > 1000
    assert alpha[solid].min() > 0.8
    parts, count = label(~seen)
    assert all((parts == i).sum() > 100 for i in range(1, count + 1))  # the ring's own hole is larger


def test_what_is_left_of_a_solid_is_what_its_neighbour_lacks() -> None:
    """Interval arithmetic, checked by counting points: stretches (a0, a1) minus (b0, b1) and (c0, c1)."""
    rng = np.random.default_rng(0)
    solid, near, far = (
        np.sort(rng.uniform(0, 10, (2, 200)), axis=0),
        *np.sort(rng.uniform(0, 10, (4, 200)), 0).reshape(2, 2, 200),
    )
    at = np.linspace(0, 10, 2001)[:, None]

    def inside(stretch: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        return (at > stretch[0]) & (at < stretch[1])

    for beside in ([(near[0], near[1])], [(near[0], near[1]), (far[0], far[1])]):
        left = np.sum([inside(stretch) for stretch in subtract_intervals((solid[0], solid[1]), beside)], axis=0)
        taken = np.any([inside(stretch) for stretch in beside], axis=0)
        wrong = left != (inside((solid[0], solid[1])) & ~taken)
        assert wrong.mean() < 0.005  # points on a boundary


@pytest.mark.slow
def test_air_inside_has_two_surfaces_and_walls() -> None:
    """A box of thickness 0.9 that is open at the top: air between 0.2 and 0.7 of the way, but for the lowest rows."""
    rgb, mask, crop, layers = scene("box")
    air = np.zeros(layers.front.shape, np.float32)
    air[20:110] = 1
    share = np.full_like(air, 0.2 / 0.9)
    hollow = replace(layers, cavity=Cavity(air, share, share))
    K = intrinsics(*SIZE, None, 55.0)
    solid, cup = (build_surfels(rgb, mask, crop, given, K, depth=3.0, seed=0) for given in (layers, hollow))
    unit = 3.0 * crop.half_px / K[0, 0]  # scene units of a crop half-side
    front = float(np.median(solid.points[: len(solid.points) // 3, 2]))

    def at_depth(surfels: Surfels, low: float, high: float) -> np.ndarray:
        """Points between two depths behind the front, in units."""
        behind = (surfels.points[:, 2] - front) / unit
        return np.asarray(surfels.points[(behind > low) & (behind < high)])

    for depth in (0.2, 0.7):
        counts = [len(at_depth(surfels, depth - 0.03, depth + 0.03)) for surfels in (solid, cup)]
        assert counts[1] > counts[0] + 2000
    # The air ends at row 110 of the crop, 0.375 below its middle, well above the box's lower side at 0.66.
    left, right = (np.quantile(solid.points[:, 0], share) for share in (0.1, 0.9))

    def floor(surfels: Surfels) -> int:
        x, y, _ = at_depth(surfels, 0.3, 0.6).T
        return int(((x > left) & (x < right) & (np.abs(y / unit - 0.375) < 0.08)).sum())

    assert floor(solid) == 0
    assert floor(cup) > 300


@pytest.mark.slow
def test_the_inside_has_the_colours_that_its_opening_shows() -> None:
    """A red box; over the rim of its near wall its green inside is seen. The near wall's far side is green as well."""
    rgb, mask, crop, layers = scene("box")
    rgb[:60][mask[:60]] = [30, 200, 40]
    front, air = layers.front.copy(), np.zeros_like(layers.front)
    front[:80] -= 0.6
    air[80:150] = 1
    share = np.full_like(air, 0.2 / 0.9)
    thickness = np.where(front < 0, 0.3, 0.9).astype(np.float32)
    cup = DepthLayers(front, thickness, np.full_like(layers.back_rgb, 0.5), layers.visible, Cavity(air, share, share))
    K = intrinsics(*SIZE, None, 55.0)
    surfels = build_surfels(rgb, mask, crop_object(rgb, mask), cup, K, depth=3.0, seed=0)
    unit = 3.0 * crop.half_px / K[0, 0]
    behind = (3.0 - surfels.points[:, 2]) / unit  # depth as the network counts it
    lower = surfels.points[:, 1] > 0.2 * unit
    middle = np.abs(surfels.points[:, 0] - np.median(surfels.points[:, 0])) < 0.5 * unit
    wall = np.median(surfels.rgb[lower & middle & (np.abs(behind - 0.0) < 0.02)], axis=0)
    np.testing.assert_allclose(wall, np.array([30, 200, 40]) / 255, atol=0.1)
    outer = np.median(surfels.rgb[lower & middle & (behind > 0.18)], axis=0)
    np.testing.assert_allclose(outer, np.array([210, 40, 30]) / 255, atol=0.1)


@pytest.mark.slow
def test_air_that_nobody_can_see_into_is_filled() -> None:
    """Closed all around it changes nothing; with one open side of four, on the outline, it stays."""
    rgb, mask, crop, layers = scene("box")
    share = np.full(layers.front.shape, 0.2 / 0.9, np.float32)
    K = intrinsics(*SIZE, None, 55.0)
    plain = build_surfels(rgb, mask, crop, layers, K, depth=3.0, seed=0)
    closed = np.zeros_like(share)
    closed[50:110, 20:140] = 1
    filled = build_surfels(rgb, mask, crop, replace(layers, cavity=Cavity(closed, share, share)), K, 3.0, seed=0)
    np.testing.assert_array_equal(filled.points, plain.points)
    closed[:50, 20:140] = 1
    opened = build_surfels(rgb, mask, crop, replace(layers, cavity=Cavity(closed, share, share)), K, 3.0, seed=0)
    assert len(opened) > len(plain) + 4000


@pytest.mark.slow
def test_a_cavity_where_there_is_no_air_changes_nothing() -> None:
    rgb, mask, crop, layers = scene("ring")
    nothing = np.zeros(layers.front.shape, np.float32)
    K = intrinsics(*SIZE, None, 55.0)
    plain = build_surfels(rgb, mask, crop, layers, K, depth=3.0, seed=0)
    same = build_surfels(rgb, mask, crop, replace(layers, cavity=Cavity(nothing, nothing, nothing)), K, 3.0, seed=0)
    np.testing.assert_array_equal(plain.points, same.points)


@pytest.mark.slow
def test_no_background_bleeds_in() -> None:
    rgb, mask, crop, layers = scene("ball")
    surfels = build_surfels(rgb, mask, crop, layers, intrinsics(*SIZE, None, 55.0), 3.0, seed=0)
    assert (surfels.rgb[:, 2] < 0.3).all()  # the background is the only blue


def test_edges_are_soft_and_the_inside_opaque() -> None:
    gaussians, _, _ = gaussians_of("ball")
    opacities = gaussians.opacities
    assert np.median(opacities) > 0.95
    assert 0.01 < np.mean(opacities < 0.9) < 0.5


def test_discs_are_flat_and_face_outwards() -> None:
    gaussians, _, _ = gaussians_of("ball")
    scales = gaussians.scales
    assert (scales[:, 2] <= scales[:, :2].min(axis=1) + 1e-9).all()
    normals = Rotation.from_quat(gaussians.quats[:, [1, 2, 3, 0]]).apply([0.0, 0.0, 1.0])
    radial = gaussians.means - (gaussians.means.min(0) + gaussians.means.max(0)) / 2
    radial /= np.linalg.norm(radial, axis=1, keepdims=True)
    assert np.median(np.abs((normals * radial).sum(axis=1))) > 0.9


@pytest.mark.slow
def test_size_is_bounded_for_a_large_object() -> None:
    rgb = np.full((900, 900, 3), 128, np.uint8)
    mask = np.ones((900, 900), bool)
    crop = crop_object(rgb, mask)
    surfels = build_surfels(rgb, mask, crop, inflate(crop), intrinsics(900, 900, None, 55.0), 3.0, seed=0)
    assert 100_000 < len(surfels) < 180_000


def test_the_same_seed_gives_the_same_gaussians() -> None:
    first, second = gaussians_of("box")[0], gaussians_of("box")[0]
    np.testing.assert_array_equal(first.means, second.means)
    np.testing.assert_array_equal(first.sh0, second.sh0)


@given(st.lists(st.floats(-10, 10), min_size=3, max_size=3), st.floats(0, 3.14))
@settings(max_examples=60, deadline=None)
def test_matrices_to_quats_is_exact(axis: list[float], angle: float) -> None:
    length = float(np.linalg.norm(axis))
    vector = np.array(axis) / length * angle if length > 1e-3 else np.zeros(3)
    matrix = Rotation.from_rotvec(vector).as_matrix()
    quat = matrices_to_quats(matrix[None])[0]
    np.testing.assert_allclose(Rotation.from_quat(quat[[1, 2, 3, 0]]).as_matrix(), matrix, atol=1e-7)


@given(st.lists(st.floats(-1, 1), min_size=6, max_size=6))
@settings(max_examples=60, deadline=None)
def test_covariance_is_the_ellipse_of_the_steps(steps: list[float]) -> None:
    a, b = np.array(steps[:3]), np.array(steps[3:])
    if np.linalg.norm(np.cross(a, b)) < 0.2 * max(a @ a, b @ b) or min(a @ a, b @ b) < 0.04:
        return
    one = np.ones(1)
    g = to_gaussians(Surfels(np.zeros((1, 3)), a[None], b[None], np.ones((1, 3)), one), np.eye(3), np.zeros(3), 1.0)
    turn = Rotation.from_quat(g.quats[0, [1, 2, 3, 0]]).as_matrix()
    flat = turn @ np.diag(g.scales[0] ** 2 * [1, 1, 0]) @ turn.T
    np.testing.assert_allclose(flat, 0.62**2 * (np.outer(a, a) + np.outer(b, b)), atol=1e-4)


@pytest.mark.slow
def test_a_pole_is_round_and_a_board_is_not() -> None:
    """Both are said to be 0.5 thick: a pole 0.05 wide gets its own width, about the same middle; a board stays."""
    y, x = np.mgrid[:400, :400] / 200 - 1
    K = intrinsics(400, 400, None, 55.0)
    thick = np.full((160, 160), 0.5, np.float32)
    layers = DepthLayers(thick / 2, thick, np.zeros((160, 160, 3), np.float32), thick)
    for half_width, expected in ((0.025, 0.05), (0.3, 0.5)):
        mask = (np.abs(x) < half_width) & (np.abs(y) < 0.92)
        if half_width < 0.1:  # a foot, for the thickness is limited by the widest part
            mask |= (np.abs(x) < 0.4) & (y > 0.45) & (y < 0.92)
        crop = crop_object(np.zeros((400, 400, 3), np.uint8), mask)
        points = build_surfels(np.zeros((400, 400, 3), np.uint8), mask, crop, layers, K, depth=3.0, seed=0).points
        unit = 3.0 * crop.half_px / K[0, 0]
        z = points[np.abs(points[:, 1]) < 0.3 * unit, 2] / unit - 3.0 / unit
        assert np.ptp(z) == pytest.approx(expected, rel=0.25)
        assert z.min() + z.max() == pytest.approx(0, abs=0.02)


@pytest.mark.slow
def test_a_leg_seen_as_a_blade_becomes_a_leg() -> None:
    """Upright, 0.09 wide and seen as 0.6 thick with a front that falls by 0.4 across it: a straight post again."""
    y, x = np.mgrid[:400, :400] / 200 - 1
    K = intrinsics(400, 400, None, 55.0)
    mask = (np.abs(x) < 0.045) & (np.abs(y) < 0.92)
    mask |= (np.abs(x) < 0.4) & (y > 0.6) & (y < 0.92)  # a foot, for the thickness is limited by the widest part
    crop = crop_object(np.zeros((400, 400, 3), np.uint8), mask)
    across = np.broadcast_to(np.linspace(-1, 1, 160, dtype=np.float32), (160, 160))
    thick = np.full((160, 160), 0.6, np.float32)
    layers = DepthLayers(0.3 - 4 * across, thick, np.zeros((160, 160, 3), np.float32), thick)
    points = build_surfels(np.zeros((400, 400, 3), np.uint8), mask, crop, layers, K, depth=3.0, seed=0).points
    unit = 3.0 * crop.half_px / K[0, 0]
    post = (np.abs(points[:, 0]) < 0.06 * unit) & (np.abs(points[:, 1]) < 0.15 * unit)
    z = points[post, 2] / unit - 3.0 / unit
    assert np.ptp(z) < 0.15
    assert abs(z.min() + z.max()) / 2 < 0.06  # the post's middle is known to half a pixel only, and the front is steep


@pytest.mark.slow
def test_doubtful_surfaces_are_a_little_transparent_and_without_holes() -> None:
    rgb, mask, crop, layers = scene("ball")
    K = intrinsics(*SIZE, None, 55.0)
    error = np.zeros((*layers.front.shape, 2), np.float32)
    sure = build_surfels(rgb, mask, crop, replace(layers, depth_error=error), K, depth=3.0, seed=0)
    plain = build_surfels(rgb, mask, crop, layers, K, depth=3.0, seed=0)
    np.testing.assert_array_equal(sure.opacity, plain.opacity)
    unsure = build_surfels(rgb, mask, crop, replace(layers, depth_error=error + 9), K, depth=3.0, seed=0)
    share = unsure.opacity / plain.opacity
    assert share.min() == pytest.approx(MIN_OPACITY, abs=1e-6)
    alpha = render_numba(to_gaussians(unsure, np.eye(3), np.zeros(3), 1.0), Camera(K, *SIZE, np.eye(4))).alpha
    assert alpha[binary_erosion(mask, iterations=2)].min() > 0.95
