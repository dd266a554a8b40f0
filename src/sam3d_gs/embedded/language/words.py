"""Describe regions in words ("large round red object, left"), and score regions against a user's phrase.

The vocabulary is colours, sizes, positions and simple shapes. Nouns are not in it: of "red cup" only "red" is used,
and a phrase without a known word matches nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from sam3d_gs.embedded.language.colours import NAMES, sort_by_prominence
from sam3d_gs.embedded.language.region_attributes import RegionAttributes

MATCH_THRESHOLD = 0.5  # a region matches a phrase from this score on

_LARGE, _MEDIUM, _TINY = 0.08, 0.02, 0.005  # share of the photo; tiny is below the last, small below the second
_LEFT, _RIGHT = 0.4, 0.6  # of the photo's side: a centroid beyond these is left or right, top or bottom
_TALL = 1.5  # height over width; wide is the inverse
_LONG, _THIN = 2.5, 4.5  # elongation
_ROUND = 0.8  # roundness
_STRONG_SECOND_COLOUR = 0.35  # share of the pixels from which a second colour is named
_SECOND_COLOUR = 0.2  # the same, when two descriptions would otherwise be equal

# Colours that people confuse with the first one.
_SIMILAR_COLOURS = {
    "red": ("brown", "orange", "pink"),
    "orange": ("red", "yellow", "brown"),
    "yellow": ("orange", "beige"),
    "green": ("cyan",),
    "cyan": ("blue", "green"),
    "blue": ("cyan", "purple"),
    "purple": ("pink", "blue"),
    "pink": ("purple", "red"),
    "brown": ("beige", "orange", "red"),
    "beige": ("brown", "white", "yellow"),
    "white": ("beige", "grey"),
    "grey": ("white", "black"),
    "black": ("grey",),
}

_SYNONYMS: dict[str, dict[str, str]] = {
    "colour": {
        "red": "crimson scarlet maroon ruby burgundy",
        "orange": "amber tangerine",
        "yellow": "golden gold lemon mustard",
        "green": "olive lime emerald mint khaki",
        "cyan": "teal turquoise aqua aquamarine",
        "blue": "navy azure indigo cobalt",
        "purple": "violet lilac lavender mauve",
        "pink": "magenta rose fuchsia salmon",
        "brown": "wooden chocolate bronze rust tan chestnut",
        "beige": "cream ivory sand sandy",
        "white": "snowy pale",
        "grey": "gray silver silvery metallic",
        "black": "dark ebony",
    },
    "size": {
        "large": "big huge giant enormous great",
        "medium": "mid-sized moderate",
        "small": "little",
        "tiny": "mini",
    },
    "horizontal": {"left": "left-hand", "centre": "center central", "right": "right-hand"},
    "vertical": {
        "top": "upper above high back background rear far",
        "bottom": "lower below low front foreground near",
        "middle": "mid",
    },
    "shape": {
        "tall": "upright vertical high-rise",
        "wide": "broad flat horizontal",
        "round": "circular disc ball-shaped",
        "long": "elongated",
        "thin": "narrow slender slim",
    },
    "superlative": {
        "leftmost": "",
        "rightmost": "",
        "topmost": "uppermost highest",
        "bottommost": "lowest nearest closest frontmost",
        "largest": "biggest",
        "smallest": "tiniest",
        "tallest": "",
        "widest": "",
        "longest": "",
        "roundest": "",
    },
}
_VOCABULARY = {
    word: (kind, name)
    for kind, names in _SYNONYMS.items()
    for name, others in names.items()
    for word in (name, *others.split())
}

_SUPERLATIVES: dict[str, Callable[[RegionAttributes], float]] = {
    "leftmost": lambda region: -region.x,
    "rightmost": lambda region: region.x,
    "topmost": lambda region: -region.y,
    "bottommost": lambda region: region.y,
    "largest": lambda region: region.area,
    "smallest": lambda region: -region.area,
    "tallest": lambda region: region.aspect,
    "widest": lambda region: -region.aspect,
    "longest": lambda region: region.elongation,
    "roundest": lambda region: region.roundness,
}


# --- from regions to words -----------------------------------------------------------------------------------------


def describe(regions: Sequence[RegionAttributes]) -> list[str]:
    """One phrase per region, all different, such as "large round red object, left".

    Only phrases that would be equal get more words: first top or bottom, then a weaker second colour, then a number.
    """
    texts = [_description(region, detail=0) for region in regions]
    for detail in (1, 2):
        texts = [
            _description(region, detail) if texts.count(text) > 1 else text
            for region, text in zip(regions, texts, strict=True)
        ]
    seen: dict[str, int] = {}
    numbered = []
    for text in texts:
        seen[text] = seen.get(text, 0) + 1
        numbered.append(text if seen[text] == 1 else f"{text}, number {seen[text]}")
    return numbered


def _description(region: RegionAttributes, detail: int) -> str:
    colours = region.colour
    second = sort_by_prominence(region.colours)[1]
    if region.colours[NAMES.index(second)] >= (_SECOND_COLOUR if detail >= 2 else _STRONG_SECOND_COLOUR):
        colours += f" and {second}"
    horizontal, vertical = horizontal_word(region), vertical_word(region)
    position = horizontal
    if detail >= 1 and not (horizontal == "centre" and vertical == "middle"):
        position = f"{vertical} {horizontal}"
    words = (size_word(region), shape_word(region), colours, "object")
    return f"{' '.join(word for word in words if word)}, {position}"


def size_word(region: RegionAttributes) -> str:
    if region.area >= _LARGE:
        return "large"
    return "medium" if region.area >= _MEDIUM else "small"


def horizontal_word(region: RegionAttributes) -> str:
    return _position_word(region.x, "left", "centre", "right")


def vertical_word(region: RegionAttributes) -> str:
    return _position_word(region.y, "top", "middle", "bottom")


def _position_word(position: float, low: str, middle: str, high: str) -> str:
    return low if position < _LEFT else high if position > _RIGHT else middle


def shape_word(region: RegionAttributes) -> str:
    """The word for the most distinctive property of the shape; "" when it has none."""
    if region.elongation >= _THIN:
        return "thin"
    if region.roundness >= _ROUND:
        return "round"
    if region.aspect >= _TALL:
        return "tall"
    if region.aspect <= 1 / _TALL:
        return "wide"
    return "long" if region.elongation >= _LONG else ""


# --- from words to regions -----------------------------------------------------------------------------------------


def known_words(phrase: str) -> list[tuple[str, str]]:
    """Known words as (kind, canonical word): "crimson cup, leftmost" -> colour red, superlative leftmost."""
    text = re.sub(r"[^a-z\- ]+", " ", phrase.lower())
    tokens = [part for token in text.split() for part in ([token] if token in _VOCABULARY else token.split("-"))]
    if "middle" in tokens and not {"left", "right"} & set(tokens):  # "the middle" then means the centre
        tokens = ["centre" if token == "middle" else token for token in tokens]
    return list(dict.fromkeys(_VOCABULARY[token] for token in tokens if token in _VOCABULARY))


def match_scores(phrase: str, regions: Sequence[RegionAttributes]) -> list[float]:
    """Score of every region for the phrase, 0..1, all 0 without a known word; MATCH_THRESHOLD and above is a match."""
    words = known_words(phrase)
    if not words:
        return [0.0] * len(regions)
    plain = [word for word in words if word[0] != "superlative"]
    scores = [float(np.prod([_word_score(kind, name, region) for kind, name in plain])) for region in regions]
    for kind, name in words:
        if kind == "superlative" and any(score >= MATCH_THRESHOLD for score in scores):
            matching = [n for n, score in enumerate(scores) if score >= MATCH_THRESHOLD]
            extremity = [_SUPERLATIVES[name](regions[n]) for n in matching]
            first = matching[int(np.argmax(extremity))]
            scores = [score if n == first else 0.0 for n, score in enumerate(scores)]
    return scores


def explain_no_match(phrase: str) -> str:
    """One line for the user about a phrase without a match: no region has its words, or it has no known word."""
    words = known_words(phrase)
    if words:
        return f'No object in the photo is {", ".join(name for _, name in words)}, so "{phrase}" matches nothing.'
    return (
        f'"{phrase}" has no word that the embedded engine knows: it cannot recognise nouns. It knows colours '
        f"({', '.join(NAMES)}), sizes (large, medium, small), positions (left, centre, right, top, bottom), shapes "
        "(tall, wide, round, long, thin) and superlatives (leftmost, largest)."
    )


def _word_score(kind: str, name: str, region: RegionAttributes) -> float:
    """Score of one word, 0..1, with soft limits where people would disagree."""
    if kind == "colour":
        near = sum(region.colours[NAMES.index(other)] for other in _SIMILAR_COLOURS[name])
        return float(min(1.0, (region.colours[NAMES.index(name)] + 0.15 * near) / 0.4))
    if kind == "size":
        return _size_score(name, region.area)
    if kind == "horizontal":
        return _position_score(name, region.x, "left", "right")
    if kind == "vertical":
        return _position_score(name, region.y, "top", "bottom")
    return float(_has_shape(name, region))


def _size_score(name: str, area: float) -> float:
    if name == "large":
        return min(1.0, area / _LARGE)
    if name == "medium":
        return min(1.0, area / _MEDIUM, _LARGE / max(area, 1e-9))
    return min(1.0, (_MEDIUM if name == "small" else _TINY) / max(area, 1e-9))


def _position_score(name: str, position: float, low: str, high: str) -> float:
    if name == low:
        beyond = position - _LEFT
    elif name == high:
        beyond = _RIGHT - position
    else:
        beyond = abs(position - 0.5) - (0.5 - _LEFT)
    return float(np.clip(1 - beyond / 0.1, 0, 1))


def _has_shape(name: str, region: RegionAttributes) -> bool:
    return {
        "tall": region.aspect >= _TALL,
        "wide": region.aspect <= 1 / _TALL,
        "round": region.roundness >= _ROUND,
        "long": region.elongation >= _LONG,
        "thin": region.elongation >= _THIN,
    }[name]
