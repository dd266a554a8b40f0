"""SAM 3 in transformers: masks of all phrases of a photo at once, or of the user's boxes and points."""

from __future__ import annotations

from collections.abc import Sequence

from sam3d_gs.options import Sam3Options
from sam3d_gs.sam3_networks.device import KINDS, choose_precision, release_memory, warn_if_on_cpu
from sam3d_gs.sam3_networks.network import ConceptNetwork
from sam3d_gs.sam3_networks.segment import PhraseNetwork, PromptNetwork, masks_of_phrases, masks_of_prompts
from sam3d_gs.sam3_networks.tracker import ClickNetwork
from sam3d_gs.system.devices import choose_device
from sam3d_gs.types import InstanceMask, Photo, Phrase


class Sam3Masks:
    """Masks by transformers' Sam3Model (phrases) or Sam3TrackerModel (boxes and points), both of one checkpoint."""

    def __init__(self, options: Sam3Options) -> None:
        """Loads the network that the options need. Raises Sam3dGsError."""
        self._options = options
        device = choose_device(options.device, KINDS)
        precision = choose_precision(options.precision, device)
        warn_if_on_cpu(device)
        self._concepts: PhraseNetwork | None = None
        self._clicks: PromptNetwork | None = None
        if options.boxes or options.points:
            self._clicks = ClickNetwork.load(options.sam3, device, precision)
        else:
            self._concepts = ConceptNetwork.load(options.sam3, device, precision, options.acceleration)

    def masks(self, photo: Photo, phrases: Sequence[Phrase]) -> list[InstanceMask]:
        """Kept masks first, then the dropped ones with the reason."""
        if self._clicks is not None:
            return masks_of_prompts(self._clicks, photo, self._options)
        assert self._concepts is not None, "closed"
        return masks_of_phrases(self._concepts, photo, phrases, self._options)

    def close(self) -> None:
        """Free the device's memory."""
        self._concepts = self._clicks = None
        release_memory()
