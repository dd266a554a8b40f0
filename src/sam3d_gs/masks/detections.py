"""From the detections of a network, phrase by phrase, to separate objects with their ids.

Two masks that are much the same, or of which one is most of the other, are one object under two phrases: the better
one stays and takes the other phrase as an alias. A small mask inside a large one is a part of it when both answer the
same phrase; under another phrase it is an object in front (a cup on a tray), and the large one gives up those pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sam3d_gs.masks.rules import Overlaps, unfit
from sam3d_gs.masks.selection import DUPLICATE, GROUP, PART, Choice, Policy, Verdict, choose, duplicate
from sam3d_gs.options import Sam3Options
from sam3d_gs.types import InstanceMask, Phrase
from sam3d_gs.workspace import object_id

_INSIDE = 0.85  # share of a mask inside another from which it belongs to it
_SAME_OBJECT = 0.5  # of two masks inside each other: share of the larger from which the smaller is the same object


@dataclass(frozen=True)
class Detection:
    """One mask that a network found for one phrase."""

    phrase: int  # position of the phrase in the list that the network was given
    score: float  # 0..1
    mask: np.ndarray  # (H, W) bool, at photo size


def thresholds(phrases: Sequence[Phrase], options: Sam3Options) -> list[float]:
    """The score that a mask of each phrase must reach."""
    own = {text.casefold(): score for text, score in options.phrase_thresholds}
    return [own.get(phrase.text.casefold(), options.score_threshold) for phrase in phrases]


def select_objects(
    detections: Sequence[Detection], phrases: Sequence[Phrase], options: Sam3Options
) -> list[InstanceMask]:
    """One mask per detection: the kept objects in the order of the phrases, then the dropped ones with the reason.

    Kept masks share no pixel.
    """
    needed = thresholds(phrases, options)

    def unfit_detection(number: int) -> str | None:
        found = detections[number]
        return unfit(found.mask, found.score, needed[found.phrase], options)

    def same_object_or_part(overlaps: Overlaps, new: int, kept: int) -> Verdict | None:
        same_phrase = detections[new].phrase == detections[kept].phrase
        return _same_object_or_part(overlaps, new, kept, same_phrase, options.duplicate_iou)

    return _named(
        choose(detections, Policy(unfit_detection, (same_object_or_part,), options.max_objects)), detections, phrases
    )


def _same_object_or_part(
    overlaps: Overlaps, new: int, kept: int, same_phrase: bool, duplicate_iou: float
) -> Verdict | None:
    """The verdict on a detection of which a better one, `kept`, shows the same object, or the whole or a part of it."""
    smaller, larger = sorted((new, kept), key=lambda n: float(overlaps.area[n]))
    share = overlaps.inside(smaller, larger)
    size = float(overlaps.area[smaller] / overlaps.area[larger])
    iou = overlaps.iou(new, kept)
    if iou > duplicate_iou or (share > _INSIDE and size > _SAME_OBJECT):
        return duplicate(iou)
    if share > _INSIDE and same_phrase:
        return Verdict(PART if smaller == new else GROUP, f"{share:.0%}")
    return None


def _aliases(
    choices: Sequence[Choice], detections: Sequence[Detection], phrases: Sequence[Phrase]
) -> dict[int, tuple[str, ...]]:
    """Detection -> the other phrases whose masks are duplicates of it, best first."""
    found: dict[int, tuple[str, ...]] = {}
    for choice in choices:
        if choice.dropped == DUPLICATE:
            better, phrase = choice.because_of[0], detections[choice.proposal].phrase
            text, known = phrases[phrase].text, found.get(better, ())
            if phrase != detections[better].phrase and text not in known:
                found[better] = (*known, text)
    return found


def _named(choices: Sequence[Choice], detections: Sequence[Detection], phrases: Sequence[Phrase]) -> list[InstanceMask]:
    """Masks with ids; instances are counted per phrase, the kept ones first."""
    aliases = _aliases(choices, detections, phrases)
    order = sorted(choices, key=lambda choice: (choice.dropped is not None, detections[choice.proposal].phrase))
    ids = _object_ids([choice.proposal for choice in order], detections, phrases)
    return [
        InstanceMask(
            object_id=ids[choice.proposal],
            phrase=phrases[detections[choice.proposal].phrase].text,
            mask=choice.mask,
            score=choice.score,
            aliases=aliases.get(choice.proposal, ()),
            dropped=choice.reason(ids.__getitem__),
        )
        for choice in order
    ]


def _object_ids(order: Sequence[int], detections: Sequence[Detection], phrases: Sequence[Phrase]) -> Mapping[int, str]:
    """Detection -> object id, counting the instances of each phrase in the given order."""
    ids: dict[int, str] = {}
    counts = [0] * len(phrases)
    for number in order:
        position = detections[number].phrase
        ids[number] = object_id(phrases[position].number, phrases[position].text, counts[position])
        counts[position] += 1
    return ids
