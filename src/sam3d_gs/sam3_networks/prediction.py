"""A network's prediction for a photo, and its best masks as detections at photo size on the host."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sam3d_gs.masks.detections import Detection

log = logging.getLogger("sam3d_gs")

_MAX_DETECTIONS = 64  # of one photo, the best ones; never fewer than one per prompt
_BATCH = 8  # masks resized together
_THREADS = 8


@dataclass(frozen=True)
class Prediction:
    """Q candidates for each of N prompts about one photo, on the network's device."""

    scores: Tensor  # (N, Q) float32, 0..1
    mask_logits: Tensor  # (N, Q, h, w), at the network's own size; above 0 is object

    @staticmethod
    def of_phrases(logits: Tensor, presence: Tensor, mask_logits: Tensor) -> Prediction:
        """From the network's outputs for N phrases: logits (N, Q), presence (N, 1) or (N,)."""
        present = presence.float().sigmoid().reshape(-1, 1)
        return Prediction(logits.float().sigmoid() * present, mask_logits)


def detections(prediction: Prediction, thresholds: Sequence[float], size_px: tuple[int, int]) -> list[Detection]:
    """The candidates that reach their prompt's threshold, and each prompt's best one, at (height, width) px.

    The best one is returned even below the threshold, so that a user learns which threshold would keep it.
    """
    prompts, candidates = _best_candidates(prediction.scores, thresholds)
    bits = packed_masks(prediction.mask_logits[prompts, candidates], size_px)
    scores = prediction.scores[prompts, candidates].tolist()
    with ThreadPoolExecutor(_THREADS) as threads:
        masks = list(threads.map(lambda rows: unpacked(rows, size_px[1]), bits))
    return [Detection(prompt, score, mask) for prompt, score, mask in zip(prompts.tolist(), scores, masks, strict=True)]


def _best_candidates(scores: Tensor, thresholds: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Rows and columns of the chosen `scores` (N, Q), each (K,) on its device."""
    wanted = scores >= torch.tensor(thresholds, device=scores.device)[:, None]
    best = torch.zeros_like(wanted).scatter_(1, scores.argmax(1, keepdim=True), True)
    rank = torch.where(best, scores + 1, torch.where(wanted, scores, -1)).flatten()
    found = int((rank >= 0).sum())
    limit = max(_MAX_DETECTIONS, len(scores))
    if found > limit:
        log.warning("%d masks reach their threshold; only the best %d are used.", found, limit)
    chosen = rank.topk(min(found, limit)).indices
    return chosen // scores.shape[1], chosen % scores.shape[1]


def packed_masks(mask_logits: Tensor, size_px: tuple[int, int]) -> np.ndarray:
    """(K, h, w) logits -> (K, H, ceil(W / 8)) uint8: where they are above 0 at (H, W), in bits as by `np.packbits`.

    Resized, compared and packed on the device, so that an eighth of the bytes is copied, through pinned memory.
    """
    height, width = size_px
    weights = 2 ** torch.arange(7, -1, -1, device=mask_logits.device, dtype=torch.uint8)
    parts = []
    for part in mask_logits.split(_BATCH):
        sized = functional.interpolate(part[:, None].float(), size_px, mode="bilinear", align_corners=False)[:, 0]
        inside = functional.pad(sized > 0, (0, -width % 8))
        parts.append((inside.unflatten(2, (-1, 8)) * weights).sum(-1, dtype=torch.uint8))
    if not parts:
        return np.zeros((0, height, (width + 7) // 8), np.uint8)
    return _to_host(torch.cat(parts))


def _to_host(values: Tensor) -> np.ndarray:
    if values.device.type != "cuda":
        return values.cpu().numpy()
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    host.copy_(values, non_blocking=True)
    torch.cuda.current_stream(values.device).synchronize()
    return host.numpy()


def unpacked(bits: np.ndarray, width_px: int) -> np.ndarray:
    """(H, W) bool from one mask of `packed_masks`."""
    return np.unpackbits(bits, axis=1, count=width_px).view(np.bool_)


def network_pixels(rgb: np.ndarray, side_px: int, device: torch.device) -> Tensor:
    """A photo, (H, W, 3) uint8, as input of SAM 3: (1, 3, side, side) float32 in -1..1, rounded to 8 bits."""
    image = torch.tensor(np.ascontiguousarray(rgb), device=device).permute(2, 0, 1)[None]
    if device.type != "cpu":  # PyTorch resizes 8-bit images on the CPU alone
        image = image.float()
    sized = functional.interpolate(image, (side_px, side_px), mode="bilinear", align_corners=False, antialias=True)
    return sized.float().round_().clamp_(0, 255) / 127.5 - 1
