"""Thirteen basic colour names, by perceptual distance to typical colours."""

from __future__ import annotations

import numpy as np

# Typical sRGB values of each name, light and dark, vivid and dull. The nearest one in CIELAB names a pixel.
PALETTE: dict[str, tuple[str, ...]] = {
    "red": ("ff0000", "d0161b", "b22222", "8b0000", "e03c31", "a8281c", "5e1014", "c0504d", "92301c"),
    "orange": ("ff8c00", "ff7518", "f28500", "e86100", "ffa94d", "d9701f"),
    "yellow": ("ffff00", "ffd700", "f4d03f", "ffe873", "c9b022", "e8c22e"),
    "green": ("00ff00", "008000", "228b22", "6b8e23", "9acd32", "2e8b57", "8fbc8f", "1f4d2b", "556b2f", "7fb069"),
    "cyan": ("00ffff", "008080", "40e0d0", "5f9ea0", "20b2aa", "afeeee", "0e5c63"),
    "blue": ("0000ff", "1e90ff", "4169e1", "000080", "87ceeb", "4682b4", "1f3a5f", "6a8ab5", "2c3f92", "0a2f8a"),
    "purple": ("800080", "8a2be2", "9370db", "4b0082", "663399", "b39ddb", "5d3a6e", "8e6f9e"),
    "pink": ("ff69b4", "ffc0cb", "ff1493", "db7093", "e8a0b4", "f4c2c2", "ff00ff"),
    "brown": ("8b4513", "a0522d", "654321", "5c4033", "7b5b3a", "9c6b3f", "3b2416", "b5793f", "6f4e37"),
    "beige": ("f5deb3", "d2b48c", "e8d8b8", "c8ad7f", "ede0c8", "bfa788", "a8926d"),
    "white": ("ffffff", "f2f2f2", "e6e6e6", "f5f5ee", "eef2f6", "d9dade", "d0d4da"),
    "grey": ("808080", "a9a9a9", "bcbcbc", "696969", "4d4d4d", "8c8780", "80868c", "5e6266"),
    "black": ("000000", "1a1a1a", "262626", "1c1815", "15191e"),
}
NAMES = tuple(PALETTE)
# Weight of a pixel of each colour: people name an object after its vivid colour even when more of it is grey or dark.
_PROMINENCE_OF = {"white": 1.0, "grey": 0.9, "black": 0.9, "brown": 1.1, "beige": 1.1}
PROMINENCE = np.array([_PROMINENCE_OF.get(name, 1.4) for name in NAMES])
_SAMPLES = 2000  # pixels evaluated per region


def _lab(rgb: np.ndarray) -> np.ndarray:
    """(N, 3) uint8 sRGB -> (N, 3) CIELAB under D65."""
    from skimage.color import rgb2lab

    lab: np.ndarray = rgb2lab(rgb[None].astype(np.float64) / 255)[0]
    return lab


_PROTOTYPES = _lab(np.array([list(bytes.fromhex(value)) for values in PALETTE.values() for value in values], np.uint8))
_PROTOTYPE_NAME = np.array([index for index, values in enumerate(PALETTE.values()) for _ in values])


def classify_colours(pixels: np.ndarray) -> np.ndarray:
    """(N, 3) uint8 sRGB -> (N,) int, index into NAMES."""
    distance = ((_lab(pixels)[:, None] - _PROTOTYPES) ** 2).sum(-1)
    return _PROTOTYPE_NAME[distance.argmin(1)]


def colour_shares(rgb: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Colour-name histogram of `rgb` (H, W, 3) uint8 inside `mask` (H, W) bool: (len(NAMES),) float64, sum 1.

    All zero for an empty mask. At most `_SAMPLES` evenly spread pixels are used, whatever the size of the photo.
    """
    inside = np.flatnonzero(mask)
    if not len(inside):
        return np.zeros(len(NAMES))
    inside = inside[np.linspace(0, len(inside) - 1, min(len(inside), _SAMPLES)).astype(np.int64)]
    counts = np.bincount(classify_colours(rgb.reshape(-1, 3)[inside]), minlength=len(NAMES))
    return counts / counts.sum()


def sort_by_prominence(shares: np.ndarray) -> list[str]:
    """Colour names in descending order of prominence. shares: from `colour_shares`."""
    return [NAMES[n] for n in np.argsort(-shares * PROMINENCE, kind="stable")]


def histogram_intersection(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection of two `colour_shares` (Swain and Ballard 1991): 0 no colour in common, 1 equal."""
    return float(np.minimum(first, second).sum())
