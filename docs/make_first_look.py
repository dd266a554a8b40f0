"""Make docs/images/first-look.jpg, the picture at the top of the README, from a finished run.

sam3d-gs run assets/sample.jpg && python docs/make_first_look.py sample
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from sam3d_gs.gaussians.ply import read_ply
from sam3d_gs.masks.files import read_masks
from sam3d_gs.photo import load_photo
from sam3d_gs.report.overlay import mask_overlay
from sam3d_gs.report.pictures import scene_views
from sam3d_gs.scene_files import read_scene
from sam3d_gs.workspace import Workspace

TILE_PX = 460
GAP_PX = 8
YAWS_DEG = (0.0, 30.0, -45.0, 90.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", help="name of the photo in the workspace")
    parser.add_argument("--workspace", type=Path, default=Path())
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images" / "first-look.jpg")
    arguments = parser.parse_args()

    workspace = Workspace(arguments.workspace.absolute(), arguments.photo)
    photo = load_photo(workspace.image_png)
    masks = [m for m in read_masks(workspace, (photo.width_px, photo.height_px)) if m.dropped is None]
    scene = read_scene(workspace.scene_json)
    views = scene_views(read_ply(workspace.scene_ply), scene.K, scene.image_size, YAWS_DEG, 2 * TILE_PX, scene.up)
    overlay = mask_overlay(photo, masks)
    height = round(overlay.width * photo.height_px / photo.width_px)  # without the legend below
    tiles = [Image.fromarray(photo.rgb), overlay.crop((0, 0, overlay.width, height)), *views]

    tile_height = round(TILE_PX * photo.height_px / photo.width_px)
    sheet = Image.new("RGB", (3 * TILE_PX + 2 * GAP_PX, 2 * tile_height + GAP_PX), "white")
    for i, tile in enumerate(tiles):
        place = (i % 3 * (TILE_PX + GAP_PX), i // 3 * (tile_height + GAP_PX))
        sheet.paste(tile.resize((TILE_PX, tile_height), Image.Resampling.LANCZOS), place)
    sheet.save(arguments.out, quality=88)


if __name__ == "__main__":
    main()
