"""Render the shipped sample photo: toys, crockery, books and an orange on a wooden table.

    python benchmarks/make_sample.py [--size 1024] [--truth DIR]

Writes assets/sample.jpg. With --truth also the photo, its masks and the true poses in DIR, in the layout of `--photos`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image
from procedural.files import save
from procedural.scene import Placement, ProceduralScene, build_world, look_at, make_item, photograph
from procedural.shape import (
    BOX,
    CYLINDER,
    ELLIPSOID,
    IDENTITY,
    REVOLVED,
    SMOOTH_UNION,
    SUBTRACT,
    SUPERQUADRIC,
    TORUS,
    ShapeBuilder,
    turn_x,
    turn_y,
    turn_z,
)
from procedural.textures import CLOUDS, PLANKS, STRIPES, material_row

from sam3d_gs.files import atomic_path

SAMPLE = Path(__file__).resolve().parents[1] / "assets" / "sample.jpg"

Made = tuple[ShapeBuilder, list[np.ndarray]]  # a shape and its four materials

CREAM, CHARCOAL, WHITE = (0.86, 0.74, 0.52), (0.02, 0.02, 0.022), (0.85, 0.84, 0.8)
TEAL, NAVY, RED = (0.01, 0.2, 0.22), (0.02, 0.05, 0.2), (0.62, 0.035, 0.02)
ORANGE, YELLOW, GREEN = (0.9, 0.26, 0.015), (0.9, 0.58, 0.03), (0.2, 0.42, 0.03)


def mug() -> Made:
    builder = ShapeBuilder()
    radii, half, wall = np.full(12, 0.42), 0.48, 0.04
    radii[:2] = 0.36, 0.41
    builder.add(REVOLVED, [*radii, half, wall, 0])
    builder.add(TORUS, (0.25, 0.055, 2.2, 0.8), (0.47, 0.0, 0), turn_z(-np.pi / 2), SMOOTH_UNION, 0.04)
    builder.add(REVOLVED, [*(radii - wall), half, 0, 0], (0, 2 * wall, 0), IDENTITY, SUBTRACT)
    builder.add(CYLINDER, (0.4, 0.03, 0.01), (0, 0.3, 0), material=1)
    glaze = material_row(TEAL, CREAM, gloss=0.9, shine=150)
    coffee = material_row((0.09, 0.035, 0.012), gloss=0.6, shine=200)
    return builder, [glaze, coffee, glaze, glaze]


def duck() -> Made:
    builder = ShapeBuilder()
    builder.add(ELLIPSOID, (0.4, 0.34, 0.52), (0, 0, 0))
    builder.add(ELLIPSOID, (0.17, 0.2, 0.2), (0, 0.16, -0.45), turn_x(0.6), SMOOTH_UNION, 0.16)  # tail
    builder.add(ELLIPSOID, (0.29, 0.28, 0.29), (0, 0.5, 0.27), IDENTITY, SMOOTH_UNION, 0.12)
    builder.add(ELLIPSOID, (0.08, 0.17, 0.28), (0.36, 0.05, -0.08), turn_z(0.15), SMOOTH_UNION, 0.03, 1)  # wings
    builder.add(ELLIPSOID, (0.14, 0.045, 0.17), (0, 0.46, 0.58), turn_x(-0.12), SMOOTH_UNION, 0.01, 0, 1)
    builder.add(ELLIPSOID, (0.12, 0.035, 0.13), (0, 0.41, 0.55), turn_x(0.12), SMOOTH_UNION, 0.01, 0, 1)
    builder.add(ELLIPSOID, (0.035, 0.05, 0.03), (0.15, 0.57, 0.5), mirror=1, material=2)
    builder.add(BOX, (1, 0.2, 1, 0), (0, -0.48, 0), operation=SUBTRACT)  # a flat foot to stand on
    rubber = material_row(YELLOW, gloss=0.5, shine=60)
    return builder, [rubber, material_row((0.85, 0.2, 0.015), gloss=0.4), material_row(CHARCOAL, gloss=0.8), rubber]


def books() -> Made:
    builder = ShapeBuilder()
    y = 0.0
    for material, width, depth, thickness, turn in (
        (0, 0.95, 0.68, 0.15, 0.06),
        (2, 0.84, 0.6, 0.12, -0.2),
        (3, 0.7, 0.52, 0.1, 0.12),
    ):
        y += thickness
        around = turn_y(turn)
        builder.add(BOX, (width, thickness, depth, 0.02), (0, y, 0), around, material=material)
        slot = around @ np.array((0.05, 0, 0.05)) + np.array((0, y, 0))
        builder.add(BOX, (width + 0.01, thickness - 0.035, depth + 0.01, 0.005), slot, around, SUBTRACT)
        builder.add(BOX, (width - 0.03, thickness - 0.03, depth - 0.03, 0.005), (0, y, 0), around, material=1)
        y += thickness
    pages = material_row(CREAM, (0.6, 0.48, 0.3), STRIPES, 40.0, sharpness=0.4)
    covers = (NAVY, (0.55, 0.1, 0.06), (0.03, 0.24, 0.12))
    cover = [material_row(c, grain=0.08, grain_frequency=60, gloss=0.25, shine=30) for c in covers]
    return builder, [cover[0], pages, cover[1], cover[2]]


def vase() -> Made:
    builder = ShapeBuilder()
    radii = (0.3, 0.4, 0.49, 0.54, 0.54, 0.48, 0.37, 0.26, 0.2, 0.19, 0.21, 0.27)
    builder.add(REVOLVED, [*radii, 0.85, 0.035, 0])
    glaze = material_row(
        (0.03, 0.1, 0.38), (0.78, 0.72, 0.6), STRIPES, 2.2, phase=1.9, sharpness=12, gloss=0.9, shine=160
    )
    return builder, [glaze] * 4


def toy_car() -> Made:
    builder = ShapeBuilder()
    builder.add(SUPERQUADRIC, (0.36, 0.17, 0.8, 4.5))
    builder.add(SUPERQUADRIC, (0.3, 0.24, 0.43, 4.0), (0, 0.22, -0.1), material=1)  # the glass house
    builder.add(SUPERQUADRIC, (0.285, 0.06, 0.37, 4.0), (0, 0.43, -0.1))  # roof
    for end in (1, -1):
        wheel_at = (0.33, -0.14, end * 0.47)
        builder.add(CYLINDER, (0.19, 0.075, 0.03), wheel_at, turn_z(np.pi / 2), mirror=1, material=2)
        builder.add(CYLINDER, (0.09, 0.09, 0.02), wheel_at, turn_z(np.pi / 2), mirror=1, material=3)
    builder.add(ELLIPSOID, (0.07, 0.07, 0.05), (0.22, 0.02, 0.77), mirror=1, material=3)
    builder.add(BOX, (0.33, 0.035, 0.05, 0.03), (0, -0.11, 0.79), material=3)
    paint = material_row(RED, gloss=0.8, shine=180)
    glass = material_row((0.25, 0.42, 0.5), gloss=0.9, shine=200)
    return builder, [paint, glass, material_row(CHARCOAL, gloss=0.2), material_row(WHITE, gloss=0.5, shine=80)]


def teddy() -> Made:
    builder = ShapeBuilder()
    builder.add(ELLIPSOID, (0.36, 0.42, 0.32))
    builder.add(ELLIPSOID, (0.32, 0.29, 0.28), (0, 0.62, 0.03), IDENTITY, SMOOTH_UNION, 0.05)
    builder.add(ELLIPSOID, (0.13, 0.13, 0.07), (0.25, 0.86, 0.0), IDENTITY, SMOOTH_UNION, 0.03, 1)
    builder.add(ELLIPSOID, (0.14, 0.11, 0.12), (0, 0.55, 0.27), IDENTITY, SMOOTH_UNION, 0.02, 0, 1)
    builder.limb((0.3, 0.22, 0.08), (0.46, -0.1, 0.22), 0.13, 0.12, SMOOTH_UNION, 0.05, 1)
    builder.limb((0.2, -0.3, 0.1), (0.3, -0.33, 0.5), 0.17, 0.15, SMOOTH_UNION, 0.05, 1)
    builder.add(ELLIPSOID, (0.12, 0.13, 0.04), (0.305, -0.33, 0.63), IDENTITY, mirror=1, material=1)
    builder.add(ELLIPSOID, (0.24, 0.28, 0.1), (0, -0.04, 0.25), IDENTITY, SMOOTH_UNION, 0.02, 0, 1)
    builder.add(ELLIPSOID, (0.035, 0.035, 0.025), (0.12, 0.69, 0.275), mirror=1, material=2)
    builder.add(ELLIPSOID, (0.05, 0.035, 0.03), (0, 0.59, 0.385), material=2)
    builder.add(ELLIPSOID, (0.1, 0.075, 0.04), (0.1, 0.3, 0.33), turn_z(0.15), mirror=1, material=3)
    builder.add(ELLIPSOID, (0.04, 0.045, 0.05), (0, 0.3, 0.35), material=3)
    fur = material_row(
        (0.34, 0.16, 0.055), (0.28, 0.12, 0.04), CLOUDS, 12.0, sharpness=0.8, grain=0.25, grain_frequency=60
    )
    light = material_row((0.72, 0.5, 0.28), grain=0.15, grain_frequency=60)
    return builder, [
        fur,
        light,
        material_row(CHARCOAL, gloss=0.8, shine=200),
        material_row((0.1, 0.22, 0.6), gloss=0.1),
    ]


def orange() -> Made:
    builder = ShapeBuilder()
    builder.add(ELLIPSOID, (0.4, 0.385, 0.4))
    builder.add(CYLINDER, (0.035, 0.02, 0.01), (0.02, 0.385, 0.02), turn_x(0.1), material=1)
    peel = material_row(ORANGE, grain=0.12, grain_frequency=30, gloss=0.35, shine=40)
    return builder, [peel, material_row(GREEN), peel, peel]


# (maker, name, longest side, x, y, yaw in degrees); one unit is about ten centimetres, y leads away from the camera.
TABLE: tuple[tuple[Callable[[], Made], str, float, float, float, float], ...] = (
    (vase, "vase", 2.3, -2.75, 1.8, 0),
    (teddy, "teddy bear", 1.9, -0.6, 1.7, 8),
    (books, "books", 2.0, 2.45, 1.95, 22),
    (mug, "mug", 1.2, -1.6, -1.35, -35),
    (duck, "rubber duck", 1.35, 0.85, -0.05, 62),
    (toy_car, "toy car", 1.75, 2.2, -1.35, 38),
    (orange, "orange", 0.78, 0.15, -1.9, 0),
)


def make(size_px: int, samples_per_side: int = 4) -> ProceduralScene:
    placements = []
    for maker, name, size, x, y, yaw_deg in TABLE:
        builder, materials = maker()
        item = make_item(name, builder.shape(name))
        position = np.array([x, y, size * item.half_height])
        placements.append(Placement(item, size, np.radians(yaw_deg), position, np.array(materials)))
    wood = material_row(
        (0.46, 0.25, 0.11),
        (0.32, 0.165, 0.07),
        PLANKS,
        0.8,
        phase=0.4,
        grain=0.1,
        grain_frequency=3,
        gloss=0.3,
        shine=30,
    )
    wall = material_row((0.62, 0.66, 0.62), (0.54, 0.6, 0.58), CLOUDS, 0.7, sharpness=1, grain=0.03, grain_frequency=15)
    planes, plane_materials = np.array([[0, 0, 1, 0], [0, -1, 0, -4.6]]), np.array([wood, wall])
    sun = np.array((-0.62, -0.62, 1.0))
    sun_colour, sky, bounce = np.array((1.6, 1.36, 1.05)), np.array((0.52, 0.56, 0.64)), np.array((0.34, 0.28, 0.22))
    light = np.array([*(sun / np.linalg.norm(sun)), *sun_colour, 0.2, *sky, *bounce, 0.7, 1.3])
    camera = look_at(np.array((0.0, -8.0, 4.6)), np.array((0.0, 0.3, 0.45)), 45.0, size_px, round(0.75 * size_px))
    return photograph(build_world(placements, planes, plane_materials, light), camera, placements, 0, samples_per_side)


def camera_exif(scene: ProceduralScene) -> Image.Exif:
    """EXIF with the focal length as cameras write it: the 35 mm equivalent, by the diagonal, in whole millimetres."""
    height, width = scene.ids.shape
    exif = Image.Exif()
    focal_mm = scene.K[0, 0] * np.hypot(36, 24) / np.hypot(width, height)
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = round(focal_mm)
    return exif


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024, help="longer side, pixels")
    parser.add_argument("--out", type=Path, default=SAMPLE, help="file to write the photo to")
    parser.add_argument("--truth", type=Path, help="folder for the masks and the true poses")
    arguments = parser.parse_args()
    scene = make(arguments.size)
    with atomic_path(arguments.out) as path:
        Image.fromarray(scene.rgb).save(path, quality=93, exif=camera_exif(scene))
    print(arguments.out)
    if arguments.truth:
        print(save(scene, arguments.truth))


if __name__ == "__main__":
    main()
