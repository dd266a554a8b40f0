"""Boxes of all proportions: parcels, cases, chests, appliances, books, and stacks of them.

Shape frame as in `procedural.shape`: y up, the front looks along z.
"""

from __future__ import annotations

import numpy as np
from procedural.parts import any_material, chance
from procedural.shape import (
    BOX,
    CYLINDER,
    ELLIPSOID,
    IDENTITY,
    MIRROR_X,
    MIRROR_Z,
    SUBTRACT,
    SUPERQUADRIC,
    TORUS,
    turn_x,
    turn_y,
)

from training.objects.hollow_and_thin import Builder, by

Rng = np.random.Generator
BOTH = MIRROR_X + MIRROR_Z


def box(rng: Rng) -> Builder:
    """One box with attached parts, or a stack of two to four."""
    builder = Builder()
    half = 0.6 * np.exp(rng.uniform(-1.5, 0, 3))
    if chance(rng, 0.2):
        _stack(rng, builder, half)
        return builder
    if chance(rng, 0.15):  # soft: a bag, a cushioned case
        builder.add(SUPERQUADRIC, (*half, rng.uniform(4, 12)))
    else:
        builder.add(BOX, (*half, half.min() * rng.uniform(0.01, 0.4) ** 1.5))
    if chance(rng, 0.35):  # plain, as a parcel is
        return builder
    thin = min(0.02, 0.3 * half.min())
    if chance(rng, 0.25):  # a lid that stands out, or a gap under it
        lid = half[1] * rng.uniform(0.05, 0.5)
        wider = (half[0] + thin, lid, half[2] + thin, 0.3 * thin)
        builder.add(BOX, wider, (0, half[1] - 0.8 * lid, 0), material=any_material(rng))
    if chance(rng, 0.25):  # a band around it
        axis = rng.integers(3)
        band = half + 0.3 * thin
        band[axis] *= rng.uniform(0.04, 0.25)
        at = np.zeros(3)
        at[axis] = half[axis] * rng.uniform(-0.7, 0.7)
        builder.add(BOX, (*band, 0.2 * thin), at, material=1)
    if chance(rng, 0.3):
        _drawers(rng, builder, half, thin)
    elif chance(rng, 0.5):  # a door, a label, a screen: flush, raised or sunk
        panel = half[:2] * rng.uniform(0.4, 0.95, 2)
        spot = (*((half[:2] - panel) * rng.uniform(-0.9, 0.9, 2)), half[2])
        sunk = chance(rng, 0.25)
        builder.add(BOX, (*panel, thin, 0.3 * thin), spot, operation=SUBTRACT if sunk else 0, material=1)
        for _ in range(rng.integers(0, 4)):  # knobs
            knob = (rng.uniform(0.3, 0.9) * 0.1, thin * 1.5, 0.3 * thin)
            spot = (*(half[:2] * rng.uniform(-0.85, 0.85, 2)), half[2])
            builder.add(CYLINDER, np.minimum(knob, 0.3 * half[0]), spot, turn_x(np.pi / 2), material=2)
    if chance(rng, 0.25):  # a handle on the top
        ring = half[0] * rng.uniform(0.2, 0.6)
        builder.add(TORUS, (ring, min(0.03, 0.2 * ring), np.pi / 2, 1.0), (0, half[1], 0), material=2)
    if chance(rng, 0.15):  # handles at both ends
        ring = half[2] * rng.uniform(0.2, 0.6)
        end = (half[0], half[1] * rng.uniform(0, 0.7), 0)
        builder.add(TORUS, (ring, 0.02, np.pi, 1.0), end, turn_y(np.pi / 2), mirror=MIRROR_X, material=2)
    if chance(rng, 0.12):  # the grip of a suitcase
        tall = half[1] * rng.uniform(0.3, 0.9)
        corner = (0.4 * half[0], half[1] + tall, -0.7 * half[2])
        builder.limb((corner[0], 0.8 * half[1], corner[2]), corner, 0.015, 0.015, mirror=MIRROR_X, material=3)
        builder.limb(by(-corner[0], corner[1], corner[2]), corner, 0.02, 0.02, material=3)
    if chance(rng, 0.25):  # feet or wheels
        foot = rng.uniform(0.02, 0.07)
        wheel = chance(rng, 0.4)
        sizes = (foot, 0.4 * foot, 0.1 * foot) if wheel else (0.7 * foot, foot, 0.1 * foot)
        turn = turn_x(np.pi / 2) if wheel else IDENTITY
        at = half * (0.85, 0, 0.85) - by(0, half[1] + 0.5 * foot, 0)
        builder.add(CYLINDER, sizes, at, turn, mirror=BOTH, material=3)
    return builder


def _stack(rng: Rng, builder: Builder, half: np.ndarray) -> None:
    """A stack of boxes or books of slightly different sizes, rotated and shifted."""
    flat = half * (1, rng.uniform(0.2, 0.6), 1)
    y = 0.0
    for k in range(int(rng.integers(2, 5))):
        size = flat * rng.uniform(0.7, 1.1, 3)
        turn = turn_y(rng.normal() * 0.2)
        at = 0.15 * (k > 0) * rng.normal(size=3) * flat * (1, 0, 1) + by(0, y + size[1], 0)
        builder.add(BOX, (*size, size.min() * rng.uniform(0.02, 0.2)), at, turn, material=k)
        y += 2 * size[1]


def _drawers(rng: Rng, builder: Builder, half: np.ndarray, thin: float) -> None:
    """Drawer fronts with handles, in rows and one or two columns."""
    columns = 1 + chance(rng, 0.4) * 1
    rows = int(rng.integers(1, 5))
    cell = half[:2] / (columns, rows)
    handle = (min(0.3 * cell[0], rng.uniform(0.01, 0.15)), 0.6 * thin, thin)
    for row in range(rows):
        at = np.array((cell[0] if columns == 2 else 0.0, half[1] - (2 * row + 1) * cell[1], half[2]))
        mirror = MIRROR_X if columns == 2 else 0
        builder.add(BOX, (*(0.92 * cell), 0.7 * thin, 0.2 * thin), at, mirror=mirror, material=1)
        builder.add(ELLIPSOID, handle, at + by(0, 0.4 * cell[1], thin), mirror=mirror, material=2)
