"""From a photo to masks with any SAM 3 network: predict, keep the masks that matter, choose the objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from sam3d_gs.masks.detections import Detection, select_objects, thresholds
from sam3d_gs.masks.prompts import Prompt, phrases_of, prompts_of, without_filters
from sam3d_gs.options import Sam3Options
from sam3d_gs.sam3_networks.prediction import Prediction, detections
from sam3d_gs.types import InstanceMask, Photo, Phrase


class PhraseNetwork(Protocol):
    """A network that takes phrases."""

    def predict(self, rgb: np.ndarray, texts: Sequence[str]) -> Iterator[tuple[int, Prediction]]:
        """(position of the first phrase, prediction) for each batch of phrases about a photo, (H, W, 3) uint8.

        A prediction is valid until the next one is asked for.
        """
        ...


class PromptNetwork(Protocol):
    """A network that takes boxes and points."""

    def predict(self, rgb: np.ndarray, prompts: Sequence[Prompt]) -> Prediction:
        """One candidate per prompt."""
        ...


def masks_of_phrases(
    network: PhraseNetwork, photo: Photo, phrases: Sequence[Phrase], options: Sam3Options
) -> list[InstanceMask]:
    """Kept masks first, then the dropped ones with the reason."""
    needed, size = thresholds(phrases, options), (photo.height_px, photo.width_px)
    found: list[Detection] = []
    for start, prediction in network.predict(photo.rgb, [phrase.text for phrase in phrases]):
        batch = detections(prediction, needed[start : start + len(prediction.scores)], size)
        found += [Detection(start + d.phrase, d.score, d.mask) for d in batch]
    return select_objects(found, phrases, options)


def masks_of_prompts(network: PromptNetwork, photo: Photo, options: Sam3Options) -> list[InstanceMask]:
    """One mask per box and point of the options, no filter applied; two that show the same object give one."""
    prompts = prompts_of(options, photo)
    prediction = network.predict(photo.rgb, prompts)
    found = detections(prediction, [0.0] * len(prompts), (photo.height_px, photo.width_px))
    return select_objects(found, phrases_of(prompts), without_filters(options))
