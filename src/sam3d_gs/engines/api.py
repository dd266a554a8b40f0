"""The interface of engines: built once from options, called once per photo, returning the types of `sam3d_gs.types`.

Engines never read or write the workspace. Heavy imports belong in the engine's own module, which is imported only
when the engine is loaded. An engine whose upstream code uses another frame converts its results.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from sam3d_gs.types import InstanceMask, Photo, Phrase, PlacedObject


class PhraseEngine(Protocol):
    """Names the objects in a photo.

    An engine that queries a language model may have an attribute `transcript`: a dataclass with the requests and
    answers for the latest photo, or None. The stage writes it to answer.json.
    """

    def phrases(self, photo: Photo) -> list[Phrase]:
        """The phrases, best first, numbered from 0 without gaps; empty if nothing was found."""
        ...


class MaskEngine(Protocol):
    """Finds the pixels of each named object.

    An engine may have an attribute `warnings`: sentences about the latest photo, which the stage shows to the user.
    """

    def masks(self, photo: Photo, phrases: Sequence[Phrase]) -> list[InstanceMask]:
        """Masks at photo size: kept ones first, then dropped ones with their reason. Ids are unique across both."""
        ...


@dataclass(frozen=True)
class FailedObject:
    """Yielded in place of an object that could not be reconstructed; the engine continues with the others."""

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
        """Yield each object in `wanted` as soon as it is ready, in any order.

        masks: every kept mask of the photo, since placement and occlusion depend on the neighbours.
        wanted: the object ids to reconstruct; when a run resumes, fewer than all. The result for one id must not
        depend on the other ids in `wanted`.
        """
        ...
