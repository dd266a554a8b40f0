"""Figures of a mask net on scenes with ground truth: those that matter to users, rather than the losses."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from sam3d_gs.embedded.proposals.mask_net import CELL_PX, MaskNet
from training.masks.losses import FEWEST_CELLS, at_geometry_stride, mask_logits
from training.masks.rows import IGNORE
from training.masks.scenes import Scenes

_APART = 0.05  # depths that differ by less than this share are in no order


@torch.no_grad()
def figures(net: MaskNet, scenes: Scenes) -> dict[str, list[float]]:
    """One value per object, pair or scene: "iou" and "iou_75" of the mask queried at each object's central cell;
    "order", 1 for each pair of objects in correct depth order; "rise_deg", median error of the horizon."""
    maps = net(scenes.rgb)
    found: dict[str, list[float]] = {"iou": [], "iou_75": []}
    cells = maps.queries.flatten(2).transpose(1, 2)
    for i, labels in enumerate(scenes.labels):
        objects = [int(n) for n in labels.unique() if 0 < n < IGNORE]
        middles = [(n, _middle_cell(labels == n)) for n in objects]
        middles = [(n, cell) for n, cell in middles if cell is not None]
        if not middles:
            continue
        cell = torch.tensor([[c for _, c in middles]], device=labels.device)
        logits = mask_logits(maps.embedding[i : i + 1], cells[i][cell], cell)[0]
        predicted = logits > 0
        truth = torch.stack([labels[::2, ::2] == n for n, _ in middles])
        iou = (predicted & truth).sum((1, 2)) / (predicted | truth).sum((1, 2)).clamp(min=1)
        found["iou"] += iou.tolist()
        found["iou_75"] += (iou > 0.75).float().tolist()
    if maps.geometry is not None:
        found |= {"order": [], "rise_deg": []}
        for i in torch.nonzero(scenes.placed)[:, 0].tolist():
            labels = scenes.labels[i]
            depth = _object_depths(at_geometry_stride(scenes.inverse_depth[i : i + 1])[0].log(), labels)
            predicted_depth = _object_depths(maps.geometry.log_inverse_depth[i].float(), labels)
            for a, b in itertools.combinations(depth, 2):
                if abs(depth[a] - depth[b]) > _APART:
                    found["order"].append(float((depth[a] > depth[b]) == (predicted_depth[a] > predicted_depth[b])))
            predicted_rise = maps.geometry.sin_elevation[i].float().clamp(-1, 1)
            error = predicted_rise.asin() - at_geometry_stride(scenes.rise[i : i + 1])[0].asin()
            found["rise_deg"].append(float(error.abs().median().rad2deg()))
    return found


def _middle_cell(mask: Tensor) -> int | None:
    """Flat index of the cell nearest to the centre of `mask` (S, S) bool; None if it covers too few cells."""
    cells = mask[CELL_PX // 2 :: CELL_PX, CELL_PX // 2 :: CELL_PX]
    at = torch.nonzero(cells).float()
    if len(at) < FEWEST_CELLS:
        return None
    row, column = at[(at - at.mean(0)).square().sum(1).argmin()].long().tolist()
    return int(row * cells.shape[1] + column)


def _object_depths(values: Tensor, labels: Tensor) -> dict[int, float]:
    """Median of `values` (S/4, S/4) on each object in `labels` (S, S)."""
    small = at_geometry_stride(labels[None])[0]
    return {int(n): float(values[small == n].median()) for n in small.unique() if 0 < n < IGNORE}
