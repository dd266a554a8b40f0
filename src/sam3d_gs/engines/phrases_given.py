"""The user's own list of phrases, from the command line or a file."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sam3d_gs.errors import UsageError
from sam3d_gs.options import GivenPhraseOptions
from sam3d_gs.phrase_files import MAX_TEXT, phrases_from_file
from sam3d_gs.types import Photo, Phrase

log = logging.getLogger("sam3d_gs")


class GivenPhrases:
    """Returns the same phrases for every photo. `max_phrases` does not apply: it limits engines that find phrases."""

    def __init__(self, options: GivenPhraseOptions) -> None:
        """Raises UsageError without phrases or for one that is empty or too long, BadInputError for a bad file."""
        texts = list(options.phrases)
        if options.phrases_file:
            texts += phrases_from_file(options.phrases_file)
        clean = [" ".join(text.split()) for text in texts]
        if any(not text or len(text) > MAX_TEXT for text in clean):
            raise UsageError(f"--phrases must be 1 to {MAX_TEXT} characters of text.")
        if not clean:
            raise UsageError('No phrases given. Say --phrases "red cup", once for each kind of object.')
        self._phrases = [Phrase(number, text, 1.0) for number, text in enumerate(_without_repeats(clean))]

    def phrases(self, photo: Photo) -> list[Phrase]:
        """In the order given, numbered from 0, with score 1."""
        return list(self._phrases)


def _without_repeats(texts: Sequence[str]) -> list[str]:
    """The texts that differ by more than case, as first written; the others are named in a warning."""
    unique: dict[str, str] = {}
    repeats = []
    for text in texts:
        if text.casefold() in unique:
            repeats.append(text)
        else:
            unique[text.casefold()] = text
    if repeats:
        log.warning("Dropped phrases that were given before: %s.", ", ".join(f'"{text}"' for text in repeats))
    return list(unique.values())
