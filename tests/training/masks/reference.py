"""What the compositor should do, again in NumPy: for plain surfaces, without noise, panels and light patches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.masks.bank import LEVELS, Bank
from training.masks.rows import FAR, LAYER, LAYERS, NEAR, SCENE, SURFACE
from training.masks.scenes import Rows


@dataclass(frozen=True)
class Reference:
    """One scene, S x S."""

    rgb: np.ndarray  # (S, S, 3)
    labels: np.ndarray  # (S, S) int
    inverse_depth: np.ndarray
    rise: np.ndarray
    ground: np.ndarray  # (S, S) bool
    coverage: np.ndarray  # (LAYERS + 1, S, S)


def named(row: np.ndarray, names: tuple[str, ...]) -> dict[str, float]:
    return {name: float(value) for name, value in zip(names, row, strict=True)}


def composed(rows: Rows, bank: Bank, side: int) -> Reference:
    """The first of the scenes."""
    scene = named(rows.scenes[0].numpy(), SCENE)
    surfaces = [named(row, SURFACE) for row in rows.surfaces[0].numpy()]
    at = (np.arange(side) + 0.5) / side - 0.5
    x = scene["roll_cos"] * at[None] + scene["roll_sin"] * at[:, None]
    y = scene["roll_cos"] * at[:, None] - scene["roll_sin"] * at[None]
    right, down = x / scene["focal"], y / scene["focal"]

    fall = down * scene["pitch_cos"] + scene["pitch_sin"]
    ahead = scene["pitch_cos"] - down * scene["pitch_sin"]
    depth, hit = np.full((side, side), FAR), np.full((side, side), -1)
    with np.errstate(divide="ignore"):
        places = [1 / fall]
        if scene["wall"]:
            places.append(scene["wall_distance"] / (right * scene["wall_sin"] + ahead * scene["wall_cos"]))
        for k, place in enumerate(places):
            nearer = (place > 0) & (place < depth)
            depth, hit = np.where(nearer, place, depth), np.where(nearer, k, hit)
    rgb = np.zeros((side, side, 3))
    for k, surface in enumerate(surfaces):
        rgb[hit == k] = [surface[c] for c in "rgb"]
    ground, labels = hit == 0, np.zeros((side, side), int)
    front, coverage = np.full((side, side), 1e9), np.zeros((LAYERS + 1, side, side))
    coverage[0] = 1
    for k, row in enumerate(rows.layers[0].numpy()):
        layer = named(row, LAYER)
        if layer["sprite"] < 0:
            continue
        u = layer["xx"] * x + layer["xy"] * y + layer["x0"]
        v = layer["yx"] * x + layer["yy"] * y + layer["y0"]
        colour, alpha, z = sampled(bank, int(layer["sprite"]), int(layer["level"]), u, v)
        own = layer["depth"] - layer["depth_per_z"] * z
        shown = np.where((alpha > 0) & (own <= front) & (own >= NEAR), alpha, 0)
        tint = layer["brightness"] * np.array([layer["tint_r"], layer["tint_g"], layer["tint_b"]])
        rgb = rgb * (1 - shown[..., None]) + np.where(shown[..., None] > 0, colour * tint, 0)
        coverage *= 1 - shown
        coverage[k + 1] = shown
        solid = shown > 0.5
        labels[solid], ground[solid] = int(layer["label"]), False
        depth, front = np.where(solid, own, depth), np.where(solid, own, front)
    rise = -fall / np.sqrt(1 + right**2 + down**2)
    return Reference(rgb, labels, 1 / depth, rise, ground, coverage)


def sampled(bank: Bank, sprite: int, level: int, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, ...]:
    """Bilinear colour (premultiplied), alpha and z at window coordinates; nothing beyond the window."""
    assert level < LEVELS
    side = bank.side_px >> level
    start = sum((bank.side_px >> k) ** 2 for k in range(level))
    texels = bank.rgba[sprite, start : start + side * side].numpy().reshape(side, side, 4) / 255
    depths = bank.z[sprite, start : start + side * side].numpy().reshape(side, side) / 8192
    framed = np.pad(np.concatenate([texels, (texels[..., 3] * depths)[..., None]], -1), ((1, 1), (1, 1), (0, 0)))
    column, row = (u + 1) / 2 * side + 0.5, (v + 1) / 2 * side + 0.5
    inside = (np.abs(u) < 1) & (np.abs(v) < 1)
    j, i = (np.floor(np.where(inside, value, 0)).astype(int) for value in (column, row))
    a, b = (column - j)[..., None], (row - i)[..., None]
    upper = framed[i, j] * (1 - a) + framed[i, np.minimum(j + 1, side + 1)] * a
    below = np.minimum(i + 1, side + 1)
    lower = framed[below, j] * (1 - a) + framed[below, np.minimum(j + 1, side + 1)] * a
    found = np.where(inside[..., None], upper * (1 - b) + lower * b, 0)
    return found[..., :3], found[..., 3], found[..., 4] / np.maximum(found[..., 3], 1e-6)
