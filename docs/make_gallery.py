"""Make one picture of docs/gallery.md from a finished run: photo, masks, reconstruction; then four other directions.

sam3d-gs run assets/sample.jpg && python docs/make_gallery.py sample
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from sam3d_gs.gaussians.frames import rotation_from_camera
from sam3d_gs.gaussians.orbit import object_cameras
from sam3d_gs.gaussians.ply import read_ply
from sam3d_gs.gaussians.pose import matrix_to_quat, thinned, transform
from sam3d_gs.gaussians.render import render
from sam3d_gs.masks.files import read_masks
from sam3d_gs.photo import load_photo
from sam3d_gs.report.overlay import font, mask_overlay
from sam3d_gs.report.pictures import scene_views
from sam3d_gs.scene_files import read_scene
from sam3d_gs.types import Gaussians, Pose
from sam3d_gs.workspace import Workspace

WIDTH_PX = 1120
GAP_PX = 8
GAUSSIANS = 200_000  # in one picture
# Name, yaw about the vertical, elevation above the floor.
DIRECTIONS = (("45°", 45.0, 18.0), ("90°", 90.0, 18.0), ("180°", 180.0, 18.0), ("from above", 0.0, 70.0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", help="name of the photo in the workspace")
    parser.add_argument("--workspace", type=Path, default=Path())
    parser.add_argument(
        "--out", type=Path, help="picture to write; images/gallery/<photo>.webp beside this script if not given"
    )
    arguments = parser.parse_args()
    out = arguments.out or Path(__file__).parent / "images" / "gallery" / f"{arguments.photo}.webp"

    workspace = Workspace(arguments.workspace.absolute(), arguments.photo)
    photo = load_photo(workspace.image_png)
    masks = [m for m in read_masks(workspace, (photo.width_px, photo.height_px)) if m.dropped is None]
    scene = read_scene(workspace.scene_json)
    gaussians = thinned_out(read_ply(workspace.scene_ply))
    overlay = mask_overlay(photo, masks)
    overlay = overlay.crop((0, 0, overlay.width, round(overlay.width * photo.height_px / photo.width_px)))  # no legend
    upper = [
        Image.fromarray(photo.rgb),
        overlay,
        *scene_views(gaussians, scene.K, scene.image_size, (0.0,), 720, scene.up),
    ]
    sheet = stacked(
        row(upper, ("photo", "masks", "reconstruction")),
        row(other_directions(gaussians, scene.up), [name for name, _, _ in DIRECTIONS]),
    )
    sheet.save(out, quality=72, method=6)
    print(f"{out}: {out.stat().st_size / 1000:.0f} kB")


def thinned_out(gaussians: Gaussians) -> Gaussians:
    """At most GAUSSIANS of them, each wider by what its lost neighbours covered."""
    fewer = thinned(gaussians, GAUSSIANS)
    wider = np.float32(0.5 * np.log(len(gaussians) / len(fewer)))
    return replace(fewer, log_scales=fewer.log_scales + wider)


def other_directions(gaussians: Gaussians, up: np.ndarray) -> list[Image.Image]:
    """The scene (camera frame) from DIRECTIONS, over white, all in one scale."""
    level = transform(gaussians, Pose(matrix_to_quat(rotation_from_camera("z-up", up)), np.zeros(3), 1.0))
    pictures, boxes = [], []
    for _, yaw_deg, elevation_deg in DIRECTIONS:
        (camera,) = object_cameras(level, (yaw_deg,), 640, elevation_deg=elevation_deg)
        seen = render(level, camera, (1.0, 1.0, 1.0))
        pictures.append(Image.fromarray((np.clip(seen.rgb, 0, 1) * 255 + 0.5).astype(np.uint8)))
        rows, columns = np.nonzero(seen.alpha > 0.05)
        boxes.append((columns.min(), rows.min(), columns.max(), rows.max()))
    half = 0.53 * max(max(x1 - x0, y1 - y0) for x0, y0, x1, y1 in boxes)
    return [
        cut_out(picture, (x0 + x1) / 2, (y0 + y1) / 2, half)
        for picture, (x0, y0, x1, y1) in zip(pictures, boxes, strict=True)
    ]


def cut_out(picture: Image.Image, x: float, y: float, half: float) -> Image.Image:
    """The square about a point; white outside the picture."""
    square = Image.new("RGB", (round(2 * half), round(2 * half)), "white")
    square.paste(picture, (round(half - x), round(half - y)))
    return square


def row(pictures: list[Image.Image], names: list[str] | tuple[str, ...]) -> Image.Image:
    """Pictures of one shape side by side, WIDTH_PX in all, each with its name in the corner."""
    width = (WIDTH_PX - GAP_PX * (len(pictures) - 1)) // len(pictures)
    height = round(width * pictures[0].height / pictures[0].width)
    strip = Image.new("RGB", (WIDTH_PX, height), "white")
    draw = ImageDraw.Draw(strip)
    for i, (picture, name) in enumerate(zip(pictures, names, strict=True)):
        left = i * (width + GAP_PX)
        strip.paste(picture.convert("RGB").resize((width, height), Image.Resampling.LANCZOS), (left, 0))
        draw.text((left + 8, 6), name, "white", font(20), stroke_width=2, stroke_fill=(60, 60, 60))
    return strip


def stacked(*strips: Image.Image) -> Image.Image:
    sheet = Image.new("RGB", (WIDTH_PX, sum(s.height for s in strips) + GAP_PX * (len(strips) - 1)), "white")
    top = 0
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height + GAP_PX
    return sheet


if __name__ == "__main__":
    main()
