"""What of a scene a compressed splat file cannot hold, beyond its usual rounding."""

from __future__ import annotations

import numpy as np

from sam3d_gs.types import Gaussians

# Of an .spz, as its README has it: natural logarithm of a deviation, degree-0 coefficient, bits of a position.
SPZ_LOG_SCALES = (-10.0, 255 / 16 - 10.0)
SPZ_SH0 = (-0.5 / 0.15, 0.5 / 0.15)
SPZ_POSITION_BITS = 24
PLAYCANVAS_LOG_SCALES = (-20.0, 20.0)  # of a .compressed.ply
_ROUNDING = 1 / 32  # half a step of an .spz's log scales: less is rounding, not loss


def losses(gaussians: Gaussians, spz_fractional_bits: int | None) -> list[str]:
    """Clauses about the Gaussians whose values are beyond what the format holds; empty when all are within.

    spz_fractional_bits: of an .spz; None: a .compressed.ply.
    """
    if spz_fractional_bits is None:
        return _scales(gaussians, PLAYCANVAS_LOG_SCALES)
    farthest = 2.0 ** (SPZ_POSITION_BITS - 1 - spz_fractional_bits)
    found = _scales(gaussians, SPZ_LOG_SCALES)
    if count := _count(np.abs(gaussians.means) > farthest):
        found.append(f"{_of(count, gaussians)} are farther than {farthest:.3g} units from the origin, and move there")
    outside = (gaussians.sh0 < SPZ_SH0[0] - 0.02) | (gaussians.sh0 > SPZ_SH0[1] + 0.02)
    if count := _count(outside):
        found.append(f"{_of(count, gaussians)} have a colour beyond the format's range, and get its nearest one")
    return found


def _scales(gaussians: Gaussians, limits: tuple[float, float]) -> list[str]:
    thinnest, widest = limits
    found = []
    if count := _count(gaussians.log_scales < thinnest - _ROUNDING):
        size = f"{np.exp(thinnest):.2g} units (e^{thinnest:g})"
        found.append(f"{_of(count, gaussians)} are thinner than {size}, and become that thick")
    if count := _count(gaussians.log_scales > widest + _ROUNDING):
        found.append(f"{_of(count, gaussians)} are wider than {np.exp(widest):.3g} units, and become that wide")
    return found


def _count(bad: np.ndarray) -> int:
    return int(np.count_nonzero(bad.any(axis=1)))


def _of(count: int, gaussians: Gaussians) -> str:
    return f"{count:,} of {len(gaussians):,} Gaussians"
