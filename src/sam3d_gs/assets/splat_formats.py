"""Gaussians as a compressed file for the web: PlayCanvas compressed .ply or Niantic .spz.

gsply writes them, except .spz of version 2, which older readers need (`spz2.py`).

Both lose precision: positions to 1/2047 of the box of each 256 Gaussians (.compressed.ply) or to a fixed-point
grid (.spz), the other values to 8 to 11 bits. A Gaussian takes about 16 to 20 bytes instead of 68.

Axes: a .compressed.ply keeps the frame of the Gaussians. An .spz has axes of its own, x right, y up, z back
(the format's README), so Gaussians in our camera frame (x right, y down, z forward) are turned by 180 degrees about x.
PlayCanvas splat-transform does the same in both directions, so that its .ply from our .spz is our .ply again; gsply
does neither and reads the stored axes, so turn what it reads with `transform(gaussians, HALF_TURN)`.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from sam3d_gs.assets.splat_limits import SPZ_LOG_SCALES, SPZ_POSITION_BITS, losses
from sam3d_gs.assets.spz2 import write_spz2
from sam3d_gs.errors import MissingPackageError, UsageError
from sam3d_gs.files import atomic_path, write_bytes
from sam3d_gs.gaussians.frames import SPZ_AXES
from sam3d_gs.gaussians.pose import transform
from sam3d_gs.gaussians.zcurve import morton_order
from sam3d_gs.options import EXPORT_SPZ_VERSION, EXPORT_SPZ_VERSIONS
from sam3d_gs.types import Gaussians, Pose

log = logging.getLogger("sam3d_gs")

SUFFIXES = (".compressed.ply", ".spz")
HALF_TURN = Pose(np.array([0.0, 1.0, 0.0, 0.0]), np.zeros(3), 1.0)  # about x: y and z change sign; its own inverse
_SPZ_MAX_FRACTIONAL_BITS = 18


def export(gaussians: Gaussians, path_out: Path, frame: str = "opencv", spz_version: int = EXPORT_SPZ_VERSION) -> None:
    """Write one file; the suffix of `path_out` names the format. What the format cannot hold is logged as a warning.

    frame: of the Gaussians, a key of `frames.AXES`; for an .spz, opencv or one of SPZ_AXES.
    Raises UsageError for another suffix or version, MissingPackageError without gsply.
    """
    if not path_out.name.endswith(SUFFIXES):
        raise UsageError(f"Cannot export to {path_out.name}. Choose a name that ends with {' or '.join(SUFFIXES)}.")
    check_spz_version(path_out.name, spz_version)
    is_spz = path_out.name.endswith(".spz")
    if is_spz and frame not in SPZ_AXES:
        gaussians = transform(gaussians, HALF_TURN)
    ordered = gaussians.take(morton_order(gaussians.means))  # the box of 256 neighbours is then small and its grid fine
    bits = spz_fractional_bits(gaussians)
    if is_spz and spz_version == 2:
        write_spz2(path_out, ordered, bits)
    elif is_spz:
        gsply = _gsply(path_out)
        with atomic_path(path_out) as temporary:
            gsply.write_spz(temporary, _as_gsply(gsply, ordered), version=spz_version, fractional_bits=bits)
    else:
        gsply = _gsply(path_out)
        write_bytes(path_out, gsply.compress_to_bytes(_as_gsply(gsply, ordered)))
    if is_spz:
        older = "" if spz_version == 2 else " Older readers (GaussianSplats3D, spz-js) need version 2."
        thinnest = f"{np.exp(SPZ_LOG_SCALES[0]):.2g} units (e^{SPZ_LOG_SCALES[0]:g})"
        log.info("%s: .spz version %d, no Gaussian thinner than %s.%s", path_out.name, spz_version, thinnest, older)
    if lost := losses(gaussians, bits if is_spz else None):
        log.warning("%s: %s. A plain .ply keeps them as they are.", path_out.name, "; ".join(lost))


def check_spz_version(name: str, version: int) -> None:
    """Raises UsageError for a version that is not written, or one of a file that is no .spz."""
    if version not in EXPORT_SPZ_VERSIONS:
        expected = " or ".join(map(str, EXPORT_SPZ_VERSIONS))
        raise UsageError(f"Cannot write .spz version {version}. Expected {expected}.")
    if version != EXPORT_SPZ_VERSION and not name.endswith(".spz"):
        raise UsageError(f"{name} is no .spz, so it has no .spz version. Leave the version out.")


def _gsply(path_out: Path) -> Any:
    try:
        import gsply
    except ImportError as error:
        raise MissingPackageError(
            f"gsply is needed to write {path_out.name} and is not installed here. pip install 'sam3d_gs[export]'"
        ) from error
    return gsply


def _as_gsply(gsply: Any, gaussians: Gaussians) -> Any:
    return gsply.GSData.from_arrays(
        means=gaussians.means,
        scales=gaussians.log_scales,
        quats=gaussians.quats,
        opacities=gaussians.opacity_logits,
        sh0=gaussians.sh0,
        format="ply",
    )


def spz_fractional_bits(gaussians: Gaussians) -> int:
    """The finest fixed-point grid, 2**-bits, on which every position still fits."""
    largest = max(float(np.abs(gaussians.means).max()), 2.0**-30)
    whole_bits = int(np.floor(np.log2(largest))) + 1
    return int(np.clip(SPZ_POSITION_BITS - 1 - whole_bits, 1, _SPZ_MAX_FRACTIONAL_BITS))
