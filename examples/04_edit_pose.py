"""Move an object, and save the changed scene: python examples/04_edit_pose.py [PHOTO] [OUT]"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import sam3d_gs as sg

photo = sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1] / "assets" / "sample.jpg"
out = Path(sys.argv[2] if len(sys.argv) > 2 else ".")

scene = sg.reconstruct(photo)
obj = scene[0]
lifted = dataclasses.replace(obj.pose, translation=obj.pose.translation + 0.5 * obj.pose.scale * scene.up)
edited = scene.with_pose(obj.object_id, lifted)
print(
    f"{obj.object_id}: reprojection IoU {obj.reprojection_iou:.2f} before, "
    f"{edited[obj.object_id].reprojection_iou:.2f} after"
)
edited.save(out / "edited.ply", frame="z-up")
