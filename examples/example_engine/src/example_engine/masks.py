"""The engine itself. It is imported when it is chosen, so heavy packages may be imported here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import sam3d_gs as sg
from example_engine.spec import BrightestOptions


class BrightestMasks:
    """Masks everything bright and gives it to the first phrase."""

    def __init__(self, options: BrightestOptions) -> None:
        self._options = options

    def masks(self, photo: sg.Photo, phrases: Sequence[sg.Phrase]) -> list[sg.InstanceMask]:
        """Kept masks first, then the dropped ones with their reason; here it is always one."""
        brightness = photo.rgb.mean(axis=2) / 255
        mask = brightness >= self._options.brightness
        dropped = None if mask.any() else f"nothing is as bright as {self._options.brightness:g}"
        return [sg.InstanceMask("00-bright-0", phrases[0].text, mask, float(np.mean(brightness)), dropped=dropped)]
