"""The object network: a small U-Net that predicts depth layers from one masked crop.

For each pixel of the crop it predicts where the ray first enters the object and where it last leaves it: front and back
of a closed solid. A network of four layers also predicts where the ray leaves and re-enters it in between: the inside
of a mug, the gap between chair legs. Training uses parallel rays, in a frame where the crop spans [-1, 1] in x and y
and depth grows *towards* the viewer; see `weights/OBJECTS_CARD.md`. The weights file holds the `ObjectNetConfig`; a
file without one is of version 1.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam3d_gs.embedded.shape.crops import CROP_PX, Crop
from sam3d_gs.errors import BadInputError
from sam3d_gs.files import write_bytes

MIN_THICKNESS = 0.01  # in crop half-sides: keeps front and back apart
BATCH = 4  # crops per forward pass; on a CPU more only need more memory
_CONFIG_KEY = "config"  # of the safetensors metadata
_LOG_DEPTH_ERROR_RANGE = (-7.0, 2.0)  # natural log of crop half-sides


@dataclass(frozen=True)
class ObjectNetConfig:
    """The architecture; the defaults are those of version 1, whose file has no configuration."""

    side_px: int = CROP_PX  # of the input, fixed by the learned positions
    channels: tuple[int, int, int, int, int] = (24, 48, 96, 160, 224)  # at strides 1, 2, 4, 8, 16
    middle: int = 2  # pairs of a residual and an attention block at stride 16
    attention8: bool = False  # attention at stride 8 too, before and after the middle
    layers: int = 2  # of depth, 2 or 4
    uncertain: bool = False  # predicts its errors in front and back depth
    upright: bool = False  # predicts the up direction

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ObjectNetConfig:
        """The configuration in JSON. Raises TypeError or ValueError when this code cannot build such a network."""
        given = json.loads(text)
        c0, c1, c2, c3, c4 = (int(c) for c in given.pop("channels"))
        config = cls(channels=(c0, c1, c2, c3, c4), **given)
        if config.side_px % 16 or any(c % 8 for c in config.channels) or config.layers not in (2, 4):
            raise ValueError(f"sides of 16 px, channels of 8 and 2 or 4 layers are needed, not {config}")
        if not 1 <= config.middle <= 64:
            raise ValueError(f"1 to 64 pairs of blocks in the middle are needed, not {config.middle}")
        return config


class Prediction(NamedTuple):
    """Predictions for B crops of side S; missing heads give tensors without channels."""

    front: Tensor  # (B, 1, S, S) depth of the first entry
    thickness: Tensor  # (B, 1, S, S) > 0, from there to the last exit
    back_rgb: Tensor  # (B, 3, S, S) 0..1
    visible: Tensor  # (B, 1, S, S) logit that the photo shows the object at this pixel
    shares: Tensor  # (B, 3, S, S) or none: shares of the thickness, solid, cavity, solid; sum 1
    hollow: Tensor  # (B, 1, S, S) or none: logit that there is a cavity
    amodal: Tensor  # (B, 1, S, S) or none: logit that the object is at this pixel, hidden or not
    log_depth_error: Tensor  # (B, 2, S, S) or none: natural log of the expected error of front and back depth
    up: Tensor  # (B, 3) or (B, 0): up direction (x right, y up, z towards the viewer); the length is the confidence


@dataclass(frozen=True)
class DepthLayers:
    """Front, back and cavity of one object on a square grid; depths in crop half-sides, growing towards the viewer.

    The cavity is given in shares of the thickness, so it moves with front and back.
    """

    front: np.ndarray  # (R, R) float32
    thickness: np.ndarray  # (R, R) float32, > 0: front minus back
    back_rgb: np.ndarray  # (R, R, 3) float32 0..1
    visible: np.ndarray  # (R, R) float32 0..1, probability that the photo shows the object
    cavity: Cavity | None = None
    amodal: np.ndarray | None = None  # (R, R) float32 0..1, probability of the object, hidden or not
    depth_error: np.ndarray | None = None  # (R, R, 2) float32, expected errors of front and back, crop half-sides
    up: np.ndarray | None = None  # (3,) up direction (x right, y up, z towards the viewer); length is confidence


@dataclass(frozen=True)
class Cavity:
    """The empty interval between front and back."""

    hollow: np.ndarray  # (R, R) float32 0..1, probability that there is one
    near_share: np.ndarray  # (R, R) float32 0..1, share of the thickness in front of it
    far_share: np.ndarray  # (R, R) float32 0..1, share of the thickness behind it


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, each after GroupNorm and SiLU, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(8, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        x_inner = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(x_inner)))


class AttentionBlock(nn.Module):
    """A pre-norm transformer block over all pixels of a small feature map, with learned positions."""

    def __init__(self, channels: int, positions: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.position = nn.Parameter(torch.zeros(1, positions, channels))
        self.norm1 = nn.LayerNorm(channels)
        self.query_key_value = nn.Linear(channels, 3 * channels)
        self.project = nn.Linear(channels, channels)
        self.norm2 = nn.LayerNorm(channels)
        self.widen = nn.Linear(channels, 3 * channels)
        self.narrow = nn.Linear(3 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        b, c, h, w = x.shape
        tokens = x.flatten(2).transpose(1, 2) + self.position
        qkv = self.query_key_value(self.norm1(tokens)).view(b, h * w, 3, self.heads, c // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(b, h * w, c)
        tokens = tokens + self.project(mixed)
        tokens = tokens + self.narrow(F.gelu(self.widen(self.norm2(tokens))))
        return tokens.transpose(1, 2).reshape(b, c, h, w)


class ObjectNet(nn.Module):
    """U-Net from (B, 6, S, S) rgb, mask, x, y in -1..1 to a `Prediction`."""

    def __init__(self, config: ObjectNetConfig = ObjectNetConfig()) -> None:
        super().__init__()
        self.config = config
        c0, c1, c2, c3, c4 = config.channels
        positions = (config.side_px // 16) ** 2
        self.stem = nn.Conv2d(6, c0, 3, padding=1)
        self.down1 = nn.Conv2d(c0, c1, 4, stride=2, padding=1)
        self.encode1 = _two_blocks(c1)
        self.down2 = nn.Conv2d(c1, c2, 2, stride=2)
        self.encode2 = _two_blocks(c2)
        self.down3 = nn.Conv2d(c2, c3, 2, stride=2)
        self.encode3 = _two_blocks(c3)
        self.attend3 = AttentionBlock(c3, 4 * positions) if config.attention8 else nn.Identity()
        self.down4 = nn.Conv2d(c3, c4, 2, stride=2)
        pairs = ((ResidualBlock(c4), AttentionBlock(c4, positions)) for _ in range(config.middle))
        self.middle = nn.Sequential(*(block for pair in pairs for block in pair))
        self.up3 = nn.Conv2d(c4, c3, 1)
        self.attend_up3 = AttentionBlock(c3, 4 * positions) if config.attention8 else nn.Identity()
        self.decode3 = _two_blocks(c3)
        self.up2 = nn.Conv2d(c3, c2, 1)
        self.decode2 = _two_blocks(c2)
        self.up1 = nn.Conv2d(c2, c1, 1)
        self.decode1 = _two_blocks(c1)
        self.up0 = nn.Conv2d(c1, 4 * c0, 1)
        self.merge = nn.Conv2d(2 * c0, 32, 3, padding=1)
        self.refine = nn.Conv2d(32, 32, 3, padding=1)
        # Channels of front, thickness, back rgb, visible, shares, hollow, amodal, log depth error.
        self.parts = [1, 1, 3, 1, *((3, 1, 1) if config.layers == 4 else (0, 0, 0)), 2 if config.uncertain else 0]
        self.head = nn.Conv2d(32, sum(self.parts), 3, padding=1)
        if config.upright:
            self.up_head = nn.Sequential(nn.Linear(c4, 128), nn.SiLU(), nn.Linear(128, 3))

    def forward(self, x: Tensor) -> Prediction:
        x0 = F.silu(self.stem(x))
        x1 = self.encode1(self.down1(x0))
        x2 = self.encode2(self.down2(x1))
        x3 = self.attend3(self.encode3(self.down3(x2)))
        y = self.middle(self.down4(x3))
        up = self.up_head(y.mean((2, 3))) if self.config.upright else y.new_zeros(len(y), 0)
        y = self.decode3(self.attend_up3(x3 + _double(self.up3(y))))
        y = self.decode2(x2 + _double(self.up2(y)))
        y = self.decode1(x1 + _double(self.up1(y)))
        y = F.silu(self.merge(torch.cat([F.pixel_shuffle(self.up0(y), 2), x0], dim=1)))
        y = y + F.silu(self.refine(y))
        with torch.autocast(x.device.type, enabled=False):  # bfloat16 is too coarse for depth differences of neighbours
            y = self.head(y.float())
        front, thickness, back_rgb, visible, shares, hollow, amodal, log_depth_error = y.split(self.parts, dim=1)
        return Prediction(
            front,
            F.softplus(thickness),
            torch.sigmoid(back_rgb),
            visible,
            torch.softmax(shares, dim=1),
            hollow,
            amodal,
            log_depth_error.clamp(*_LOG_DEPTH_ERROR_RANGE),
            up,
        )


def _two_blocks(channels: int) -> nn.Sequential:
    return nn.Sequential(ResidualBlock(channels), ResidualBlock(channels))


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def shipped_weights() -> Path:
    """Path of the package's own weights, which may be missing."""
    return Path(str(files("sam3d_gs.embedded") / "weights" / "objects.safetensors"))


def load_object_net(path: Path) -> ObjectNet:
    """Build the network with the weights of a .safetensors file, in float32 and evaluation mode.

    Raises BadInputError when the file is unreadable or does not fit the network.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    try:
        state = {name: tensor.float() for name, tensor in load_file(path).items()}
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(_CONFIG_KEY)
        config = ObjectNetConfig() if text is None else ObjectNetConfig.from_json(text)
        with torch.device("meta"):
            net = ObjectNet(config)
        net.load_state_dict(state, strict=True, assign=True)
    except (OSError, SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise BadInputError(
            f"{path} does not hold the embedded object weights ({reason}). Reinstall sam3d_gs to get the file back."
        ) from error
    return net.eval().requires_grad_(False)


def save_object_net(net: ObjectNet, path: Path) -> None:
    """Write the weights in float16, with the configuration, for `load_object_net`."""
    from safetensors.torch import save

    state = {name: tensor.detach().half().contiguous() for name, tensor in net.state_dict().items()}
    write_bytes(path, save(state, {_CONFIG_KEY: net.config.to_json()}))


def predict(net: ObjectNet, crops: Sequence[Crop]) -> list[DepthLayers]:
    """Mean of the predictions for each crop and for its mirror image.

    Up to rounding, the result for a crop does not depend on the others.
    """
    layers: list[DepthLayers] = []
    for start in range(0, len(crops), BATCH):
        x = torch.stack([_network_input(crop) for crop in crops[start : start + BATCH]])
        with torch.inference_mode():
            # one pass over both: threads wait for each other half as often
            prediction: Prediction = net(torch.cat([x, _mirror_input(x)]))
        mean = Prediction(*(_mean_with_mirrored(part) for part in prediction))
        layers += [_depth_layers(mean, i) for i in range(len(x))]
    return layers


def _mean_with_mirrored(part: Tensor) -> Tensor:
    """Mean over B crops and their mirror images, which follow them in the batch."""
    straight, mirrored = part.chunk(2)
    mirrored = mirrored * torch.tensor([-1.0, 1.0, 1.0])[: part.shape[1]] if part.ndim == 2 else mirrored.flip(-1)
    return 0.5 * (straight + mirrored)


def _network_input(crop: Crop) -> Tensor:
    inside = crop.coverage > 0.5
    axis = np.linspace(-1, 1, len(inside), dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    rgb = (2 * crop.rgb - 1) * inside[..., None]
    planes = [rgb[..., 0], rgb[..., 1], rgb[..., 2], np.where(inside, 1, -1), x, y]
    return torch.from_numpy(np.stack(planes).astype(np.float32))


def _mirror_input(x: Tensor) -> Tensor:
    """Mirror image and mask left to right; the coordinate planes stay."""
    return torch.cat([x[:, :4].flip(-1), x[:, 4:]], dim=1)


def _depth_layers(prediction: Prediction, i: int) -> DepthLayers:
    """The layers of object i of a batch."""
    front, thickness, back_rgb, visible, shares, hollow, amodal, log_depth_error, up = (
        part[i].numpy() for part in prediction
    )
    return DepthLayers(
        front=front[0],
        thickness=np.maximum(thickness[0], MIN_THICKNESS),
        back_rgb=np.clip(back_rgb.transpose(1, 2, 0), 0, 1),
        visible=_sigmoid(visible[0]),
        cavity=Cavity(_sigmoid(hollow[0]), shares[0], shares[2]) if len(hollow) else None,
        amodal=_sigmoid(amodal[0]) if len(amodal) else None,
        depth_error=np.exp(log_depth_error.transpose(1, 2, 0)) if len(log_depth_error) else None,
        up=up if len(up) else None,
    )


def _sigmoid(logit: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-logit)))
