"""Families of natural and random shapes: combinations of primitives, animals and figures, plants."""

from __future__ import annotations

import numpy as np

from procedural.parts import any_material, any_primitive, chance, profile
from procedural.shape import (
    BOX,
    CONE,
    ELLIPSOID,
    IDENTITY,
    MIRROR_X,
    MIRROR_Z,
    REVOLVED,
    SMOOTH_SUBTRACT,
    SMOOTH_UNION,
    SUBTRACT,
    SUPERQUADRIC,
    UNION,
    ShapeBuilder,
    turn_randomly,
    turn_x,
    turn_y,
    turn_y_to,
    turn_z,
)

Rng = np.random.Generator


def soup(rng: Rng) -> ShapeBuilder:
    """One to seven primitives of any kind, joined to and cut out of each other."""
    builder = ShapeBuilder()
    symmetric = chance(rng, 0.6)
    anchors: list[tuple[np.ndarray, float]] = []
    for i in range(rng.integers(1, 8)):
        kind, sizes, least = any_primitive(rng, rng.uniform(0.35, 0.75) if i == 0 else rng.uniform(0.12, 0.5))
        turn = IDENTITY
        if chance(rng, 0.5):
            quarter = np.pi / 2 * rng.integers(0, 4, 2)
            turn = turn_randomly(rng) if chance(rng, 0.5) else turn_y(quarter[0]) @ turn_x(quarter[1])
        position, operation = np.zeros(3), UNION
        if i:
            anchor, reach = anchors[rng.integers(len(anchors))]
            direction = rng.normal(size=3)
            position = anchor + direction / np.linalg.norm(direction) * reach * rng.uniform(0.7, 1.6)
            operation = int(rng.choice((UNION, SMOOTH_UNION, SUBTRACT, SMOOTH_SUBTRACT), p=[0.55, 0.27, 0.12, 0.06]))
        mirror = 0
        if symmetric and i:
            mirror = MIRROR_X * chance(rng, 0.7) + MIRROR_Z * chance(rng, 0.2)
        material = any_material(rng) if chance(rng, 0.7) else 0
        builder.add(kind, sizes, position, turn, operation, rng.uniform(0.03, 0.25), mirror, material)
        if operation in (UNION, SMOOTH_UNION):
            anchors.append((position, least if kind == REVOLVED else max(sizes[:3])))
    return builder


def organic(rng: Rng) -> ShapeBuilder:
    kinds = (_quadruped, _figure, _blob_chain, _bird_or_fish, _fruit_or_stone)
    return kinds[rng.integers(len(kinds))](rng)


def _some_material(rng: Rng, probability: float) -> int:
    return any_material(rng) if chance(rng, probability) else 0


def _quadruped(rng: Rng) -> ShapeBuilder:
    builder, blend = ShapeBuilder(), rng.uniform(0.03, 0.18)
    length, radius, leg = rng.uniform(0.35, 0.6), rng.uniform(0.16, 0.32), rng.uniform(0.15, 0.5)
    head_z, head_y, head = length * rng.uniform(0.85, 1.2), rng.uniform(0, 0.4), radius * rng.uniform(0.5, 1)
    builder.add(ELLIPSOID, (radius * rng.uniform(0.8, 1.1), radius, length))
    neck = (0, head_y, head_z)
    builder.limb((0, 0, 0.6 * length), neck, 0.6 * radius, 0.7 * head, SMOOTH_UNION, blend)
    head_sizes = head * rng.uniform((0.7, 0.7, 0.9), (1.0, 1.0, 1.5))
    head_at, head_material = (0, head_y, head_z + 0.4 * head), _some_material(rng, 0.4)
    builder.add(ELLIPSOID, head_sizes, head_at, IDENTITY, SMOOTH_UNION, blend, 0, head_material)
    thickness, stance = radius * rng.uniform(0.2, 0.4), length * rng.uniform(0.5, 0.8)
    for side in (1, -1):
        hip = (0.6 * radius, -0.2 * radius, side * stance)
        foot = (0.65 * radius, -radius - leg, side * stance + rng.uniform(-0.1, 0.1))
        builder.limb(hip, foot, 1.35 * thickness, thickness, SMOOTH_UNION, 0.7 * blend, MIRROR_X)
    tail = (0, rng.uniform(-0.5, 0.6), -length - rng.uniform(0.05, 0.4))
    builder.limb((0, 0.3 * radius, -0.9 * length), tail, 0.7 * thickness, 0.4 * thickness, SMOOTH_UNION, 0.5 * blend)
    ear = (0.25 * head, head * rng.uniform(0.2, 0.8), 0.2 * head)
    ear_at, ear_turn = (0.6 * head, head_y + 0.8 * head, head_z + 0.1 * head), turn_z(rng.uniform(-1, 0.3))
    builder.add(ELLIPSOID, ear, ear_at, ear_turn, SMOOTH_UNION, 0.3 * blend, MIRROR_X, _some_material(rng, 0.4))
    if chance(rng, 0.3):
        horn_at = (0.5 * head, head_y + head, head_z)
        builder.add(CONE, (0.4 * head, 0.12 * head, 0.01, 0.01), horn_at, turn_z(-0.5), mirror=MIRROR_X, material=3)
    return builder


def _figure(rng: Rng) -> ShapeBuilder:
    """A standing figure, plush toy or doll."""
    builder, blend = ShapeBuilder(), 0.5 * rng.uniform(0.03, 0.18)
    head, trunk, half_height = rng.uniform(0.12, 0.32), rng.uniform(0.15, 0.3), rng.uniform(0.2, 0.4)
    leg, arm, limb = rng.uniform(0.1, 0.55), rng.uniform(0.15, 0.5), trunk * rng.uniform(0.22, 0.5)
    if chance(rng, 0.7):
        builder.add(ELLIPSOID, (trunk, half_height, trunk * rng.uniform(0.5, 1)))
    else:
        builder.add(BOX, (trunk, half_height, 0.6 * trunk, 0.3 * trunk))
    head_sizes = head * rng.uniform((1.0, 0.8, 0.8), (1.0, 1.2, 1.1))
    head_at, head_material = (0, half_height + 0.8 * head, rng.uniform(-0.05, 0.1)), _some_material(rng, 0.6)
    builder.add(ELLIPSOID, head_sizes, head_at, IDENTITY, SMOOTH_UNION, blend, 0, head_material)
    hip, shoulder = np.array((0.5 * trunk, -0.7 * half_height, 0)), np.array((0.8 * trunk, 0.6 * half_height, 0))
    for joint, reach, radius in ((hip, leg, limb), (shoulder, arm, 0.8 * limb)):
        material = _some_material(rng, 0.5)
        for side in (1,) if chance(rng, 0.75) else (1, -1):
            if joint is hip:
                step = (rng.uniform(0, 0.25), -0.3 * half_height - reach, rng.uniform(-0.2, 0.4))
            else:
                step = (reach * rng.uniform(0.1, 0.9), -reach * rng.uniform(-0.6, 0.9), rng.uniform(-0.1, 0.4))
            flip = np.array((side, 1, 1))
            end = (joint + step) * flip
            mirror = MIRROR_X if end[0] > 0 and side == 1 and chance(rng, 0.8) else 0
            builder.limb(joint * flip, end, 1.15 * radius, radius, SMOOTH_UNION, blend, mirror, material)
            if mirror:
                break
    if chance(rng, 0.5):
        ear = (0.35 * head, head * rng.uniform(0.3, 1), 0.2 * head)
        ear_at, ear_turn = (0.7 * head, half_height + 1.6 * head, 0), turn_z(rng.uniform(-0.9, 0.2))
        builder.add(ELLIPSOID, ear, ear_at, ear_turn, SMOOTH_UNION, 0.03, MIRROR_X, _some_material(rng, 0.4))
    if chance(rng, 0.5):
        snout_at = (0, half_height + 0.6 * head, 0.9 * head)
        builder.add(ELLIPSOID, head * np.array((0.4, 0.3, 0.4)), snout_at, IDENTITY, SMOOTH_UNION, 0.03, 0, 2)
    if chance(rng, 0.5):
        builder.add(ELLIPSOID, (0.03,) * 3, (0.35 * head, half_height + head, 0.85 * head), mirror=1, material=3)
    return builder


def _blob_chain(rng: Rng) -> ShapeBuilder:
    builder, blend = ShapeBuilder(), rng.uniform(0.03, 0.18)
    here, radius = np.zeros(3), rng.uniform(0.15, 0.35)
    builder.add(ELLIPSOID, radius * rng.uniform((1, 0.6, 0.6), (1, 1.4, 1.4)))
    for _ in range(rng.integers(2, 9)):
        direction = rng.normal(size=3)
        following = radius * rng.uniform(0.5, 1.1)
        there = here + direction / np.linalg.norm(direction) * (radius + following) * rng.uniform(0.5, 0.9)
        mirror = MIRROR_X * chance(rng, 0.25)
        builder.limb(here, there, 0.8 * radius, following, SMOOTH_UNION, blend, mirror, _some_material(rng, 0.4))
        if chance(rng, 0.7):
            here, radius = there, max(following, 0.08)
    return builder


def _bird_or_fish(rng: Rng) -> ShapeBuilder:
    builder, blend = ShapeBuilder(), rng.uniform(0.03, 0.18)
    length, radius = rng.uniform(0.3, 0.5), rng.uniform(0.12, 0.25)
    builder.add(ELLIPSOID, (radius, radius * rng.uniform(0.8, 1.3), length), turn=turn_x(rng.uniform(-0.6, 0.1)))
    head_at = (0, radius * rng.uniform(0.3, 1.4), length * rng.uniform(0.7, 1))
    head = radius * np.array((0.6, 0.6, 0.65))
    builder.add(ELLIPSOID, head, head_at, IDENTITY, SMOOTH_UNION, blend, 0, _some_material(rng, 0.4))
    beak_at = (0, 0.8 * radius, length + 0.6 * radius)
    builder.add(CONE, (0.3 * radius, 0.2 * radius, 0.01, 0.005), beak_at, turn_x(1.5), material=3)
    wing = rng.uniform((0.1, 0.03, 0.1), (0.5, 0.06, 0.25))
    wing_at, wing_turn = (0.9 * radius, rng.uniform(-0.05, 0.1), 0), turn_z(rng.uniform(-1.3, 0.5))
    builder.add(ELLIPSOID, wing, wing_at, wing_turn, SMOOTH_UNION, 0.03, MIRROR_X, _some_material(rng, 0.4))
    tail = rng.uniform((0.03, 0.03, 0.1), (0.2, 0.03, 0.25))
    builder.add(ELLIPSOID, tail, (0, 0, -1.1 * length), turn_z(1.57 * rng.integers(0, 2)), SMOOTH_UNION, 0.05)
    if chance(rng, 0.6):
        foot = (0.4 * radius, -radius - rng.uniform(0.05, 0.3), 0)
        builder.limb((0.4 * radius, -0.6 * radius, 0), foot, 0.03, 0.02, mirror=MIRROR_X, material=3)
    return builder


def _fruit_or_stone(rng: Rng) -> ShapeBuilder:
    """A rounded body with a few bulges and dents: fruit, stones, pillows, shoes, loaves."""
    builder, blend = ShapeBuilder(), rng.uniform(0.03, 0.18)
    radii = 0.6 * np.exp(rng.uniform(-0.9, 0, 3))
    builder.add(SUPERQUADRIC if chance(rng, 0.4) else ELLIPSOID, [*radii, rng.uniform(2.2, 4)])
    for _ in range(rng.integers(0, 5)):
        direction = rng.normal(size=3)
        at = direction / np.linalg.norm(direction) * radii * rng.uniform(0.6, 1)
        bulge = radii * rng.uniform(0.2, 0.6) * np.exp(rng.uniform(-0.3, 0.3, 3))
        operation = SMOOTH_SUBTRACT if chance(rng, 1 / 3) else SMOOTH_UNION
        builder.add(ELLIPSOID, bulge, at, turn_randomly(rng), operation, blend, 0, _some_material(rng, 0.4))
    return builder


def plant(rng: Rng) -> ShapeBuilder:
    """A pot or a trunk with leaves or a crown."""
    builder = ShapeBuilder()
    half_height = rng.uniform(0.12, 0.3)
    if chance(rng, 0.7):
        kind = str(rng.choice(("wavy", "bowl", "cup", "vase")))
        builder.add(REVOLVED, profile(rng, rng.uniform(0.15, 0.35), half_height, True, kind), (0, -0.4, 0))
    else:
        builder.limb((0, -0.7, 0), (0, 0, 0), 0.08, 0.05)
    spread, thin = rng.uniform(0.2, 0.6), chance(rng, 0.6)
    for _ in range(rng.integers(5, 13)):
        direction = np.array((rng.normal(), abs(rng.normal()) + 0.3, rng.normal()))
        direction /= np.linalg.norm(direction)
        tip = np.array((0, -0.25, 0)) + direction * spread * rng.uniform(0.6, 1.2)
        if thin:
            leaf = (rng.uniform(0.03, 0.12), spread * rng.uniform(0.3, 0.6), 0.015)
            leaf_turn = turn_y_to(direction) @ turn_y(rng.uniform(0, 6))
            builder.add(ELLIPSOID, leaf, 0.6 * tip - np.array((0, 0.1, 0)), leaf_turn, material=2)
        else:
            clump = 0.35 * spread * np.exp(rng.uniform(-0.4, 0.4, 3))
            builder.add(ELLIPSOID, clump, tip, turn_randomly(rng), SMOOTH_UNION, 0.05, 0, 2)
    return builder
