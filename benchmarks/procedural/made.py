"""Families of manufactured shapes: solids of revolution, furniture, boxes, vehicles, flat objects."""

from __future__ import annotations

import numpy as np

from procedural.parts import any_material, any_primitive, chance, four_legs, outline, profile
from procedural.shape import (
    BOX,
    CONE,
    CYLINDER,
    ELLIPSOID,
    EXTRUDED,
    IDENTITY,
    MIRROR_X,
    MIRROR_Z,
    PRISM,
    REVOLVED,
    SIZES,
    SMOOTH_UNION,
    SUBTRACT,
    SUPERQUADRIC,
    TORUS,
    UNION,
    ShapeBuilder,
    turn_randomly,
    turn_x,
    turn_y,
    turn_z,
)

Rng = np.random.Generator
BOTH_SIDES = MIRROR_X + MIRROR_Z


def revolve(rng: Rng) -> ShapeBuilder:
    """Bottles, bowls, cups, vases and stems, with handles, spouts, lids, feet and contents."""
    builder = ShapeBuilder()
    kind = ("wavy", "bottle", "bowl", "cup", "vase", "stem")[rng.integers(6)]
    radius, half_height = rng.uniform(0.2, 0.6), rng.uniform(0.1, 0.4 if kind == "bowl" else 0.75)
    body = profile(rng, radius, half_height, None if chance(rng, 0.6) else True, kind)
    builder.add(REVOLVED, body)
    middle, rim, wall, trim = body[6], body[11], body[13], int(chance(rng, 0.3))
    if chance(rng, 0.35):
        ring = rng.uniform(0.08, 0.3)
        handle = (ring, ring * rng.uniform(0.1, 0.3), rng.uniform(1.3, 2.2), rng.uniform(0.6, 1))
        at = (0.95 * middle, half_height * rng.uniform(-0.4, 0.4), 0)
        operation, both = (UNION if chance(rng, 0.5) else SMOOTH_UNION), MIRROR_X * chance(rng, 0.3)
        builder.add(TORUS, handle, at, turn_z(-np.pi / 2), operation, 0.03, both, trim)
        if wall > 0:  # clear the handle out of the inside
            inside = [max(r - wall, 0.01) for r in body[:12]]
            builder.add(REVOLVED, [*inside, half_height, 0.0, 0.0], (0, 1.2 * wall, 0), IDENTITY, SUBTRACT)
    if chance(rng, 0.15):  # a spout
        tip = (-middle - rng.uniform(0.1, 0.3), half_height * rng.uniform(0.3, 1), 0)
        root = (-0.8 * middle, -0.2 * half_height, 0)
        builder.limb(root, tip, rng.uniform(0.05, 0.1), rng.uniform(0.03, 0.05), SMOOTH_UNION, 0.05, 0, trim)
    if chance(rng, 0.25):
        builder.add(REVOLVED, profile(rng, 1.05 * rim, rng.uniform(0.03, 0.2), False), (0, half_height, 0), material=1)
    if chance(rng, 0.2):
        builder.add(ELLIPSOID, (0.05,) * 3, (0, 1.05 * half_height, 0), material=1)
    if chance(rng, 0.2):
        builder.add(CYLINDER, (radius * rng.uniform(0.5, 1.2), 0.03, 0.01), (0, -half_height, 0), material=1)
    if chance(rng, 0.25):  # flowers, fruit, cutlery
        for _ in range(rng.integers(1, 8)):
            end = np.array((0.3 * rng.normal(), half_height + rng.uniform(0.1, 0.6), 0.3 * rng.normal()))
            if chance(rng, 0.5):
                builder.limb((0, 0.6 * half_height, 0), end, 0.015, 0.012, material=2)
            radii = np.exp(rng.uniform(-0.6, 0.3, 3)) * rng.uniform(0.06, 0.16)
            builder.add(ELLIPSOID, radii, end, turn_randomly(rng), material=int(rng.integers(2, 4)))
    return builder


def furniture(rng: Rng) -> ShapeBuilder:
    kinds = (_chair, _table, _sofa, _cabinet, _lamp, _screen)
    return kinds[rng.choice(len(kinds), p=[0.34, 0.18, 0.18, 0.12, 0.08, 0.1])](rng)


def _chair(rng: Rng) -> ShapeBuilder:
    builder = ShapeBuilder()
    width, depth, seat = rng.uniform(0.28, 0.45), rng.uniform(0.28, 0.45), rng.uniform(0.03, 0.14)
    leg, back, rod, frame = (
        rng.uniform(0.15, 0.55),
        rng.uniform(0.25, 0.7),
        rng.uniform(0.018, 0.05),
        int(rng.integers(2)),
    )
    if chance(rng, 0.75):
        builder.add(BOX, (width, seat, depth, min(seat, rng.uniform(0.01, 0.1))))
    else:
        builder.add(CYLINDER, (width, seat, min(seat, 0.03)))
    stand = rng.random()
    if stand < 0.7:
        four_legs(rng, builder, width, depth, 0, -leg, rod, frame, rng.uniform(-0.05, 0.12))
    else:
        builder.add(CYLINDER, (0.035, leg / 2, 0.01), (0, -leg / 2, 0), material=frame)
        if stand < 0.85:
            builder.add(CYLINDER, (width * rng.uniform(0.6, 1), 0.025, 0.02), (0, -leg, 0), material=frame)
        else:
            builder.add(BOX, (width, 0.03, 0.03, 0.02), (0, -leg, 0), material=frame)
            builder.add(BOX, (0.03, 0.03, depth, 0.02), (0, -leg, 0), material=frame)
    if chance(rng, 0.85):
        tilt, thickness, style = rng.uniform(-0.35, 0.05), rng.uniform(0.02, 0.1), rng.random()
        if style < 0.6:
            sizes = (width * rng.uniform(0.8, 1), back / 2, thickness, thickness * rng.uniform(0.2, 1))
            builder.add(BOX, sizes, (0, (back + seat) / 2, -depth + thickness + 0.3 * tilt * back), turn_x(tilt))
        elif style < 0.8:
            posts_at = (width - rod, back / 2, -depth + rod)
            builder.add(BOX, (rod, back / 2, rod, 0.01), posts_at, mirror=MIRROR_X, material=frame)
            builder.add(BOX, (width, rng.uniform(0.03, 0.12), rod, 0.01), (0, 0.9 * back, -depth + rod))
            builder.add(BOX, (width, 0.03, rod, 0.01), (0, 0.45 * back, -depth + rod))
        else:
            radii = (width * rng.uniform(0.8, 1.1), 0.6 * back, 1.5 * thickness)
            builder.add(ELLIPSOID, radii, (0, 0.6 * back, -depth + thickness), turn_x(tilt))
    if chance(rng, 0.4):
        height, arm = rng.uniform(0.1, 0.3), rng.uniform(0.02, 0.08)
        if chance(rng, 0.5):
            at = (width - 0.3 * arm, height - seat, 0)
            builder.add(BOX, (arm, height, 0.9 * depth, 0.6 * arm), at, mirror=MIRROR_X)
        else:
            rest_at, post_at = (width, height + 0.1, 0), (width, height / 2 + 0.05, 0.7 * depth)
            builder.add(BOX, (arm, 0.025, 0.8 * depth, 0.02), rest_at, mirror=MIRROR_X, material=frame)
            builder.add(BOX, (0.02, height / 2 + 0.05, 0.02, 0.005), post_at, mirror=MIRROR_X, material=frame)
    if chance(rng, 0.3):
        cushion = (0.85 * width, rng.uniform(0.03, 0.08), 0.85 * depth, 0.03)
        builder.add(BOX, cushion, (0, seat + 0.03, 0), material=2)
    return builder


def _table(rng: Rng) -> ShapeBuilder:
    builder = ShapeBuilder()
    width, depth, plate = rng.uniform(0.3, 0.8), rng.uniform(0.25, 0.5), rng.uniform(0.015, 0.07)
    leg, rod, inset = rng.uniform(0.25, 0.7), rng.uniform(0.015, 0.06), 0.9
    if chance(rng, 0.75):
        builder.add(BOX, (width, plate, depth, 0.5 * plate))
    else:
        builder.add(CYLINDER, (width, plate, 0.5 * plate))
        depth, inset = width, 0.7
    if chance(rng, 0.7):
        four_legs(rng, builder, inset * width, inset * depth, 0, -leg, rod, 1)
    else:
        builder.add(CYLINDER, (1.5 * rod, leg / 2, 0.01), (0, -leg / 2, 0), material=1)
        builder.add(CYLINDER, (0.5 * width, 0.02, 0.01), (0, -leg, 0), material=1)
    if chance(rng, 0.3):
        builder.add(BOX, (0.85 * width, 0.02, 0.85 * depth, 0.01), (0, -leg * rng.uniform(0.4, 0.8), 0), material=1)
    if chance(rng, 0.3):
        builder.add(BOX, (0.25 * width, 0.4 * leg, 0.85 * depth, 0.01), (0.6 * width, -0.4 * leg, 0), material=2)
    return builder


def _sofa(rng: Rng) -> ShapeBuilder:
    builder = ShapeBuilder()
    width, depth, seat = rng.uniform(0.45, 0.85), rng.uniform(0.28, 0.55), rng.uniform(0.08, 0.2)
    edge, back = rng.uniform(0.02, 0.09), rng.uniform(0.15, 0.4)
    builder.add(BOX, (width, seat, depth, min(edge, seat)))
    back_sizes = (width, back, rng.uniform(0.05, 0.15), min(edge, 0.05))
    builder.add(BOX, back_sizes, (0, 0.7 * back, -depth), turn_x(rng.uniform(-0.2, 0)))
    if chance(rng, 0.75):
        arm = (rng.uniform(0.04, 0.12), seat + rng.uniform(0.05, 0.2), depth, 0.04)
        builder.add(BOX, arm, (width, 0.08, 0), mirror=MIRROR_X)
    cushions = rng.integers(0, 3)
    if cushions:
        sizes, at = (0.46 * width, 0.07, 0.85 * depth, 0.05), (0.47 * width, seat + 0.05, 0.05)
        builder.add(BOX, sizes, at, mirror=MIRROR_X, material=int(rng.integers(0, 3)))
    if cushions > 1:
        at, turn = (
            (width * rng.uniform(0.3, 0.7), seat + 0.2, -0.5 * depth),
            turn_x(-0.4) @ turn_y(rng.uniform(-0.4, 0.4)),
        )
        builder.add(SUPERQUADRIC, (0.17, 0.15, 0.06, 3.0), at, turn, mirror=MIRROR_X * chance(rng, 0.5), material=2)
    if chance(rng, 0.4):
        at = (rng.uniform(-0.4, 0.4), seat + 0.1, rng.uniform(-0.1, 0.2))
        builder.add(BOX, (0.3, 0.03, 0.2, 0.03), at, turn_y(rng.uniform(0, 3)), material=3)
    four_legs(rng, builder, 0.95 * width, 0.95 * depth, -seat, -seat - rng.uniform(0.02, 0.15), 0.03, 3)
    return builder


def _cabinet(rng: Rng) -> ShapeBuilder:
    builder = ShapeBuilder()
    width, height, depth = rng.uniform(0.2, 0.6), rng.uniform(0.3, 0.7), rng.uniform(0.12, 0.4)
    builder.add(BOX, (width, height, depth, 0.015))
    shelves, is_open = int(rng.integers(1, 5)), chance(rng, 0.5)
    for i in range(shelves):
        y = height * (-1 + (2 * i + 1) / shelves)
        if is_open:
            sizes = (0.92 * width, 0.85 * height / shelves, depth, 0.01)
            builder.add(BOX, sizes, (0, y, 0.15 * depth), operation=SUBTRACT)
        else:
            sizes = (0.92 * width, 0.88 * height / shelves, 0.012, 0.005)
            builder.add(BOX, sizes, (0, y, depth), material=int(rng.integers(2)))
            builder.add(ELLIPSOID, (0.025, 0.025, 0.03), (0, y, depth + 0.03), material=3)
    if chance(rng, 0.5):
        four_legs(rng, builder, width, depth, -height, -height - rng.uniform(0.05, 0.25), 0.03, 1)
    return builder


def _lamp(rng: Rng) -> ShapeBuilder:
    builder, half_height = ShapeBuilder(), rng.uniform(0.3, 0.7)
    shade = (*rng.uniform((0.1, 0.15, 0.05), (0.25, 0.4, 0.3)), 0.01)
    builder.add(CONE, shade, (0, half_height, 0))
    builder.add(CYLINDER, (0.02, half_height, 0.01), material=1)
    builder.add(CYLINDER, (rng.uniform(0.12, 0.25), 0.025, 0.02), (0, -half_height, 0), material=1)
    if chance(rng, 0.4):
        builder.add(REVOLVED, profile(rng, 0.15, 0.5 * half_height, False), (0, -0.5 * half_height, 0), material=2)
    return builder


def _screen(rng: Rng) -> ShapeBuilder:
    """Monitors, televisions, frames and laptops."""
    builder, width, thickness = ShapeBuilder(), rng.uniform(0.35, 0.75), rng.uniform(0.015, 0.06)
    height = width * rng.uniform(0.5, 0.8)
    builder.add(BOX, (width, height, thickness, 0.012))
    builder.add(BOX, (0.94 * width, 0.92 * height, 0.01, 0.003), (0, 0.01, thickness), material=1)
    if chance(rng, 0.6):
        builder.add(BOX, (0.05, 0.15, 0.02, 0.01), (0, -height - 0.08, -thickness))
        builder.add(BOX, (rng.uniform(0.12, 0.3), 0.015, rng.uniform(0.08, 0.2), 0.01), (0, -height - 0.2, 0))
    elif chance(rng, 0.6):
        keys_at = (0, -height, 0.9 * height)
        builder.add(BOX, (width, 0.02, 0.9 * height, 0.01), keys_at, turn_x(rng.uniform(-0.1, 0.2)))
        builder.add(BOX, (0.9 * width, 0.01, 0.4 * height, 0.004), (0, -height + 0.02, 0.7 * height), material=1)
    return builder


def boxy(rng: Rng) -> ShapeBuilder:
    """Boxes, radios, cases and blocks with knobs, labels, bands, handles, wheels and hollows."""
    builder = ShapeBuilder()
    half = 0.6 * np.exp(rng.uniform(-1.1, 0, 3))
    least = half.min()
    if chance(rng, 0.5):
        builder.add(BOX, [*half, least * rng.uniform(0.02, 0.6)])
    else:
        builder.add(SUPERQUADRIC, [*half, rng.uniform(2.8, 8)])
    if chance(rng, 0.4):
        handle, at = (half[0] * rng.uniform(0.3, 0.7), rng.uniform(0.015, 0.05), 1.57, 1.0), (0, 0.95 * half[1], 0)
        builder.add(TORUS, handle, at, material=1)
    if chance(rng, 0.35):
        label = (half[0] * rng.uniform(0.4, 0.9), half[1] * rng.uniform(0.2, 0.8), 0.03, 0.02)
        builder.add(BOX, label, (0, half[1] * rng.uniform(-0.5, 0.3), half[2]), material=1)
    if chance(rng, 0.3):
        band = (1.02 * half[0], half[1] * rng.uniform(0.1, 0.4), 1.02 * half[2], 0.2 * least)
        builder.add(BOX, band, (0, half[1] * rng.uniform(-1, 1), 0), material=2)
    if chance(rng, 0.25):
        wheel, turn = (rng.uniform(0.06, 0.15), 0.05, 0.01), IDENTITY if chance(rng, 0.5) else turn_z(1.57)
        builder.add(CYLINDER, wheel, half * (0.6, -1, 0.6), turn, mirror=BOTH_SIDES, material=3)
    if chance(rng, 0.25):
        hollow = (0.88 * half[0], half[1], 0.88 * half[2], 0.01)
        builder.add(BOX, hollow, (0, half[1] * rng.uniform(0.15, 0.5), 0), operation=SUBTRACT)
    if chance(rng, 0.2):
        lens, operation = (
            (min(half[:2]) * rng.uniform(0.3, 0.8), 0.5 * half[2], 0.01),
            (SUBTRACT, UNION)[rng.integers(2)],
        )
        builder.add(CYLINDER, lens, (0, 0, 0.8 * half[2]), turn_x(1.57), operation, material=3)
    for _ in range(rng.integers(0, 5)):
        kind, sizes, _least = any_primitive(rng, least * rng.uniform(0.2, 0.6))
        spot, axis = half * rng.uniform(-0.8, 0.8, 3), rng.integers(3)
        spot[axis] = half[axis] * (1 if chance(rng, 0.8) else -1)
        operation, mirror = (SUBTRACT if chance(rng, 0.25) else UNION), MIRROR_X * chance(rng, 0.4)
        builder.add(kind, sizes, spot, IDENTITY, operation, 0.0, mirror, any_material(rng))
    return builder


def vehicle(rng: Rng) -> ShapeBuilder:
    builder = ShapeBuilder()
    length, width, height = rng.uniform((0.45, 0.18, 0.08), (0.8, 0.35, 0.2))
    if chance(rng, 0.5):
        builder.add(SUPERQUADRIC, (width, height, length, rng.uniform(3, 7)))
    else:
        builder.add(BOX, (width, height, length, rng.uniform(0.02, 0.08)))
    cabin, cabin_length, cabin_z = (
        rng.uniform(0.08, 0.25),
        length * rng.uniform(0.25, 0.6),
        length * rng.uniform(-0.35, 0.3),
    )
    kind = BOX if chance(rng, 0.5) else SUPERQUADRIC
    glass_house = (width * rng.uniform(0.75, 0.98), cabin, cabin_length, rng.uniform(0.02, 0.08))
    paint = int(rng.integers(2))
    builder.add(kind, glass_house, (0, height + 0.7 * cabin, cabin_z), IDENTITY, SMOOTH_UNION, 0.05, 0, paint)
    if kind == SUPERQUADRIC:
        builder.rows[-1][SIZES + 3] = rng.uniform(2.5, 5)
    wheel = rng.uniform(0.08, 0.17)
    for side in (1, -1):
        disc, at = (wheel, rng.uniform(0.03, 0.07), 0.02), (width, -height, side * 0.62 * length)
        builder.add(CYLINDER, disc, at, turn_z(1.57), mirror=MIRROR_X, material=3)
    if chance(rng, 0.5):
        builder.add(ELLIPSOID, (0.05, 0.05, 0.03), (0.7 * width, 0, length), mirror=MIRROR_X, material=2)
    if chance(rng, 0.4):
        glass, front = (0.7 * width, 0.6 * cabin, 0.02, 0.01), (0, height + 0.8 * cabin, cabin_z + cabin_length)
        builder.add(BOX, glass, front, turn_x(-0.3), material=2)
    if chance(rng, 0.3):
        kind, sizes, _least = any_primitive(rng, 0.15)
        builder.add(kind, sizes, (0, height + 1.2 * cabin, length * rng.uniform(-0.5, 0.5)), material=1)
    return builder


def flat(rng: Rng) -> ShapeBuilder:
    """Plates, tiles, tools and badges."""
    builder = ShapeBuilder()
    radius, half_height = rng.uniform(0.35, 0.65), rng.uniform(0.03, 0.25)
    if chance(rng, 0.7):
        builder.add(EXTRUDED, outline(rng, radius, half_height))
    else:
        sides = float(rng.integers(3, 9))
        builder.add(PRISM, (radius, half_height, 0.3 * half_height, sides), turn=turn_x(1.57))
    for _ in range(rng.integers(0, 5)):
        kind, sizes, _least = any_primitive(rng, rng.uniform(0.08, 0.25))
        at = (*rng.uniform(-0.4, 0.4, 2), half_height * rng.uniform(-1, 1))
        operation = int(rng.choice((UNION, SMOOTH_UNION, SUBTRACT), p=[0.5, 0.35, 0.15]))
        mirror = MIRROR_X * chance(rng, 0.5)
        builder.add(kind, sizes, at, IDENTITY, operation, 0.05, mirror, any_material(rng))
    return builder
