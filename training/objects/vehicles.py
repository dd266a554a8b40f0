"""Vehicles: cars, buses, lorries, trains, aeroplanes, boats, bicycles and motorcycles.

Shape frame as in `procedural.shape`: y up, the vehicle moves along z.
"""

from __future__ import annotations

import numpy as np
from procedural.parts import chance
from procedural.shape import (
    BOX,
    CYLINDER,
    ELLIPSOID,
    IDENTITY,
    MIRROR_X,
    SMOOTH_UNION,
    SUBTRACT,
    SUPERQUADRIC,
    TORUS,
    Shape,
    turn_x,
    turn_y,
    turn_z,
)

from training.objects.hollow_and_thin import Builder, by

Rng = np.random.Generator
PAINT, GLASS, LAMPS, TYRES = range(4)  # materials


def vehicle(rng: Rng) -> Shape:
    """A vehicle with windows, of a kind drawn by its frequency in photos."""
    makers = (_car, _long, _plane, _boat)
    return makers[rng.choice(4, p=(0.55, 0.25, 0.1, 0.1))](rng)


def _car(rng: Rng) -> Shape:
    builder = Builder()
    length, width, height = rng.uniform(0.5, 0.85), rng.uniform(0.24, 0.36), rng.uniform(0.1, 0.2)
    if chance(rng, 0.5):
        builder.add(SUPERQUADRIC, (width, height, length, rng.uniform(3, 7)), material=PAINT)
    else:
        builder.add(BOX, (width, height, length, rng.uniform(0.02, 0.09)), material=PAINT)
    cabin = rng.uniform(0.3, 0.75) * length  # half its length
    rise = rng.uniform(0.1, 0.24)
    middle = rng.uniform(-0.35, 0.1) * length
    roof = height + 0.8 * rise
    cabin_width = 0.92 * width
    builder.add(BOX, (cabin_width, rise, cabin, 0.06), (0, roof, middle), operation=SMOOTH_UNION, blend=0.05)
    panes = int(rng.integers(1, 3))
    for pane in range(panes):  # side windows stand a little out of the cabin
        half = 0.8 * cabin / panes
        at = middle - 0.85 * cabin + (2 * pane + 1) * 0.85 * cabin / panes
        builder.add(
            BOX,
            (0.012, 0.55 * rise, half * 0.95, 0.01),
            (cabin_width, roof + 0.1 * rise, at),
            mirror=MIRROR_X,
            material=GLASS,
        )
    for end in (1, -1):
        builder.add(
            BOX,
            (0.8 * cabin_width, 0.55 * rise, 0.012, 0.01),
            (0, roof + 0.1 * rise, middle + end * cabin),
            material=GLASS,
        )
    wheel = rng.uniform(0.09, 0.15)
    for axle in (0.62, -0.62):
        builder.add(
            CYLINDER,
            (wheel, 0.05, 0.02),
            (width - 0.03, -height, axle * length),
            turn_z(np.pi / 2),
            mirror=MIRROR_X,
            material=TYRES,
        )
    for end in (1, -1):
        builder.add(
            ELLIPSOID, (0.06, 0.04, 0.03), (0.7 * width, 0.1 * height, end * length), mirror=MIRROR_X, material=LAMPS
        )
    return builder.shape("car")


def _long(rng: Rng) -> Shape:
    """Buses, vans, lorries and railway carriages."""
    builder = Builder()
    width, height, length = rng.uniform(0.2, 0.3), rng.uniform(0.22, 0.34), rng.uniform(0.5, 0.95)
    kind = ("bus", "lorry", "train")[rng.choice(3, p=(0.4, 0.35, 0.25))]
    edge = rng.uniform(0.01, 0.08)
    pane, up = 0.012, rng.uniform(0.15, 0.4) * height
    if kind == "lorry":
        cab, gap = rng.uniform(0.16, 0.26), rng.uniform(0.0, 0.04)
        low = height * rng.uniform(0.5, 0.9)
        builder.add(BOX, (width, low, cab, edge), (0, low - height, length - cab), material=PAINT)
        load = (0.98 * width, height * rng.uniform(0.4, 1.1), length - cab - gap, 0.01)
        builder.add(BOX, load, (0, load[1] - 0.8 * height, -cab - gap), material=LAMPS if chance(rng, 0.5) else PAINT)
        builder.add(BOX, (0.8 * width, 0.03, length, 0.01), (0, -0.85 * height, 0), material=TYRES)
        side, middle, front = 0.6 * cab, length - cab, (0, 1.3 * low - height, length)
        builder.add(BOX, (pane, 0.35 * low, side, 0.01), (width, front[1], middle), mirror=MIRROR_X, material=GLASS)
        builder.add(BOX, (0.85 * width, 0.4 * low, pane, 0.01), front, material=GLASS)
    else:
        length *= 1.4 if kind == "train" else 1.0
        builder.add(BOX, (width, height, length, edge), material=PAINT)
        panes = int(rng.integers(1, 6))
        for k in range(panes):
            half = 0.92 * length / panes
            at = -0.92 * length + (2 * k + 1) * half
            size = (pane, rng.uniform(0.25, 0.32) * height, half * rng.uniform(0.75, 1.0), 0.01)
            builder.add(BOX, size, (width, up, at), mirror=MIRROR_X, material=GLASS)
        for end in (1, -1):
            builder.add(BOX, (0.85 * width, 0.4 * height, pane, 0.01), (0, 0.9 * up, end * length), material=GLASS)
        if chance(rng, 0.5):  # a band of another colour
            size = (1.02 * width, rng.uniform(0.05, 0.25) * height, 1.01 * length, 0.01)
            builder.add(BOX, size, (0, -0.5 * height, 0), material=LAMPS)
    wheel = 0.05 if kind == "train" else rng.uniform(0.07, 0.11)
    for axle in (0.75, -0.55, -0.8)[: 2 + chance(rng, 0.5)]:
        hub = (width - 0.03, -height, axle * length)
        builder.add(CYLINDER, (wheel, 0.04, 0.01), hub, turn_z(np.pi / 2), mirror=MIRROR_X, material=TYRES)
    lamp = (0.7 * width, -0.6 * height, length)
    builder.add(ELLIPSOID, (0.035, 0.03, 0.02), lamp, mirror=MIRROR_X, material=LAMPS)
    return builder.shape("car")


def _plane(rng: Rng) -> Shape:
    builder = Builder()
    radius, length = rng.uniform(0.07, 0.12), rng.uniform(0.6, 0.9)
    builder.limb((0, 0, 0.75 * length), (0, 0.3 * radius, -length), radius, 0.35 * radius, material=PAINT)
    builder.add(ELLIPSOID, (radius, radius, 0.3 * length), (0, 0, 0.75 * length), material=PAINT)
    builder.add(BOX, (0.8 * radius, 0.3 * radius, 0.05, 0.01), (0, 0.6 * radius, 0.93 * length), material=GLASS)
    builder.add(BOX, (1.02 * radius, 0.015, 0.65 * length, 0.01), (0, 0.25 * radius, 0), material=GLASS)
    low = 0.0 if chance(rng, 0.7) else radius
    span, sweep = length * rng.uniform(0.6, 0.95), rng.uniform(0, 0.6)
    for side in (1, -1):
        middle = np.array((side * 0.5 * span, low, 0.1 * length - 0.5 * sweep * span))
        builder.add(BOX, (0.5 * span / np.cos(sweep), 0.012, 0.11 * length, 0.01), middle, turn_y(side * sweep))
        at = (side * 0.22 * span, 0.3 * radius, -0.9 * length)
        builder.add(BOX, (0.22 * span, 0.01, 0.06 * length, 0.005), at, turn_y(side * sweep))
    fin = rng.uniform(0.12, 0.25)
    builder.add(BOX, (0.01, fin, 0.09 * length, 0.01), (0, fin, -0.9 * length), turn_x(-0.3), material=LAMPS)
    engine = (0.35 * radius, 0.1 * length, 0.02)
    at = (0.35 * span, low - 0.4 * radius, 0.1 * length)
    builder.add(CYLINDER, engine, at, turn_x(np.pi / 2), mirror=MIRROR_X, material=LAMPS)
    for axle in (0.7, 0.0):
        at = (0.8 * radius * (axle == 0), -1.6 * radius, axle * length)
        builder.limb((at[0], 0, at[2]), at, 0.012, 0.02, mirror=MIRROR_X, material=TYRES)
    return builder.shape("car")


def _boat(rng: Rng) -> Shape:
    builder = Builder()
    width, deep, length = rng.uniform(0.15, 0.28), rng.uniform(0.08, 0.16), rng.uniform(0.5, 0.9)
    builder.add(ELLIPSOID, (width, 2 * deep, length), material=PAINT)
    builder.add(BOX, (1, 1, 1.5, 0.01), (0, 1, 0), operation=SUBTRACT)  # the deck
    if chance(rng, 0.4):
        builder.add(ELLIPSOID, (0.85 * width, 1.6 * deep, 0.9 * length), (0, 0.02, 0), IDENTITY, SUBTRACT)
    if chance(rng, 0.5):  # a cabin
        house, tall = rng.uniform(0.2, 0.5) * length, rng.uniform(0.06, 0.15)
        at = (0, tall, -0.2 * length)
        builder.add(BOX, (0.6 * width, tall, house, 0.02), at, material=LAMPS)
        builder.add(BOX, (0.62 * width, 0.4 * tall, 0.85 * house, 0.01), at, material=GLASS)
    if chance(rng, 0.4):  # a mast with a sail
        mast = rng.uniform(0.5, 1.0)
        builder.limb((0, 0, 0.1), (0, mast, 0.1), 0.012, 0.01, material=TYRES)
        builder.add(SUPERQUADRIC, (0.02, 0.45 * mast, 0.3 * length, 1.5), (0, 0.5 * mast, -0.12), material=LAMPS)
    return builder.shape("car")


def two_wheeler(rng: Rng) -> tuple[Shape, float, float]:
    """A bicycle or motorcycle, and the heights of its saddle and its pedals above the wheel centres."""
    builder = Builder()
    motor = chance(rng, 0.5)
    wheel = rng.uniform(0.24, 0.34) if motor else rng.uniform(0.32, 0.36)
    apart, tube = rng.uniform(0.45, 0.62), rng.uniform(0.05, 0.09) if motor else rng.uniform(0.012, 0.03)
    saddle = wheel * rng.uniform(0.9, 1.3) if motor else rng.uniform(0.55, 0.7)
    front, back = np.array((0, 0, apart)), np.array((0, 0, -apart))
    for at in (front, back):
        builder.add(TORUS, (wheel - tube, tube, np.pi, 1.0), at, turn_y(np.pi / 2), material=TYRES)
        if motor:
            builder.add(CYLINDER, (0.5 * wheel, 0.02, 0.01), at, turn_z(np.pi / 2), material=LAMPS)
        else:
            builder.limb(at + by(0, -0.9 * wheel, 0), at + by(0, 0.9 * wheel, 0), 0.004, 0.004, material=LAMPS)
            builder.limb(at + by(0, 0, -0.9 * wheel), at + by(0, 0, 0.9 * wheel), 0.004, 0.004, material=LAMPS)
    seat, crank = np.array((0, saddle, -0.2)), np.array((0, -0.05, -0.05))
    head = np.array((0, saddle + rng.uniform(0, 0.12), 0.65 * apart))
    rod = 0.03 if motor else 0.018
    for start, end in ((head, front), (crank, head), (crank, seat), (back, seat), (back, crank)):
        builder.limb(start, end, rod, rod, material=PAINT)
    builder.limb(head, (0.28, head[1] + 0.06, head[2] - 0.12), rod, rod, mirror=MIRROR_X, material=TYRES)
    builder.add(ELLIPSOID, (0.1, 0.04, 0.26 if motor else 0.13), seat, material=TYRES)
    if motor:
        builder.add(ELLIPSOID, (0.12, 0.13, 0.24), (0, 0.8 * saddle, 0.16), material=PAINT)
        builder.add(SUPERQUADRIC, (0.13, 0.16, 0.2, 3), (0, 0.05, 0), material=LAMPS)
        builder.add(ELLIPSOID, (0.08, 0.08, 0.06), (0, head[1], head[2] + 0.08), material=GLASS)
    return builder.shape("car"), saddle, float(crank[1])
