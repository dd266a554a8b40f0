"""From detections, phrase by phrase, to separate objects: every detection comes out, kept or with the reason why not.

Best first, each detection is compared with what is already kept. Two masks that are much the same, or one most of
another, are one object under two phrases: the better stays and takes the other phrase as an alias. A small mask in a
large one is a part when both answer the same phrase; under another phrase it is an object in front (a cup on a tray)
and the large one gives those pixels up. What gives nearly everything up was a group and goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from sam3d_gs.masks.rules import Overlaps, unfit
from sam3d_gs.options import Sam3Options
from sam3d_gs.types import InstanceMask, Phrase
from sam3d_gs.workspace import object_id

_INSIDE = 0.85  # share of a mask inside another from which it belongs to it
_SAME_THING = 0.5  # of two masks inside each other: share of the larger from which the smaller is the same object
_REMAINDER = 0.4  # a mask that keeps less than this share of its area is left out in favour of what lies in it


@dataclass(frozen=True)
class Detection:
    """One answer of the network."""

    phrase: int  # position of its phrase in the list that was asked for
    score: float  # 0..1
    mask: np.ndarray  # (H, W) bool, at photo size

    @cached_property
    def area_px(self) -> int:
        return int(np.count_nonzero(self.mask))


@dataclass
class _Fate:
    """What becomes of one detection."""

    detection: Detection
    dropped: str | None = None
    because_of: tuple[int, ...] = ()
    measure: str = ""
    aliases: tuple[str, ...] = ()


def thresholds(phrases: Sequence[Phrase], options: Sam3Options) -> list[float]:
    """The score each phrase's masks need."""
    own = {text.casefold(): score for text, score in options.phrase_thresholds}
    return [own.get(phrase.text.casefold(), options.score_threshold) for phrase in phrases]


def select(detections: Sequence[Detection], phrases: Sequence[Phrase], options: Sam3Options) -> list[InstanceMask]:
    """Kept objects in the order of the phrases, then all others with their reason. Kept masks share no pixel."""
    if not detections:
        return []
    fates = [_Fate(detection) for detection in sorted(detections, key=lambda d: -d.score)]
    overlaps = Overlaps.of([fate.detection.mask for fate in fates])
    needed = thresholds(phrases, options)
    kept: list[int] = []
    for number, fate in enumerate(fates):
        found = fate.detection
        fate.dropped = unfit(found.mask, found.score, needed[found.phrase], options)
        if fate.dropped is None:
            _compare(number, fates, kept, overlaps, phrases, options)
        if fate.dropped is None:
            kept.append(number)
    kept = _share_out(fates, kept)
    for number in kept[options.max_objects :]:
        fates[number].dropped = f"beyond the {options.max_objects} best objects"
    return _named(fates, phrases)


def _compare(
    new: int,
    fates: Sequence[_Fate],
    kept: Sequence[int],
    overlaps: Overlaps,
    phrases: Sequence[Phrase],
    options: Sam3Options,
) -> None:
    """Drop detection `new` if it is one of the kept ones again, or a part of one."""
    fate = fates[new]
    for k in kept:
        smaller, larger = sorted((new, k), key=lambda n: float(overlaps.area[n]))
        inside = overlaps.inside(smaller, larger) > _INSIDE
        size = float(overlaps.area[smaller] / overlaps.area[larger])
        same_phrase = fate.detection.phrase == fates[k].detection.phrase
        iou = overlaps.iou(new, k)
        if iou > options.duplicate_iou or (inside and size > _SAME_THING):
            fate.dropped, fate.because_of, fate.measure = "duplicate of", (k,), f"IoU {iou:.2f}"
            text = phrases[fate.detection.phrase].text
            if not same_phrase and text not in fates[k].aliases:
                fates[k].aliases += (text,)
            return
        if inside and same_phrase:
            word = "part of" if smaller == new else "contains"
            fate.dropped, fate.because_of, fate.measure = word, (k,), f"{overlaps.inside(smaller, larger):.0%}"
            return


def _share_out(fates: Sequence[_Fate], kept: Sequence[int]) -> list[int]:
    """Give every pixel to one kept object, smaller ones first; what is left of `kept`, best first."""
    taken = np.zeros_like(fates[0].detection.mask)
    left: list[int] = []
    for number in sorted(kept, key=lambda n: (fates[n].detection.area_px, n)):
        fate = fates[number]
        mask = fate.detection.mask
        area = fate.detection.area_px
        own_area = area - int(np.count_nonzero(mask & taken))
        if own_area < max(_REMAINDER * area, 1):
            fate.dropped, fate.measure = "contains", f"{1 - own_area / max(area, 1):.0%}"
            fate.because_of = tuple(k for k in left if (fates[k].detection.mask & mask).any())
            continue
        if own_area < area:
            fate.detection = replace(fate.detection, mask=mask & ~taken)
        taken |= mask
        left.append(number)
    return sorted(left)


def _named(fates: Sequence[_Fate], phrases: Sequence[Phrase]) -> list[InstanceMask]:
    """Instances are counted per phrase, the kept ones first."""
    order = sorted(range(len(fates)), key=lambda n: (fates[n].dropped is not None, fates[n].detection.phrase, n))
    ids: dict[int, str] = {}
    counts: dict[int, int] = {}
    for number in order:
        position = fates[number].detection.phrase
        phrase = phrases[position]
        ids[number] = object_id(phrase.number, phrase.text, counts.get(position, 0))
        counts[position] = counts.get(position, 0) + 1
    return [_instance(ids, fates[number], ids[number], phrases) for number in order]


def _instance(ids: dict[int, str], fate: _Fate, name: str, phrases: Sequence[Phrase]) -> InstanceMask:
    reason = fate.dropped
    if reason is not None:
        others = ", ".join(ids[other] for other in fate.because_of)
        reason = " ".join(part for part in (reason, others, fate.measure and f"({fate.measure})") if part)
    found = fate.detection
    return InstanceMask(name, phrases[found.phrase].text, found.mask, found.score, fate.aliases, reason)
