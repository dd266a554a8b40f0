"""Latent per voxel to Gaussians: a transformer with windowed attention, and the decoding of its outputs.

Each occupied voxel becomes a fixed number of Gaussians near its centre. Attention alternates between two partitions of
the grid into windows, the second one shifted by half a window, as in the Swin transformer (Liu et al. 2021).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sam3d_gs.sam3d_torch import ops
from sam3d_gs.sam3d_torch.config import GaussianDecoderConfig
from sam3d_gs.sam3d_torch.layers import FeedForward, position_embedding
from sam3d_gs.sam3d_torch.windows import Windows, attend, partition

BLOCK_NORM_EPS = 1e-6
OUT_NORM_EPS = 1e-5
FIELD_CHANNELS = (3, 3, 3, 4, 1)  # offset, sh0, scale, rotation, opacity: the order of the output channels


@dataclass(frozen=True)
class GaussianFields:
    """M Gaussians of one object, float32, voxel by voxel; object frame (Z up), unit cube about the origin.

    The raw fields are the network's outputs before bias and activation.
    """

    means: Tensor  # (M, 3) object units
    scales: Tensor  # (M, 3) standard deviations, object units
    quats: Tensor  # (M, 4) wxyz, unit length
    opacities: Tensor  # (M,) in 0..1
    opacity_logits: Tensor  # (M,)
    sh0: Tensor  # (M, 3) degree-0 coefficients
    scales_raw: Tensor  # (M, 3)
    quats_raw: Tensor  # (M, 4) times the rotation rate
    opacities_raw: Tensor  # (M,)


class WindowAttention(nn.Module):
    """Multi-head self-attention inside windows."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(width, 3 * width)
        self.to_out = nn.Linear(width, width)

    def forward(self, h: Tensor, windows: Windows) -> Tensor:
        q, k, v = self.to_qkv(windows.sort(h)).unflatten(1, (3, self.heads, -1)).unbind(1)
        return windows.unsort(self.to_out(attend(q, k, v, windows).flatten(1)))


class WindowBlock(nn.Module):
    """A pre-norm transformer block whose norms have no parameters."""

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.attn = WindowAttention(width, heads)
        self.mlp = FeedForward(width, mlp_ratio)

    def forward(self, x: Tensor, branch: Tensor | None, windows: Windows) -> Tensor:
        """Add the previous block's last branch and this block's first to x in place; return this block's last."""
        dtype = self.attn.to_qkv.weight.dtype
        h = add_norm(x, branch, BLOCK_NORM_EPS, dtype)
        h = add_norm(x, self.attn(h, windows), BLOCK_NORM_EPS, dtype)
        return self.mlp(h)


def add_norm(x: Tensor, branch: Tensor | None, eps: float, dtype: torch.dtype) -> Tensor:
    """x += branch, then the norm of x in `dtype`."""
    return ops.residual_norm(x, branch, None, None, None, eps=eps, dtype=dtype)


class GaussianDecoder(nn.Module):
    """Stage 2's latent to Gaussians."""

    offset_perturbation: Tensor  # (G, 3): spreads a voxel's Gaussians when the network's output is zero

    def __init__(self, config: GaussianDecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.input_layer = nn.Linear(config.latent_channels, config.width)
        self.blocks = nn.ModuleList(
            WindowBlock(config.width, config.heads, config.mlp_ratio) for _ in range(config.blocks)
        )
        self.out_layer = nn.Linear(config.width, sum(FIELD_CHANNELS) * config.gaussians_per_voxel)
        self.register_buffer("offset_perturbation", spread(config.gaussians_per_voxel, config.voxel_size))

    def forward(self, slat: Tensor, coords: Tensor) -> Tensor:
        """(N, C) latent, de-normalised, at (N, 3) int voxels -> (N, 14 G) float32 for `gaussians`."""
        config = self.config
        straight = partition(coords, config.resolution, config.window, shift=0)
        # Only attention depends on the order: tokens stay sorted for the even blocks, the odd ones reorder.
        slat, coords = straight.sort(slat), straight.sort(coords)
        partitions = (straight.of_sorted(), partition(coords, config.resolution, config.window, config.window // 2))
        x = self.input_layer(slat.to(self.input_layer.weight.dtype)) + position_embedding(coords, config.width)
        branch = None
        for number, block in enumerate(self.blocks):
            branch = block(x, branch, partitions[number % 2])
        h = add_norm(x, branch, OUT_NORM_EPS, self.out_layer.weight.dtype)
        return straight.unsort(self.out_layer(h).float())

    def gaussians(self, raw: Tensor, coords: Tensor) -> GaussianFields:
        """Output of `forward`, (N, 14 G), and its (N, 3) voxels -> N * G Gaussians."""
        config, count = self.config, self.config.gaussians_per_voxel
        groups = raw.float().split([count * channels for channels in FIELD_CHANNELS], dim=1)
        offset, sh0, scale, rotation, opacity = (
            group.unflatten(1, (count, channels)) for group, channels in zip(groups, FIELD_CHANNELS, strict=True)
        )
        centre = (coords.float() + 0.5) / config.resolution
        offset = torch.tanh(offset + self.offset_perturbation.float()) / config.resolution * 0.5 * config.voxel_size
        scales_raw = scale.flatten(0, 1)
        quats_raw = rotation.flatten(0, 1) * config.rotation_rate
        opacities_raw = opacity.flatten()
        opacity_logits = opacities_raw + math.log(config.opacity_bias / (1 - config.opacity_bias))
        scales = F.softplus(scales_raw + math.log(math.expm1(config.scale_bias)))
        return GaussianFields(
            means=(centre[:, None] + offset).flatten(0, 1) - 0.5,
            scales=torch.sqrt(scales.square() + config.kernel_size_3d**2),
            quats=F.normalize(from_identity(quats_raw), dim=1),
            opacities=torch.sigmoid(opacity_logits),
            opacity_logits=opacity_logits,
            sh0=sh0.flatten(0, 1),
            scales_raw=scales_raw,
            quats_raw=quats_raw,
            opacities_raw=opacities_raw,
        )


def from_identity(quats_raw: Tensor) -> Tensor:
    """(M, 4) raw rotations -> (M, 4) quaternions wxyz, not normalised; raw zero is the identity."""
    quats = quats_raw.clone()
    quats[:, 0] += 1
    return quats


def spread(count: int, voxel_size: float) -> Tensor:
    """(count, 3) float32: raw offsets that put `count` Gaussians on a Hammersley set in the voxel.

    `voxel_size` is the reach of a Gaussian in voxels; it must be above 1 to cover the whole voxel.
    """
    points = [[i / count, radical_inverse(i, 2), radical_inverse(i, 3)] for i in range(count)]
    return torch.atanh((torch.tensor(points, dtype=torch.float32) * 2 - 1) / voxel_size)


def radical_inverse(number: int, base: int) -> float:
    """The radical inverse, `number`'s digits mirrored at the point: 6 = 110 in base 2 gives 0.011 = 0.375."""
    result, weight = 0.0, 1.0
    while number:
        weight /= base
        number, digit = divmod(number, base)
        result += digit * weight
    return result
