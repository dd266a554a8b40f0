"""Objects on a CPU: the embedded network, or plain inflation, placed on an estimated ground."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from sam3d_gs.embedded.proposals.mask_net import WEIGHTS, load_mask_net
from sam3d_gs.embedded.reconstruct import Networks, reconstruct
from sam3d_gs.embedded.shape.object_net import load_object_net, shipped_weights
from sam3d_gs.engines.api import FailedObject
from sam3d_gs.options import EmbeddedObjectOptions
from sam3d_gs.photo import warn_of_unused_fov
from sam3d_gs.types import InstanceMask, Photo, PlacedObject

SHIPPED = "shipped"


class EmbeddedObjects:
    """Lifts masks on a CPU; `embedded/weights/OBJECTS_CARD.md` says what to expect."""

    def __init__(
        self, options: EmbeddedObjectOptions, weights: Path | str | None = SHIPPED, mask_weights: Path = WEIGHTS
    ) -> None:
        """`weights`: a .safetensors file, "shipped" for the package's own, or None to inflate silhouettes.

        Without the package's own file, silhouettes are inflated too. `mask_weights`: the mask network, whose geometry
        head helps to place the objects.
        """
        self.options = options
        path = shipped_weights() if weights == SHIPPED else Path(weights) if weights is not None else None
        if path is None or (weights == SHIPPED and not path.is_file()):
            self._networks = Networks(objects=None, scene=None)
        else:
            scene = load_mask_net(mask_weights) if mask_weights.is_file() else None
            self._networks = Networks(load_object_net(path), scene)

    def objects(
        self, photo: Photo, masks: Sequence[InstanceMask], wanted: Sequence[str]
    ) -> Iterator[PlacedObject | FailedObject]:
        """Yield the wanted objects, in the order of `masks`. All masks are read, since placement depends on them."""
        warn_of_unused_fov(photo, self.options.fov_deg)
        return reconstruct(
            photo,
            masks,
            wanted,
            self._networks,
            fov_deg=self.options.fov_deg,
            pitch_deg=self.options.pitch_deg,
            seed=self.options.seed,
        )
