"""Random parts shared by several families: any primitive, profiles of revolution, outlines of flat objects, legs."""

from __future__ import annotations

import numpy as np

from procedural.shape import (
    BOX,
    CONE,
    CYLINDER,
    ELLIPSOID,
    EXTRUDED,
    LIMB,
    MATERIALS,
    MIRROR_X,
    MIRROR_Z,
    PRISM,
    REVOLVED,
    SUPERQUADRIC,
    TORUS,
    UNION,
    ShapeBuilder,
)

PROFILES = ("wavy", "bottle", "bowl", "cup", "vase", "stem")
_PROFILE_POINTS = 12


def chance(rng: np.random.Generator, probability: float) -> bool:
    return bool(rng.random() < probability)


def any_material(rng: np.random.Generator) -> int:
    return int(rng.integers(0, MATERIALS))


def any_primitive(rng: np.random.Generator, size: float) -> tuple[int, list[float], float]:
    """Kind, sizes and smallest radius of a random primitive of about `size`."""
    kinds = (ELLIPSOID, BOX, CYLINDER, LIMB, TORUS, CONE, SUPERQUADRIC, EXTRUDED, PRISM, REVOLVED)
    kind = int(rng.choice(kinds, p=[0.14, 0.2, 0.14, 0.08, 0.06, 0.1, 0.1, 0.07, 0.06, 0.05]))
    a, b, c = (float(v) for v in size * np.exp(rng.uniform(-0.7, 0.35, 3)))
    least = min(a, b, c)
    if kind == ELLIPSOID:
        sizes = [a, b, c]
    elif kind == BOX:
        sizes = [a, b, c, least * rng.uniform(0.02, 0.7)]
    elif kind == CYLINDER:
        sizes = [a, b, min(a, b) * rng.uniform(0.02, 0.6)]
    elif kind == LIMB:
        sizes = [0.6 * a, 0.6 * b, 1.2 * max(c, 0.7 * abs(a - b))]
    elif kind == TORUS:
        sizes = [a, a * rng.uniform(0.12, 0.5), rng.uniform(0.6, 3.14), 1.0]
    elif kind == CONE:
        sizes = [b, a, c * rng.uniform(0.05, 1.0), 0.1 * least]
    elif kind == SUPERQUADRIC:
        sizes = [a, b, c, rng.uniform(2.2, 7.0)]
    elif kind == EXTRUDED:
        sizes = outline(rng, a, 0.6 * c)
    elif kind == PRISM:
        sizes = [a, b, 0.1 * least, float(rng.integers(3, 9))]
    else:
        sizes = profile(rng, a, b)
    return kind, sizes, least


def outline(rng: np.random.Generator, radius: float, half_height: float) -> list[float]:
    """Sizes of an EXTRUDED primitive: a circle with up to four waves around it."""
    sizes = [radius, half_height, 0.5 * min(radius, half_height) * rng.uniform(0.02, 0.9)]
    for wave in range(4):
        amplitude = rng.normal() * 0.18 / (1 + 0.4 * wave) * rng.integers(0, 2)
        sizes += [amplitude, rng.uniform(0.0, 6.28)]
    return sizes


def profile(
    rng: np.random.Generator, radius: float, half_height: float, hollow: bool | None = None, kind: str | None = None
) -> list[float]:
    """Sizes of a REVOLVED primitive: the radius at twelve heights, scaled so that the largest is `radius`."""
    kind = PROFILES[rng.integers(len(PROFILES))] if kind is None else kind
    x = np.linspace(0.0, 1.0, _PROFILE_POINTS)
    if kind == "wavy":
        walk = 1 + 0.18 * np.cumsum(rng.normal(size=_PROFILE_POINTS))
        radii = np.convolve(np.pad(walk, 1, "edge"), [0.25, 0.5, 0.25], "valid")
    elif kind == "bottle":
        shoulder, neck = rng.uniform(0.45, 0.8), rng.uniform(0.15, 0.5)
        radii = neck + (1 - neck) / (1 + np.exp((x - shoulder) * rng.uniform(12, 40)))
        radii[0] *= rng.uniform(0.7, 1.0)
    elif kind == "bowl":
        radii = rng.uniform(0.2, 0.7) + np.sqrt(x + 0.02) * rng.uniform(0.5, 1.0)
    elif kind == "cup":
        radii = 1 + x * rng.uniform(-0.4, 0.5)
    elif kind == "vase":
        belly = np.clip(x * rng.uniform(0.7, 1.1) + rng.uniform(-0.1, 0.2), 0, 1.2)
        radii = rng.uniform(0.3, 0.6) + np.sin(np.pi * belly) * rng.uniform(0.4, 1.0)
    else:  # stem glass, lamp foot, chess piece
        radii = 0.12 + np.abs(rng.normal(size=_PROFILE_POINTS)) * 0.35 * (rng.random(_PROFILE_POINTS) < 0.5)
        radii[0], radii[1], radii[-3:] = rng.uniform(0.5, 1), rng.uniform(0.2, 0.9), rng.uniform(0.2, 1, 3)
    radii = np.clip(radii, 0.03, None)
    radii = radii / radii.max() * radius
    hollow = chance(rng, 0.5) if hollow is None else hollow
    wall = radius * rng.uniform(0.04, 0.15) if hollow and kind != "stem" else 0.0
    return [*radii, half_height, wall, float(chance(rng, 0.15))]


def four_legs(
    rng: np.random.Generator,
    builder: ShapeBuilder,
    half_width: float,
    half_depth: float,
    top: float,
    bottom: float,
    radius: float,
    material: int,
    splay: float = 0.0,
) -> None:
    """Square or round legs under the corners of a plate."""
    x, z, both = half_width - radius, half_depth - radius, MIRROR_X + MIRROR_Z
    if chance(rng, 0.5):
        sizes = (radius, (top - bottom) / 2, radius, 0.2 * radius)
        builder.add(BOX, sizes, (x, (top + bottom) / 2, z), mirror=both, material=material)
    else:
        foot = (x + splay, bottom, z + splay)
        builder.limb((x, top, z), foot, radius, radius * rng.uniform(0.5, 1), UNION, 0.0, both, material)
