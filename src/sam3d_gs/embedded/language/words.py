"""Words for regions and back: "large round red object, left" from a look, and looks that fit a user's phrase.

The embedded engines know colours, sizes, places and simple shapes. They do not know nouns: in "red cup" only "red"
says anything, and a phrase with no known word fits nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from sam3d_gs.embedded.language.colours import NAMES, by_prominence
from sam3d_gs.embedded.language.region_attributes import Look

MATCH = 0.5  # a look fits a phrase from this score on

_LARGE, _MEDIUM, _TINY = 0.08, 0.02, 0.005  # share of the photo from which on (tiny: below which) the word is used
_LEFT, _RIGHT = 0.4, 0.6  # a centroid beyond these is left or right, and top or bottom
_TALL = 1.5  # height over width; wide is the inverse
_LONG, _THIN = 2.5, 4.5  # elongation
_ROUND = 0.8  # roundness
_STRONG_SECOND_COLOUR = 0.35  # share of a colour worth naming beside the first
_SECOND_COLOUR = 0.2  # the same, where something must tell two alike apart

# Colours a person might have called by the other name.
_NEAR = {
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
    "across": {"left": "left-hand", "centre": "center central", "right": "right-hand"},
    "down": {
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
    "extreme": {
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
_KNOWN = {
    word: (kind, name)
    for kind, names in _SYNONYMS.items()
    for name, others in names.items()
    for word in (name, *others.split())
}

_EXTREMES: dict[str, Callable[[Look], float]] = {
    "leftmost": lambda look: -look.x,
    "rightmost": lambda look: look.x,
    "topmost": lambda look: -look.y,
    "bottommost": lambda look: look.y,
    "largest": lambda look: look.area,
    "smallest": lambda look: -look.area,
    "tallest": lambda look: look.aspect,
    "widest": lambda look: -look.aspect,
    "longest": lambda look: look.elongation,
    "roundest": lambda look: look.roundness,
}


# --- from looks to words -----------------------------------------------------------------------------------------


def describe(looks: Sequence[Look]) -> list[str]:
    """One phrase a look, all different: "large round red object, left", with more words where two would be alike.

    Added in turn, to those that need it only: top or bottom, a weaker second colour, and at last a number.
    """
    texts = [_phrase(look, detail=0) for look in looks]
    for detail in (1, 2):
        texts = [
            _phrase(look, detail) if texts.count(text) > 1 else text for look, text in zip(looks, texts, strict=True)
        ]
    seen: dict[str, int] = {}
    numbered = []
    for text in texts:
        seen[text] = seen.get(text, 0) + 1
        numbered.append(text if seen[text] == 1 else f"{text}, number {seen[text]}")
    return numbered


def _phrase(look: Look, detail: int) -> str:
    colours = look.colour
    second = by_prominence(look.colours)[1]
    if look.colours[NAMES.index(second)] >= (_SECOND_COLOUR if detail >= 2 else _STRONG_SECOND_COLOUR):
        colours += f" and {second}"
    across, down = across_word(look), down_word(look)
    place = across
    if detail >= 1 and not (across == "centre" and down == "middle"):
        place = f"{down} {across}"
    words = (size_word(look), shape_word(look), colours, "object")
    return f"{' '.join(word for word in words if word)}, {place}"


def size_word(look: Look) -> str:
    if look.area >= _LARGE:
        return "large"
    return "medium" if look.area >= _MEDIUM else "small"


def across_word(look: Look) -> str:
    return _third(look.x, "left", "centre", "right")


def down_word(look: Look) -> str:
    return _third(look.y, "top", "middle", "bottom")


def _third(place: float, low: str, middle: str, high: str) -> str:
    return low if place < _LEFT else high if place > _RIGHT else middle


def shape_word(look: Look) -> str:
    """The most telling shape word, or "" for a shape without one."""
    if look.elongation >= _THIN:
        return "thin"
    if look.roundness >= _ROUND:
        return "round"
    if look.aspect >= _TALL:
        return "tall"
    if look.aspect <= 1 / _TALL:
        return "wide"
    return "long" if look.elongation >= _LONG else ""


# --- from words to looks -----------------------------------------------------------------------------------------


def known_words(phrase: str) -> list[tuple[str, str]]:
    """The (kind, basic word) pairs a phrase holds, e.g. "crimson cup, leftmost" -> colour red, extreme leftmost."""
    text = re.sub(r"[^a-z\- ]+", " ", phrase.lower())
    tokens = [part for token in text.split() for part in ([token] if token in _KNOWN else token.split("-"))]
    if "middle" in tokens and not {"left", "right"} & set(tokens):  # "the middle" is then meant across
        tokens = ["centre" if token == "middle" else token for token in tokens]
    return list(dict.fromkeys(_KNOWN[token] for token in tokens if token in _KNOWN))


def match(phrase: str, looks: Sequence[Look]) -> list[float]:
    """How well every look fits the phrase, 0..1; a fit is at least MATCH. All 0 when the phrase has no known word."""
    words = known_words(phrase)
    if not words:
        return [0.0] * len(looks)
    plain = [word for word in words if word[0] != "extreme"]
    scores = [float(np.prod([_fit(kind, name, look) for kind, name in plain])) for look in looks]
    for kind, name in words:
        if kind == "extreme" and any(score >= MATCH for score in scores):
            fitting = [n for n, score in enumerate(scores) if score >= MATCH]
            extremity = [_EXTREMES[name](looks[n]) for n in fitting]
            first = fitting[int(np.argmax(extremity))]
            scores = [score if n == first else 0.0 for n, score in enumerate(scores)]
    return scores


def why_nothing(phrase: str) -> str:
    """One line for a phrase that fits no region: what the engine did not understand, and what it would."""
    words = known_words(phrase)
    if words:
        return f'No region of the photo is {", ".join(name for _, name in words)}, as "{phrase}" asks.'
    return (
        f'The embedded engine cannot recognise nouns, and "{phrase}" has no other word it knows. It knows colours '
        f"({', '.join(NAMES)}), sizes (large, medium, small), places (left, centre, right, top, bottom), shapes "
        "(tall, wide, round, long, thin) and superlatives (leftmost, largest)."
    )


def _fit(kind: str, name: str, look: Look) -> float:
    """How well one word fits, 0..1, falling off softly where people would differ."""
    if kind == "colour":
        near = sum(look.colours[NAMES.index(other)] for other in _NEAR[name])
        return float(min(1.0, (look.colours[NAMES.index(name)] + 0.15 * near) / 0.4))
    if kind == "size":
        return _size_fit(name, look.area)
    if kind == "across":
        return _place_fit(name, look.x, "left", "right")
    if kind == "down":
        return _place_fit(name, look.y, "top", "bottom")
    return float(_has_shape(name, look))


def _size_fit(name: str, area: float) -> float:
    if name == "large":
        return min(1.0, area / _LARGE)
    if name == "medium":
        return min(1.0, area / _MEDIUM, _LARGE / max(area, 1e-9))
    return min(1.0, (_MEDIUM if name == "small" else _TINY) / max(area, 1e-9))


def _place_fit(name: str, place: float, low: str, high: str) -> float:
    if name == low:
        beyond = place - _LEFT
    elif name == high:
        beyond = _RIGHT - place
    else:
        beyond = abs(place - 0.5) - (0.5 - _LEFT)
    return float(np.clip(1 - beyond / 0.1, 0, 1))


def _has_shape(name: str, look: Look) -> bool:
    return {
        "tall": look.aspect >= _TALL,
        "wide": look.aspect <= 1 / _TALL,
        "round": look.roundness >= _ROUND,
        "long": look.elongation >= _LONG,
        "thin": look.elongation >= _THIN,
    }[name]
