"""What an engine is: build it once with its options, call it once per photo, get our types back.

Engines never touch the workspace. Heavy imports live inside the engine's own module, which is imported only
when the engine is loaded. An engine whose upstream uses another frame converts before it returns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from sam3d_gs.types import InstanceMask, Photo, Phrase, PlacedObject


class PhraseEngine(Protocol):
    """Names the objects in a photo.

    An engine that asks a language model has an attribute `transcript`, a dataclass with what was said about the latest
    photo or None; the stage writes it beside the phrases.
    """

    def phrases(self, photo: Photo) -> list[Phrase]:
        """Best first, numbered from 0 without gaps. Empty when nothing was found."""
        ...


class MaskEngine(Protocol):
    """Finds the pixels of each named object."""

    def masks(self, photo: Photo, phrases: Sequence[Phrase]) -> list[InstanceMask]:
        """Kept masks first, then the dropped ones with their reason; ids are unique over both."""
        ...


@dataclass(frozen=True)
class FailedObject:
    """An object the engine gave up on, with the reason; the others go on."""

    object_id: str
    reason: str


class ObjectEngine(Protocol):
    """Lifts masks to posed Gaussians."""

    def objects(
        self,
        photo: Photo,
        masks: Sequence[InstanceMask],
        wanted: Sequence[str],
    ) -> Iterator[PlacedObject | FailedObject]:
        """Yield each object of `wanted` (object ids) as soon as it is ready, in any order.

        `masks` holds every kept mask of the photo, since placement and occlusion depend on the neighbours;
        `wanted` the ids still to do, fewer than all when a run is resumed. The result for one id must not depend
        on which others are wanted.
        """
        ...
