"""MoGe v1: the 3D point of every pixel, and the camera, from a photo alone (Wang et al. 2024).

A DINOv2 encoder, a convolutional head that upsamples its last blocks, and a fit that turns the affine-invariant
pointmap into camera space (`focal.py`). The scale is arbitrary, but the same for the whole photo.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sam3d_gs.errors import BadInputError
from sam3d_gs.sam3d_torch.config import VITS, VitConfig
from sam3d_gs.sam3d_torch.dino import DinoVit
from sam3d_gs.sam3d_torch.focal import normalized_focal, recover_focal_shift, view_plane

REMAPS = ("linear", "sinh", "exp", "sinh_exp")  # how the head's output becomes points
NORMS = ("group_norm", "layer_norm")
CHANNELS_PER_GROUP = 32  # of the hidden group norm


@dataclass(frozen=True)
class MogeConfig:
    """Configuration of the network, from a MoGe v1 checkpoint."""

    vit: VitConfig
    layers: int | tuple[int, ...]  # number of last blocks that the head reads, or their indices
    projected: int  # channels of the sum of the projected blocks
    upsampled: tuple[int, ...]  # channels after each doubling of the resolution
    hidden_multiple: int  # width inside a residual block, times its own
    res_blocks: int  # after each doubling
    norm: str  # one of NORMS
    last_res_blocks: int
    last_channels: int
    last_kernel_px: int
    remap: str  # one of REMAPS
    mask_threshold: float
    tokens: int  # approximate number of patches that the photo is resized to

    @property
    def layer_count(self) -> int:
        return self.layers if isinstance(self.layers, int) else len(self.layers)

    @classmethod
    def from_checkpoint(cls, model_config: Mapping[str, Any]) -> MogeConfig:
        """From the `model_config` of a MoGe file, with the defaults of the package that wrote it.

        The finest level is used, as upstream does. Keys that only training or older versions had are ignored.

        Raises:
            BadInputError: a value that is not supported.
        """
        encoder = _one_of(model_config, "encoder", "dinov2_vitb14", tuple(VITS))
        tokens = model_config.get("num_tokens_range", (1200, 2500))[1]
        if "trained_area_range" in model_config:  # the older name, in pixels
            tokens = model_config["trained_area_range"][1] // VITS[encoder].patch_px ** 2
        layers = model_config.get("intermediate_layers", 4)
        return cls(
            vit=VITS[encoder],
            layers=layers if isinstance(layers, int) else tuple(layers),
            projected=model_config.get("dim_proj", 512),
            upsampled=tuple(model_config.get("dim_upsample", (256, 128, 128))),
            hidden_multiple=model_config.get("dim_times_res_block_hidden", 1),
            res_blocks=model_config.get("num_res_blocks", 1),
            norm=_one_of(model_config, "res_block_norm", "group_norm", NORMS),
            last_res_blocks=model_config.get("last_res_blocks", 0),
            last_channels=model_config.get("last_conv_channels", 32),
            last_kernel_px=model_config.get("last_conv_size", 1),
            remap=_one_of(model_config, "remap_output", "linear", REMAPS),
            mask_threshold=model_config.get("mask_threshold", 0.5),
            tokens=int(tokens),
        )


def _one_of(model_config: Mapping[str, Any], key: str, default: str, known: tuple[str, ...]) -> str:
    value = model_config.get(key, default)
    if value not in known:
        raise BadInputError(
            f"The depth model's model_config has {key} = {value!r}, expected one of {', '.join(known)}. "
            "Use MoGe v1, Ruicheng/moge-vitl."
        )
    return str(value)


@dataclass(frozen=True)
class Geometry:
    """The 3D points of a photo; camera x right, y down, z forward; all float32 on the network's device."""

    points: Tensor  # (H, W, 3), arbitrary scale, +inf where there is no point
    depth: Tensor  # (H, W), z of the points
    mask: Tensor  # (H, W) bool, where there is a point
    intrinsics: Tensor  # (3, 3), in image widths and heights, centre at 0.5
    focal: float  # in half diagonals
    shift: float  # added to z by the fit


class GroupNorm(nn.GroupNorm):
    """Statistics and parameters in float32, the result in the dtype of the input."""

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(x.float(), self.num_groups, self.weight.float(), self.bias.float(), self.eps).to(x.dtype)


def _conv(inputs: int, outputs: int, kernel_px: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel_px, padding=kernel_px // 2, padding_mode="replicate")


class ResidualBlock(nn.Module):
    """Two normalised 3x3 convolutions with a skip connection."""

    def __init__(self, channels: int, hidden: int, norm: str) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            GroupNorm(1, channels),
            nn.ReLU(),
            _conv(channels, hidden, 3),
            GroupNorm(hidden // CHANNELS_PER_GROUP if norm == "group_norm" else 1, hidden),
            nn.ReLU(),
            _conv(hidden, channels, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class Head(nn.Module):
    """Patch features of several blocks to a pointmap and a mask at the picture's resolution."""

    def __init__(self, config: MogeConfig) -> None:
        super().__init__()
        blocks = [config.projected, *config.upsampled]
        self.projects = nn.ModuleList(
            nn.Conv2d(config.vit.width, config.projected, 1) for _ in range(config.layer_count)
        )
        self.upsample_blocks = nn.ModuleList(
            nn.Sequential(
                nn.Sequential(nn.ConvTranspose2d(before + 2, after, 2, stride=2), _conv(after, after, 3)),
                *(ResidualBlock(after, config.hidden_multiple * after, config.norm) for _ in range(config.res_blocks)),
            )
            for before, after in pairwise(blocks)
        )
        last = config.last_channels
        self.output_block = nn.ModuleList(
            nn.Sequential(
                _conv(blocks[-1] + 2, last, 3),
                *(
                    ResidualBlock(last, config.hidden_multiple * last, config.norm)
                    for _ in range(config.last_res_blocks)
                ),
                nn.ReLU(),
                _conv(last, outputs, config.last_kernel_px),
            )
            for outputs in (3, 1)
        )

    def forward(self, features: list[Tensor], grid: tuple[int, int], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Blocks' patch tokens (B, P, C) on a `grid` of rows and columns, to `size` (height, width) pixels.

        Returns:
            (B, 3, height, width) and (B, 1, height, width) float32, before the remap and the threshold.
        """
        aspect = size[1] / size[0]
        dtype = cast(nn.Conv2d, self.projects[0]).weight.dtype
        maps = [feature.transpose(1, 2).unflatten(2, grid).to(dtype) for feature in features]
        x = torch.stack([project(m) for project, m in zip(self.projects, maps, strict=True)]).sum(0)
        for block in self.upsample_blocks:
            x = block(_with_view_plane(x, aspect))
        x = F.interpolate(x, size, mode="bilinear", align_corners=False)
        x = _with_view_plane(x, aspect)
        # The output blocks may be in float32: depth is exponential in their output.
        dtype = cast(nn.Conv2d, cast(nn.Sequential, self.output_block[0])[0]).weight.dtype
        points, mask = (block(x.to(dtype)).float() for block in self.output_block)
        return points, mask


def _with_view_plane(x: Tensor, aspect: float) -> Tensor:
    """(B, C, H, W) features with two channels of image coordinates appended: (B, C + 2, H, W)."""
    height, width = x.shape[-2:]
    uv = view_plane(height, width, aspect, x.device).permute(2, 0, 1)
    return torch.cat([x, uv.to(x.dtype).expand(len(x), -1, -1, -1)], dim=1)


class MogeV1(nn.Module):
    """The network, with the names of its published state dict."""

    image_mean: Tensor
    image_std: Tensor

    def __init__(self, config: MogeConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = DinoVit(config.vit)
        self.head = Head(config)
        self.register_buffer("image_mean", torch.empty(1, 3, 1, 1))
        self.register_buffer("image_std", torch.empty(1, 3, 1, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) float 0..1 to points before the fit (B, H, W, 3) and the mask's score (B, H, W), float32."""
        original = (image.shape[-2], image.shape[-1])
        patch = self.config.vit.patch_px
        size = resized_size(*original, self.config.tokens, patch)
        grid = (size[0] // patch, size[1] // patch)
        image = F.interpolate(image.float(), size, mode="bicubic", align_corners=False, antialias=True)
        image = (image - self.image_mean.float()) / self.image_std.float()
        whole = (grid[0] * patch, grid[1] * patch)
        patches = F.interpolate(image, whole, mode="bilinear", align_corners=False, antialias=True)
        features = self.backbone.intermediate(patches, self.config.layers)
        maps = self.head(features, grid, size)
        points, mask = (F.interpolate(m, original, mode="bilinear", align_corners=False) for m in maps)
        return remap(points.permute(0, 2, 3, 1), self.config.remap), mask[:, 0]

    def infer(self, rgb: Tensor | np.ndarray) -> Geometry:
        """The geometry of one photo, (H, W, 3) uint8 or (3, H, W) float 0..1.

        A photo without any valid point gives an empty mask, focal 1 and shift 0.
        """
        image = torch.as_tensor(rgb, device=self.image_mean.device)
        if image.dtype == torch.uint8:
            image = image.permute(2, 0, 1).float() / 255
        raw_points, score = (t[0] for t in self(image[None]))
        mask = score > self.config.mask_threshold
        focal, shift = recover_focal_shift(raw_points, mask)
        height, width = mask.shape
        fx, fy = normalized_focal(focal, width / height)
        points = torch.cat([raw_points[..., :2], raw_points[..., 2:] + shift], dim=-1).where(mask[..., None], math.inf)
        intrinsics = raw_points.new_tensor([[fx, 0.0, 0.5], [0.0, fy, 0.5], [0.0, 0.0, 1.0]])
        return Geometry(points, points[..., 2], mask, intrinsics, focal, shift)


def resized_size(height: int, width: int, tokens: int, patch_px: int) -> tuple[int, int]:
    """(height, width) with the area of `tokens` patches and the same aspect ratio, at least one patch."""
    factor = math.sqrt(tokens * patch_px**2 / (height * width))
    return max(int(height * factor), patch_px), max(int(width * factor), patch_px)


def remap(points: Tensor, kind: str) -> Tensor:
    """The head's (..., 3) output as points; "exp" has log depth and the ray's slope."""
    xy, z = points[..., :2], points[..., 2:]
    if kind == "exp":
        z = z.exp()
        return torch.cat([xy * z, z], dim=-1)
    if kind == "sinh_exp":
        return torch.cat([xy.sinh(), z.exp()], dim=-1)
    return points.sinh() if kind == "sinh" else points
