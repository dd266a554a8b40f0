"""From a photo to masks with any SAM 3 network: ask, bring the answers over, choose among them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from sam3d_gs.options import Sam3Options
from sam3d_gs.sam3_networks.prediction import Prediction, detections
from sam3d_gs.sam3_networks.prompts import Prompt, phrases_of, prompts_of, taking_all
from sam3d_gs.sam3_networks.selection import Detection, select, thresholds
from sam3d_gs.types import InstanceMask, Photo, Phrase


class Concepts(Protocol):
    """A network that takes phrases."""

    def predict(self, rgb: np.ndarray, texts: Sequence[str]) -> Iterator[tuple[int, Prediction]]:
        """Answers about a photo, (H, W, 3) uint8, some phrases at a time: (position of the first, answers).

        An answer holds until the next one is asked for.
        """
        ...


class Clicks(Protocol):
    """A network that takes boxes and points."""

    def predict(self, rgb: np.ndarray, prompts: Sequence[Prompt]) -> Prediction:
        """One candidate for every prompt."""
        ...


def masks_of_phrases(
    network: Concepts, photo: Photo, phrases: Sequence[Phrase], options: Sam3Options
) -> list[InstanceMask]:
    """Kept masks first, then the others with their reason."""
    needed, size = thresholds(phrases, options), (photo.height_px, photo.width_px)
    found: list[Detection] = []
    for start, answers in network.predict(photo.rgb, [phrase.text for phrase in phrases]):
        some = detections(answers, needed[start : start + len(answers.scores)], size)
        found += [Detection(start + d.phrase, d.score, d.mask) for d in some]
    return select(found, phrases, options)


def masks_of_clicks(network: Clicks, photo: Photo, options: Sam3Options) -> list[InstanceMask]:
    """A mask for every box and point of the options; two that mean the same object give one."""
    prompts = prompts_of(options, photo)
    answers = network.predict(photo.rgb, prompts)
    found = detections(answers, [0.0] * len(prompts), (photo.height_px, photo.width_px))
    return select(found, phrases_of(prompts), taking_all(options))
