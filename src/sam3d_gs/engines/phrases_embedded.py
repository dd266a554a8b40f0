"""Phrases without a language model: every object the embedded masks keep, described by size, colour and place."""

from __future__ import annotations

from collections.abc import Mapping

from sam3d_gs.embedded.language.region_attributes import look_at
from sam3d_gs.embedded.language.words import describe
from sam3d_gs.embedded.proposals.objects import objects_of
from sam3d_gs.embedded.proposals.selection import Choice
from sam3d_gs.options import PhraseOptions
from sam3d_gs.types import InstanceMask, Photo, Phrase

LICENCES = {"sam3d_gs embedded mask net, trained on procedural scenes": "Apache-2.0"}


class EmbeddedPhrases:
    """Describes what it sees, "large round red object, left"; it knows no nouns."""

    licences: Mapping[str, str] = LICENCES

    def __init__(self, options: PhraseOptions) -> None:
        self._options = options

    def phrases(self, photo: Photo) -> list[Phrase]:
        """Best first, at most `max_phrases`, all different."""
        found = []
        for number, (text, choice) in enumerate(named_objects(photo)[: self._options.max_phrases]):
            x1, y1, x2, y2 = map(float, InstanceMask("", text, choice.mask, choice.score).box_xyxy)
            found.append(Phrase(number, text, score=choice.score, box_xyxy=(x1, y1, x2, y2)))
        return found


def named_objects(photo: Photo) -> list[tuple[str, Choice]]:
    """The kept objects of the photo under default options, best first, each with its description.

    The masks engine finds a described object again by this list.
    """
    kept = [choice for choice in objects_of(photo) if choice.dropped is None]
    texts = describe([look_at(photo.rgb, choice.mask) for choice in kept])
    return list(zip(texts, kept, strict=True))
