"""Shapes: short lists of signed-distance primitives, joined one after the other.

*Shape frame*: y up, right-handed, a few tenths of a unit in size. `scene.py` converts it to the object frame (z up,
canonical unit cube). Each row of `Shape.primitives` is one primitive; the columns are the constants below.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Columns of a primitive's row.
KIND, OPERATION, BLEND, MIRROR, POSITION, ROTATION, SIZES, MATERIAL = 0, 1, 2, 3, 4, 7, 16, 32
ROW_LENGTH = 33
MAX_PRIMITIVES = 14
MATERIALS = 4  # per object

# Kinds, with what their sizes mean (metres of the shape frame; the axis of round ones is y).
ELLIPSOID = 0  # three radii
BOX = 1  # three half sizes, edge radius
CYLINDER = 2  # radius, half height, edge radius
LIMB = 3  # round cone from the origin along y: radius at the start, radius at the end, length
TORUS = 4  # ring radius, tube radius, half opening angle, stretch along x; lies in the xy plane
CONE = 5  # half height, radius below, radius above, edge radius
REVOLVED = 6  # twelve radii from bottom to top, half height, wall (0 = solid), lid (1 = closed cavity)
SUPERQUADRIC = 7  # three radii, exponent
EXTRUDED = 8  # radius, half height along z, edge radius, then four pairs (amplitude, phase) of the outline
PRISM = 9  # inner radius, half height, edge radius, number of sides

# Operations: how a primitive joins what stands before it.
UNION, SMOOTH_UNION, SUBTRACT, SMOOTH_SUBTRACT = 0, 1, 2, 3

# Mirrors may be added together.
MIRROR_X, MIRROR_Z = 1, 2

IDENTITY = np.eye(3)
Vector = Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Shape:
    """The geometry of one object, without colour and placement."""

    family: str
    primitives: np.ndarray  # (P, ROW_LENGTH) float64
    bump_height: float = 0.0  # of a noise added to the surface
    bump_frequency: float = 0.0
    twist_per_unit: float = 0.0  # rad of turn about y, per unit of height
    taper_per_unit: float = 0.0  # relative growth of x and z, per unit of height


def turn_x(angle_rad: float) -> np.ndarray:
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def turn_y(angle_rad: float) -> np.ndarray:
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def turn_z(angle_rad: float) -> np.ndarray:
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def turn_randomly(rng: np.random.Generator) -> np.ndarray:
    """A uniformly distributed rotation: the Q factor of a normal matrix, with fixed signs and handedness."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q *= np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else -q


def turn_y_to(direction: Vector) -> np.ndarray:
    """A rotation that maps the local y axis to `direction`."""
    y = np.asarray(direction, float)
    y = y / np.linalg.norm(y)
    x = np.cross(y, (1.0, 0.0, 0.0) if abs(y[0]) < 0.9 else (0.0, 0.0, 1.0))
    x /= np.linalg.norm(x)
    return np.stack([x, y, np.cross(x, y)], 1)


class ShapeBuilder:
    """Collects up to `limit` primitives; further ones are ignored, so the last parts of a grammar are optional."""

    limit = MAX_PRIMITIVES

    def __init__(self) -> None:
        self.rows: list[np.ndarray] = []

    def add(
        self,
        kind: int,
        sizes: Vector,
        position: Vector = (0.0, 0.0, 0.0),
        turn: np.ndarray = IDENTITY,
        operation: int = UNION,
        blend: float = 0.0,
        mirror: int = 0,
        material: int = 0,
    ) -> None:
        if len(self.rows) >= self.limit:
            return
        row = np.zeros(ROW_LENGTH)
        row[KIND], row[OPERATION], row[BLEND], row[MIRROR] = kind, operation, max(blend, 1e-3), mirror
        row[POSITION : POSITION + 3] = position
        row[ROTATION : ROTATION + 9] = np.asarray(turn).T.reshape(-1)  # shape frame to local frame
        row[SIZES : SIZES + len(sizes)] = sizes
        row[MATERIAL] = material
        self.rows.append(row)

    def limb(
        self,
        start: Vector,
        end: Vector,
        start_radius: float,
        end_radius: float,
        operation: int = UNION,
        blend: float = 0.0,
        mirror: int = 0,
        material: int = 0,
    ) -> None:
        """A rounded rod between two points."""
        start, end = np.asarray(start, float), np.asarray(end, float)
        length = float(np.linalg.norm(end - start)) + 1e-4
        sizes = (start_radius, end_radius, max(length, 1.05 * abs(start_radius - end_radius)))
        self.add(LIMB, sizes, start, turn_y_to(end - start), operation, blend, mirror, material)

    def shape(self, family: str, **deformation: float) -> Shape:
        return Shape(family, np.array(self.rows), **deformation)
