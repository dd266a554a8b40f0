"""Compiled noise and solid textures, and random materials."""

# Indexing an array has no type for mypy, and everything here is made of that.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import colorsys
from math import floor, sin, sqrt

import numba
import numpy as np

# Columns of a material's row.
COLOUR, SECOND_COLOUR, PATTERN, FREQUENCY, DIRECTION, PHASE, SHARPNESS = 0, 3, 6, 7, 8, 11, 12
GRAIN, GRAIN_FREQUENCY, GLOSS, SHINE = 13, 14, 15, 16
MATERIAL_LENGTH = 17

# Patterns: how the two colours mix.
PLAIN, STRIPES, CHECKS, CLOUDS, FADE, SPLIT, DOTS, RINGS, PLANKS = range(9)
_PATTERN_WEIGHTS = (0.42, 0.1, 0.05, 0.16, 0.07, 0.06, 0.06, 0.08)  # planks are for floors only

compiled = numba.njit(cache=True, nogil=True, error_model="numpy")


def material_row(
    colour: tuple[float, float, float] | np.ndarray,
    second: tuple[float, float, float] | np.ndarray | None = None,
    pattern: int = PLAIN,
    frequency: float = 4.0,
    direction: tuple[float, float, float] | np.ndarray = (0.0, 1.0, 0.0),
    phase: float = 0.0,
    sharpness: float = 3.0,
    grain: float = 0.0,
    grain_frequency: float = 8.0,
    gloss: float = 0.0,
    shine: float = 40.0,
) -> np.ndarray:
    """(MATERIAL_LENGTH,) row. Colours are linear RGB albedo; gloss: mirror strength 0..1; shine: highlight exponent."""
    second = colour if second is None else second
    head = [*colour, *second, pattern, frequency, *direction, phase, sharpness]
    return np.array([*head, grain, grain_frequency, gloss, shine], float)


def random_colour(rng: np.random.Generator) -> np.ndarray:
    """(3,) random linear RGB colour of any hue, including greys and dark colours."""
    saturation = rng.random() ** 1.3 * (0.15 if rng.random() < 0.3 else 1.0)
    rgb = np.array(colorsys.hsv_to_rgb(rng.random(), saturation, rng.uniform(0.08, 1.0) ** 0.8))
    return rgb**1.6


def random_materials(rng: np.random.Generator, count: int) -> np.ndarray:
    """(count, MATERIAL_LENGTH) random materials of one object, often from one palette."""
    palette, in_palette = random_colour(rng), rng.random() < 0.6
    rows = []
    for _ in range(count):
        colour = random_colour(rng)
        if in_palette and rng.random() < 0.35:
            colour = np.clip(palette * rng.uniform(0.75, 1.15), 0, 1)
        second = np.clip(colour * rng.uniform(0.4, 1.4), 0, 1) if rng.random() < 0.5 else random_colour(rng)
        direction = np.eye(3)[rng.integers(3)] if rng.random() < 0.6 else rng.normal(size=3)
        rows.append(
            material_row(
                colour,
                second,
                pattern=int(rng.choice(len(_PATTERN_WEIGHTS), p=_PATTERN_WEIGHTS)),
                frequency=np.exp(rng.uniform(0.3, 2.8)),
                direction=direction / np.linalg.norm(direction),
                phase=rng.uniform(0, 6.28),
                sharpness=np.exp(rng.uniform(-0.5, 2)),
                grain=rng.uniform(0.05, 0.5) * (rng.random() < 0.6),
                grain_frequency=np.exp(rng.uniform(1, 3.8)),
                gloss=rng.uniform(0.1, 0.8) * (rng.random() < 0.4),
                shine=np.exp(rng.uniform(2, 5.5)),
            )
        )
    return np.array(rows)


@compiled
def _hash(i: int, j: int, k: int, salt: int) -> float:
    """A pseudo-random number in 0..1 for a lattice point."""
    h = (i * 374761393 + j * 668265263 + k * 2147483647 + salt * 1274126177) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 1274126177) & 0xFFFFFFFF
    h ^= h >> 16
    h = (h * 2246822519) & 0xFFFFFFFF
    h ^= h >> 13
    return (h & 0xFFFFFF) / 16777216.0


@compiled
def _noise(x: float, y: float, z: float, salt: int) -> float:
    """Value noise, 0..1."""
    i, j, k = floor(x), floor(y), floor(z)
    u, v, w = x - i, y - j, z - k
    u, v, w = u * u * (3 - 2 * u), v * v * (3 - 2 * v), w * w * (3 - 2 * w)
    total = 0.0
    for corner in range(8):
        a, b, c = corner & 1, (corner >> 1) & 1, corner >> 2
        weight = (u if a else 1 - u) * (v if b else 1 - v) * (w if c else 1 - w)
        total += weight * _hash(i + a, j + b, k + c, salt)
    return total


@compiled
def fractal_noise(x: float, y: float, z: float, salt: int) -> float:
    """Three octaves of value noise, 0..1."""
    return (
        4 * _noise(x, y, z, salt)
        + 2 * _noise(2.03 * x, 2.03 * y, 2.03 * z, salt + 1)
        + _noise(4.1 * x, 4.1 * y, 4.1 * z, salt + 2)
    ) / 7


@compiled
def _planks(x: float, y: float, frequency: float, phase: float) -> float:
    """Boards along x: each with its own tint and fine grain along x, separated by dark lines."""
    across = y * frequency
    board = floor(across)
    along = x * frequency / 6 + 7 * _hash(board, 3, 0, int(phase * 10))
    tint = _hash(board, floor(along), 1, int(phase * 10))
    grain = fractal_noise(x * frequency * 0.5, across * 7 + 3 * tint, 5.0 * tint, 17)
    edge = min(min(across - board, board + 1 - across), 6 * min(along - floor(along), floor(along) + 1 - along))
    return 1.0 if edge < 0.012 else 0.45 * tint + 0.5 * grain


@compiled
def albedo(m: np.ndarray, x: float, y: float, z: float, salt: int) -> tuple[float, float, float]:
    """Linear RGB of the solid texture `m` (MATERIAL_LENGTH,) at a point."""
    pattern, f, phase, sharp = int(m[PATTERN]), m[FREQUENCY], m[PHASE], m[SHARPNESS]
    along = x * m[DIRECTION] + y * m[DIRECTION + 1] + z * m[DIRECTION + 2]
    mix = 0.0
    if pattern == STRIPES:
        mix = 0.5 + sin(along * f * 3 + phase) * sharp
    elif pattern == CHECKS:
        s = sin(x * f * 2 + phase) * sin(y * f * 2 + 1.7 * phase) * sin(z * f * 2 + 0.6 * phase)
        mix = 0.5 + 8 * s * sharp
    elif pattern == CLOUDS:
        mix = 0.5 + (fractal_noise(x * f, y * f, z * f, salt + 7) - 0.5) * 3 * sharp
    elif pattern == FADE:
        mix = 0.5 + 0.8 * along
    elif pattern == SPLIT:
        mix = 1.0 if along > 0.12 * phase - 0.35 else 0.0
    elif pattern == DOTS:
        a, b, c = x * f, y * f, z * f
        i, j, k = floor(a), floor(b), floor(c)
        a -= i + 0.3 + 0.4 * _hash(i, j, k, salt)
        b -= j + 0.3 + 0.4 * _hash(i, j, k, salt + 1)
        c -= k + 0.3 + 0.4 * _hash(i, j, k, salt + 2)
        mix = 1.0 if a * a + b * b + c * c < 0.11 else 0.0
    elif pattern == RINGS:
        r = sqrt((x + 0.3 * m[DIRECTION]) ** 2 + (z + 0.3 * m[DIRECTION + 2]) ** 2)
        mix = 0.5 + 0.5 * sin(r * f * 4 + 3 * fractal_noise(3 * x, 3 * y, 3 * z, salt))
    elif pattern == PLANKS:
        mix = _planks(x, y, f, phase)
    mix = min(max(mix, 0.0), 1.0)
    grain = 1.0
    if m[GRAIN] > 0:
        g = m[GRAIN_FREQUENCY]
        grain += m[GRAIN] * (2 * fractal_noise(x * g, y * g, z * g, salt + 31) - 1)
    r = min(max((m[0] + (m[3] - m[0]) * mix) * grain, 0.0), 1.0)
    g = min(max((m[1] + (m[4] - m[1]) * mix) * grain, 0.0), 1.0)
    b = min(max((m[2] + (m[5] - m[2]) * mix) * grain, 0.0), 1.0)
    return r, g, b
