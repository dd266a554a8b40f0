"""A sheet of training samples to look at.

    python -m training.objects.preview sheet.png [--count 24] [--side 160] [--seed 0] [--plain] [--evaluated-only]

Each row: picture, masked picture, four depth layers (light is near), hollow pixels, back colour, occluded pixels.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sam3d_gs.errors import Sam3dGsError
from sam3d_gs.files import atomic_path
from training.objects.draw import Draw
from training.objects.samples import Batch, SampleOptions, make_batch
from training.objects.shapes import PoolChoice, make_pool


def sheet(batch: Batch, columns: int = 2) -> np.ndarray:
    """(H, W, 3) uint8 sheet with `columns` samples side by side."""
    seen, depth = batch.amodal, batch.layers
    low = depth.where(seen > 0, torch.inf).amin((1, 2, 3), keepdim=True)
    high = depth.where(seen > 0, -torch.inf).amax((1, 2, 3), keepdim=True)
    light = ((depth - low) / (high - low).clamp(min=1e-6) * 0.9 + 0.1) * seen
    pictures = [batch.image, batch.image * batch.mask]
    pictures += [_rgb(light[:, i : i + 1]) for i in range(4)]
    pictures += [_rgb(batch.hollow * seen), batch.back_rgb * seen, _rgb(seen - 0.5 * batch.visible)]
    rows = torch.cat(pictures, dim=3).clamp(0, 1)
    lines = [torch.cat(list(rows[i : i + columns]), dim=2) for i in range(0, len(rows) - columns + 1, columns)]
    together = torch.cat(lines, dim=1)
    return (together.permute(1, 2, 0).numpy() * 255).astype(np.uint8)


def _rgb(plane: Tensor) -> Tensor:
    return plane.expand(-1, 3, -1, -1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="picture to write")
    parser.add_argument("--count", type=int, default=24, help="samples")
    parser.add_argument("--side", type=int, default=160, help="side of a sample, pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plain", action="store_true", help="complete objects in clean pictures, as in the benchmark")
    parser.add_argument("--evaluated-only", action="store_true", help="only the families of the evaluation set")
    options = parser.parse_args()
    pool = make_pool(PoolChoice(options.count, options.seed * options.count, further=not options.evaluated_only))
    torch.manual_seed(options.seed)
    draw = Draw(torch.Generator().manual_seed(options.seed))
    batch = make_batch(draw, pool, SampleOptions(options.side, plain=options.plain))
    with atomic_path(options.out) as path:
        Image.fromarray(sheet(batch)).save(path)


if __name__ == "__main__":
    try:
        main()
    except Sam3dGsError as error:
        raise SystemExit(f"error: {error}") from error
