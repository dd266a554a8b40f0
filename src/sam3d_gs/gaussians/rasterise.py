"""3D Gaussian splatting on the CPU: project, sort by depth, blend 16x16 pixel tiles front to back, all in numba.

The steps and constants are those of 3D Gaussian Splatting (Kerbl et al. 2023) in its anti-aliased form, so that the
picture is the one a GPU renderer shows: EWA projection by the Jacobian of the perspective map (Zwicker et al. 2001),
a 0.3 px^2 low-pass, and an opacity scaled by the area that the low-pass added (Mip-Splatting, Yu et al. 2024).

All kernels live in this one file, since numba's disk cache notices changes only in the file of the kernel itself.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeVar

import numba
import numpy as np

TILE_PX = 16
LOW_PASS_PX2 = 0.3  # added to the projected covariance: no splat is smaller than about a pixel
OPACITY_MIN = 1.0 / 255.0  # fainter contributions cannot change an 8-bit picture
OPACITY_MAX = 0.999  # keeps a little transmittance, so that blending stays finite
TRANSMITTANCE_MIN = 1e-4  # a pixel darker than this behind its splats is finished
FRUSTUM_MARGIN = 0.3  # of the half view: directions further out are clamped before linearising, as 3DGS does
NEAR = 1e-6  # scene units are arbitrary, so this only guards the division
PAIRS_PER_PASS = 1 << 22  # bounds memory: splats go through the tiles in passes of about this many (splat, tile) pairs

# One projected splat, one record: a tile reads all of it at once.
SPLAT = np.dtype(
    [
        ("x", np.float32),  # centre, px
        ("y", np.float32),
        ("depth", np.float32),  # camera z, scene units
        ("a", np.float32),  # first row of the inverse covariance, px^-2
        ("b", np.float32),
        ("opacity", np.float32),
        ("reach2", np.float32),  # squared Mahalanobis radius at which the opacity falls below OPACITY_MIN
        ("half_width", np.float32),  # of the box around that ellipse, px
        ("half_height", np.float32),
        ("red", np.float32),
        ("green", np.float32),
        ("blue", np.float32),
    ]
)
FILM_CHANNELS = 5  # red, green, blue, depth (each weighted by alpha), transmittance

_Kernel = TypeVar("_Kernel", bound=Callable[..., Any])
# numba's portable thread pool aborts the process when two Python threads enter it at once.
_LOCK = threading.Lock()


def _jit(**options: Any) -> Callable[[_Kernel], _Kernel]:
    """numba.njit, cached on disk where numba finds a writable folder and in memory otherwise.

    numba tries NUMBA_CACHE_DIR, then the package's own folder, then the user's cache folder; with none of them
    writable it raises RuntimeError already here, at import.
    """

    def decorate(function: _Kernel) -> _Kernel:
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:
            return numba.njit(**options)(function)

    return decorate


def rasterise(
    means: np.ndarray,
    quats: np.ndarray,
    log_scales: np.ndarray,
    opacity_logits: np.ndarray,
    rgb: np.ndarray,
    *,
    K: np.ndarray,
    T_camera_world: np.ndarray,
    width_px: int,
    height_px: int,
) -> np.ndarray:
    """Blend N Gaussians into a film.

    The Gaussian arrays are float32 as in `types.Gaussians`, `rgb` (N, 3) float32 linear values. Splats that are not
    finite, behind the camera, or around the camera (nearer than their own standard deviation along the view) are
    left out.
    Returns (height, width, 5) float32: premultiplied red, green, blue, depth, and the transmittance left.
    """
    film = np.zeros((height_px, width_px, FILM_CHANNELS), np.float32)
    film[..., 4] = 1.0
    intrinsics = np.array([K[0, 0], K[1, 1], K[0, 2], K[1, 2]], np.float64)
    matrix = np.ascontiguousarray(T_camera_world, np.float64)
    splats = np.empty(len(means), SPLAT)
    tiles_touched = np.empty(len(means), np.int32)
    with _LOCK:
        _project(
            means,
            quats,
            log_scales,
            opacity_logits,
            rgb,
            intrinsics,
            matrix,
            width_px,
            height_px,
            splats,
            tiles_touched,
        )
        visible = np.flatnonzero(tiles_touched)
        order = visible[np.argsort(splats["depth"][visible], kind="stable")]
        splats, tiles_touched = _take(splats, order), tiles_touched[order]
        workers = numba.get_num_threads()
        for start, stop in _passes(tiles_touched):
            tile_starts, members = _bin(splats, start, stop, width_px, height_px)
            heaviest_first = np.argsort(-np.diff(tile_starts), kind="stable")
            _blend(splats, tile_starts, members, heaviest_first, workers, film)
    return film


def _take(splats: np.ndarray, order: np.ndarray) -> np.ndarray:
    """``splats[order]``, six times faster: NumPy copies plain rows quicker than records."""
    rows = splats.view(np.float32).reshape(len(splats), SPLAT.itemsize // 4)
    return np.take(rows, order, axis=0).view(SPLAT).reshape(-1)


def _passes(tiles_touched: np.ndarray) -> list[tuple[int, int]]:
    """Split the sorted splats into runs of about PAIRS_PER_PASS pairs; nearly every picture needs one."""
    pairs = np.cumsum(tiles_touched, dtype=np.int64)
    bounds = [0]
    while bounds[-1] < len(pairs):
        done = pairs[bounds[-1] - 1] if bounds[-1] else 0
        stop = int(np.searchsorted(pairs, done + PAIRS_PER_PASS, side="right"))
        bounds.append(max(stop, bounds[-1] + 1))
    return list(pairwise(bounds))


@_jit()
def _tile_span(centre: float, half: float, size_px: int) -> tuple[int, int]:
    """First and one-past-last tile along one axis that [centre - half, centre + half] touches."""
    low = max(centre - half, 0.0)
    high = min(centre + half, float(size_px))
    if low >= high:
        return 0, 0
    return int(low) // TILE_PX, (math.ceil(high) - 1) // TILE_PX + 1


# No fastmath in what follows: it would let the compiler drop the tests for NaN and infinity.
@_jit()
def _camera_axes(
    quats: np.ndarray, log_scales: np.ndarray, i: int, T: np.ndarray
) -> tuple[float, float, float, float, float, float, float, float, float]:
    """(3, 3) matrix M of splat i, row by row: its columns are the principal axes in the camera frame.

    The covariance is M M^T, the third row is the extent along the view. A quaternion without a direction gives NaN.
    """
    qw, qx, qy, qz = float(quats[i, 0]), float(quats[i, 1]), float(quats[i, 2]), float(quats[i, 3])
    norm = math.sqrt(qw * qw + qx * qx + qy * qy + qz * qz)
    if not norm > 0.0:
        return math.nan, math.nan, math.nan, math.nan, math.nan, math.nan, math.nan, math.nan, math.nan
    qw, qx, qy, qz = qw / norm, qx / norm, qy / norm, qz / norm
    s0 = math.exp(float(log_scales[i, 0]))
    s1 = math.exp(float(log_scales[i, 1]))
    s2 = math.exp(float(log_scales[i, 2]))
    r00, r01, r02 = 1 - 2 * (qy * qy + qz * qz), 2 * (qx * qy - qw * qz), 2 * (qx * qz + qw * qy)
    r10, r11, r12 = 2 * (qx * qy + qw * qz), 1 - 2 * (qx * qx + qz * qz), 2 * (qy * qz - qw * qx)
    r20, r21, r22 = 2 * (qx * qz - qw * qy), 2 * (qy * qz + qw * qx), 1 - 2 * (qx * qx + qy * qy)
    return (
        (T[0, 0] * r00 + T[0, 1] * r10 + T[0, 2] * r20) * s0,
        (T[0, 0] * r01 + T[0, 1] * r11 + T[0, 2] * r21) * s1,
        (T[0, 0] * r02 + T[0, 1] * r12 + T[0, 2] * r22) * s2,
        (T[1, 0] * r00 + T[1, 1] * r10 + T[1, 2] * r20) * s0,
        (T[1, 0] * r01 + T[1, 1] * r11 + T[1, 2] * r21) * s1,
        (T[1, 0] * r02 + T[1, 1] * r12 + T[1, 2] * r22) * s2,
        (T[2, 0] * r00 + T[2, 1] * r10 + T[2, 2] * r20) * s0,
        (T[2, 0] * r01 + T[2, 1] * r11 + T[2, 2] * r21) * s1,
        (T[2, 0] * r02 + T[2, 1] * r12 + T[2, 2] * r22) * s2,
    )


@_jit()
def _projected_covariance(
    axes: tuple[float, float, float, float, float, float, float, float, float],
    slope_x: float,
    slope_y: float,
    fx_z: float,
    fy_z: float,
) -> tuple[float, float, float, float]:
    """Covariance J M M^T J^T on the picture, px^2: its entries xx, xy, yy, and its determinant.

    J is the Jacobian of (fx x / z, fy y / z) where x / z and y / z are the slopes; `axes` is M.
    """
    m00, m01, m02, m10, m11, m12, m20, m21, m22 = axes
    u0, u1, u2 = fx_z * (m00 - slope_x * m20), fx_z * (m01 - slope_x * m21), fx_z * (m02 - slope_x * m22)
    v0, v1, v2 = fy_z * (m10 - slope_y * m20), fy_z * (m11 - slope_y * m21), fy_z * (m12 - slope_y * m22)
    # |u x v|^2 is the determinant, without the cancellation of uu * vv - uv * uv for thin splats.
    n0, n1, n2 = u1 * v2 - u2 * v1, u2 * v0 - u0 * v2, u0 * v1 - u1 * v0
    uu, uv, vv = u0 * u0 + u1 * u1 + u2 * u2, u0 * v0 + u1 * v1 + u2 * v2, v0 * v0 + v1 * v1 + v2 * v2
    return uu, uv, vv, n0 * n0 + n1 * n1 + n2 * n2


@_jit(parallel=True)
def _project(
    means: np.ndarray,
    quats: np.ndarray,
    log_scales: np.ndarray,
    opacity_logits: np.ndarray,
    rgb: np.ndarray,
    intrinsics: np.ndarray,
    T: np.ndarray,
    width_px: int,
    height_px: int,
    splats: np.ndarray,
    tiles_touched: np.ndarray,
) -> None:
    """Fill `splats` and the number of tiles each one touches: 0 when it is invisible (its record is then garbage)."""
    fx, fy, cx, cy = intrinsics[0], intrinsics[1], intrinsics[2], intrinsics[3]
    margin_x = FRUSTUM_MARGIN * 0.5 * width_px / fx
    margin_y = FRUSTUM_MARGIN * 0.5 * height_px / fy
    min_x, max_x = -cx / fx - margin_x, (width_px - cx) / fx + margin_x
    min_y, max_y = -cy / fy - margin_y, (height_px - cy) / fy + margin_y

    for i in numba.prange(len(means)):
        tiles_touched[i] = 0
        px, py, pz = float(means[i, 0]), float(means[i, 1]), float(means[i, 2])
        x = T[0, 0] * px + T[0, 1] * py + T[0, 2] * pz + T[0, 3]
        y = T[1, 0] * px + T[1, 1] * py + T[1, 2] * pz + T[1, 3]
        z = T[2, 0] * px + T[2, 1] * py + T[2, 2] * pz + T[2, 3]
        if not z > NEAR or not math.isfinite(x + y + z):
            continue
        axes = _camera_axes(quats, log_scales, i, T)
        if not z * z > axes[6] * axes[6] + axes[7] * axes[7] + axes[8] * axes[8]:
            continue  # the camera is inside: linearised there, it would smear over the whole picture

        fx_z, fy_z = fx / z, fy / z
        slope_x, slope_y = min(max(x / z, min_x), max_x), min(max(y / z, min_y), max_y)
        uu, uv, vv, det_sharp = _projected_covariance(axes, slope_x, slope_y, fx_z, fy_z)
        det = det_sharp + LOW_PASS_PX2 * (uu + vv) + LOW_PASS_PX2 * LOW_PASS_PX2
        uu, vv = uu + LOW_PASS_PX2, vv + LOW_PASS_PX2
        opacity = math.sqrt(det_sharp / det) / (1.0 + math.exp(-float(opacity_logits[i])))
        colour = float(rgb[i, 0]) + float(rgb[i, 1]) + float(rgb[i, 2])
        if not opacity > OPACITY_MIN or not math.isfinite(det) or not math.isfinite(colour):
            continue

        opacity = min(opacity, OPACITY_MAX)
        reach2 = 2.0 * math.log(opacity / OPACITY_MIN)
        half_width, half_height = math.sqrt(reach2 * uu), math.sqrt(reach2 * vv)
        centre_x, centre_y = fx_z * x + cx, fy_z * y + cy
        first_column, last_column = _tile_span(centre_x, half_width, width_px)
        first_row, last_row = _tile_span(centre_y, half_height, height_px)
        tiles_touched[i] = (last_column - first_column) * (last_row - first_row)
        splat = splats[i]
        splat.x, splat.y, splat.depth = centre_x, centre_y, z
        splat.a, splat.b = vv / det, -uv / det
        splat.opacity, splat.reach2 = opacity, reach2
        splat.half_width, splat.half_height = half_width, half_height
        splat.red, splat.green, splat.blue = rgb[i, 0], rgb[i, 1], rgb[i, 2]


@_jit()
def _bin(splats: np.ndarray, start: int, stop: int, width_px: int, height_px: int) -> tuple[np.ndarray, np.ndarray]:
    """List the splats [start, stop) under every tile they touch, keeping their order.

    Returns `tile_starts` (tiles + 1,) int64 and `members` (pairs,) int32: tile t, row-major, holds
    ``members[tile_starts[t] : tile_starts[t + 1]]``.
    """
    columns, rows = (width_px + TILE_PX - 1) // TILE_PX, (height_px + TILE_PX - 1) // TILE_PX
    tile_starts = np.zeros(columns * rows + 1, np.int64)
    for i in range(start, stop):
        first_column, last_column = _tile_span(splats[i].x, splats[i].half_width, width_px)
        first_row, last_row = _tile_span(splats[i].y, splats[i].half_height, height_px)
        for row in range(first_row, last_row):
            for column in range(first_column, last_column):
                tile_starts[row * columns + column + 1] += 1
    for tile in range(columns * rows):
        tile_starts[tile + 1] += tile_starts[tile]
    members = np.empty(tile_starts[-1], np.int32)
    free = tile_starts[:-1].copy()
    for i in range(start, stop):
        first_column, last_column = _tile_span(splats[i].x, splats[i].half_width, width_px)
        first_row, last_row = _tile_span(splats[i].y, splats[i].half_height, height_px)
        for row in range(first_row, last_row):
            for column in range(first_column, last_column):
                tile = row * columns + column
                members[free[tile]] = i
                free[tile] += 1
    return tile_starts, members


@_jit(fastmath=True)
def _blend_tile(splats: np.ndarray, members: np.ndarray, x0: int, x1: int, y0: int, y1: int, film: np.ndarray) -> None:
    """Blend `members`, nearest first, over the pixels [x0, x1) x [y0, y1); stop when every pixel is opaque."""
    open_pixels = 0
    for y in range(y0, y1):
        for x in range(x0, x1):
            open_pixels += film[y, x, 4] >= TRANSMITTANCE_MIN
    for member in members:
        if open_pixels == 0:
            return
        splat = splats[member]
        a, b = splat.a, splat.b
        # Along a row the exponent is least by dy^2 over the vertical variance. From the inverse covariance it would be
        # a difference of two numbers that are huge for a splat beside the camera, and might come out negative.
        fall = splat.reach2 / max(splat.half_height * splat.half_height, np.float32(1e-30))
        first_row = max(y0, math.floor(splat.y - splat.half_height))
        last_row = min(y1, math.ceil(splat.y + splat.half_height))
        for y in range(first_row, last_row):
            # Along one row the exponent is a (x - middle)^2 + rest, so the ellipse is an interval about the middle.
            dy = np.float32(y + 0.5) - splat.y
            shift = b * dy / a
            rest = dy * dy * fall
            width2 = (splat.reach2 - rest) / a
            if width2 <= 0.0:
                continue
            middle, half = splat.x - shift, math.sqrt(width2)
            first_column = max(x0, math.ceil(middle - half - np.float32(0.5)))
            last_column = min(x1, math.floor(middle + half - np.float32(0.5)) + 1)
            for x in range(first_column, last_column):
                transmittance = film[y, x, 4]
                if transmittance < TRANSMITTANCE_MIN:
                    continue
                dx = np.float32(x + 0.5) - middle
                alpha = splat.opacity * math.exp(np.float32(-0.5) * (a * dx * dx + rest))
                weight = alpha * transmittance
                film[y, x, 0] += weight * splat.red
                film[y, x, 1] += weight * splat.green
                film[y, x, 2] += weight * splat.blue
                film[y, x, 3] += weight * splat.depth
                transmittance -= weight
                film[y, x, 4] = transmittance
                open_pixels -= transmittance < TRANSMITTANCE_MIN


@_jit(parallel=True, fastmath=True)
def _blend(
    splats: np.ndarray,
    tile_starts: np.ndarray,
    members: np.ndarray,
    heaviest_first: np.ndarray,
    workers: int,
    film: np.ndarray,
) -> None:
    """Blend all tiles; they are dealt out to the workers in turn, so that each gets about the same load."""
    height_px, width_px = film.shape[0], film.shape[1]
    columns = (width_px + TILE_PX - 1) // TILE_PX
    for worker in numba.prange(workers):
        for turn in range(worker, len(heaviest_first), workers):
            tile = heaviest_first[turn]
            x0, y0 = tile % columns * TILE_PX, tile // columns * TILE_PX
            x1, y1 = min(x0 + TILE_PX, width_px), min(y0 + TILE_PX, height_px)
            _blend_tile(splats, members[tile_starts[tile] : tile_starts[tile + 1]], x0, x1, y0, y1, film)
