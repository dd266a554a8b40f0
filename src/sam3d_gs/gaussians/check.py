"""Checks that Gaussians are usable. A problem is a clause, to which readers and writers add the file's name."""

from __future__ import annotations

import numpy as np

from sam3d_gs.types import Gaussians

COLUMNS = {
    "means": ("x", "y", "z"),
    "sh0": ("f_dc_0", "f_dc_1", "f_dc_2"),
    "opacity_logits": ("opacity",),
    "log_scales": ("scale_0", "scale_1", "scale_2"),
    "quats": ("rot_0", "rot_1", "rot_2", "rot_3"),
}  # field of Gaussians -> its columns in an INRIA .ply, in that file's order

_UNIT_TOLERANCE = 1e-5  # on the squared norm; a quaternion normalised in float32 is off by at most 5e-7
_BLOCK = 1 << 16  # rows; temporaries of this size stay in the cache


def all_finite(array: np.ndarray) -> bool:
    """True when no value is NaN or infinite. Tests the sum first, which is quick: both carry over to it."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(array.sum())) or bool(np.isfinite(array).all())


def problem(gaussians: Gaussians) -> str | None:
    """Why these Gaussians cannot be used, as a clause ("3 NaN or infinite values in column opacity"), or None."""
    if not len(gaussians):
        return "there are no Gaussians"
    for name, columns in COLUMNS.items():
        array = getattr(gaussians, name)
        if not all_finite(array):
            bad = np.count_nonzero(~np.isfinite(array.reshape(len(array), -1)), axis=0)
            parts = [f"{count} in {column}" for column, count in zip(columns, bad, strict=True) if count]
            return f"{name} has NaN or infinite values: {', '.join(parts)}"
    return None


def unit_quats(quats: np.ndarray) -> np.ndarray:
    """Quaternions of length one.

    quats: (N, 4) float32, finite. Returns the same array when all are of unit length already, so that a file that is
    read and written back keeps its bytes. Raises ValueError when some are zero.
    """
    out = quats
    for start in range(0, len(quats), _BLOCK):
        block = quats[start : start + _BLOCK]
        off = np.flatnonzero(np.abs(np.einsum("ij,ij->i", block, block) - 1.0) > _UNIT_TOLERANCE)
        if not len(off):
            continue
        if not (nonzero := quats.any(axis=1)).all():
            raise ValueError(f"{np.count_nonzero(~nonzero)} of {len(quats)} quaternions are zero")
        if out is quats:
            out = quats.copy()
        exact = block[off].astype(np.float64)  # float32 would overflow or vanish for extreme lengths
        out[start + off] = exact / np.linalg.norm(exact, axis=1, keepdims=True)
    return out
