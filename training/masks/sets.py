"""Sets of shapes that belong together: containers and their contents, tables, people, riders.

The members of a set share one *shape frame* (y up, as in `procedural.shape`) and are separate objects; the first one
stands on the ground. Where they touch or contain each other, the depth of their pixels determines which is visible.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from procedural.parts import any_material, any_primitive, chance, four_legs, profile
from procedural.shape import (
    BOX,
    CYLINDER,
    ELLIPSOID,
    MIRROR_X,
    POSITION,
    REVOLVED,
    ROTATION,
    SMOOTH_UNION,
    SUBTRACT,
    SUPERQUADRIC,
    TORUS,
    Shape,
    ShapeBuilder,
    turn_randomly,
    turn_x,
    turn_y,
    turn_y_to,
    turn_z,
)

from training.objects.animals import bird, mammal
from training.objects.hollow_and_thin import Builder, by
from training.objects.people import body, riding, seated, standing
from training.objects.shapes import shape_of
from training.objects.vehicles import two_wheeler, vehicle

Rng = np.random.Generator


@dataclass(frozen=True)
class ShapeSet:
    kind: str  # one of bank.KINDS
    members: tuple[Shape, ...]
    top: tuple[float, float, float] | None = None  # height, half width along x, half length along z of a level surface
    tumbles: bool = False  # it may lie on any side
    dressed: bool = False  # skin and clothes on its last member
    glazed: bool = False  # a vehicle's windows and tyres
    furred: bool = False  # an animal's coat


def make_set(seed: int) -> ShapeSet:
    """The set of this seed; its kind is drawn with the weights above."""
    rng = np.random.default_rng(seed)
    makers = (_thing, _carrier, _nested, _person, _seated, _car, _animal, _rider)
    return makers[rng.choice(len(makers), p=(0.43, 0.1, 0.13, 0.1, 0.05, 0.08, 0.08, 0.03))](rng)


def _thing(rng: Rng) -> ShapeSet:
    shape, tumbles = shape_of(int(rng.integers(1 << 31)), further=True)
    return ShapeSet("thing", (shape,), tumbles=tumbles)


def _car(rng: Rng) -> ShapeSet:
    return ShapeSet("car", (vehicle(rng),), glazed=True)


def _person(rng: Rng) -> ShapeSet:
    """A person, often with something in a hand, or on a board."""
    person, hand = body(rng, np.zeros(3), standing(rng), rng.normal() * 0.06)
    held = rng.random()
    if held < 0.6:
        return ShapeSet("person", (person,), dressed=True)
    if held < 0.75:  # a ball, a bag, a box, a toy
        thing = _small_thing(rng, rng.uniform(0.06, 0.2), hand - by(0, 0.05, 0))
        return ShapeSet("person", (thing, person), dressed=True)
    builder = Builder()
    if held < 0.9:  # a racket, a stick, an umbrella
        direction = np.array((rng.normal(), rng.uniform(-0.5, 1.5), rng.normal()))
        direction /= np.linalg.norm(direction)
        turn, long = turn_y_to(direction), rng.uniform(0.2, 0.8)
        builder.limb(hand - 0.1 * direction, hand + long * direction, 0.018, 0.018)
        if chance(rng, 0.6):
            wide, thick = rng.uniform(0.1, 0.5), rng.uniform(0.02, 0.15)
            builder.add(ELLIPSOID, (wide, thick, wide), hand + long * direction, turn, material=1)
    else:
        builder.add(SUPERQUADRIC, (0.13, 0.03, rng.uniform(0.4, 0.9), 3), (0, -0.9, 0), turn_y(rng.normal()))
    return ShapeSet("person", (builder.shape("thing"), person), dressed=True)


def _rider(rng: Rng) -> ShapeSet:
    """A person on a bicycle, a motorcycle or an animal; or a bicycle alone."""
    if chance(rng, 0.25):
        mount, grip = mammal(rng), None
        hip, legs_apart, low = np.array((0, 0.2, 0)), 0.25, -0.25
    else:
        mount, saddle, pedals = two_wheeler(rng)
        hip, legs_apart, low = np.array((0, saddle + 0.1, -0.2)), 0.12, pedals - 0.1
        grip = np.array((0.26, saddle + 0.1, 0.25))
        if chance(rng, 0.35):
            return ShapeSet("rider", (mount,))
    lean = rng.uniform(0, 0.7)
    person, _ = body(rng, hip, riding(rng, hip, legs_apart, low), lean, grip)
    return ShapeSet("rider", (mount, person), dressed=True)


def _animal(rng: Rng) -> ShapeSet:
    return ShapeSet("animal", (bird(rng) if chance(rng, 0.2) else mammal(rng),), furred=True)


def _seat(rng: Rng) -> ShapeBuilder:
    """A chair, stool or armchair whose seat ends at y = 0."""
    builder = ShapeBuilder()
    half, thick, leg = rng.uniform(0.22, 0.3), rng.uniform(0.02, 0.06), rng.uniform(0.38, 0.48)
    builder.add(BOX, (half, thick, half, 0.5 * thick), (0, -thick, 0))
    if chance(rng, 0.75):
        four_legs(
            rng, builder, half, half, -thick, -leg, rng.uniform(0.015, 0.035), any_material(rng), rng.uniform(0, 0.06)
        )
    else:
        builder.add(CYLINDER, (0.035, leg / 2, 0.01), (0, -leg / 2, 0), material=1)
        builder.add(CYLINDER, (0.8 * half, 0.02, 0.01), (0, -leg, 0), material=1)
    if chance(rng, 0.9):
        back = rng.uniform(0.2, 0.4)
        builder.add(BOX, (0.95 * half, back, 0.025, 0.02), (0, back + 0.08, -half), turn_x(rng.uniform(-0.25, 0)))
        builder.add(BOX, (0.02, 0.1, 0.02, 0.005), (0.8 * half, 0.05, -half), mirror=MIRROR_X, material=1)
    if chance(rng, 0.4):
        builder.add(BOX, (0.03, 0.02, 0.8 * half, 0.015), (half + 0.03, 0.2, 0), mirror=MIRROR_X, material=1)
        builder.add(BOX, (0.02, 0.11, 0.02, 0.005), (half + 0.03, 0.1, 0.6 * half), mirror=MIRROR_X, material=1)
    return builder


def _seated(rng: Rng) -> ShapeSet:
    chair = _seat(rng).shape("furniture")
    hip = np.array([0, 0.1, rng.uniform(-0.08, 0.05)])
    person, _ = body(rng, hip, seated(rng, hip), rng.uniform(-0.12, 0.3))
    return ShapeSet("seated", (chair, person), dressed=True)


def _carrier(rng: Rng) -> ShapeSet:
    """Tables, chests, shelves, boards and stools: objects that carry others on their top."""
    builder = ShapeBuilder()
    kind = ("table", "round table", "chest", "shelf", "board", "stool")[
        rng.choice(6, p=(0.3, 0.15, 0.2, 0.15, 0.1, 0.1))
    ]
    if kind == "stool":
        builder = _seat(rng)
        return ShapeSet("carrier", (builder.shape("furniture"),), top=(0.0, 0.18, 0.18))
    width, length = rng.uniform(0.35, 0.8), rng.uniform(0.25, 0.5)
    thick = rng.uniform(0.015, 0.05)
    if kind == "table":
        builder.add(BOX, (width, thick, length, 0.4 * thick), (0, -thick, 0))
        four_legs(
            rng, builder, 0.92 * width, 0.92 * length, -thick, -rng.uniform(0.3, 0.7), rng.uniform(0.015, 0.05), 1
        )
        if chance(rng, 0.3):
            builder.add(BOX, (0.25 * width, 0.2, 0.8 * length, 0.01), (0.6 * width, -0.2 - thick, 0), material=2)
    elif kind == "round table":
        length = width = 0.7 * width
        builder.add(CYLINDER, (width, thick, 0.4 * thick), (0, -thick, 0))
        foot = rng.uniform(0.3, 0.7)
        builder.add(CYLINDER, (0.05, foot / 2, 0.01), (0, -foot / 2, 0), material=1)
        builder.add(CYLINDER, (0.5 * width, 0.02, 0.01), (0, -foot, 0), material=1)
        length = width = 0.7 * width
    elif kind == "board":
        builder.add(BOX, (width, thick, length, 0.9 * thick), (0, -thick, 0))
    else:
        half = rng.uniform(0.2, 0.6)
        builder.add(BOX, (width, half, length, 0.01), (0, -half, 0))
        rows = int(rng.integers(1, 5))
        for row in range(rows):
            y = -half * (2 * row + 1) / rows
            if kind == "shelf":
                builder.add(BOX, (0.93 * width, 0.85 * half / rows, length, 0.01), (0, y, 0.12), operation=SUBTRACT)
            else:
                builder.add(
                    BOX,
                    (0.93 * width, 0.88 * half / rows, 0.012, 0.005),
                    (0, y, length),
                    material=int(chance(rng, 0.5)),
                )
                builder.add(ELLIPSOID, (0.03, 0.02, 0.025), (0, y, length + 0.02), material=3)
    return ShapeSet("carrier", (builder.shape("furniture"),), top=(0.0, 0.9 * width, 0.9 * length))


def _moved(shape: Shape, to: np.ndarray, turn: np.ndarray) -> Shape:
    """`shape` rotated about its origin, then translated; only for shapes without mirrors and deformation."""
    rows = shape.primitives.copy()
    for row in rows:
        row[POSITION : POSITION + 3] = turn @ row[POSITION : POSITION + 3] + to
        row[ROTATION : ROTATION + 9] = (row[ROTATION : ROTATION + 9].reshape(3, 3) @ turn.T).reshape(-1)
    return Shape(shape.family, rows)


def _small_thing(rng: Rng, size: float, at: np.ndarray, upright: bool = False) -> Shape:
    """Fruit, a packet, a bottle or a toy of a few primitives, centred at `at`."""
    builder = ShapeBuilder()
    if upright:
        kind = ("bottle", "vase", "cup")[rng.integers(3)]
        builder.add(REVOLVED, profile(rng, size * rng.uniform(0.3, 0.6), size, kind=kind))
        if chance(rng, 0.4):
            builder.add(CYLINDER, (size * 0.2, size * 0.12, 0.01), (0, 1.05 * size, 0), material=1)
        return _moved(builder.shape("thing"), at, turn_y(rng.uniform(0, 6.28)))
    if chance(rng, 0.5):
        builder.add(ELLIPSOID, size * np.exp(rng.uniform(-0.35, 0.1, 3)))
        if chance(rng, 0.3):
            builder.limb((0, 0.7 * size, 0), (0.1 * size, 1.2 * size, 0), 0.06 * size, 0.04 * size, material=1)
    else:
        for k in range(int(rng.integers(1, 4))):
            primitive, sizes, _ = any_primitive(rng, size * (1 if k == 0 else 0.6))
            builder.add(primitive, sizes, rng.normal(size=3) * 0.5 * size * (k > 0), material=k)
    return _moved(builder.shape("thing"), at, turn_randomly(rng))


def _nested(rng: Rng) -> ShapeSet:
    makers = (_bowl, _crate, _cup, _potted, _desk)
    return ShapeSet("nested", tuple(makers[rng.choice(5, p=(0.25, 0.25, 0.2, 0.15, 0.15))](rng)))


def _bowl(rng: Rng) -> list[Shape]:
    """A bowl, basket or plate with contents."""
    radius, half = rng.uniform(0.35, 0.6), rng.uniform(0.05, 0.25)
    holder = ShapeBuilder()
    radii = radius * (rng.uniform(0.4, 0.9) + np.sqrt(np.linspace(0, 1, 12)) * rng.uniform(0.3, 0.8))
    holder.add(REVOLVED, [*(radii / radii.max() * radius), half, radius * rng.uniform(0.05, 0.1), 0.0])
    size = radius * rng.uniform(0.2, 0.45)
    things = []
    for k in range(int(rng.integers(1, 6))):
        around, away = rng.uniform(0, 6.28), (radius - size) * 0.75 * (k > 0)
        at = np.array([away * np.cos(around), -half + 0.08 + 0.8 * size + 0.6 * size * (k > 3), away * np.sin(around)])
        things.append(_small_thing(rng, size * rng.uniform(0.8, 1.1), at))
    return [holder.shape("revolve"), *things]


def _crate(rng: Rng) -> list[Shape]:
    """An open box, drawer or basket, with bottles or other contents."""
    width, half, length = rng.uniform(0.35, 0.6), rng.uniform(0.12, 0.35), rng.uniform(0.25, 0.45)
    wall = rng.uniform(0.015, 0.04)
    box = ShapeBuilder()
    box.add(BOX, (width, half, length, 0.01))
    box.add(BOX, (width - wall, half, length - wall, 0.01), (0, wall, 0), operation=SUBTRACT)
    if chance(rng, 0.3):
        box.add(BOX, (width * 0.3, 0.04, 2 * length, 0.02), (0, 0.5 * half, 0), operation=SUBTRACT)  # holds for hands
    upright = chance(rng, 0.5)
    count = int(rng.integers(1, 6))
    size = min(length, width / count) * rng.uniform(0.6, 0.9)
    things = []
    for k in range(count):
        x = (2 * (k + 0.5) / count - 1) * (width - wall) * 0.85
        tall = size * rng.uniform(1, 2) if upright else size
        at = np.array([x, -half + wall + tall, rng.uniform(-0.5, 0.5) * (length - size)])
        things.append(_small_thing(rng, tall, at, upright))
    return [box.shape("boxy"), *things]


def _cup(rng: Rng) -> list[Shape]:
    """A cup or glass on a saucer or board, often with a spoon."""
    radius, half = rng.uniform(0.22, 0.32), rng.uniform(0.15, 0.35)
    cup, saucer = ShapeBuilder(), ShapeBuilder()
    wide = radius * rng.uniform(1.5, 2.2)
    rim = np.concatenate([[0.5, 0.55], np.linspace(0.6, 1, 10)]) * wide
    saucer.add(REVOLVED, [*rim, 0.04, 0.0, 0.0], (0, -0.04, 0))
    cup.add(
        REVOLVED,
        [*profile(rng, radius, half, True, "cup" if chance(rng, 0.7) else "bowl")[:12], half, 0.03, 0.0],
        (0, half, 0),
    )
    cup.add(CYLINDER, (0.75 * radius, 0.01, 0.005), (0, rng.uniform(1.0, 1.6) * half, 0), material=2)  # what is in it
    if chance(rng, 0.8):
        ring = rng.uniform(0.4, 0.65) * half
        cup.add(
            TORUS, (ring, 0.22 * ring, 1.9, 0.8), (radius, half, 0), turn_z(-np.pi / 2), material=int(chance(rng, 0.2))
        )
    members = [saucer.shape("revolve"), _moved_deep(cup.shape("revolve"), turn_y(rng.uniform(0, 6.28)))]
    if chance(rng, 0.6):
        spoon = ShapeBuilder()
        spoon.limb((0, 0, 0), (0, 0.02, 0.45), 0.015, 0.012)
        spoon.add(ELLIPSOID, (0.06, 0.02, 0.09), (0, 0, -0.07))
        around = rng.uniform(0, 6.28)
        at = np.array([1.25 * radius * np.cos(around), 0.05, 1.25 * radius * np.sin(around)])
        members.append(_moved(spoon.shape("thing"), at, turn_y(rng.uniform(0, 6.28))))
    return members


def _moved_deep(shape: Shape, turn: np.ndarray) -> Shape:
    return _moved(shape, np.zeros(3), turn)


def _potted(rng: Rng) -> list[Shape]:
    """A plant or flowers in a pot or vase."""
    half, radius = rng.uniform(0.15, 0.35), rng.uniform(0.18, 0.3)
    pot, plant = ShapeBuilder(), ShapeBuilder()
    pot.add(REVOLVED, profile(rng, radius, half, True, ("cup", "vase", "bowl")[rng.integers(3)]))
    for _ in range(int(rng.integers(5, 13))):
        direction = np.array([rng.normal(), 1 + abs(rng.normal()), rng.normal()])
        tip = np.array([0, 0.6 * half, 0]) + direction / np.linalg.norm(direction) * rng.uniform(0.3, 0.8)
        if chance(rng, 0.5):
            plant.add(
                ELLIPSOID,
                (0.05, 0.22, 0.02),
                0.6 * tip + np.array([0, 0.3 * half, 0]),
                turn_randomly(rng),
                SMOOTH_UNION,
                0.03,
            )
        else:
            plant.limb((0, 0.3 * half, 0), tip, 0.015, 0.012)
            plant.add(
                ELLIPSOID,
                np.exp(rng.uniform(-0.5, 0.2, 3)) * 0.1,
                tip,
                turn_randomly(rng),
                material=int(rng.integers(0, 2)),
            )
    return [pot.shape("revolve"), plant.shape("plant")]


def _desk(rng: Rng) -> list[Shape]:
    """A screen, a keyboard, a mouse and a mug."""
    screen, keys, mouse = ShapeBuilder(), ShapeBuilder(), ShapeBuilder()
    width = rng.uniform(0.4, 0.65)
    height = width * rng.uniform(0.55, 0.8)
    middle = height + rng.uniform(0.03, 0.25)
    screen.add(BOX, (width, height, 0.025, 0.01), (0, middle, -0.2), turn_x(rng.uniform(-0.15, 0)))
    screen.add(BOX, (0.95 * width, 0.93 * height, 0.012, 0.003), (0, middle, -0.18), turn_x(0.0), material=1)
    screen.add(BOX, (0.06, 0.5 * middle, 0.02, 0.01), (0, 0.5 * middle, -0.24), material=2)
    screen.add(BOX, (0.35 * width, 0.012, 0.12, 0.01), (0, 0.012, -0.22), material=2)
    keys.add(BOX, (0.8 * width, 0.018, 0.13, 0.01), (0, 0.018, 0.2))
    keys.add(BOX, (0.76 * width, 0.012, 0.1, 0.005), (0, 0.032, 0.2), material=1)
    mouse.add(ELLIPSOID, (0.05, 0.035, 0.08), (0.8 * width + 0.15, 0.03, 0.22))
    members = [screen.shape("boxy"), keys.shape("boxy")]
    if chance(rng, 0.6):
        members.append(mouse.shape("organic"))
    if chance(rng, 0.4):
        members.append(_small_thing(rng, 0.14, np.array([-width - 0.1, 0.14, 0.1]), upright=True))
    return members
