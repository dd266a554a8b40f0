"""The mask network: for every coarse cell of a photo, the pixels that belong to the object at that cell.

A U-Net down to stride 32 with attention. It predicts a 48-channel *embedding* at stride 2 and a *query* for every
stride-8 cell. The probability that a pixel belongs to the object at a cell is the sigmoid of their inner product plus
a quadratic in the offset between the two. Only relative positions count, so any photo size works. Each query also
holds logits of objectness (is there an object) and of mask quality. An optional *geometry* head predicts depth, the
ray's elevation and the floor at stride 4. The weights file holds the `MaskNetConfig`; a file without one is of
version 1.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from sam3d_gs.errors import Sam3dGsError
from sam3d_gs.files import atomic_path

WEIGHTS = Path(__file__).parents[1] / "weights" / "masks.safetensors"

STRIDE_PX = 32  # the photo's sides must be multiples of this
CELL_PX = 8  # one query per cell of this size
OFFSET_UNIT_PX = 80.0  # unit of the offsets between cell and pixel
OFFSET_TERMS = 6  # dx, dy, dx^2, dy^2, dx dy, 1
GEOMETRY_STRIDE_PX = 4
_CONFIG_KEY = "config"  # of the safetensors metadata
_HEADS = (6, 8)  # of the attention at strides 16 and 32


@dataclass(frozen=True)
class MaskNetConfig:
    """The architecture; the defaults are those of version 1, whose file has no configuration."""

    widths: tuple[int, int, int, int, int] = (40, 64, 128, 192, 256)  # channels at strides 2, 4, 8, 16, 32
    embedding: int = 48  # channels of the pixel embedding
    query_width: int = 160  # channels inside the query head
    geometry: bool = False  # whether there is a geometry head

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> MaskNetConfig:
        """The configuration in JSON. Raises TypeError or ValueError when this code cannot build such a network."""
        config = cls(**json.loads(text))
        widths = tuple(int(width) for width in config.widths)
        if len(widths) != 5 or any(width % 8 for width in (*widths, config.query_width)):
            raise ValueError(f"five widths, multiples of 8, are needed, not {widths}, {config.query_width}")
        if widths[3] % _HEADS[0] or widths[4] % _HEADS[1]:
            raise ValueError(f"the widths {widths[3]} and {widths[4]} must be multiples of {_HEADS}")
        return cls((widths[0], widths[1], widths[2], widths[3], widths[4]), *list(asdict(config).values())[1:])


class Geometry(NamedTuple):
    """Predictions of the geometry head at stride 4; (B, h, w) float32 each."""

    log_inverse_depth: Tensor  # natural log of 1 / depth along the camera's axis, up to a constant per photo
    sin_elevation: Tensor  # sine of the angle of the pixel's ray above the horizon
    floor: Tensor  # logit that the pixel shows the floor or ground


class Maps(NamedTuple):
    """Predictions for a batch of photos of H x W px."""

    embedding: Tensor  # (B, config.embedding, H/2, W/2)
    queries: Tensor  # (B, config.embedding + 8, H/8, W/8): weights, OFFSET_TERMS, logits of objectness and quality
    geometry: Geometry | None


class Affinity(NamedTuple):
    """Predictions for the h x w cells of one photo, row by row."""

    belongs: Tensor  # (h*w, h*w) float32, [p, x]: probability that cell x belongs to the object at cell p
    objectness: Tensor  # (h*w,) float32, probability that the cell lies on an object
    quality: Tensor  # (h*w,) float32, predicted IoU of the cell's mask
    log_depth: (
        Tensor | None
    )  # (h*w,) float32, natural log of the depth up to a constant; None without the geometry head
    grid: tuple[int, int]  # (h, w)


class ResidualBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(8, width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.norm2 = nn.GroupNorm(8, width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(hidden)))


class AttentionBlock(nn.Module):
    """Global attention and a two-layer perceptron; a depthwise convolution encodes positions."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.position = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 2 * width)
        self.contract = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, width, rows, columns = x.shape
        x = x + self.position(x)
        tokens = x.flatten(2).transpose(1, 2)
        heads = self.qkv(self.norm1(tokens)).view(batch, rows * columns, 3, self.heads, width // self.heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        tokens = tokens + self.project(mixed)
        tokens = tokens + self.contract(F.gelu(self.expand(self.norm2(tokens))))
        return tokens.transpose(1, 2).reshape(batch, width, rows, columns)


class MaskNet(nn.Module):
    """Photo -> pixel embedding and cell queries. Names say the stride: down8 works on 1/8 of the photo's sides."""

    def __init__(self, config: MaskNetConfig = MaskNetConfig()) -> None:
        super().__init__()
        self.config = config
        w2, w4, w8, w16, w32 = config.widths
        heads16, heads32 = _HEADS
        self.stem = nn.Conv2d(3, w2, 4, stride=2, padding=1)
        self.down2 = ResidualBlock(w2)
        self.to4 = nn.Conv2d(w2, w4, 2, stride=2)
        self.down4 = nn.Sequential(ResidualBlock(w4), ResidualBlock(w4))
        self.to8 = nn.Conv2d(w4, w8, 2, stride=2)
        self.down8 = nn.Sequential(ResidualBlock(w8), ResidualBlock(w8))
        self.to16 = nn.Conv2d(w8, w16, 2, stride=2)
        self.down16 = nn.Sequential(
            ResidualBlock(w16), AttentionBlock(w16, heads16), ResidualBlock(w16), AttentionBlock(w16, heads16)
        )
        self.to32 = nn.Conv2d(w16, w32, 2, stride=2)
        self.down32 = nn.Sequential(ResidualBlock(w32), AttentionBlock(w32, heads32), AttentionBlock(w32, heads32))
        self.from32 = nn.Conv2d(w32, w16, 1)
        self.up16 = nn.Sequential(ResidualBlock(w16), AttentionBlock(w16, heads16))
        self.from16 = nn.Conv2d(w16, w8, 1)
        self.up8 = nn.Sequential(ResidualBlock(w8), ResidualBlock(w8))
        self.from8 = nn.Conv2d(w8, w4, 1)
        self.up4 = nn.Sequential(ResidualBlock(w4), ResidualBlock(w4))
        self.from4 = nn.Conv2d(w4, w2, 1)
        self.up2 = ResidualBlock(w2)
        self.embedding = nn.Conv2d(w2, config.embedding, 3, padding=1)
        self.query = nn.Sequential(
            nn.Conv2d(w8, config.query_width, 3, padding=1),
            nn.GroupNorm(8, config.query_width),
            nn.SiLU(),
            ResidualBlock(config.query_width),
            nn.GroupNorm(8, config.query_width),
            nn.SiLU(),
            nn.Conv2d(config.query_width, config.embedding + OFFSET_TERMS + 2, 1),
        )
        self.geometry = _geometry_head(w4, len(Geometry._fields)) if config.geometry else None

    def forward(self, rgb: Tensor) -> Maps:
        """`rgb` (B, 3, H, W) float in 0..1, sides multiples of STRIDE_PX."""
        y2, y4, y8 = self.features(rgb)
        return Maps(self.embedding(y2), self.query(y8), None if self.geometry is None else self._geometry(y4))

    def geometry_of(self, rgb: Tensor) -> Geometry:
        """Geometry only, without the other heads. The network must have a geometry head."""
        return self._geometry(self.features(rgb)[1])

    def _geometry(self, y4: Tensor) -> Geometry:
        assert self.geometry is not None
        return Geometry(*self.geometry(y4).float().unbind(1))

    def features(self, rgb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Decoder features at strides 2, 4 and 8; (B, width of the stride, H / stride, W / stride) each."""
        x2 = self.down2(self.stem((rgb - 0.5) * 4))
        x4 = self.down4(self.to4(x2))
        x8 = self.down8(self.to8(x4))
        x16 = self.down16(self.to16(x8))
        x32 = self.down32(self.to32(x16))
        y16 = self.up16(x16 + _double(self.from32(x32)))
        y8 = self.up8(x8 + _double(self.from16(y16)))
        y4 = self.up4(x4 + _double(self.from8(y8)))
        y2 = self.up2(x2 + _double(self.from4(y4)))
        return y2, y4, y8


def _geometry_head(width: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        ResidualBlock(width), nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, channels, 3, padding=1)
    )


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


@torch.inference_mode()
def affinity(net: MaskNet, rgb: Tensor) -> Affinity:
    """Run `net` on one picture, `rgb` (3, H, W) float in 0..1, and evaluate every query at every cell."""
    y2, y4, y8 = net.features(rgb[None].contiguous(memory_format=torch.channels_last))
    channels = net.config.embedding
    cells = _embedding_of_cells(net.embedding, y2)[0]
    rows, columns = cells.shape[1:]
    query = net.query(y8)[0].flatten(1).T  # (h*w, channels + 8)

    index = torch.arange(rows * columns)
    x = (index % columns) * (CELL_PX / OFFSET_UNIT_PX)
    y = torch.div(index, columns, rounding_mode="floor") * (CELL_PX / OFFSET_UNIT_PX)
    # Expand the quadratic in (dx, dy) = (x_pixel - x_cell, y_pixel - y_cell) into products of a cell term and a pixel
    # term: one matrix product instead of many (h*w)^2 temporaries.
    a, b, c, d, e, f = query[:, channels : channels + OFFSET_TERMS].unbind(1)
    of_cell = torch.stack(
        (
            f - a * x - b * y + c * x * x + d * y * y + e * x * y,
            a - 2 * c * x - e * y,
            b - 2 * d * y - e * x,
            c,
            d,
            e,
        ),
        1,
    )
    of_pixel = torch.stack((torch.ones_like(x), x, y, x * x, y * y, x * y))
    left = torch.cat((query[:, :channels] * channels**-0.5, of_cell), 1)
    right = torch.cat((cells.flatten(1), of_pixel))
    log_depth = None
    if net.geometry is not None:
        log_depth = -F.avg_pool2d(net._geometry(y4).log_inverse_depth, CELL_PX // GEOMETRY_STRIDE_PX).flatten()
    return Affinity(
        belongs=(left @ right).sigmoid_(),
        objectness=query[:, -2].sigmoid(),
        quality=query[:, -1].sigmoid(),
        log_depth=log_depth,
        grid=(rows, columns),
    )


def _embedding_of_cells(head: nn.Conv2d, y2: Tensor) -> Tensor:
    """`head(y2)`, a 3 x 3 convolution, averaged over each cell: (B, C, H/8, W/8). One convolution does both."""
    side = CELL_PX // 2
    mean = torch.full((1, 1, side, side), 1 / side**2)
    kernel = F.conv2d(head.weight.flatten(0, 1)[:, None], mean, padding=side - 1)
    return F.conv2d(y2, kernel.view(*head.weight.shape[:2], side + 2, side + 2), head.bias, side, padding=1)


@cache
def load_mask_net(path: Path = WEIGHTS) -> MaskNet:
    """The network in float32 and evaluation mode; loaded once per process.

    Raises Sam3dGsError when the file is missing or does not fit the network.
    """
    try:
        with safe_open(path, framework="pt") as file:
            config = MaskNetConfig.from_json((file.metadata() or {}).get(_CONFIG_KEY, "{}"))
            state = {name: _channels_last(file.get_tensor(name).float()) for name in file.keys()}  # noqa: SIM118 - no iterator
        with torch.device("meta"):
            net = MaskNet(config)
        net.load_state_dict(state, strict=True, assign=True)
    except Exception as error:  # safetensors raises its own type, torch a RuntimeError, the file system OSError
        reason = str(error).splitlines()[0]
        raise Sam3dGsError(f"Cannot load the embedded mask weights {path}: {reason}. Reinstall sam3d-gs.") from error
    return net.eval()


def _channels_last(weights: Tensor) -> Tensor:
    """Convolution kernels in channels-last order, which is 10 % faster on a CPU with inputs in the same order."""
    return weights.contiguous(memory_format=torch.channels_last) if weights.dim() == 4 else weights


def save_mask_net(net: MaskNet, path: Path) -> None:
    """Write the weights of `net` as float16 with its configuration."""
    state = {name: value.detach().half().cpu().contiguous() for name, value in net.state_dict().items()}
    metadata = {"format": "pt", "licence": "Apache-2.0", _CONFIG_KEY: net.config.to_json()}
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(state, metadata))
