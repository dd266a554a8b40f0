"""DINOv2, the vision transformer behind the image, mask and depth networks (Oquab et al. 2023).

Registers (Darcet et al. 2023) are optional: the condition embedders have four, MoGe's encoder none. Both stages of
SAM 3D Objects look at the same pictures, one at the normalised output without registers, the other at the output
before the last norm, so one pass gives both. Residuals and norms are float32 whatever the weights are; matrix
products run in the dtype of the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sam3d_gs.sam3d_torch import ops
from sam3d_gs.sam3d_torch.config import IMAGE_MEAN, IMAGE_STD, VitConfig

BLOCK_EPS = 1e-6  # every norm inside the transformer
PRENORM_EPS = 1e-5  # the norm without parameters that stage 2 puts on the last block's output
GRID_OFFSET = 0.1  # patches; added before dividing in DINOv2's first release, and the table is stretched accordingly


class DinoTokens(NamedTuple):
    """The outputs of one pass that the two stages use; P patches in row-major order, R registers, float32."""

    final: Tensor  # (B, 1 + P, C): class token and patches after the final norm
    prenorm: Tensor  # (B, 1 + R + P, C): class token, registers and patches of the last block, norm without parameters


def as_image(x: Tensor, size_px: int | None = None) -> Tensor:
    """An image or mask as DINO's input: (B, 3, S, S) float32, ImageNet-normalised.

    `x` is (B, 3, H, W), uint8 0..255 or float 0..1, or a mask (B, 1, H, W), 0..1 in any dtype, repeated to three
    channels. Another size than `size_px` is resized bilinearly without antialiasing, as in upstream.
    """
    x = x.float() / 255 if x.dtype == torch.uint8 and x.shape[1] == 3 else x.float()
    if size_px is not None and x.shape[-2:] != (size_px, size_px):
        x = F.interpolate(x, (size_px, size_px), mode="bilinear", align_corners=False)
    mean, std = (x.new_tensor(v).view(1, 3, 1, 1) for v in (IMAGE_MEAN, IMAGE_STD))
    return (x - mean) / std


def layer_norm(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """`norm` with float32 statistics and a float32 result, whatever its parameters are."""
    return F.layer_norm(x.float(), norm.normalized_shape, norm.weight.float(), norm.bias.float(), norm.eps)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A matrix product in the dtype of `weight`."""
    return F.linear(x.to(weight.dtype), weight, None if bias is None else bias.to(weight.dtype))


class Attention(nn.Module):
    """Multi-head self-attention with one projection for queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, first_only: bool = False) -> Tensor:
        """(B, T, C) to (B, T, C), or to (B, 1, C) when only the first token asks."""
        width = x.shape[-1]
        weight, bias = self.qkv.weight, self.qkv.bias
        if first_only:
            q = linear(x[:, :1], weight[:width], bias[:width])
            k, v = linear(x, weight[width:], bias[width:]).chunk(2, dim=-1)
        else:
            q, k, v = linear(x, weight, bias).chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)) for part in (q, k, v))
        return linear(ops.attention(q, k, v), self.proj.weight, self.proj.bias)


class Mlp(nn.Module):
    """Two layers with exact GELU."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.gelu(linear(x, self.fc1.weight, self.fc1.bias))
        return linear(hidden, self.fc2.weight, self.fc2.bias)


class LayerScale(nn.Module):
    """A learned factor per channel on a residual branch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(width))

    def forward(self, x: Tensor) -> Tensor:
        return x.float() * self.gamma.float()


class VitBlock(nn.Module):
    """One pre-norm transformer block; with `layer_scale` as in DINOv2."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, *, layer_scale: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=BLOCK_EPS)
        self.attn = Attention(width, heads)
        self.ls1 = LayerScale(width) if layer_scale else nn.Identity()
        self.norm2 = nn.LayerNorm(width, eps=BLOCK_EPS)
        self.mlp = Mlp(width, int(width * mlp_ratio))
        self.ls2 = LayerScale(width) if layer_scale else nn.Identity()

    def forward(self, x: Tensor, first_only: bool = False) -> Tensor:
        """(B, T, C) float32 to the same, or to (B, 1, C), the first token alone, when the others are not needed."""
        attended = self.ls1(self.attn(layer_norm(x, self.norm1), first_only))
        x = (x[:, :1] if first_only else x) + attended
        return x + self.ls2(self.mlp(layer_norm(x, self.norm2)))


class PatchEmbed(nn.Module):
    """Non-overlapping patches to tokens."""

    def __init__(self, vit: VitConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, vit.width, vit.patch_px, vit.patch_px)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, P, C), row-major."""
        return self.proj(image.to(self.proj.weight.dtype)).flatten(2).transpose(1, 2)


class DinoVit(nn.Module):
    """DINOv2 with the names of its own state dict."""

    def __init__(self, vit: VitConfig) -> None:
        super().__init__()
        self.vit = vit
        self.cls_token = nn.Parameter(torch.empty(1, 1, vit.width))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + vit.grid**2, vit.width))
        if vit.registers:
            self.register_tokens = nn.Parameter(torch.empty(1, vit.registers, vit.width))
        self.mask_token = nn.Parameter(torch.empty(1, vit.width))  # in every checkpoint, used in training only
        self.patch_embed = PatchEmbed(vit)
        self.blocks = nn.ModuleList(
            VitBlock(vit.width, vit.heads, vit.mlp_ratio, layer_scale=True) for _ in range(vit.depth)
        )
        self.norm = nn.LayerNorm(vit.width, eps=BLOCK_EPS)

    def forward(self, image: Tensor) -> DinoTokens:
        """The tokens of both stages from an image (B, 3, H, W), normalised (see `as_image`), sides whole patches."""
        x = self.tokens(image)
        for block in self.blocks:
            x = block(x)
        final = layer_norm(x, self.norm)
        return DinoTokens(
            final=torch.cat([final[:, :1], final[:, 1 + self.vit.registers :]], dim=1),
            prenorm=F.layer_norm(x, x.shape[-1:], eps=PRENORM_EPS),
        )

    def intermediate(self, image: Tensor, layers: int | Sequence[int]) -> list[Tensor]:
        """Patch tokens, (B, P, C) float32 after the final norm, of the last `layers` blocks or of those listed."""
        depth = len(self.blocks)
        wanted = set(range(depth - layers, depth) if isinstance(layers, int) else layers)
        x, found = self.tokens(image), []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in wanted:
                found.append(layer_norm(x, self.norm)[:, 1 + self.vit.registers :])
        return found

    def tokens(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) to the first block's input, (B, 1 + R + P, C) float32: class token, registers, patches."""
        patches = self.patch_embed(image)
        rows, columns = (side // self.vit.patch_px for side in image.shape[-2:])
        cls = self.cls_token.float().expand(len(image), -1, -1)
        x = torch.cat([cls, patches.float()], dim=1) + self.positions(rows, columns)
        if not self.vit.registers:
            return x
        registers = self.register_tokens.float().expand(len(image), -1, -1)  # they have no position
        return torch.cat([x[:, :1], registers, x[:, 1:]], dim=1)

    def positions(self, rows: int, columns: int) -> Tensor:
        """The position table for a grid of patches, (1, 1 + rows * columns, C) float32; as stored when the grid fits.

        The models without registers resize by a factor with a small offset, which samples other places than a resize
        to a size does; those with registers came later and resize to the size with antialiasing.
        """
        table, grid = self.pos_embed.float(), self.vit.grid
        if (rows, columns) == (grid, grid):
            return table
        square = table[:, 1:].unflatten(1, (grid, grid)).permute(0, 3, 1, 2)
        if self.vit.registers:
            resized = F.interpolate(square, (rows, columns), mode="bicubic", antialias=True)
        else:
            factors = ((rows + GRID_OFFSET) / grid, (columns + GRID_OFFSET) / grid)
            resized = F.interpolate(square, scale_factor=factors, mode="bicubic")
        return torch.cat([table[:, :1], resized.flatten(2).transpose(1, 2)], dim=1)
