"""A compiled CPU ray caster for a `World` of objects and planes: pixels, ids, depth, and points on surfaces.

*World frame*: z up, floor at z = 0. Depth is along the camera's forward axis. The kernels process bands of rows and
release the interpreter lock, so threads run them in parallel. Nothing is random: the picture is always the same.
"""

# Indexing an array has no type for mypy, and everything here is made of that.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from math import exp, sqrt
from typing import NamedTuple

import numpy as np

from procedural.sdf import FAR, STEP, compiled, shape_distance
from procedural.textures import GLOSS, SHINE, albedo

# Columns of World.light.
SUN_DIRECTION, SUN_COLOUR, SUN_SOFTNESS, SKY, BOUNCE, REACH, EXPOSURE = 0, 3, 6, 7, 10, 13, 14
_AO_TAPS = 5

Vec = tuple[float, float, float]


class World(NamedTuple):
    """Everything a ray can hit: M objects and Q planes. All arrays are float64 unless noted."""

    rows: np.ndarray  # (sum of P, ROW_LENGTH) primitives of all objects, one after the other
    first: np.ndarray  # (M + 1,) int64, where each object's rows begin
    deformation: np.ndarray  # (M, 4) bump height, bump frequency, twist, taper
    to_shape: np.ndarray  # (M, 3, 4) world to shape frame, scale included
    scale: np.ndarray  # (M,) world length of one shape unit
    spheres: np.ndarray  # (M, 4) centre and radius, world
    materials: np.ndarray  # (M, MATERIALS, MATERIAL_LENGTH)
    planes: np.ndarray  # (Q, 4) unit normal n into the room and offset d: n.x = d
    plane_materials: np.ndarray  # (Q, MATERIAL_LENGTH)
    light: np.ndarray  # (15,) see the columns above


class Camera(NamedTuple):
    """A pinhole camera with square pixels."""

    origin: np.ndarray  # (3,) world
    axes: np.ndarray  # (3, 3) rows: right, down, forward in the world, so it is also R_camera_world
    f_px: float
    cx_px: float
    cy_px: float
    width_px: int
    height_px: int

    @property
    def K(self) -> np.ndarray:
        """(3, 3) float64, px; pixel centres at half-integers."""
        return np.array([[self.f_px, 0.0, self.cx_px], [0.0, self.f_px, self.cy_px], [0.0, 0.0, 1.0]])


@compiled
def _object_distance(w: World, i: int, x: float, y: float, z: float) -> tuple[float, int]:
    """World distance to object i, and its material there."""
    a = w.to_shape[i]
    distance, material = shape_distance(
        w.rows[w.first[i] : w.first[i + 1]],
        w.deformation[i],
        a[0, 0] * x + a[0, 1] * y + a[0, 2] * z + a[0, 3],
        a[1, 0] * x + a[1, 1] * y + a[1, 2] * z + a[1, 3],
        a[2, 0] * x + a[2, 1] * y + a[2, 2] * z + a[2, 3],
    )
    return distance * w.scale[i], material


@compiled
def _sphere_span(w: World, i: int, o: Vec, d: Vec, grow: float) -> tuple[float, float]:
    """t at which the ray o + t d enters and leaves object i's bounding sphere; FAR, -FAR if it misses it."""
    s = w.spheres[i]
    x, y, z, r = o[0] - s[0], o[1] - s[1], o[2] - s[2], s[3] * grow
    b = x * d[0] + y * d[1] + z * d[2]
    q = b * b - (x * x + y * y + z * z - r * r)
    if q <= 0:
        return FAR, -FAR
    return -b - sqrt(q), -b + sqrt(q)


@compiled
def _trace_object(w: World, i: int, o: Vec, d: Vec, limit: float, blur: float) -> float:
    """First hit of object i before `limit`; FAR if there is none. `blur`: radius of the ray's cone per length."""
    enter, leave = _sphere_span(w, i, o, d, 1.0)
    t, leave = max(enter, 1e-4), min(leave, limit)
    for _ in range(220):
        if t > leave:
            return FAR
        distance, _material = _object_distance(w, i, o[0] + t * d[0], o[1] + t * d[1], o[2] + t * d[2])
        near = 0.05 * blur * t + 1e-5
        if distance < near:
            return t
        t += max(distance * STEP, near)
    return FAR


@compiled
def trace(w: World, o: Vec, d: Vec, blur: float) -> tuple[float, int]:
    """Nearest hit as (t, id): id = object index + 1, or -1 - plane index, or 0 for nothing."""
    best, hit = FAR, 0
    for q in range(len(w.planes)):
        p = w.planes[q]
        slope = p[0] * d[0] + p[1] * d[1] + p[2] * d[2]
        if slope < -1e-9:
            t = (p[3] - p[0] * o[0] - p[1] * o[1] - p[2] * o[2]) / slope
            if 1e-4 < t < best:
                best, hit = t, -1 - q
    for i in range(len(w.spheres)):
        t = _trace_object(w, i, o, d, best, blur)
        if t < best:
            best, hit = t, i + 1
    return best, hit


@compiled
def _normal(w: World, hit: int, x: float, y: float, z: float) -> Vec:
    if hit < 0:
        p = w.planes[-1 - hit]
        return p[0], p[1], p[2]
    i, e = hit - 1, 0.0025 * w.spheres[hit - 1, 3]
    a, _ = _object_distance(w, i, x + e, y - e, z - e)
    b, _ = _object_distance(w, i, x - e, y - e, z + e)
    c, _ = _object_distance(w, i, x - e, y + e, z - e)
    d, _ = _object_distance(w, i, x + e, y + e, z + e)
    nx, ny, nz = a - b - c + d, d - a - b + c, b + d - a - c
    norm = max(sqrt(nx * nx + ny * ny + nz * nz), 1e-12)
    return nx / norm, ny / norm, nz / norm


@compiled
def _sunlight(w: World, o: Vec) -> float:
    """Visible part of the sun, 0..1: closest approach of the ray to any surface, relative to the width of its cone."""
    light, soft, least = w.light, w.light[SUN_SOFTNESS], 1.0
    for i in range(len(w.spheres)):
        enter, leave = _sphere_span(w, i, o, light, 1.2)
        if leave < 0:
            continue
        t, shortest = max(enter, 0.004 * w.spheres[i, 3]), 0.01 * w.spheres[i, 3]
        for _ in range(80):
            if t > leave:
                break
            distance, _m = _object_distance(w, i, o[0] + t * light[0], o[1] + t * light[1], o[2] + t * light[2])
            least = min(least, 0.5 + 0.5 * distance / (soft * t))
            if least < 0.002 or distance < -soft * t:
                return 0.0
            t += max(abs(distance) * STEP, shortest)
    least = max(least, 0.0)
    return least * least * (3 - 2 * least)


@compiled
def _openness(w: World, o: Vec, n: Vec) -> float:
    """Ambient light that reaches a point, 0..1, from distances sampled along the normal."""
    blocked, weight = 0.0, 0.5
    for tap in range(1, _AO_TAPS + 1):
        h = w.light[REACH] * (tap / _AO_TAPS) ** 1.6
        x, y, z = o[0] + h * n[0], o[1] + h * n[1], o[2] + h * n[2]
        nearest = h
        for q in range(len(w.planes)):
            p = w.planes[q]
            nearest = min(nearest, p[0] * x + p[1] * y + p[2] * z - p[3])
        for i in range(len(w.spheres)):
            s = w.spheres[i]
            if sqrt((x - s[0]) ** 2 + (y - s[1]) ** 2 + (z - s[2]) ** 2) - s[3] < nearest:
                distance, _m = _object_distance(w, i, x, y, z)
                nearest = min(nearest, distance)
        blocked += weight * (1 - max(nearest, 0.0) / h)
        weight *= 0.8
    return max(1 - 0.62 * blocked, 0.05)


@compiled
def _environment(w: World, d: Vec) -> Vec:
    """Light along rays that hit nothing: the sky, and a bright window around the sun's direction."""
    light, up = w.light, 0.5 + 0.5 * d[2]
    toward = d[0] * light[0] + d[1] * light[1] + d[2] * light[2]
    window = min(max((toward - 0.955) * 60, 0.0), 1.0) * 5.0
    r = light[BOUNCE] + (light[SKY] - light[BOUNCE]) * up + window * light[SUN_COLOUR]
    g = light[BOUNCE + 1] + (light[SKY + 1] - light[BOUNCE + 1]) * up + window * light[SUN_COLOUR + 1]
    b = light[BOUNCE + 2] + (light[SKY + 2] - light[BOUNCE + 2]) * up + window * light[SUN_COLOUR + 2]
    return r, g, b


@compiled
def _surface(w: World, hit: int, x: float, y: float, z: float) -> tuple[float, float, float, float, float]:
    """Texture colour at a hit, and its material's mirror strength and highlight exponent."""
    if hit < 0:
        m = w.plane_materials[-1 - hit]
        r, g, b = albedo(m, x, y, z, 3)
        return r, g, b, m[GLOSS], m[SHINE]
    i = hit - 1
    a = w.to_shape[i]
    _distance, number = _object_distance(w, i, x, y, z)
    m = w.materials[i, number]
    px = a[0, 0] * x + a[0, 1] * y + a[0, 2] * z + a[0, 3]
    py = a[1, 0] * x + a[1, 1] * y + a[1, 2] * z + a[1, 3]
    pz = a[2, 0] * x + a[2, 1] * y + a[2, 2] * z + a[2, 3]
    r, g, b = albedo(m, px, py, pz, i)
    return r, g, b, m[GLOSS], m[SHINE]


@compiled
def _lit(w: World, hit: int, d: Vec, x: float, y: float, z: float, n: Vec) -> tuple[float, float, float, float]:
    """Colour of a hit without mirror reflections (linear RGB) and the mirror strength."""
    light = w.light
    r, g, b, gloss, shine = _surface(w, hit, x, y, z)
    lift = 0.004 * w.light[REACH] + 2e-4
    o = (x + lift * n[0], y + lift * n[1], z + lift * n[2])
    facing = n[0] * light[0] + n[1] * light[1] + n[2] * light[2]
    sun = max(facing, 0.0) * _sunlight(w, o) if facing > 0 else 0.0
    open_ = _openness(w, o, n)
    up = 0.5 + 0.5 * n[2]
    hx, hy, hz = light[0] - d[0], light[1] - d[1], light[2] - d[2]
    half = max(n[0] * hx + n[1] * hy + n[2] * hz, 0.0) / max(sqrt(hx * hx + hy * hy + hz * hz), 1e-9)
    spark = 0.05 * gloss * (shine + 8) / 8 * half**shine * sun
    # Light inside a dent comes from its own walls as well, so shade there keeps the surface's colour.
    out_r = r * (
        light[SUN_COLOUR] * sun + (light[BOUNCE] + (light[SKY] - light[BOUNCE]) * up) * open_ ** (1.2 - 0.5 * r)
    )
    out_g = g * (
        light[SUN_COLOUR + 1] * sun
        + (light[BOUNCE + 1] + (light[SKY + 1] - light[BOUNCE + 1]) * up) * open_ ** (1.2 - 0.5 * g)
    )
    out_b = b * (
        light[SUN_COLOUR + 2] * sun
        + (light[BOUNCE + 2] + (light[SKY + 2] - light[BOUNCE + 2]) * up) * open_ ** (1.2 - 0.5 * b)
    )
    return (
        out_r + spark * light[SUN_COLOUR],
        out_g + spark * light[SUN_COLOUR + 1],
        out_b + spark * light[SUN_COLOUR + 2],
        gloss,
    )


@compiled
def _radiance(w: World, o: Vec, d: Vec, blur: float) -> tuple[float, float, float, float, int]:
    """Colour, distance and id along one ray: diffuse light, and one mirror reflection on glossy surfaces."""
    t, hit = trace(w, o, d, blur)
    if hit == 0:
        r, g, b = _environment(w, d)
        return r, g, b, t, hit
    x, y, z = o[0] + t * d[0], o[1] + t * d[1], o[2] + t * d[2]
    n = _normal(w, hit, x, y, z)
    facing = -(n[0] * d[0] + n[1] * d[1] + n[2] * d[2])
    r, g, b, gloss = _lit(w, hit, d, x, y, z, n)
    if gloss > 0.02:
        mirror = gloss * (0.04 + 0.96 * (1 - min(max(facing, 0.0), 1.0)) ** 5)  # Schlick 1994
        lift = 0.01 * w.light[REACH]
        o2 = (x + lift * n[0], y + lift * n[1], z + lift * n[2])
        d2 = (d[0] + 2 * facing * n[0], d[1] + 2 * facing * n[1], d[2] + 2 * facing * n[2])
        t2, hit2 = trace(w, o2, d2, 4 * blur)
        if hit2 == 0:
            r2, g2, b2 = _environment(w, d2)
        else:
            x2, y2, z2 = o2[0] + t2 * d2[0], o2[1] + t2 * d2[1], o2[2] + t2 * d2[2]
            r2, g2, b2, _gloss = _lit(w, hit2, d2, x2, y2, z2, _normal(w, hit2, x2, y2, z2))
        r, g, b = r + mirror * (r2 - r), g + mirror * (g2 - g), b + mirror * (b2 - b)
    return r, g, b, t, hit


@compiled
def _ray(
    origin: np.ndarray, axes: np.ndarray, f: float, cx: float, cy: float, u: float, v: float
) -> tuple[Vec, Vec, float]:
    """Origin and unit direction of the ray through pixel position (u, v), and depth per unit of its length."""
    a, b = (u - cx) / f, (v - cy) / f
    k = 1 / sqrt(a * a + b * b + 1)
    d = (
        (axes[2, 0] + a * axes[0, 0] + b * axes[1, 0]) * k,
        (axes[2, 1] + a * axes[0, 1] + b * axes[1, 1]) * k,
        (axes[2, 2] + a * axes[0, 2] + b * axes[1, 2]) * k,
    )
    return (origin[0], origin[1], origin[2]), d, k


@compiled
def _film(x: float) -> float:
    """Exponential tone curve, with a smooth shoulder, so that highlights do not clip."""
    return 1 - exp(-max(x, 0.0))


@compiled
def _photo_rows(
    w: World,
    origin: np.ndarray,
    axes: np.ndarray,
    f: float,
    cx: float,
    cy: float,
    start: int,
    stop: int,
    side: int,
    wanted: np.ndarray,
    rgb: np.ndarray,
    depth: np.ndarray,
    ids: np.ndarray,
) -> None:
    """Fill rows start..stop of the pixels `wanted`, with side x side samples each; if side is 1 also depth and ids."""
    exposure = w.light[EXPOSURE]
    for row in range(start, stop):
        for column in range(rgb.shape[1]):
            if not wanted[row, column]:
                continue
            total_r, total_g, total_b = 0.0, 0.0, 0.0
            for s in range(side * side):
                u, v = column + (s % side + 0.5) / side, row + (s // side + 0.5) / side
                o, d, k = _ray(origin, axes, f, cx, cy, u, v)
                r, g, b, t, hit = _radiance(w, o, d, 1 / (f * side))
                total_r += _film(r * exposure)
                total_g += _film(g * exposure)
                total_b += _film(b * exposure)
                if side == 1:
                    ids[row, column] = max(hit, 0)
                    depth[row, column] = t * k if hit else np.inf
            rgb[row, column, 0] = total_r / (side * side)
            rgb[row, column, 1] = total_g / (side * side)
            rgb[row, column, 2] = total_b / (side * side)


@compiled
def _object_rows(
    w: World,
    i: int,
    origin: np.ndarray,
    axes: np.ndarray,
    f: float,
    cx: float,
    cy: float,
    start: int,
    stop: int,
    left: int,
    right: int,
    depth: np.ndarray,
) -> None:
    for row in range(start, stop):
        for column in range(left, right):
            o, d, k = _ray(origin, axes, f, cx, cy, column + 0.5, row + 0.5)
            t = _trace_object(w, i, o, d, FAR, 1 / f)
            if t < FAR:
                depth[row, column] = t * k


@compiled
def _crossings(
    rows: np.ndarray,
    deformation: np.ndarray,
    starts: np.ndarray,
    directions: np.ndarray,
    length: float,
    least_step: float,
    out: np.ndarray,
) -> int:
    """Write the points where lines cross a surface, in the shape frame, to `out`; returns their number."""
    count = 0
    for line in range(len(starts)):
        o, d = starts[line], directions[line]
        t, before, t_before = 0.0, 1.0, 0.0
        while t < length and count < len(out):
            now, _m = shape_distance(rows, deformation, o[0] + t * d[0], o[1] + t * d[1], o[2] + t * d[2])
            if t > 0 and (now < 0) != (before < 0):
                low, high = t_before, t
                for _ in range(16):
                    middle = (low + high) / 2
                    x, y, z = o[0] + middle * d[0], o[1] + middle * d[1], o[2] + middle * d[2]
                    value, _m = shape_distance(rows, deformation, x, y, z)
                    if (value < 0) == (before < 0):
                        low = middle
                    else:
                        high = middle
                for axis in range(3):
                    out[count, axis] = o[axis] + low * d[axis]
                count += 1
            before, t_before = now, t
            t += max(abs(now) * STEP, least_step)
    return count


def _in_bands(height: int, work: Callable[[int, int], None]) -> None:
    """Call work(start, stop) for bands of rows, in parallel on all cores."""
    edges = np.linspace(0, height, min(height, 48) + 1).astype(int)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(work, edges[:-1], edges[1:]))


def render(world: World, camera: Camera, samples_per_side: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Photo (H, W, 3) float64 linear 0..1, ids (H, W) int32 with 0 for background, depth (H, W) float64 along forward.

    Ids and depth are taken at the pixel centres. Pixels that differ from a neighbour are the average of
    samples_per_side**2 rays; others use a single ray.
    """
    shape = (camera.height_px, camera.width_px)
    rgb, depth, ids = np.zeros((*shape, 3)), np.zeros(shape), np.zeros(shape, np.int32)
    arguments = (world, camera.origin, camera.axes, camera.f_px, camera.cx_px, camera.cy_px)

    def shoot(side: int, wanted: np.ndarray) -> None:
        _in_bands(shape[0], lambda start, stop: _photo_rows(*arguments, start, stop, side, wanted, rgb, depth, ids))

    shoot(1, np.ones(shape, bool))
    if samples_per_side > 1:
        shoot(samples_per_side, _changing(rgb, ids))
    return rgb, ids, depth


def _changing(rgb: np.ndarray, ids: np.ndarray, threshold: float = 0.02) -> np.ndarray:
    """(H, W) bool: pixels that differ from a neighbour in id or colour."""
    changing = np.zeros(ids.shape, bool)
    for here, there in (
        (np.s_[:, 1:], np.s_[:, :-1]),
        (np.s_[1:], np.s_[:-1]),
        (np.s_[1:, 1:], np.s_[:-1, :-1]),
        (np.s_[1:, :-1], np.s_[:-1, 1:]),
    ):
        differs = (ids[here] != ids[there]) | (np.abs(rgb[here] - rgb[there]).max(-1) > threshold)
        changing[here] |= differs
        changing[there] |= differs
    return changing


def object_depth(world: World, camera: Camera, index: int) -> np.ndarray:
    """(H, W) float64 depth of one object without the others; inf outside it."""
    depth = np.full((camera.height_px, camera.width_px), np.inf)
    left, top, right, bottom = _sphere_box(world.spheres[index], camera)
    arguments = (world, index, camera.origin, camera.axes, camera.f_px, camera.cx_px, camera.cy_px)
    if top < bottom:
        _in_bands(
            bottom - top, lambda start, stop: _object_rows(*arguments, top + start, top + stop, left, right, depth)
        )
    return depth


def _sphere_box(sphere: np.ndarray, camera: Camera) -> tuple[int, int, int, int]:
    """Pixel box (left, top, right, bottom) that contains the picture of a sphere; the whole photo if it is near."""
    centre, radius = camera.axes @ (sphere[:3] - camera.origin), sphere[3]
    if centre[2] <= 1.5 * radius:
        return 0, 0, camera.width_px, camera.height_px
    box = []
    for axis, offset, limit in ((0, camera.cx_px, camera.width_px), (1, camera.cy_px, camera.height_px)):
        # Tangents from the eye to the circle in this plane: angle of the centre, plus and minus the half angle.
        angle = np.arctan2(centre[axis], centre[2])
        half = np.arcsin(min(radius / np.hypot(centre[axis], centre[2]), 0.999))
        low, high = (offset + camera.f_px * np.tan(angle + sign * half) for sign in (-1, 1))
        box.append((int(np.clip(np.floor(low) - 1, 0, limit)), int(np.clip(np.ceil(high) + 1, 0, limit))))
    return box[0][0], box[1][0], box[0][1], box[1][1]


def surface_points(
    rows: np.ndarray, deformation: np.ndarray, centre: np.ndarray, radius: float, count: int, seed: int
) -> np.ndarray:
    """(<= count, 3) points distributed uniformly over a shape's whole surface, in the shape frame.

    The crossings of a surface with uniformly random lines through a sphere are uniform over its area (Cauchy-Crofton),
    for any shape and without a mesh.
    """
    rng = np.random.default_rng(seed)
    out, found = np.zeros((count, 3)), 0
    for _ in range(40):
        directions = rng.normal(size=(count, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        side = np.cross(directions, rng.normal(size=(count, 3)))
        side /= np.linalg.norm(side, axis=1, keepdims=True)
        offset = radius * np.sqrt(rng.random((count, 1)))
        starts = centre + side * offset - radius * directions
        found += _crossings(rows, deformation, starts, directions, 2 * radius, 0.004 * radius, out[found:])
        if found >= count:
            break
    return out[:found]
