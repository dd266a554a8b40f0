"""Shape latent to occupancy: a convolutional decoder over a dense grid.

The tokens of the latent form a cube, x slowest; every level after the first doubles the resolution. Features are
channels-last, `(B, X, Y, Z, C)`, the layout in which the latent arrives, channel norms are rows of a matrix, and
tensor cores read a convolution's input, so nothing is transposed on the way.
"""

from __future__ import annotations

from torch import Tensor, nn

from sam3d_gs.sam3d_torch import ops
from sam3d_gs.sam3d_torch.config import StructureDecoderConfig

NORM_EPS = 1e-5
UPSAMPLE = 2  # per level and axis


class ChannelsLastConv(nn.Conv3d):
    """A 3x3x3 convolution, `(B, X, Y, Z, C)` to `(B, X, Y, Z, C')`, in the dtype of its weight."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        # The permuted view of a contiguous tensor is what PyTorch calls channels_last_3d: no copy on either side.
        return super().forward(x.to(self.weight.dtype).permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1)


class ResBlock(nn.Module):
    """x + conv(SiLU(norm(conv(SiLU(norm(x)))))), norms over the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=NORM_EPS)
        self.conv1 = ChannelsLastConv(channels, channels)
        self.norm2 = nn.LayerNorm(channels, eps=NORM_EPS)
        self.conv2 = ChannelsLastConv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        h = norm_silu_conv(x, self.norm1, self.conv1)
        h = norm_silu_conv(h, self.norm2, self.conv2)
        return h + x.to(h.dtype)


def norm_silu_conv(x: Tensor, norm: nn.LayerNorm, conv: ChannelsLastConv) -> Tensor:
    """The pre-activation step: norm, SiLU and convolution; norm and SiLU are computed in float32."""
    weight, bias = norm.weight.float(), norm.bias.float()
    rows = ops.norm_silu(x.flatten(0, -2), weight, bias, eps=norm.eps, dtype=conv.weight.dtype)
    return conv(rows.view(x.shape))


class Upsample(nn.Module):
    """Doubles the resolution: a convolution makes the eight children of every voxel."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = ChannelsLastConv(in_channels, out_channels * UPSAMPLE**3)

    def forward(self, x: Tensor) -> Tensor:
        return unfold_children(self.conv(x), UPSAMPLE)


def unfold_children(x: Tensor, factor: int) -> Tensor:
    """`(B, X, Y, Z, C * f^3)` to `(B, f X, f Y, f Z, C)`; the channels are ordered (C, child x, child y, child z)."""
    batch, *sides, channels = x.shape
    x = x.unflatten(-1, (channels // factor**3, factor, factor, factor))
    return x.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(batch, *(factor * side for side in sides), -1)


class StructureDecoder(nn.Module):
    """Occupancy logits from the shape latent of stage 1.

    After loading, `decoder.to(memory_format=torch.channels_last_3d)` saves one copy of the weights per call on CUDA.
    """

    def __init__(self, config: StructureDecoderConfig) -> None:
        super().__init__()
        channels = config.channels
        self.input_layer = ChannelsLastConv(config.latent_channels, channels[0])
        self.middle_block = nn.Sequential(*(ResBlock(channels[0]) for _ in range(config.middle_blocks)))
        blocks: list[nn.Module] = []
        for level, width in enumerate(channels):
            blocks += [ResBlock(width) for _ in range(config.res_blocks)]
            if level + 1 < len(channels):
                blocks.append(Upsample(width, channels[level + 1]))
        self.blocks = nn.ModuleList(blocks)
        norm = nn.LayerNorm(channels[-1], eps=NORM_EPS)
        self.out_layer = nn.Sequential(norm, nn.SiLU(), ChannelsLastConv(channels[-1], config.out_channels))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, S^3, C) shape latent, token index (x S + y) S + z -> (B, out_channels, R, R, R) float32 logits."""
        side = round(tokens.shape[1] ** (1 / 3))
        if side**3 != tokens.shape[1]:
            raise ValueError(f"a shape latent of {tokens.shape[1]} tokens is not a cube")
        x = self.middle_block(self.input_layer(tokens.unflatten(1, (side, side, side))))
        for block in self.blocks:
            x = block(x)
        norm, _, conv = self.out_layer
        assert isinstance(norm, nn.LayerNorm)
        assert isinstance(conv, ChannelsLastConv)
        logits = norm_silu_conv(x, norm, conv)
        return logits.permute(0, 4, 1, 2, 3).float().contiguous()
