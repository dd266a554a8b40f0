"""Losses of the mask net: the object at a queried cell, which cells show objects, and the scene's geometry."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sam3d_gs.embedded.proposals.mask_net import (
    CELL_PX,
    GEOMETRY_STRIDE_PX,
    OFFSET_TERMS,
    OFFSET_UNIT_PX,
    Geometry,
    Maps,
)
from training.masks.rows import IGNORE
from training.masks.scenes import Scenes

FEWEST_CELLS = 4  # objects that cover fewer are neither sampled for nor counted as background
_RARITY = 0.7  # a cell of an object of n cells is sampled with weight n^-0.7: small objects more often than by area
_WEIGHTS = {
    "dice": 1.0,
    "edge": 2.0,
    "objectness": 0.5,
    "quality": 0.3,
    "depth": 0.5,
    "relief": 0.5,
    "rise": 2.0,
    "floor": 0.2,
}


@dataclass(frozen=True)
class CellSample:
    """K queried cells of each picture's g x g cells, and their targets."""

    cell: Tensor  # (B, K) int64, flat index
    object: Tensor  # (B, K) int64, the object under it
    counts: Tensor  # (B, K) float32, 1 where the loss counts: a cell of a large enough object
    on_object: Tensor  # (B, g*g) float32, 1 where a cell's centre is on an object
    matters: Tensor  # (B, g*g) float32, 0 where `on_object` is ignored


def sample_cells(labels: Tensor, count: int) -> CellSample:
    """`count` random cells for each picture of `labels` (B, S, S) uint8, with similar odds for objects of all sizes."""
    cell = labels[:, CELL_PX // 2 :: CELL_PX, CELL_PX // 2 :: CELL_PX].long().flatten(1)
    sizes = torch.zeros(len(cell), IGNORE + 1, device=cell.device)
    sizes.scatter_add_(1, cell, torch.ones_like(cell, dtype=torch.float32))
    size = sizes.gather(1, cell)
    on_object = (cell > 0) & (cell != IGNORE)
    fair = on_object & (size >= FEWEST_CELLS)
    # Not torch.multinomial, which may synchronise with the GPU: a recorded step must not.
    upto = (torch.where(fair, size**-_RARITY, 0.0) + 1e-7).cumsum(1)
    chosen = torch.searchsorted(upto, torch.rand(len(cell), count, device=cell.device) * upto[:, -1:])
    chosen = chosen.clamp(max=cell.shape[1] - 1)
    matters = ~((on_object & ~fair) | (cell == IGNORE))
    counts = fair.gather(1, chosen).float()
    return CellSample(chosen, cell.gather(1, chosen), counts, on_object.float(), matters.float())


def mask_logits(embedding: Tensor, queries: Tensor, cell: Tensor) -> Tensor:
    """Logits (B, K, h, w) float32 that pixels at stride 2 belong to the objects at the cells.

    `embedding` (B, C, h, w); `queries` (B, K, C + 8) of the cells `cell` (B, K). The formula is that of
    `mask_net.affinity`, which evaluates it between cells.
    """
    channels, height, width = embedding.shape[1:]
    across = 2 * width // CELL_PX
    x, y = (
        cell % across * CELL_PX + CELL_PX / 2,
        torch.div(cell, across, rounding_mode="floor") * CELL_PX + CELL_PX / 2,
    )
    weights = queries[..., :channels].to(embedding.dtype) * channels**-0.5
    product = torch.bmm(weights, embedding.flatten(2)).view(*cell.shape, height, width).float()
    dx = (2 * torch.arange(width, device=cell.device) + 1 - x[..., None, None]) / OFFSET_UNIT_PX
    dy = (2 * torch.arange(height, device=cell.device)[:, None] + 1 - y[..., None, None]) / OFFSET_UNIT_PX
    terms = queries[..., channels : channels + OFFSET_TERMS].float()[..., None, None]
    a, b, c, d, e, f = terms.unbind(2)
    return product + (a * dx + c * dx * dx + f) + (b * dy + d * dy * dy) + e * dx * dy


def mask_losses(maps: Maps, labels: Tensor, count: int) -> dict[str, Tensor]:
    """Name -> scalar: losses of the masks ("dice", "edge") and of the two logits per cell, and two figures to log."""
    sampled = sample_cells(labels, count)
    cells = maps.queries.flatten(2).transpose(1, 2)
    queries = cells.gather(1, sampled.cell[..., None].expand(-1, -1, cells.shape[-1]))
    logits = mask_logits(maps.embedding, queries, sampled.cell)
    target = F.avg_pool2d((labels[:, None] == sampled.object[..., None, None]).to(logits.dtype), 2)
    counted = sampled.counts.sum() + 1

    def mean(values: Tensor) -> Tensor:
        return (values * sampled.counts).sum() / counted

    predicted = logits.sigmoid()
    area = target.sum((2, 3))
    wrong = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * (
        (predicted - target).detach().abs() + 0.1
    )
    overlap = (2 * (predicted * target).sum((2, 3)) + 10) / ((predicted**2).sum((2, 3)) + (target**2).sum((2, 3)) + 10)
    with torch.no_grad():
        inside, truth = logits > 0, target > 0.5
        iou = (inside & truth).sum((2, 3)).float() / (inside | truth).sum((2, 3)).clamp(min=1)
    on_object = F.binary_cross_entropy_with_logits(cells[..., -2].float(), sampled.on_object, reduction="none")
    quality = F.binary_cross_entropy_with_logits(queries[..., -1].float(), iou, reduction="none")
    return {
        "dice": mean(1 - overlap),
        "edge": mean(wrong.sum((2, 3)) / (4 * area + 400)),  # as if each object were alone in a picture of its size
        "objectness": (on_object * sampled.matters).mean(),
        "quality": mean(quality),
        "iou": mean(iou),
        "iou_75": mean((iou > 0.75).float()),
    }


def at_geometry_stride(values: Tensor) -> Tensor:
    """(B, S, S) -> (B, S/4, S/4) float32, sampled near the centres of the larger pixels."""
    return values[
        :, GEOMETRY_STRIDE_PX // 2 :: GEOMETRY_STRIDE_PX, GEOMETRY_STRIDE_PX // 2 :: GEOMETRY_STRIDE_PX
    ].float()


def geometry_losses(predicted: Geometry, scenes: Scenes) -> dict[str, Tensor]:
    """Name -> scalar, over scenes with objects on the ground. Depth is compared up to one factor per scene."""
    share = scenes.placed / scenes.placed.sum().clamp(min=1)

    def mean(values: Tensor) -> Tensor:  # (B, h, w)
        return (values.mean((1, 2)) * share).sum()

    error = predicted.log_inverse_depth.float() - at_geometry_stride(scenes.inverse_depth).log()
    offset = error.detach().flatten(1).median(1).values
    relief = error.new_zeros(())
    for step in (1, 2, 4):  # differences of the error between neighbours: edges and slopes, independent of the offset
        relief = relief + mean((error[:, step:, :-step] - error[:, :-step, :-step]).abs())
        relief = relief + mean((error[:, :-step, step:] - error[:, :-step, :-step]).abs())
    ground = at_geometry_stride(scenes.ground)
    floor = F.binary_cross_entropy_with_logits(predicted.floor.float(), ground, reduction="none")
    return {
        "depth": mean((error - offset[:, None, None]).abs()),
        "relief": relief / 3,
        "rise": mean((predicted.sin_elevation.float() - at_geometry_stride(scenes.rise)).abs()),
        "floor": mean(floor),
    }


def losses(maps: Maps, scenes: Scenes, count: int) -> dict[str, Tensor]:
    """Name -> scalar, for all losses; "total" is minimised."""
    found = mask_losses(maps, scenes.labels, count)
    if maps.geometry is not None:
        found |= geometry_losses(maps.geometry, scenes)
    total = torch.stack([_WEIGHTS[name] * value for name, value in found.items() if name in _WEIGHTS]).sum()
    return found | {"total": total}
