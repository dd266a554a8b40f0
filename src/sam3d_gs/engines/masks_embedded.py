"""Masks on a CPU without SAM 3: proposals of the embedded network, chosen by the words of the phrases."""

from __future__ import annotations

from collections.abc import Sequence

from sam3d_gs.embedded.language.phrase_matching import masks_for_phrases
from sam3d_gs.options import MaskOptions
from sam3d_gs.types import InstanceMask, Photo, Phrase


class EmbeddedMasks:
    """Finds again what the embedded phrases engine described; in other phrases it knows colour, size and place."""

    def __init__(self, options: MaskOptions) -> None:
        self._options = options

    def masks(self, photo: Photo, phrases: Sequence[Phrase]) -> list[InstanceMask]:
        """Every proposal for the photo: first the objects that the phrases mean, then the others with their reason."""
        return masks_for_phrases(photo, phrases, self._options)
