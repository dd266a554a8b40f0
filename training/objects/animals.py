"""Animals as photos show them: mammals that stand, walk, graze, lie and sit, and birds.

Shape frame as in `procedural.shape`: y up, the animal looks along z.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from procedural.parts import chance
from procedural.shape import CONE, ELLIPSOID, SMOOTH_UNION, SUPERQUADRIC, Shape, turn_x, turn_y, turn_z

from training.objects.hollow_and_thin import Builder, by

Rng = np.random.Generator
COAT, PATCH, MANE, HORN = range(4)  # materials: most of it; legs, belly or face; mane and tail; hooves, nose, beak


@dataclass(frozen=True)
class Torso:
    """A mammal's torso: half its length, height and width, and its directions."""

    length: float
    deep: float
    wide: float
    ahead: np.ndarray  # (3,) unit vector
    above: np.ndarray  # (3,) unit vector
    blend: float  # radius of smooth joints
    ground: float  # height of the ground


def mammal(rng: Rng) -> Shape:
    """From cat to giraffe: a long torso and four legs in independent poses."""
    builder = Builder()
    length = rng.uniform(0.3, 0.5)  # half of the torso's
    deep = length * rng.uniform(0.28, 0.6)
    wide, blend = deep * rng.uniform(0.6, 0.95), rng.uniform(0.02, 0.08)
    posture = ("stands", "grazes", "lies", "sits")[rng.choice(4, p=(0.5, 0.15, 0.2, 0.15))]
    leg = 0.0 if posture == "lies" else length * rng.uniform(0.45, 1.5)
    rise = rng.uniform(0.6, 1.1) if posture == "sits" else rng.normal() * 0.06
    turn = turn_x(-rise)
    ahead, above = turn @ (0, 0, 1), turn @ (0, 1, 0)
    legs, face = (PATCH if chance(rng, share) else COAT for share in (0.35, 0.3))

    if chance(rng, 0.5):
        builder.add(ELLIPSOID, (wide, deep, 1.1 * length), turn=turn)
    else:
        builder.add(SUPERQUADRIC, (wide, 0.95 * deep, length, rng.uniform(2.2, 3.5)), turn=turn)
    for end in (1, -1):
        round_ = deep * rng.uniform(0.8, 1.15)
        at = end * 0.6 * length * ahead
        builder.add(ELLIPSOID, (0.95 * wide, round_, round_), at, turn, SMOOTH_UNION, blend)
    if chance(rng, 0.3):
        builder.add(ELLIPSOID, (0.8 * wide, 0.7 * deep, 0.7 * length), -0.35 * deep * above, turn, material=PATCH)

    ground = -(deep + leg) if posture != "sits" else -0.65 * length * np.sin(rise) - deep
    torso = Torso(length, deep, wide, ahead, above, blend, ground)
    _legs(rng, builder, torso, posture, legs)
    start, skull, muzzle, head = _head(rng, builder, torso, posture == "grazes", 0.8 * (leg + deep), face)
    rump = -1.0 * length * ahead + 0.4 * deep * above
    tip = rump + by(rng.normal() * 0.1, rng.uniform(-1.5, 0.8) * deep, -rng.uniform(0.1, 1) * deep)
    builder.limb(rump, tip, 0.14 * deep, 0.1 * deep, SMOOTH_UNION, 0.02, 0, MANE)
    if chance(rng, 0.25):
        builder.limb(start + 0.5 * deep * above, skull, 0.15 * deep, 0.3 * head, material=MANE)
    if chance(rng, 0.06):  # an elephant's trunk
        end = muzzle + by(0, -rng.uniform(0.6, 1.0) * (muzzle[1] - ground), 0.3 * head)
        builder.limb(muzzle, end, 0.4 * head, 0.2 * head, SMOOTH_UNION, 0.03, 0, face)
    return builder.shape("animal", **_rough(rng))


def _legs(rng: Rng, builder: Builder, torso: Torso, posture: str, material: int) -> None:
    thick = torso.deep * rng.uniform(0.16, 0.4)
    for end in (1, -1):
        for side in (1, -1):
            top = (
                end * 0.7 * torso.length * torso.ahead
                - 0.3 * torso.deep * torso.above
                + by(side * 0.6 * torso.wide, 0, 0)
            )
            if posture == "lies" or (posture == "sits" and end < 0):  # folded
                knee = top + np.array(
                    (side * 0.4 * torso.wide, -0.1 * torso.deep, end * rng.uniform(0.3, 0.8) * torso.deep)
                )
                foot = np.array((knee[0], torso.ground + thick, knee[2] + rng.uniform(0.2, 1.2) * torso.deep))
            else:
                step = rng.normal() * 0.16 * (top[1] - torso.ground)
                foot = np.array((top[0] + 0.03 * rng.normal(), torso.ground, top[2] + step))
                knee = (top + foot) / 2 + by(0, 0, end * rng.uniform(-0.02, 0.08))
            builder.limb(top, knee, 1.7 * thick, 1.1 * thick, SMOOTH_UNION, torso.blend, 0, COAT)
            builder.limb(knee, foot, 1.1 * thick, 0.75 * thick, SMOOTH_UNION, 0.02, 0, material)


def _head(
    rng: Rng, builder: Builder, torso: Torso, grazes: bool, grazing_neck: float, face: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Add neck and head; returns the start of the neck, skull, muzzle, each (3,), and the head's size."""
    head = torso.deep * rng.uniform(0.4, 0.75)
    neck = torso.deep * (rng.uniform(3, 5) if chance(rng, 0.1) else rng.uniform(0.4, 2.0))
    lift = rng.uniform(0.2, 1.3)
    if grazes:
        lift, neck = -rng.uniform(0.5, 1.2), grazing_neck
    start = 0.85 * torso.length * torso.ahead + 0.35 * torso.deep * torso.above
    skull = start + neck * np.array((rng.normal() * 0.15, np.sin(lift), np.cos(lift)))
    builder.limb(start, skull, 0.6 * torso.deep, max(0.7 * head, 0.25 * torso.deep), SMOOTH_UNION, torso.blend)
    gaze = turn_y(rng.normal() * 0.5) @ turn_x(rng.uniform(0.0, 0.9))
    forward = gaze @ (0, 0, 1)
    builder.add(ELLIPSOID, (0.75 * head, 0.85 * head, head), skull, gaze, SMOOTH_UNION, 0.02, 0, face)
    muzzle = skull + forward * head * rng.uniform(0.9, 2.2) - by(0, 0.2 * head, 0)
    builder.limb(skull, muzzle, 0.65 * head, 0.38 * head, SMOOTH_UNION, 0.02, 0, face)
    builder.add(ELLIPSOID, 0.2 * head * np.ones(3), muzzle + 0.3 * head * forward, material=HORN)
    long_ear, stands_off = head * rng.uniform(0.3, 0.9), rng.uniform(-1.4, 0.4)
    horned = chance(rng, 0.15)
    for side in (1, -1):
        ear = turn_z(side * stands_off)
        root = skull + gaze @ (side * 0.6 * head, 0.6 * head, -0.2 * head)
        builder.add(ELLIPSOID, (0.3 * head, long_ear, 0.15 * head), root + ear @ (0, long_ear, 0), gaze @ ear)
        if horned:
            tip = root + gaze @ (side * rng.uniform(0.1, 1.5) * head, rng.uniform(0.5, 1.6) * head, 0)
            builder.limb(root, tip, 0.15 * head, 0.06 * head, material=HORN)
    return start, skull, muzzle, head


def bird(rng: Rng) -> Shape:
    """Standing, swimming or flying."""
    builder = Builder()
    length, radius = rng.uniform(0.3, 0.45), rng.uniform(0.13, 0.22)
    state = ("stands", "swims", "flies")[rng.choice(3, p=(0.6, 0.2, 0.2))]
    rise = rng.uniform(0.1, 1.1) if state == "stands" else rng.normal() * 0.1
    turn = turn_x(-rise)
    ahead, above = turn @ (0, 0, 1), turn @ (0, 1, 0)
    builder.add(ELLIPSOID, (radius, radius * rng.uniform(0.9, 1.2), length), turn=turn)
    if chance(rng, 0.5):
        builder.add(ELLIPSOID, (0.9 * radius, 0.8 * radius, 0.8 * length), -0.3 * radius * above, turn, material=PATCH)
    start = 0.75 * length * ahead + 0.3 * radius * above
    neck = radius * (rng.uniform(2, 4) if chance(rng, 0.3) else rng.uniform(0.5, 1.2))
    lift = rng.uniform(-0.1, 0.2) if state == "flies" else rng.uniform(0.5, 1.6)
    skull = start + neck * np.array((rng.normal() * 0.2, np.sin(lift), np.cos(lift)))
    head = radius * rng.uniform(0.4, 0.65)
    face = PATCH if chance(rng, 0.4) else COAT
    builder.limb(start, skull, 0.7 * radius, 0.8 * head, SMOOTH_UNION, 0.04, 0, face)
    builder.add(ELLIPSOID, (0.85 * head, 0.9 * head, head), skull, material=face)
    beak = turn_y(rng.normal() * 0.4) @ (0, -0.1, 1) * head * rng.uniform(1.4, 3.0)
    builder.limb(skull, skull + beak, 0.35 * head, 0.08 * head, material=HORN)
    tail = -length * ahead
    builder.add(ELLIPSOID, (radius * rng.uniform(0.3, 1.0), 0.03, 0.6 * length), 1.2 * tail, turn, material=MANE)
    if state == "flies":
        flap = rng.uniform(-0.5, 0.8)
        for side in (1, -1):
            span = length * rng.uniform(1.2, 2.0)
            at = np.array((side * (0.5 * span * np.cos(flap) + 0.4 * radius), 0.5 * span * np.sin(flap), 0))
            builder.add(ELLIPSOID, (0.6 * span, 0.03, 0.35 * length), at, turn_z(side * flap), material=MANE)
    else:
        for side in (1, -1):
            at = np.array((side * 0.85 * radius, 0, 0)) + 0.15 * radius * above - 0.2 * length * ahead
            builder.add(ELLIPSOID, (0.25 * radius, 0.7 * radius, 0.8 * length), at, turn, material=MANE)
            if state == "stands":
                hip = np.array((side * 0.4 * radius, -0.7 * radius, 0))
                foot = hip - by(0, rng.uniform(0.2, 1.2) * length, 0.05 * rng.normal())
                builder.limb(hip, foot, 0.2 * radius, 0.1 * radius, material=HORN)
                builder.add(
                    CONE, (0.01, 0.4 * radius, 0.3 * radius, 0.005), foot + by(0, 0, 0.2 * radius), material=HORN
                )
    return builder.shape("animal", **_rough(rng))


def _rough(rng: Rng) -> dict[str, float]:
    """Surface noise on some, for fur and feathers."""
    return {"bump_height": rng.uniform(0.004, 0.02), "bump_frequency": rng.uniform(10, 30)} if chance(rng, 0.5) else {}
