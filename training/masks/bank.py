"""A bank of sprites on one device: mip-mapped pictures with depth, and the properties of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from training.masks.library import CBank, CIndex, address
from training.masks.rows import SPRITE

KINDS = ("thing", "carrier", "nested", "person", "seated", "car", "animal", "rider")  # in the order of native/arrange.h
ELEVATIONS = 9  # bins of ELEVATION_BIN_RAD from which a sprite is seen
ELEVATION_BIN_RAD = 0.1745
LEVELS = 4
_Z_UNIT = 8192.0  # sprite z is stored as int16 in 1/8192


@dataclass(frozen=True)
class Bank:
    """N sprites of R x R px; sprites of one set are adjacent."""

    rgba: Tensor  # (N, T, 4) uint8, T texels of LEVELS sizes one after the other, colours premultiplied
    z: Tensor  # (N, T) int16, towards the viewer
    sprites: Tensor  # (N, len(SPRITE)) float32
    side_px: int  # R, a power of two
    ordered: Tensor  # first sprites of sets by kind and elevation, int32
    first: Tensor  # (len(KINDS) * ELEVATIONS + 1,) int32, where each group of `ordered` begins

    def native(self) -> CBank:
        return CBank(*(address(t) for t in (self.rgba, self.z, self.sprites)), self.side_px, LEVELS, self.rgba.shape[1])

    def index(self) -> CIndex:
        return CIndex(address(self.ordered), address(self.first))


@dataclass(frozen=True)
class Pictures:
    """N rendered sprites that are not in a bank yet."""

    rgba: Tensor  # (N, 4, R, R) float32 in 0..1, colours premultiplied, alpha last
    z: Tensor  # (N, R, R) float32, sprite frame; anything where alpha is 0
    sprites: Tensor  # (N, len(SPRITE)) float32
    kind: Tensor  # (N,) int64, index into KINDS; of the set's first sprite


def pyramid(rgba: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures (N, 4, R, R) and z (N, R, R) -> the texels of a bank, (N, T, 4) uint8 and (N, T) int16."""
    colours, depths = [], []
    weighted, alpha = z * rgba[:, 3], rgba[:, 3]
    for _ in range(LEVELS):
        colours.append((rgba.flatten(2).transpose(1, 2) * 255).round_().to(torch.uint8))
        mean = weighted / alpha.clamp(min=1e-6)
        depths.append((mean.flatten(1) * _Z_UNIT).round_().clamp(-32768, 32767).to(torch.int16))
        rgba, weighted, alpha = (F.avg_pool2d(t, 2) for t in (rgba, weighted[:, None], alpha[:, None]))
        weighted, alpha = weighted[:, 0], alpha[:, 0]
    return torch.cat(colours, 1), torch.cat(depths, 1)


@dataclass(frozen=True)
class Part:
    """Pictures in the format of a bank, which takes much less memory."""

    rgba: Tensor  # (N, T, 4) uint8
    z: Tensor  # (N, T) int16
    sprites: Tensor  # (N, len(SPRITE)) float32
    kind: Tensor  # (N,) int64
    side_px: int

    @classmethod
    def of(cls, pictures: Pictures) -> Part:
        return cls(*pyramid(pictures.rgba, pictures.z), pictures.sprites, pictures.kind, pictures.rgba.shape[-1])


def bank_of(parts: Sequence[Part]) -> Bank:
    """A bank of all parts, whose sprites must have the same side, a power of two."""
    sprites = torch.cat([part.sprites for part in parts])
    kind = torch.cat([part.kind for part in parts])
    up_z = sprites[:, SPRITE.index("up_z")]  # the sine of the elevation, for what stands upright
    elevation = torch.asin(up_z.clamp(-1, 1)).div(ELEVATION_BIN_RAD).floor().clamp(0, ELEVATIONS - 1).long()
    group = kind * ELEVATIONS + elevation
    group[sprites[:, SPRITE.index("members")] == 0] = len(KINDS) * ELEVATIONS  # found through the first of its set
    counts = torch.bincount(group, minlength=len(KINDS) * ELEVATIONS + 1)[:-1]
    first = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    ordered = torch.argsort(group, stable=True)[: int(first[-1])]
    return Bank(
        rgba=torch.cat([part.rgba for part in parts]),
        z=torch.cat([part.z for part in parts]),
        sprites=sprites.contiguous(),
        side_px=parts[0].side_px,
        ordered=ordered.int(),
        first=first.int(),
    )
