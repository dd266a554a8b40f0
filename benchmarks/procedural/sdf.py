"""Compiled signed distances of a primitive, and of an object in its own frame.

Some distances are approximate (ellipsoids, superquadrics, twisted shapes), so ray marching multiplies them by STEP.
Formulas: I. Quilez, "Distance functions" (iquilezles.org), our own implementation.
"""

# Indexing an array has no type for mypy, and everything here is made of that.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from math import atan2, cos, floor, sin, sqrt

import numba
import numpy as np

from procedural.shape import (
    BLEND,
    BOX,
    CONE,
    CYLINDER,
    ELLIPSOID,
    EXTRUDED,
    KIND,
    LIMB,
    MATERIAL,
    MIRROR,
    MIRROR_X,
    MIRROR_Z,
    OPERATION,
    POSITION,
    PRISM,
    ROTATION,
    SIZES,
    SMOOTH_UNION,
    SUBTRACT,
    SUPERQUADRIC,
    TORUS,
    UNION,
)
from procedural.textures import fractal_noise

STEP = 0.7
FAR = 1e9

compiled = numba.njit(cache=True, nogil=True, error_model="numpy")


@compiled
def _rectangle(x: float, y: float) -> float:
    """Distance to the quarter plane x, y < 0."""
    return min(max(x, y), 0.0) + sqrt(max(x, 0.0) ** 2 + max(y, 0.0) ** 2)


@compiled
def _revolved(size: np.ndarray, radius: float, y: float) -> float:
    """A solid of revolution whose radius interpolates twelve values from bottom to top (Catmull-Rom)."""
    half, wall, lid = size[12], size[13], size[14]
    at = min(max((y + half) / (2 * half), 0.0), 0.99999) * 11
    i = int(at)
    f = at - i
    r1, r2 = size[i], size[i + 1]
    r0 = size[i - 1] if i > 0 else r1
    r3 = size[i + 2] if i < 10 else r2
    m1, m2 = (r2 - r0) / 2, (r3 - r1) / 2
    r = (2 * f**3 - 3 * f**2 + 1) * r1 + (f**3 - 2 * f**2 + f) * m1 + (3 * f**2 - 2 * f**3) * r2 + (f**3 - f**2) * m2
    slope = (6 * f * f - 6 * f) * (r1 - r2) + (3 * f * f - 4 * f + 1) * m1 + (3 * f * f - 2 * f) * m2
    slope = min(abs(slope * 11 / (2 * half)), 5.0)
    side = (radius - max(r, 0.004)) / sqrt(1 + slope * slope)
    distance = _rectangle(side, abs(y) - half)
    if wall > 0:
        cavity = max(side + wall, wall - half - y)
        if lid > 0:
            cavity = max(cavity, y - half + wall)
        distance = max(distance, -cavity)
    return distance


@compiled
def primitive_distance(kind: int, size: np.ndarray, x: float, y: float, z: float) -> float:
    if kind == ELLIPSOID:
        a, b, c = x / size[0], y / size[1], z / size[2]
        k0 = sqrt(a * a + b * b + c * c)
        k1 = sqrt((a / size[0]) ** 2 + (b / size[1]) ** 2 + (c / size[2]) ** 2)
        return -min(size[0], min(size[1], size[2])) if k0 < 1e-4 else k0 * (k0 - 1) / k1
    if kind == BOX:
        r = size[3]
        a, b, c = abs(x) - size[0] + r, abs(y) - size[1] + r, abs(z) - size[2] + r
        outside = sqrt(max(a, 0.0) ** 2 + max(b, 0.0) ** 2 + max(c, 0.0) ** 2)
        return outside + min(max(a, max(b, c)), 0.0) - r
    if kind == TORUS:
        s, c = sin(size[2]), cos(size[2])
        a = abs(x) / size[3]
        k = a * s + y * c if c * a > s * y else sqrt(a * a + y * y)
        ring = sqrt(max(a * a + y * y + z * z + size[0] ** 2 - 2 * size[0] * k, 0.0))
        return (ring - size[1]) * min(size[3], 1.0)
    if kind == SUPERQUADRIC:
        n = size[3]
        f = (abs(x / size[0]) + 1e-6) ** n + (abs(y / size[1]) + 1e-6) ** n + (abs(z / size[2]) + 1e-6) ** n
        return (f ** (1 / n) - 1) * min(size[0], min(size[1], size[2]))
    if kind == EXTRUDED:
        angle, r = atan2(y, x), 1.0
        for i in range(4):
            r += size[3 + 2 * i] * cos((i + 2) * angle + size[4 + 2 * i])
        side = (sqrt(x * x + y * y) - r * size[0]) * 0.65
        return _rectangle(side + size[2], abs(z) - size[1] + size[2]) - size[2]
    radius = sqrt(x * x + z * z)
    if kind == CYLINDER:
        return _rectangle(radius - size[0] + size[2], abs(y) - size[1] + size[2]) - size[2]
    if kind == LIMB:
        r1, r2, length = size[0], size[1], size[2]
        b = min(max((r1 - r2) / length, -0.98), 0.98)
        a = sqrt(1 - b * b)
        k = a * y - b * radius
        if k < 0:
            return sqrt(radius * radius + y * y) - r1
        if k > a * length:
            return sqrt(radius * radius + (y - length) ** 2) - r2
        return radius * a + y * b - r1
    if kind == CONE:
        half, r1, r2, edge = size[0], size[1], size[2], size[3]
        r = r1 + (r2 - r1) * min(max((y + half) / (2 * half), 0.0), 1.0)
        slant = 2 * half / sqrt(4 * half * half + (r1 - r2) ** 2)
        return _rectangle((radius - r) * slant + edge, abs(y) - half + edge) - edge
    if kind == PRISM:
        sector, angle = 2 * np.pi / size[3], atan2(z, x)
        angle -= sector * floor(angle / sector + 0.5)
        return _rectangle(radius * cos(angle) - size[0] + size[2], abs(y) - size[1] + size[2]) - size[2]
    return _revolved(size, radius, y)


@compiled
def shape_distance(rows: np.ndarray, deformation: np.ndarray, x: float, y: float, z: float) -> tuple[float, int]:
    """Distance and material number at a point of the shape frame.

    `rows`: (P, ROW_LENGTH) as in shape.py. `deformation`: bump height, bump frequency, twist, taper.
    """
    bump, frequency, twist, taper = deformation[0], deformation[1], deformation[2], deformation[3]
    px, py, pz = x, y, z
    if twist != 0:
        c, s = cos(twist * y), sin(twist * y)
        x, z = c * x - s * z, s * x + c * z
    if taper != 0:
        f = 1 / min(max(1 + taper * y, 0.4), 2.5)
        x, z = x * f, z * f
    distance, material = FAR, 0
    for i in range(len(rows)):
        row = rows[i]
        mirror, operation, blend = int(row[MIRROR]), int(row[OPERATION]), row[BLEND]
        a = (abs(x) if mirror & MIRROR_X else x) - row[POSITION]
        b = y - row[POSITION + 1]
        c = (abs(z) if mirror & MIRROR_Z else z) - row[POSITION + 2]
        r = row[ROTATION : ROTATION + 9]
        d = primitive_distance(
            int(row[KIND]),
            row[SIZES:MATERIAL],
            r[0] * a + r[1] * b + r[2] * c,
            r[3] * a + r[4] * b + r[5] * c,
            r[6] * a + r[7] * b + r[8] * c,
        )
        if i == 0:
            distance, material = d, int(row[MATERIAL])
        elif operation in (UNION, SMOOTH_UNION):
            if d < distance:
                material = int(row[MATERIAL])
            h = max(blend - abs(distance - d), 0.0) / blend if operation == SMOOTH_UNION else 0.0
            distance = min(distance, d) - h * h * blend / 4
        else:
            h = 0.0 if operation == SUBTRACT else max(blend - abs(distance + d), 0.0) / blend
            distance = max(distance, -d) + h * h * blend / 4
    if bump > 0 and distance < 0.15:
        distance += bump * (fractal_noise(px * frequency, py * frequency, pz * frequency, 5) - 0.5)
    return distance, material
