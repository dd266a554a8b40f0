"""Masks and names of your own, here two rectangles: python examples/02_own_masks.py [PHOTO] [OUT]"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import sam3d_gs as sg

photo = sg.load_photo(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1] / "assets" / "sample.jpg")
out = Path(sys.argv[2] if len(sys.argv) > 2 else ".")

height, width = photo.rgb.shape[:2]
left, right = np.zeros((2, height, width), bool)
left[height // 3 : height * 2 // 3, width // 8 : width // 3] = True
right[height // 3 : height * 2 // 3, width * 2 // 3 : width * 7 // 8] = True

scene = sg.reconstruct(photo, masks=[left, right], phrases=["left box", "right box"])
print(scene, *scene.object_ids)
scene.save(out / "boxes.ply")
