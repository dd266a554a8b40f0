"""Gaussians as Niantic .spz of version 2, which readers from before version 3 take (GaussianSplats3D, spz-js).

The format's README (github.com/nianticlabs/spz) has the layout: one gzip stream with a header of 16 bytes, then the
positions of all Gaussians, their alphas, colours, scales and rotations. Only the rotations differ from version 3: three
bytes, x, y and z of a unit quaternion whose w is not negative.
"""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np

from sam3d_gs.files import write_bytes
from sam3d_gs.types import Gaussians

MAGIC = 0x5053474E  # "NGSP"
COLOUR_SCALE = 0.15  # of a degree-0 coefficient, so that 8 bits hold -3.3 to 3.3
LEAST_LOG_SCALE, LOG_SCALE_STEPS = -10.0, 16.0  # 8 bits: e^-10 to e^5.9


def write_spz2(path: Path, gaussians: Gaussians, fractional_bits: int) -> None:
    """Write one file. fractional_bits: of the 24 that a coordinate has. Raises Sam3dGsError when writing fails."""
    header = struct.pack("<IIIBBBB", MAGIC, 2, len(gaussians), 0, fractional_bits, 0, 0)
    sections = (
        _positions(gaussians.means, fractional_bits),
        _bytes(gaussians.opacities * 255.0),
        _bytes(gaussians.sh0 * (COLOUR_SCALE * 255.0) + 127.5),
        _bytes((gaussians.log_scales - LEAST_LOG_SCALE) * LOG_SCALE_STEPS),
        _rotations(gaussians.quats),
    )
    write_bytes(path, gzip.compress(header + b"".join(part.tobytes() for part in sections), compresslevel=6, mtime=0))


def _positions(means: np.ndarray, fractional_bits: int) -> np.ndarray:
    """(N, 3, 3) uint8: three little-endian bytes of each coordinate."""
    fixed = np.rint(means.astype(np.float64) * 2.0**fractional_bits)
    whole = np.clip(fixed, -(2**23), 2**23 - 1).astype("<i4")
    return np.ascontiguousarray(whole).view(np.uint8).reshape(-1, 3, 4)[:, :, :3]


def _rotations(quats: np.ndarray) -> np.ndarray:
    """(N, 3) uint8: x, y and z with w >= 0, of which a reader takes the rest of the length.

    Near half turns w is small and depends on how x, y and z are rounded, so the best of all roundings is taken: at most
    7 degrees off instead of 10, 0.7 on average.
    """
    quats = np.where(quats[:, :1] < 0, -quats, quats)
    down = np.floor(quats[:, 1:] * 127.5 + 127.5)
    best, nearest = np.zeros_like(down, np.uint8), np.full(len(quats), -1.0, np.float32)
    for up in np.ndindex(2, 2, 2):
        candidate = np.clip(down + up, 0, 255).astype(np.uint8)
        xyz = candidate / np.float32(127.5) - 1
        length2 = np.einsum("ij,ij->i", xyz, xyz)
        w = np.sqrt(np.maximum(0, 1 - length2))
        cosine = (w * quats[:, 0] + np.einsum("ij,ij->i", xyz, quats[:, 1:])) / np.sqrt(np.maximum(length2, 1))
        better = cosine > nearest
        best[better], nearest[better] = candidate[better], cosine[better]
    return best


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
