"""The objects of a photo: proposals, chosen among, with their outlines moved to where the photo shows them."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

from sam3d_gs.embedded.proposals.outline import outlined
from sam3d_gs.embedded.proposals.regions import proposals_of
from sam3d_gs.embedded.proposals.selection import Choice, select
from sam3d_gs.options import MaskOptions
from sam3d_gs.types import Photo

_REMEMBERED = 2  # photos with options; the phrases and the masks stage of one run ask for the same objects
_memory: OrderedDict[tuple[str, int, int, MaskOptions], list[Choice]] = OrderedDict()


def objects_of(photo: Photo, options: MaskOptions = MaskOptions()) -> list[Choice]:
    """`select` among the proposals for a photo, kept masks `outlined`; computed once while the process works on it."""
    key = photo.sha256, photo.height_px, photo.width_px, options
    if key not in _memory:
        choices = select(proposals_of(photo), photo.rgb, options)
        kept = iter(outlined(photo.rgb, [choice.mask for choice in choices if choice.dropped is None]))
        _memory[key] = [replace(c, mask=next(kept)) if c.dropped is None else c for c in choices]
        while len(_memory) > _REMEMBERED:
            _memory.popitem(last=False)
    return _memory[key]
