"""An engine of your own, without a package: any object with the stage's method will do.

python examples/03_own_engine.py [PHOTO] [OUT]; examples/example_engine makes one installable, with options.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import sam3d_gs as sg


class BrightestMasks:
    """One mask of all bright pixels, for the first phrase."""

    def masks(self, photo: sg.Photo, phrases: Sequence[sg.Phrase]) -> list[sg.InstanceMask]:
        bright = photo.rgb.mean(axis=2) > 150
        return [sg.InstanceMask("00-bright-0", phrases[0].text, bright, score=1.0)]


photo = sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1] / "assets" / "sample.jpg"
out = Path(sys.argv[2] if len(sys.argv) > 2 else ".")

scene = sg.reconstruct(photo, phrases=["bright thing"], masks_engine=BrightestMasks())
scene.save(out / "bright.ply")
print(scene)
