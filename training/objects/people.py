"""Clothed people: standing, walking, crouching, seated, riding.

Shape frame as in `procedural.shape`: y up, the person faces z and is about 1.5 units tall.
"""

from __future__ import annotations

import numpy as np
from procedural.parts import chance
from procedural.shape import (
    CONE,
    CYLINDER,
    ELLIPSOID,
    IDENTITY,
    SMOOTH_UNION,
    SUPERQUADRIC,
    Shape,
    turn_x,
)

from training.objects.hollow_and_thin import Builder, by

Rng = np.random.Generator
SKIN, SHIRT, TROUSERS, DARK = range(4)  # materials
Leg = tuple[np.ndarray, np.ndarray, np.ndarray]  # hip, knee, ankle
_THIGH, _SHIN = 0.42, 0.4


def standing(rng: Rng) -> list[Leg]:
    """Legs that stand, walk or, rarely, crouch; the origin is the centre of the hip."""
    stride = rng.uniform(0, 0.3) * (1 if chance(rng, 0.5) else -1)
    bend = rng.uniform(0.5, 1.3) if chance(rng, 0.12) else 0.0
    legs = []
    for side in (1, -1):
        top = np.array((0.09 * side, 0, 0))
        forward = np.array((0.02 * side, -_THIGH * np.cos(bend), side * stride * 0.6 + 0.03 + _THIGH * np.sin(bend)))
        knee = top + forward
        back = side * stride * 0.5 - rng.uniform(0, 0.1) - _SHIN * np.sin(0.8 * bend)
        legs.append((top, knee, knee + by(0, -_SHIN * np.cos(0.8 * bend), back)))
    return legs


def seated(rng: Rng, hip: np.ndarray) -> list[Leg]:
    legs = []
    for side in (1, -1):
        top = hip + by(0.09 * side, 0, 0)
        knee = top + by(rng.uniform(0, 0.1) * side, rng.uniform(-0.03, 0.04), 0.4)
        legs.append((top, knee, knee + by(0, -0.42, rng.uniform(-0.12, 0.12))))
    return legs


def riding(rng: Rng, hip: np.ndarray, apart: float, low: float) -> list[Leg]:
    """Legs on both sides of a mount of width `apart`, with the feet at height `low`."""
    legs = []
    for side in (1, -1):
        top = hip + by(0.09 * side, 0, 0)
        foot = np.array((side * max(apart, 0.1), low + rng.uniform(0, 0.15), hip[2] + rng.uniform(-0.05, 0.3)))
        knee = (top + foot) / 2 + by(side * 0.05, 0.05, rng.uniform(0.1, 0.3))
        legs.append((top, knee, foot))
    return legs


def someone(rng: Rng) -> Shape:
    """A person without the thing they sit or ride on, as in a mask."""
    pose = rng.random()
    if pose < 0.7:
        hip, lean = np.zeros(3), rng.normal() * 0.06
        return body(rng, hip, standing(rng), lean)[0]
    hip = np.array((0, 0.1, 0))
    if pose < 0.9:
        return body(rng, hip, seated(rng, hip), rng.uniform(-0.12, 0.3))[0]
    grip = np.array((0.26, 0.15, 0.45)) if chance(rng, 0.6) else None
    return body(rng, hip, riding(rng, hip, 0.14, -0.6), rng.uniform(0, 0.7), grip)[0]


def body(
    rng: Rng, hip: np.ndarray, legs: list[Leg], lean: float, grip: np.ndarray | None = None
) -> tuple[Shape, np.ndarray]:
    """A figure with these legs, and the position (3,) of its right hand; both hands hold `grip`, if given."""
    builder = Builder()
    stout = rng.uniform(0.85, 1.3)
    trunk = 0.27
    chest = hip + by(0, trunk * np.cos(lean), trunk * np.sin(lean))
    bare = SKIN if chance(rng, 0.4) else SHIRT  # sleeves
    builder.add(SUPERQUADRIC, (0.19 * stout, 0.33, 0.12 * stout, 2.6), (hip + chest) / 2, turn_x(lean), material=SHIRT)
    neck = chest + by(0, 0.3 * np.cos(lean), 0.3 * np.sin(lean))
    head = neck + by(rng.normal() * 0.02, 0.1, 0.03 + rng.normal() * 0.02)
    builder.limb(chest, neck, 0.06, 0.05, material=SKIN)
    builder.add(ELLIPSOID, (0.085, 0.115, 0.1), head, material=SKIN)
    _headgear(rng, builder, head)
    hands = []
    for side in (1, -1):
        shoulder = chest + by(0.2 * side * stout, 0.2, 0)
        reach = np.array(
            (side * rng.uniform(0, 0.8), rng.uniform(-1, 0.8) if chance(rng, 0.2) else -1, rng.uniform(-0.4, 0.8))
        )
        elbow = shoulder + 0.28 * reach / np.linalg.norm(reach)
        bend = np.array((side * rng.uniform(-0.6, 0.4), rng.uniform(-1, 0.6), rng.uniform(0, 1)))
        hand = elbow + 0.27 * bend / np.linalg.norm(bend)
        if grip is not None:
            hand = grip * (side, 1, 1)
            elbow = (shoulder + hand) / 2 + by(side * 0.06, -0.05, 0)
        _limbs(builder, (shoulder, elbow, hand), (0.065 * stout, 0.05, 0.045), (SHIRT, bare))
        builder.add(ELLIPSOID, (0.04, 0.05, 0.04), hand, material=SKIN)
        hands.append(hand)
    shin = SKIN if chance(rng, 0.15) else TROUSERS
    for k, leg in enumerate(legs):
        _limbs(builder, leg, (0.1 * stout, 0.075, 0.05), (TROUSERS, shin))
        if k == 0 or chance(rng, 0.95):
            builder.add(ELLIPSOID, (0.05, 0.045, 0.13), leg[2] + by(0, -0.03, 0.05), material=DARK)
    upright = all(leg[1][1] < leg[0][1] - 0.3 for leg in legs)
    if upright and chance(rng, 0.2):  # a skirt, a dress or a coat
        half = rng.uniform(0.14, 0.36)
        sizes = (half, rng.uniform(0.2, 0.34), 0.17 * stout, 0.02)
        cloth = SHIRT if chance(rng, 0.6) else TROUSERS
        builder.add(CONE, sizes, hip + by(0, 0.05 - half, 0), IDENTITY, SMOOTH_UNION, 0.02, 0, cloth)
    if chance(rng, 0.15):  # a bag on the back
        at = (hip + chest) / 2 + by(0, 0.1, -0.2)
        builder.add(SUPERQUADRIC, (0.15, 0.22, 0.1, 3.5), at, turn_x(lean), material=DARK)
    return builder.shape("person"), hands[0]


def _headgear(rng: Rng, builder: Builder, head: np.ndarray) -> None:
    """Hair, a helmet or a hat, or nothing."""
    kind = rng.random()
    if kind < 0.7:
        long = rng.uniform(0.08, 0.2) if chance(rng, 0.3) else 0.09
        builder.add(ELLIPSOID, (0.095, long, 0.095), head + by(0, 0.115 - long, -0.03), material=DARK)
    elif kind < 0.8:
        builder.add(ELLIPSOID, (0.11, 0.1, 0.12), head + by(0, 0.06, -0.01), material=SHIRT)
    elif kind < 0.9:
        builder.add(CYLINDER, (rng.uniform(0.1, 0.2), 0.012, 0.01), head + by(0, 0.06, 0.02), material=DARK)
        builder.add(CYLINDER, (0.095, 0.06, 0.03), head + by(0, 0.1, 0), material=DARK)


def _limbs(builder: Builder, points: Leg, radii: tuple[float, float, float], materials: tuple[int, int]) -> None:
    for k, material in enumerate(materials):
        builder.limb(points[k], points[k + 1], radii[k], radii[k + 1], SMOOTH_UNION, 0.02, 0, material)
