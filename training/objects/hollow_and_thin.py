"""Families beyond those of the evaluation set: open vessels, open frames, thin things, plants and people.

Shape frame as in `procedural.shape`: y up, a few tenths of a unit in size.
"""

from __future__ import annotations

import numpy as np
from procedural.parts import any_material, any_primitive, chance, four_legs, profile
from procedural.shape import (
    BOX,
    CONE,
    CYLINDER,
    ELLIPSOID,
    IDENTITY,
    MIRROR_X,
    MIRROR_Z,
    REVOLVED,
    SMOOTH_UNION,
    SUBTRACT,
    SUPERQUADRIC,
    TORUS,
    UNION,
    ShapeBuilder,
    turn_randomly,
    turn_x,
    turn_y,
    turn_y_to,
    turn_z,
)

from training.objects.layout import MAX_PRIMITIVES

Rng = np.random.Generator
BOTH = MIRROR_X + MIRROR_Z


class Builder(ShapeBuilder):
    limit = MAX_PRIMITIVES


def by(x: float, y: float, z: float) -> np.ndarray:
    return np.array((x, y, z))


def vessel(rng: Rng) -> Builder:
    """Mugs, glasses, bowls, buckets, pots, baskets: open at the top, with thin walls."""
    builder = Builder()
    kind = str(rng.choice(("cup", "bowl", "vase", "wavy"), p=[0.55, 0.2, 0.15, 0.1]))
    radius = rng.uniform(0.22, 0.5)
    half_height = radius * (rng.uniform(0.25, 0.7) if kind == "bowl" else rng.uniform(0.6, 1.7))
    body = profile(rng, radius, half_height, True, kind)
    wall = radius * rng.uniform(0.04, 0.13)
    body[13], body[14] = wall, 0.0
    builder.add(REVOLVED, body)
    middle, rim, trim = body[6], body[11], int(chance(rng, 0.3))
    style = rng.random()
    if style < 0.45:  # a mug's handle, cleared out of the inside
        ring = half_height * rng.uniform(0.4, 0.75)
        tube = rng.uniform(0.025, 0.06)
        handle = (ring, tube, rng.uniform(1.4, 2.1), rng.uniform(0.6, 1.0))
        builder.add(TORUS, handle, (0.95 * middle, half_height * rng.uniform(-0.2, 0.2), 0), turn_z(-np.pi / 2), UNION)
        inside = [max(r - wall, 0.01) for r in body[:12]]
        builder.add(REVOLVED, [*inside, half_height, 0.0, 0.0], (0, 1.2 * wall, 0), IDENTITY, SUBTRACT)
    elif style < 0.6:  # a bucket's or basket's handle, up
        handle = (rim * 0.97, rng.uniform(0.012, 0.03), np.pi / 2, 1.0)
        builder.add(TORUS, handle, (0, half_height * 0.95, 0), IDENTITY, UNION, material=1)
    elif style < 0.7:  # two ears of a pot
        ear = (rng.uniform(0.06, 0.12), rng.uniform(0.015, 0.03), np.pi, 1.0)
        builder.add(TORUS, ear, (rim, half_height * 0.6, 0), turn_x(np.pi / 2), UNION, 0.0, MIRROR_X, trim)
    elif style < 0.8:  # a pan's handle
        grip = (rim + rng.uniform(0.4, 0.8), half_height * rng.uniform(0.4, 1.0), 0)
        builder.limb((rim * 0.97, half_height * 0.6, 0), grip, 0.035, 0.03, material=1)
    if chance(rng, 0.25):  # filled to a level
        level = rng.uniform(-0.4, 0.7) * half_height
        depth = (level + half_height) / 2
        builder.add(CYLINDER, (min(body[1:9]) * 0.98, depth, 0.005), (0, level - depth, 0), material=2)
    if chance(rng, 0.2):  # things that stick out: brushes, spoons, flowers
        for _ in range(rng.integers(1, 7)):
            end = np.array((rng.normal() * 0.6 * rim, half_height + rng.uniform(0.15, 0.6), rng.normal() * 0.6 * rim))
            builder.limb((0, -0.6 * half_height, 0), end, 0.014, 0.012, material=2)
            if chance(rng, 0.6):
                radii = np.exp(rng.uniform(-0.6, 0.3, 3)) * rng.uniform(0.04, 0.12)
                builder.add(ELLIPSOID, radii, end, turn_randomly(rng), material=3)
    return builder


def open_box(rng: Rng) -> Builder:
    """Crates, drawers, open shelves, baskets, doll's houses: boxes that are mostly empty."""
    builder = Builder()
    half = 0.55 * np.exp(rng.uniform(-0.8, 0, 3))
    wall = rng.uniform(0.012, 0.04)
    builder.add(BOX, [*half, 0.005])
    if chance(rng, 0.5):  # open at the top
        builder.add(BOX, (half[0] - wall, half[1], half[2] - wall, 0.004), (0, wall * 2, 0), operation=SUBTRACT)
        if chance(rng, 0.4):
            hand = (half[0] * 0.3, half[1] * 0.15, 2 * half[2], 0.01)
            builder.add(BOX, hand, (0, half[1] * 0.55, 0), operation=SUBTRACT)
        if chance(rng, 0.3):
            builder.add(
                BOX, (half[0], wall, half[2], 0.004), (0, half[1], -2 * half[2]), turn_x(rng.uniform(-0.6, 0.6))
            )
        for _ in range(rng.integers(0, 5)):  # what lies in it
            kind, sizes, _least = any_primitive(rng, 0.4 * half.min())
            at = (*(half * rng.uniform(-0.6, 0.6, 3))[:2], half[2] * rng.uniform(-0.6, 0.6))
            builder.add(kind, sizes, (at[0], -0.5 * half[1], at[2]), turn_randomly(rng), material=any_material(rng))
    else:  # shelves open to the front, with or without a back wall
        rows, columns = int(rng.integers(1, 5)), int(rng.integers(1, 3))
        depth, back = (half[2], wall) if chance(rng, 0.7) else (1.5 * half[2], 0.0)
        for row in range(rows):
            for column in range(columns):
                cell = (half[0] / columns - wall, half[1] / rows - wall, depth, 0.003)
                at = (half[0] * (-1 + (2 * column + 1) / columns), half[1] * (-1 + (2 * row + 1) / rows), 2 * back)
                builder.add(BOX, cell, at, operation=SUBTRACT)
                if chance(rng, 0.35):
                    kind, sizes, _least = any_primitive(rng, 0.5 * min(cell[:3]))
                    builder.add(kind, sizes, (at[0], at[1] - 0.4 * cell[1], 0), material=any_material(rng))
        if chance(rng, 0.4):
            four_legs(rng, builder, half[0], half[2], -half[1], -half[1] - rng.uniform(0.05, 0.3), 0.025, 1)
    return builder


def frame_chair(rng: Rng) -> Builder:
    """Chairs, benches and stools of rods and slats."""
    builder = Builder()
    width, depth = rng.uniform(0.22, 0.5), rng.uniform(0.22, 0.4)
    rod, leg, back = rng.uniform(0.014, 0.03), rng.uniform(0.3, 0.6), rng.uniform(0.3, 0.65)
    seat, paint = rng.uniform(0.012, 0.04), int(rng.integers(2))
    if chance(rng, 0.7):
        builder.add(BOX, (width, seat, depth, 0.6 * seat))
    else:
        builder.add(CYLINDER, (width, seat, 0.6 * seat))
        depth = width
    inset = 0.72 if depth == width else 0.97
    four_legs(rng, builder, inset * width, inset * depth, 0, -leg, rod, paint, rng.uniform(-0.02, 0.12))
    for height in rng.uniform(0.2, 0.85, rng.integers(0, 3)):  # stretchers
        across = (0, -leg * height, inset * depth - rod)
        builder.add(BOX, (inset * width, 0.7 * rod, 0.7 * rod, 0.005), across, mirror=MIRROR_Z, material=paint)
        along = (inset * width - rod, -leg * height, 0)
        builder.add(BOX, (0.7 * rod, 0.7 * rod, inset * depth, 0.005), along, mirror=MIRROR_X, material=paint)
    if chance(rng, 0.8):
        tilt = rng.uniform(-0.3, 0.0)
        top = np.array((inset * width - rod, back, -inset * depth + rod + tilt * back))
        builder.limb((top[0], 0, -inset * depth + rod), top, rod, rod, mirror=MIRROR_X, material=paint)
        rail = (inset * width, rng.uniform(0.02, 0.09), 0.9 * rod, 0.01)
        builder.add(BOX, rail, (0, back * 0.95, top[2] * 0.98), turn_x(tilt), material=paint)
        slats = int(rng.integers(0, 5))
        if chance(rng, 0.5):  # upright slats, in mirrored pairs
            for k in range(slats):
                x = inset * width * (k + 0.5) / (slats + 0.5)
                foot, head = (x, 0, -inset * depth + rod), (x, 0.95 * back, top[2])
                builder.limb(foot, head, 0.6 * rod, 0.6 * rod, mirror=MIRROR_X, material=paint)
        else:  # level ones
            for k in range(slats):
                y = back * (k + 1) / (slats + 1.5)
                at = (0, y, -inset * depth + rod + tilt * y)
                builder.add(BOX, (inset * width, 0.03, 0.6 * rod, 0.005), at, turn_x(tilt), material=paint)
    if chance(rng, 0.3):
        height = rng.uniform(0.15, 0.28)
        builder.add(BOX, (rod, 0.6 * rod, depth, 0.006), (width, height, 0), mirror=MIRROR_X, material=paint)
        builder.limb((width, 0, 0.8 * depth), (width, height, 0.8 * depth), rod, rod, mirror=MIRROR_X, material=paint)
    if chance(rng, 0.3):
        builder.add(BOX, (0.95 * width, 0.04, 0.95 * depth, 0.03), (0, seat + 0.03, 0), material=2)
    return builder


def lamp(rng: Rng) -> Builder:
    """Floor, table and desk lamps; the shade is open below."""
    builder = Builder()
    height, pole = rng.uniform(0.35, 0.9), rng.uniform(0.01, 0.025)
    low, high, half = rng.uniform((0.14, 0.06, 0.08), (0.32, 0.3, 0.22))
    if chance(rng, 0.65):
        builder.add(CONE, (half, max(low, high), min(low, high), 0.004), (0, height, 0))
        wall = rng.uniform(0.008, 0.02)
        inner = (half, max(low, high) - wall, min(low, high) - wall, 0.002)
        builder.add(CONE, inner, (0, height - wall, 0), operation=SUBTRACT)
        builder.limb((0, -height, 0), (0, height, 0), pole, pole, material=1)
    else:  # a desk lamp: two arms and a small shade
        elbow = np.array((0, rng.uniform(0.0, 0.4), rng.uniform(-0.3, 0.0)))
        head = elbow + by(0, rng.uniform(-0.05, 0.35), rng.uniform(0.25, 0.5))
        builder.limb((0, -height, 0), elbow, pole, pole, material=1)
        builder.limb(elbow, head, pole, pole, material=1)
        turn = turn_x(rng.uniform(-0.4, 0.9))
        builder.add(CONE, (0.5 * half, low, 0.4 * low, 0.01), head, turn)
        builder.add(CONE, (0.5 * half, low - 0.02, 0.35 * low, 0.01), head - turn @ (0, 0.02, 0), turn, SUBTRACT)
    builder.add(CYLINDER, (rng.uniform(0.1, 0.22), 0.02, 0.015), (0, -height, 0), material=1)
    if chance(rng, 0.3):
        builder.add(REVOLVED, profile(rng, 0.14, 0.4 * height, False), (0, -0.6 * height, 0), material=2)
    return builder


def greenery(rng: Rng) -> Builder:
    """House plants with stems and blades, cacti, and small trees."""
    builder = Builder()
    if chance(rng, 0.7):
        sizes = profile(
            rng, rng.uniform(0.12, 0.28), rng.uniform(0.1, 0.25), True, str(rng.choice(("cup", "bowl", "vase")))
        )
        builder.add(REVOLVED, sizes, (0, -0.45, 0))
        builder.add(CYLINDER, (0.8 * min(sizes[2:9]), 0.5 * sizes[12], 0.01), (0, -0.45, 0), material=1)
    root = np.array((0, -0.4, 0))
    style = rng.random()
    if style < 0.25:  # a tree: trunk and crown
        top = np.array((rng.normal() * 0.08, rng.uniform(0.0, 0.3), rng.normal() * 0.08))
        builder.limb(root, top, 0.05, 0.03, material=3)
        for _ in range(rng.integers(4, 12)):
            at = top + rng.normal(size=3) * 0.16
            radii = np.exp(rng.uniform(-0.4, 0.4, 3)) * rng.uniform(0.1, 0.2)
            builder.add(ELLIPSOID, radii, at, turn_randomly(rng), SMOOTH_UNION, 0.04, 0, 2)
        return builder
    if style < 0.35:  # a cactus
        height, radius = rng.uniform(0.3, 0.8), rng.uniform(0.06, 0.14)
        builder.limb(root, root + by(0, height, 0), radius, 0.8 * radius, material=2)
        for _ in range(rng.integers(0, 4)):
            elbow = root + by(rng.normal() * 0.2, height * rng.uniform(0.4, 0.8), rng.normal() * 0.2)
            builder.limb(root + by(0, height * 0.4, 0), elbow, 0.5 * radius, 0.5 * radius, SMOOTH_UNION, 0.03, 0, 2)
            builder.limb(elbow, elbow + by(0, rng.uniform(0.1, 0.3), 0), 0.5 * radius, 0.4 * radius, UNION, 0.0, 0, 2)
        return builder
    blades = style < 0.6
    for _ in range(rng.integers(5, 13)):
        direction = np.array((rng.normal(), abs(rng.normal()) + 0.5, rng.normal()))
        direction /= np.linalg.norm(direction)
        length = rng.uniform(0.35, 0.9)
        if blades:
            leaf = (rng.uniform(0.015, 0.05), 0.5 * length, 0.008)
            turn = turn_y_to(direction) @ turn_y(rng.uniform(0, 6))
            builder.add(ELLIPSOID, leaf, root + direction * 0.5 * length, turn, material=2)
        else:
            tip = root + direction * length
            builder.limb(root, tip, 0.01, 0.008, material=3)
            leaf = (rng.uniform(0.05, 0.12), rng.uniform(0.08, 0.18), 0.012)
            outward = np.array((direction[0], -0.2 + 0.4 * rng.normal(), direction[2]))
            turn = turn_y_to(outward) @ turn_y(rng.uniform(-0.5, 0.5))
            builder.add(ELLIPSOID, leaf, tip + turn @ (0, 0.8 * leaf[1], 0), turn, material=2)
    return builder


def person(rng: Rng) -> Builder:
    """A clothed figure, standing, walking or seated: coat or skirt, trousers, sleeves, shoes, hair or a hat."""
    builder, blend = Builder(), rng.uniform(0.015, 0.05)
    head, tall = rng.uniform(0.085, 0.13), rng.uniform(0.85, 1.15)
    shoulder, waist, deep = rng.uniform(0.14, 0.22), rng.uniform(0.11, 0.19), rng.uniform(0.08, 0.13)
    torso, hip, seated = 0.24 * tall, np.array((0, 0.0, 0)), chance(rng, 0.2)
    builder.add(SUPERQUADRIC, (shoulder, torso, deep, rng.uniform(2.3, 4)), (0, torso, 0))
    builder.add(ELLIPSOID, (waist, 0.13, deep), hip, IDENTITY, SMOOTH_UNION, blend)
    neck = 2 * torso
    builder.limb((0, neck - 0.04, 0), (0, neck + head, 0.01), 0.05, 0.045, SMOOTH_UNION, blend, 0, 3)
    builder.add(ELLIPSOID, (0.78 * head, head, 0.88 * head), (0, neck + 1.35 * head, 0.015), material=3)
    hair = rng.random()
    if hair < 0.6:
        cap = (0.86 * head, 0.9 * head, 0.92 * head)
        builder.add(ELLIPSOID, cap, (0, neck + 1.5 * head, -0.025), material=2)
        if hair < 0.25:  # long
            builder.add(ELLIPSOID, (0.8 * head, 1.6 * head, 0.5 * head), (0, neck + 0.7 * head, -0.05), material=2)
    elif hair < 0.8:
        builder.add(CYLINDER, (head * rng.uniform(0.9, 1.7), 0.012, 0.01), (0, neck + 2 * head, 0), material=2)
        builder.add(CYLINDER, (0.8 * head, 0.5 * head, 0.02), (0, neck + 2.2 * head, 0), material=2)
    upper, lower, thick = 0.27 * tall, 0.27 * tall, rng.uniform(0.055, 0.085)
    for side in (1, -1):
        swing = 1.4 if seated else rng.normal() * 0.25
        hip_at = hip + by(side * 0.5 * waist, -0.05, 0)
        knee = hip_at + upper * np.array((side * 0.1, -np.cos(swing), np.sin(swing)))
        bend = 0.0 if seated else swing - abs(rng.normal() * 0.3)
        foot = knee + lower * np.array((0, -np.cos(bend), np.sin(bend)))
        builder.limb(hip_at, knee, thick, 0.85 * thick, SMOOTH_UNION, blend, 0, 1)
        builder.limb(knee, foot, 0.85 * thick, rng.uniform(0.5, 1.0) * thick, SMOOTH_UNION, blend, 0, 1)
        builder.add(ELLIPSOID, (0.05, 0.04, 0.1), foot + by(0, -0.03, 0.05), material=2)
    for side in (1, -1):
        lift, forward = rng.uniform(0.05, 0.9) if chance(rng, 0.8) else rng.uniform(0.9, 2.6), rng.normal() * 0.3
        start = np.array((side * 0.9 * shoulder, 1.7 * torso, 0))
        elbow = start + 0.17 * tall * np.array((side * np.sin(lift), -np.cos(lift), forward))
        hand = elbow + 0.16 * tall * np.array(
            (side * rng.uniform(-0.5, 0.6), rng.uniform(-1, 0.6), rng.uniform(0, 0.8))
        )
        builder.limb(start, elbow, 0.6 * thick, 0.5 * thick, SMOOTH_UNION, blend)
        builder.limb(elbow, hand, 0.5 * thick, 0.4 * thick, SMOOTH_UNION, blend)
        builder.add(ELLIPSOID, (0.03, 0.045, 0.03), hand, material=3)
    cloth = rng.random()
    if cloth < 0.3 and not seated:  # a skirt or a long coat
        half = rng.uniform(0.1, 0.24)
        builder.add(
            CONE, (half, waist * rng.uniform(1.1, 1.8), waist, 0.02), (0, -half, 0), IDENTITY, SMOOTH_UNION, blend
        )
    if chance(rng, 0.2):  # a bag on the back
        builder.add(SUPERQUADRIC, (0.12, 0.16, 0.07, 3.5), (0, 1.2 * torso, -deep - 0.05), material=2)
    return builder


def thin(rng: Rng) -> Builder:
    """Poles, tools, racks, wheels, spectacles: objects with hardly any volume."""
    builder, rod, style = Builder(), rng.uniform(0.012, 0.03), rng.random()
    if style < 0.25:  # bent wire
        at = rng.normal(size=3) * 0.2
        for k in range(rng.integers(2, 9)):
            to = at + rng.normal(size=3) * rng.uniform(0.15, 0.45)
            builder.limb(at, to, rod, rod, mirror=MIRROR_X * chance(rng, 0.3), material=int(k == 0))
            at = to
    elif style < 0.45:  # a tool: handle and head
        length = rng.uniform(0.4, 0.8)
        builder.limb((0, -length, 0), (0, length, 0), rod, rod * rng.uniform(0.7, 1.6))
        kind, sizes, _least = any_primitive(rng, rng.uniform(0.1, 0.3))
        builder.add(kind, sizes, (0, length, 0), material=1)
        if chance(rng, 0.4):
            builder.add(CYLINDER, (2 * rod, 0.3 * length, 0.01), (0, -0.8 * length, 0), material=2)
    elif style < 0.65:  # wheels with spokes, on a frame
        ring, gap = rng.uniform(0.2, 0.35), rng.uniform(0.3, 0.5)
        for z in (gap, -gap):
            builder.add(TORUS, (ring, rod, np.pi, 1.0), (0, 0, z), turn_y(np.pi / 2), material=3)
            for k in range(rng.integers(0, 4)):
                builder.add(BOX, (0.005, ring, 0.005, 0.002), (0, 0, z), turn_x(k * np.pi / 4), material=3)
        saddle, bars = (0, ring + rng.uniform(0.1, 0.3), -0.4 * gap), (0, ring + rng.uniform(0.1, 0.35), 0.7 * gap)
        crank = (0, -0.1 * ring, -0.1 * gap)
        for start, end in ((crank, saddle), (crank, (0, 0, -gap)), (saddle, bars), (crank, bars), (bars, (0, 0, gap))):
            builder.limb(start, end, rod, rod)
        builder.add(ELLIPSOID, (0.05, 0.025, 0.1), saddle, material=1)
        builder.add(BOX, (rng.uniform(0.1, 0.25), 0.6 * rod, 0.6 * rod, 0.005), bars, material=1)
    else:  # a rack or a fence of rods
        width, height, depth = rng.uniform((0.2, 0.2, 0.05), (0.6, 0.7, 0.35))
        builder.limb((width, -height, depth), (width, height, depth), rod, rod, mirror=BOTH)
        for y in np.linspace(-0.9, 0.95, int(rng.integers(2, 7))) * height:
            builder.limb((0, y, depth), (width, y, depth), 0.8 * rod, 0.8 * rod, mirror=BOTH, material=1)
            if chance(rng, 0.5):
                builder.add(BOX, (width, 0.01, depth, 0.004), (0, y, 0), material=1)
            else:
                builder.limb((width, y, 0), (width, y, depth), 0.8 * rod, 0.8 * rod, mirror=BOTH, material=1)
    return builder
