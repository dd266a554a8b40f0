"""One photo to a scene in memory, saved for Blender or a simulator: python examples/01_one_photo.py [PHOTO] [OUT]"""

from __future__ import annotations

import sys
from pathlib import Path

import sam3d_gs as sg

photo = sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1] / "assets" / "sample.jpg"
out = Path(sys.argv[2] if len(sys.argv) > 2 else ".")

scene = sg.reconstruct(photo)
for obj in scene:
    print(f"{obj.object_id}: {len(obj.gaussians):,} Gaussians, reprojection IoU {obj.reprojection_iou:.2f}")
scene.save(out / "scene.ply", frame="z-up")  # beside it scene.ply.json: camera, poses and boxes
scene.picture().save(out / "scene.png")  # from four sides; scene.show() opens the live viewer
