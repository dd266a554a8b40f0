"""The embedded object predictor: a small U-Net that sees one masked crop and answers with layers of depth.

For each pixel of the crop the network predicts where the ray first enters the object and where it leaves it for good,
so that front and back together close a solid. A net of four layers also says where the ray leaves and enters it in
between: the inside of a mug, the air between chair legs. Nets are trained on parallel rays, in a frame where the crop
spans [-1, 1] in x and y and depth grows *towards* the viewer; `weights/OBJECTS_CARD.md` says how and on what. The file
of the weights holds the net's `ObjectNetConfig`; one without it is of the first version.
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
BATCH = 4  # crops a forward pass; more only costs memory on a CPU
_CONFIG_KEY = "config"  # of the safetensors metadata
_LOG_SCALE_RANGE = (-7.0, 2.0)  # natural log of crop half-sides: no error is smaller or larger


@dataclass(frozen=True)
class ObjectNetConfig:
    """What is needed to build a net; the defaults are those of the first version, whose file does not say."""

    side_px: int = CROP_PX  # of the input; the attention's positions fix it
    channels: tuple[int, int, int, int, int] = (24, 48, 96, 160, 224)  # at strides 1, 2, 4, 8, 16
    middle: int = 2  # pairs of a residual and an attention block at stride 16
    attention8: bool = False  # attention at stride 8 too, before and after the middle
    layers: int = 2  # of depth, 2 or 4
    uncertain: bool = False  # it tells the scale of its errors in front depth and in back depth
    upright: bool = False  # it tells the direction against gravity

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ObjectNetConfig:
        """Raises TypeError or ValueError when `text` is not the configuration of a net this code can build."""
        given = json.loads(text)
        c0, c1, c2, c3, c4 = (int(c) for c in given.pop("channels"))
        config = cls(channels=(c0, c1, c2, c3, c4), **given)
        if config.side_px % 16 or any(c % 8 for c in config.channels) or config.layers not in (2, 4):
            raise ValueError(f"sides of 16 px, channels of 8 and 2 or 4 layers are needed, not {config}")
        if not 1 <= config.middle <= 64:
            raise ValueError(f"1 to 64 pairs of blocks in the middle are needed, not {config.middle}")
        return config


class Answer(NamedTuple):
    """What a net says of B crops of side S; heads that it lacks give tensors without channels."""

    front: Tensor  # (B, 1, S, S) depth of the first entry
    thickness: Tensor  # (B, 1, S, S) > 0, from there to the last exit
    back_rgb: Tensor  # (B, 3, S, S) 0..1
    visible: Tensor  # (B, 1, S, S) logit: the photo shows the object here
    shares: Tensor  # (B, 3, S, S) or none: of the thickness up to the first exit, the second entry and the end; sum 1
    hollow: Tensor  # (B, 1, S, S) or none, logit: the ray leaves the object in between
    whole: Tensor  # (B, 1, S, S) or none, logit: the object is here, though something may hide it
    log_scale: Tensor  # (B, 2, S, S) or none: natural log of the mean error of front depth and of back depth
    up: Tensor  # (B, 3) or (B, 0): against gravity (x right, y up, z towards the viewer); the longer, the surer


@dataclass(frozen=True)
class TwoLayers:
    """Front and back of one object on a square grid; depths in crop half-sides, growing towards the viewer.

    What lies between them is given in shares of the thickness, so that it follows when front and back are moved.
    """

    front: np.ndarray  # (R, R) float32
    thickness: np.ndarray  # (R, R) float32, > 0: front minus back
    back_rgb: np.ndarray  # (R, R, 3) float32 0..1
    visible: np.ndarray  # (R, R) float32 0..1, predicted probability that the pixel is the object
    cavity: Cavity | None = None
    whole: np.ndarray | None = None  # (R, R) float32 0..1, probability that the object is here, hidden or not
    scale: np.ndarray | None = None  # (R, R, 2) float32, expected errors of front and back, in crop half-sides
    up: np.ndarray | None = None  # (3,) against gravity: x right, y up, z towards the viewer; the longer, the surer


@dataclass(frozen=True)
class Cavity:
    """Air between front and back."""

    hollow: np.ndarray  # (R, R) float32 0..1, probability that there is any
    near_share: np.ndarray  # (R, R) float32 0..1, of the thickness, from the front to the air
    far_share: np.ndarray  # (R, R) float32 0..1, of the thickness, from the air to the back


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
    """U-Net from (B, 6, S, S) rgb, mask, x, y in -1..1 to an `Answer`."""

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
        # Channels of front, thickness, back rgb, visible, shares, hollow, whole, log scale.
        self.parts = [1, 1, 3, 1, *((3, 1, 1) if config.layers == 4 else (0, 0, 0)), 2 if config.uncertain else 0]
        self.head = nn.Conv2d(32, sum(self.parts), 3, padding=1)
        if config.upright:
            self.up_head = nn.Sequential(nn.Linear(c4, 128), nn.SiLU(), nn.Linear(128, 3))

    def forward(self, x: Tensor) -> Answer:
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
        with torch.autocast(x.device.type, enabled=False):  # bfloat16 has steps as large as those between pixels
            y = self.head(y.float())
        front, thickness, back_rgb, visible, shares, hollow, whole, log_scale = y.split(self.parts, dim=1)
        return Answer(
            front,
            F.softplus(thickness),
            torch.sigmoid(back_rgb),
            visible,
            torch.softmax(shares, dim=1),
            hollow,
            whole,
            log_scale.clamp(*_LOG_SCALE_RANGE),
            up,
        )


def _two_blocks(channels: int) -> nn.Sequential:
    return nn.Sequential(ResidualBlock(channels), ResidualBlock(channels))


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def shipped_weights() -> Path:
    """Where the package keeps the weights; the file need not be there."""
    return Path(str(files("sam3d_gs.embedded") / "weights" / "objects.safetensors"))


def load_object_net(path: Path) -> ObjectNet:
    """Build the network with the weights of a .safetensors file, in float32 and evaluation mode.

    Raises BadInputError when the file is unreadable or holds other tensors than this network's.
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
    """Write weights in float16 with the net's configuration; `load_object_net` reads them."""
    from safetensors.torch import save

    state = {name: tensor.detach().half().contiguous() for name, tensor in net.state_dict().items()}
    write_bytes(path, save(state, {_CONFIG_KEY: net.config.to_json()}))


def predict(net: ObjectNet, crops: Sequence[Crop]) -> list[TwoLayers]:
    """Run the network over crops, each also mirrored left to right; the two answers are averaged.

    A crop's answer does not depend on its neighbours in the batch beyond rounding.
    """
    layers: list[TwoLayers] = []
    for start in range(0, len(crops), BATCH):
        x = torch.stack([_network_input(crop) for crop in crops[start : start + BATCH]])
        with torch.inference_mode():
            # one pass over both: half as many small steps for the threads to wait on each other
            answer: Answer = net(torch.cat([x, _mirror_input(x)]))
        mean = Answer(*(_unmirrored_mean(part) for part in answer))
        layers += [_two_layers(mean, i) for i in range(len(x))]
    return layers


def _unmirrored_mean(part: Tensor) -> Tensor:
    """Mean of the answers to B pictures and, behind them, to their mirror images."""
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
    """Mirror picture and mask left to right; the coordinate planes stay."""
    return torch.cat([x[:, :4].flip(-1), x[:, 4:]], dim=1)


def _two_layers(answer: Answer, i: int) -> TwoLayers:
    """The answer to object i of a batch."""
    front, thickness, back_rgb, visible, shares, hollow, whole, log_scale, up = (part[i].numpy() for part in answer)
    return TwoLayers(
        front=front[0],
        thickness=np.maximum(thickness[0], MIN_THICKNESS),
        back_rgb=np.clip(back_rgb.transpose(1, 2, 0), 0, 1),
        visible=_probability(visible[0]),
        cavity=Cavity(_probability(hollow[0]), shares[0], shares[2]) if len(hollow) else None,
        whole=_probability(whole[0]) if len(whole) else None,
        scale=np.exp(log_scale.transpose(1, 2, 0)) if len(log_scale) else None,
        up=up if len(up) else None,
    )


def _probability(logit: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-logit)))
