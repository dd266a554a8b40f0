"""Batches of procedural scenes with labels: layout, rendering, camera effects and compression on one device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from training.masks.bank import Bank
from training.masks.library import CRows, address, call
from training.masks.rows import LAYER, LAYERS, PANEL, PANELS, SCENE, SURFACE, SURFACES

USUAL_BRIGHTNESS = 0.42  # mean of a scene that its camera would show as it is


@dataclass(frozen=True)
class Rows:
    """The content of B scenes: float32, with the columns in `rows`."""

    scenes: Tensor  # (B, len(SCENE))
    surfaces: Tensor  # (B, SURFACES, len(SURFACE)): ground, wall, corner wall, thicket
    panels: Tensor  # (B, PANELS, len(PANEL))
    layers: Tensor  # (B, LAYERS, len(LAYER)), far to near

    @classmethod
    def empty(cls, count: int, device: torch.device) -> Rows:
        shapes = ((len(SCENE),), (SURFACES, len(SURFACE)), (PANELS, len(PANEL)), (LAYERS, len(LAYER)))
        return cls(*(torch.zeros(count, *shape, device=device) for shape in shapes))

    def native(self) -> CRows:
        return CRows(*(address(t) for t in (self.scenes, self.surfaces, self.panels, self.layers)))

    def column(self, name: str) -> Tensor:
        """(B,) one column of `scenes`."""
        return self.scenes[:, SCENE.index(name)]


class Scenes(NamedTuple):
    """B pictures of S x S px, and their ground truth."""

    rgb: Tensor  # (B, 3, S, S) float32 in 0..1
    labels: Tensor  # (B, S, S) uint8: 0 background, 1.. an object each, rows.IGNORE neither
    inverse_depth: Tensor  # (B, S, S) float32, of what is seen; depth along the camera's axis in camera heights
    rise: Tensor  # (B, S, S) float32, sine of the angle of the pixel's ray above the horizon
    ground: Tensor  # (B, S, S) uint8, 1 where the ground is seen
    placed: Tensor  # (B,) float32, 1 where the last three hold: things stand on a ground


def arrange(seeds: Tensor, bank: Bank, side_px: int) -> Rows:
    """The rows of B scenes for pictures of `side_px`, determined by `seeds` (B,) int32."""
    rows = Rows.empty(len(seeds), seeds.device)
    call("arrange_scenes", seeds.device, seeds, rows.native(), bank.native(), bank.index(), len(seeds), side_px)
    return rows


def compose(rows: Rows, bank: Bank, side_px: int, coverage: Tensor | None = None) -> Scenes:
    """The rendered scenes, before camera effects; `rgb` is linear, 0..1.3.

    `coverage`, (B, LAYERS + 1, S, S) float32, is filled with the shares of the background and of each layer.
    """
    device, count = rows.scenes.device, len(rows.scenes)
    area = (count, side_px, side_px)
    scenes = Scenes(
        rgb=torch.empty(count, 3, side_px, side_px, device=device),
        labels=torch.empty(area, dtype=torch.uint8, device=device),
        inverse_depth=torch.empty(area, device=device),
        rise=torch.empty(area, device=device),
        ground=torch.empty(area, dtype=torch.uint8, device=device),
        placed=rows.column("placed").clone(),
    )
    outputs = (scenes.rgb, scenes.labels, scenes.inverse_depth, scenes.rise, scenes.ground, coverage)
    call("compose_scenes", device, rows.native(), bank.native(), count, side_px, *outputs)
    return scenes


def photograph(rows: Rows, composed: Scenes) -> Scenes:
    """The scenes with the effects of a camera and of compression; the labels are unchanged."""
    count, _, side, _ = composed.rgb.shape
    device = composed.rgb.device
    rgb = torch.empty_like(composed.rgb)
    scenes = rows.scenes.clone()
    # A camera exposes for what it sees: without this a third of the scenes would be darker than any photo.
    seen = composed.rgb.clamp(0, 1).mean((1, 2, 3)).clamp(min=0.02)
    scenes[:, SCENE.index("exposure")] *= ((USUAL_BRIGHTNESS / seen) ** 0.7).clamp(0.6, 3)
    inputs = (scenes, composed.rgb, composed.labels, composed.inverse_depth)
    call("develop_scenes", device, *inputs, rgb, count, side)
    call("compress_scenes", device, scenes, rgb, count, side)
    return composed._replace(rgb=rgb)


def make_scenes(seeds: Tensor, bank: Bank, side_px: int) -> Scenes:
    """`seeds` (B,) int32 on the bank's device; `side_px` a multiple of 8."""
    rows = arrange(seeds, bank, side_px)
    return photograph(rows, compose(rows, bank, side_px))
