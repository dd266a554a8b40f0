"""Gaussians as a compressed file for the web: PlayCanvas compressed .ply or Niantic .spz, through gsply.

Both lose precision: positions to 1/2047 of the box of each 256 Gaussians (.compressed.ply) or to a fixed-point
grid (.spz), the other values to 8 to 11 bits. A Gaussian takes about 16 to 20 bytes instead of 68.

Axes: a .compressed.ply keeps the frame of the Gaussians. An .spz has axes of its own, x right, y up, z back
(the format's README), so Gaussians in our camera frame (x right, y down, z forward) are turned by 180 degrees about x.
PlayCanvas splat-transform does the same in both directions, so that its .ply from our .spz is our .ply again; gsply
does neither and reads the stored axes, so turn what it reads with `transform(gaussians, HALF_TURN)`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sam3d_gs.errors import MissingPackageError, UsageError
from sam3d_gs.files import atomic_path, write_bytes
from sam3d_gs.gaussians.frames import SPZ_AXES
from sam3d_gs.gaussians.pose import transform
from sam3d_gs.gaussians.zcurve import morton_order
from sam3d_gs.types import Gaussians, Pose

SUFFIXES = (".compressed.ply", ".spz")
HALF_TURN = Pose(np.array([0.0, 1.0, 0.0, 0.0]), np.zeros(3), 1.0)  # about x: y and z change sign; its own inverse
_SPZ_POSITION_BITS = 24  # signed fixed point
_SPZ_MAX_FRACTIONAL_BITS = 18


def export(gaussians: Gaussians, path_out: Path, frame: str = "opencv") -> None:
    """Write one file; the suffix of `path_out` names the format.

    frame: of the Gaussians, a key of `frames.AXES`; for an .spz, opencv or one of SPZ_AXES.
    Raises UsageError for another suffix, MissingPackageError without gsply.
    """
    if not path_out.name.endswith(SUFFIXES):
        raise UsageError(f"Cannot export to {path_out.name}. Choose a name that ends with {' or '.join(SUFFIXES)}.")
    try:
        import gsply
    except ImportError as error:
        raise MissingPackageError(
            f"gsply is needed to write {path_out.name} and is not installed here. pip install 'sam3d_gs[export]'"
        ) from error
    is_spz = path_out.name.endswith(".spz")
    if is_spz and frame not in SPZ_AXES:
        gaussians = transform(gaussians, HALF_TURN)
    ordered = gaussians.take(morton_order(gaussians.means))  # the box of 256 neighbours is then small and its grid fine
    data = gsply.GSData.from_arrays(
        means=ordered.means,
        scales=ordered.log_scales,
        quats=ordered.quats,
        opacities=ordered.opacity_logits,
        sh0=ordered.sh0,
        format="ply",
    )
    if is_spz:
        with atomic_path(path_out) as temporary:
            gsply.write_spz(temporary, data, version=3, fractional_bits=spz_fractional_bits(gaussians))
    else:
        write_bytes(path_out, gsply.compress_to_bytes(data))


def spz_fractional_bits(gaussians: Gaussians) -> int:
    """The finest fixed-point grid, 2**-bits, on which every position still fits."""
    largest = max(float(np.abs(gaussians.means).max()), 2.0**-30)
    whole_bits = int(np.floor(np.log2(largest))) + 1
    return int(np.clip(_SPZ_POSITION_BITS - 1 - whole_bits, 1, _SPZ_MAX_FRACTIONAL_BITS))
