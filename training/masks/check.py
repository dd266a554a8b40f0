"""Figures of a mask net on a fixed set of procedural scenes that are never used in training.

    python -m training.masks.check masks.safetensors

One figure per line, for masks queried at the centre of each object: share with an IoU of at least 0.75, and mean IoU;
then the share of object pairs in correct depth order, and the median error of the horizon. A net of version 1 has only
the first two.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from sam3d_gs.embedded.proposals.mask_net import WEIGHTS, MaskNet, load_mask_net
from training.masks.bank import Part, bank_of
from training.masks.scenes import make_scenes
from training.masks.sprites import make_pool, picture_sets
from training.masks.validation import figures

FIRST_SET = 10_000_000  # sets from here on are not for training
_SEED = 2
_AT_ONCE = 8


class Checks:
    """`count` scenes of `side_px` from sprites of `sprite_px`, generated again for each use."""

    def __init__(self, count: int, side_px: int, sprite_px: int, device: torch.device) -> None:
        self._side_px = side_px
        self._seeds = torch.arange(count, dtype=torch.int32, device=device)
        pool = make_pool(max(count, 32), FIRST_SET).to(device)
        generator = torch.Generator(device).manual_seed(_SEED)
        every = torch.arange(len(pool.first), device=device)
        self._bank = bank_of([Part.of(picture_sets(pool, some, generator, sprite_px)) for some in every.split(64)])

    def figures(self, net: MaskNet) -> dict[str, float]:
        """Name -> mean."""
        found: dict[str, list[float]] = {}
        for some in self._seeds.split(_AT_ONCE):
            for name, values in figures(net, make_scenes(some, self._bank, self._side_px)).items():
                found.setdefault(name, []).extend(values)
        return {name: sum(values) / max(len(values), 1) for name, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, nargs="?", default=WEIGHTS, help="default: the shipped weights")
    parser.add_argument("--scenes", type=int, default=96)
    arguments = parser.parse_args()
    net = load_mask_net(arguments.weights)
    for name, value in Checks(arguments.scenes, 320, 128, torch.device("cpu")).figures(net).items():
        print(f"{name}: {value:.3f}")


if __name__ == "__main__":
    main()
