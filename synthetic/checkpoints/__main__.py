"""`python -m synthetic.checkpoints DIR`: write a checkpoint folder with random weights."""

from __future__ import annotations

import argparse
from pathlib import Path

from synthetic.checkpoints.configs import SIZES
from synthetic.checkpoints.write_folder import make_checkpoints


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m synthetic.checkpoints",
        description="Write a checkpoint folder in the official layout of SAM 3D Objects, with random weights.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="where to write the checkpoints")
    parser.add_argument("--size", choices=tuple(SIZES), default="tiny", help="tiny: a few MB; full: 14 GB")
    parser.add_argument("--seed", type=int, default=0, help="of the weights")
    parser.add_argument("--safetensors", action="store_true", help="write .safetensors instead of .ckpt")
    parser.add_argument("--different-dino", action="store_true", help="give the four DINO copies different weights")
    options = parser.parse_args()
    make_checkpoints(
        options.folder,
        options.size,
        options.seed,
        safetensors=options.safetensors,
        identical_dino=not options.different_dino,
    )


if __name__ == "__main__":
    main()
