"""The user's own list of phrases, from the command line or a file."""

from __future__ import annotations

from collections.abc import Mapping

from sam3d_gs.errors import UsageError
from sam3d_gs.options import GivenPhraseOptions
from sam3d_gs.phrase_files import MAX_TEXT, phrases_from_file
from sam3d_gs.types import Photo, Phrase


class GivenPhrases:
    """Gives every photo the same phrases."""

    licences: Mapping[str, str] = {}

    def __init__(self, options: GivenPhraseOptions) -> None:
        texts = list(options.phrases)
        if options.phrases_file:
            texts += phrases_from_file(options.phrases_file)
        clean = [" ".join(text.split()) for text in texts]
        if any(not text or len(text) > MAX_TEXT for text in clean):
            raise UsageError(f"--phrases must be 1 to {MAX_TEXT} characters of text.")
        unique = list(dict.fromkeys(text.casefold() for text in clean))
        if not unique:
            raise UsageError('No phrases given. Say --phrases "red cup", once for each kind of object.')
        by_key = {text.casefold(): text for text in reversed(clean)}
        self._phrases = [Phrase(number, by_key[key], 1.0) for number, key in enumerate(unique)]

    def phrases(self, photo: Photo) -> list[Phrase]:
        return list(self._phrases)
