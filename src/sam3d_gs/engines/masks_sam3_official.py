"""SAM 3 in Meta's own package (the submodule sam3/), with the same choice among its masks as engine sam3."""

from __future__ import annotations

from collections.abc import Sequence

from sam3d_gs.options import Sam3Options
from sam3d_gs.sam3_networks.device import KINDS, choose_precision, release_memory, warn_if_on_cpu
from sam3d_gs.sam3_networks.official import OfficialClicks, OfficialNetwork
from sam3d_gs.sam3_networks.segment import masks_of_phrases, masks_of_prompts
from sam3d_gs.system.devices import choose_device
from sam3d_gs.types import InstanceMask, Photo, Phrase


class OfficialSam3Masks:
    """Masks by the package of facebookresearch/sam3, from phrases or from boxes and points."""

    def __init__(self, options: Sam3Options) -> None:
        """Loads the network. Raises Sam3dGsError."""
        self._options = options
        device = choose_device(options.device, KINDS)
        warn_if_on_cpu(device)
        precision = choose_precision(options.precision, device)
        self._prompted = bool(options.boxes or options.points)
        self._network: OfficialNetwork | None = OfficialNetwork.load(options.sam3, device, precision, self._prompted)

    def masks(self, photo: Photo, phrases: Sequence[Phrase]) -> list[InstanceMask]:
        """Kept masks first, then the dropped ones with the reason."""
        assert self._network is not None, "closed"
        if self._prompted:
            return masks_of_prompts(OfficialClicks(self._network), photo, self._options)
        return masks_of_phrases(self._network, photo, phrases, self._options)

    def close(self) -> None:
        """Free the device's memory."""
        self._network = None
        release_memory()
