"""Phrases without a language model: every object the embedded masks keep, described by size, colour and place."""

from __future__ import annotations

from sam3d_gs.embedded.language.phrase_matching import described_objects
from sam3d_gs.options import PhraseOptions
from sam3d_gs.types import InstanceMask, Photo, Phrase


class EmbeddedPhrases:
    """Describes objects by what it can measure, "large round red object, left"; it knows no nouns."""

    def __init__(self, options: PhraseOptions) -> None:
        self._options = options

    def phrases(self, photo: Photo) -> list[Phrase]:
        """Best first, at most `max_phrases`, all different."""
        found = []
        for number, (text, choice) in enumerate(described_objects(photo)[: self._options.max_phrases]):
            x1, y1, x2, y2 = map(float, InstanceMask("", text, choice.mask, choice.score).box_xyxy)
            found.append(Phrase(number, text, score=choice.score, box_xyxy=(x1, y1, x2, y2)))
        return found
