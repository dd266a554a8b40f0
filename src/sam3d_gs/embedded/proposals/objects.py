"""Find the objects of a photo: propose regions, select among them, refine the outlines of those kept."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

from sam3d_gs.embedded.proposals.outline import refine_outlines
from sam3d_gs.embedded.proposals.regions import find_proposals
from sam3d_gs.embedded.proposals.selection import Choice, select
from sam3d_gs.options import MaskOptions
from sam3d_gs.types import Photo

_CACHE_SIZE = 2  # photos and options; the phrases and masks stages of one run need the same objects
_cache: OrderedDict[tuple[str, int, int, MaskOptions], list[Choice]] = OrderedDict()


def find_objects(photo: Photo, options: MaskOptions = MaskOptions()) -> list[Choice]:
    """The selected proposals of a photo, kept ones first and with refined outlines. The last two photos are cached."""
    key = photo.sha256, photo.height_px, photo.width_px, options
    if key not in _cache:
        choices = select(find_proposals(photo), photo.rgb, options)
        kept = iter(refine_outlines(photo.rgb, [choice.mask for choice in choices if choice.dropped is None]))
        _cache[key] = [replace(c, mask=next(kept)) if c.dropped is None else c for c in choices]
        while len(_cache) > _CACHE_SIZE:
            _cache.popitem(last=False)
    return _cache[key]
