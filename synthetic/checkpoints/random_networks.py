"""Networks with random weights that make an object: for tests and for measuring speed without the trained weights.

The results resemble nothing, but they are finite: a few thousand to a few ten thousand voxels in smooth lumps,
visible Gaussians, and a depth map that fits a pinhole camera.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zlib import crc32

import torch
from torch import Tensor, nn

from sam3d_gs.sam3d_torch.checkpoints.network_source import (
    LATENT_FLOW,
    MOGE,
    STRUCTURE_DECODER,
    STRUCTURE_FLOW,
    NetworkSource,
    Part,
    Reader,
    decoder_name,
    network_parts,
)
from sam3d_gs.sam3d_torch.config import IMAGE_MEAN, IMAGE_STD, GaussianDecoderConfig
from sam3d_gs.sam3d_torch.gaussian_decoder import FIELD_CHANNELS, spread
from sam3d_gs.sam3d_torch.layers import position_embedding
from sam3d_gs.sam3d_torch.moge import MogeConfig, MogeV1
from sam3d_gs.sam3d_torch.structure_decoder import StructureDecoder
from synthetic.checkpoints.configs import Size, file_stems

NOWHERE = Path("random weights")  # in place of the files' paths
POOL = 4_194_301  # random numbers that all weights are cut from; a prime, so that no two rows of a matrix are equal
BRANCH_GAIN = 0.5  # of the layers that write into a residual stream or modulate it
BRANCHES = ("to_out", "mlp.2", "conv2", "adaLN")
OUTPUT_GAIN = 0.1  # of the layers that give velocities: states stay near the noise, whose statistics are known
DECODER_GAIN = 0.3  # of the layer that gives Gaussians
CALIBRATION_SIDE = 8  # tokens along an axis for finding the decoder's bias; it is a convolution, so any number will do


class RandomNetworks(NetworkSource):
    """Networks with the methods of `Checkpoint` and random weights, without any files.

    Weights are made on `device`; the same seed gives the same weights on every device, up to rounding.
    """

    def __init__(
        self, size: Size, seed: int = 0, *, identical_dino: bool = True, device: torch.device | str = "cpu"
    ) -> None:
        parts = network_parts(size.config, dict.fromkeys(file_stems(size.config), NOWHERE))
        moge_config = MogeConfig.from_checkpoint(size.moge)
        parts[MOGE] = Part(MOGE, lambda: MogeV1(moge_config), NOWHERE, str(NOWHERE))
        super().__init__(size.config, parts, NOWHERE)
        self._occupied = size.occupied
        self._identical_dino = identical_dino
        self._seed = seed
        generator = torch.Generator().manual_seed(seed)
        self._pool = torch.randn(POOL, generator=generator).to(device)

    @contextmanager
    def reader(self, part: Part) -> Iterator[Reader]:
        network = part.on_meta(nn.Module)
        shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
        special = self._special(part.name, network)
        yield lambda name: special[name] if name in special else self._draw(part.name, name, shapes[name])

    def _special(self, part: str, network: nn.Module) -> dict[str, Tensor]:
        """The tensors that need certain values for an object to come out."""
        config, device = self.config, self._pool.device
        if part == STRUCTURE_FLOW:
            side = torch.arange(config.structure_flow.resolution, device=device)
            coords = torch.cartesian_prod(side, side, side)
            return {"latent_mapping.shape.pos_emb": position_embedding(coords, config.structure_flow.width)}
        if part == STRUCTURE_DECODER:
            return {"out_layer.2.bias": self._occupancy_bias()}
        if isinstance(network, MogeV1):
            return self._pinhole(network)
        for count, decoder in config.gaussian_decoders.items():
            if part == decoder_name(count):
                return self._visible_gaussians(decoder)
        return {}

    def _visible_gaussians(self, config: GaussianDecoderConfig) -> dict[str, Tensor]:
        """Opaque, and as wide as the distance between voxels; the rest is left to the random weights."""
        count, device = config.gaussians_per_voxel, self._pool.device
        raw_scale = math.log(math.expm1(0.4 / config.resolution) / math.expm1(config.scale_bias))
        field_means = (0.0, 0.0, raw_scale, 0.0, 4.0)
        bias = [
            torch.full((count * channels,), mean) for mean, channels in zip(field_means, FIELD_CHANNELS, strict=True)
        ]
        offsets = spread(count, config.voxel_size)
        return {"offset_perturbation": offsets.to(device), "out_layer.bias": torch.cat(bias).to(device)}

    def _occupancy_bias(self) -> Tensor:
        """The output bias with which a standard normal latent fills the wanted share of the voxels."""
        config = self.config.structure_decoder
        decoder = StructureDecoder(config).to(self._pool.device).eval().requires_grad_(False)
        state = {n: self._draw(STRUCTURE_DECODER, n, tuple(t.shape)) for n, t in decoder.state_dict().items()}
        decoder.load_state_dict({**state, "out_layer.2.bias": torch.zeros(config.out_channels)})
        tokens = self._pool[: CALIBRATION_SIDE**3 * config.latent_channels].view(1, -1, config.latent_channels)
        logits = decoder(tokens)[0, 0]
        margin = len(logits) // 4  # the border sees the padding
        inside = logits[margin:-margin, margin:-margin, margin:-margin].flatten()
        threshold = inside.sort().values[int((1 - self._occupied) * len(inside))]
        return -threshold.expand(config.out_channels)

    def _pinhole(self, network: MogeV1) -> dict[str, Tensor]:
        """Output layers that read pixel coordinates: rays of a pinhole camera, log depth near 0, mask on everywhere."""
        shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
        draw = {name: self._draw(MOGE, name, shape) for name, shape in shapes.items() if name.startswith("head.output")}
        first, last = draw["head.output_block.0.0.weight"], draw["head.output_block.0.2.weight"]
        middle, centre = first.shape[-1] // 2, last.shape[-1] // 2
        first[:4], last[:2], last[2, :4] = 0, 0, 0
        draw["head.output_block.0.0.bias"][:4] = 0
        for axis in (0, 1):  # u = ReLU(u) - ReLU(-u)
            for sign, channel in ((1.0, 2 * axis), (-1.0, 2 * axis + 1)):
                first[channel, axis - 2, middle, middle] = sign
                last[axis, channel, centre, centre] = sign
        draw["head.output_block.1.2.bias"][:] = 3.0
        for name in ("head.output_block.0.2.weight", "head.output_block.1.2.weight"):
            draw[name][-1] *= OUTPUT_GAIN
        mean, std = (torch.tensor(v, device=first.device).view(1, 3, 1, 1) for v in (IMAGE_MEAN, IMAGE_STD))
        return {**draw, "image_mean": mean, "image_std": std}

    def _draw(self, part: str, name: str, shape: tuple[int, ...]) -> Tensor:
        """Random numbers of the usual magnitude for a parameter of this name and shape."""
        dino = ".backbone." in name and self._identical_dino
        label = name.partition(".backbone.")[2] if dino and part != MOGE else f"{part}.{name}"
        start = crc32(f"{self._seed}:{label}".encode()) % POOL
        values = self._numbers(start, math.prod(shape)).view(shape)
        leaf = name.rpartition(".")[2]
        if leaf == "gamma":
            return values.mul_(0.1).add_(1.0 if "rms_norm" in name else BRANCH_GAIN)
        if leaf == "weight" and len(shape) == 1:  # a norm
            return values.mul_(0.1).add_(1.0)
        if leaf != "weight":
            return values.mul_(0.02 if leaf == "bias" else 0.1)
        if part == STRUCTURE_DECODER:
            return _smooth(values, upsampling=".conv." in name, first=name.startswith("input_layer"))
        if "upsample_blocks" in name and ".0.0." in name:  # a transposed convolution: inputs come first
            return values.mul_(shape[0] ** -0.5)
        fan_in = math.prod(shape[1:])
        gain = 1.0
        if "out_layer" in name:
            gain = OUTPUT_GAIN if part in (STRUCTURE_FLOW, LATENT_FLOW) else DECODER_GAIN
        elif any(word in name for word in BRANCHES):
            gain = BRANCH_GAIN
        return values.mul_(gain * fan_in**-0.5)

    def _numbers(self, start: int, count: int) -> Tensor:
        """A copy of `count` numbers of the pool from `start` on, wrapping around at its end."""
        pieces = []
        while count > 0:
            pieces.append(self._pool[start : start + count])
            count, start = count - len(pieces[-1]), 0
        return torch.cat(pieces)


def _smooth(values: Tensor, *, upsampling: bool, first: bool) -> Tensor:
    """Convolution weights (C', C, 3, 3, 3) that blur, so that neighbouring voxels agree and form lumps.

    The first layer takes differences instead: a value common to all tokens must not decide occupancy.
    """
    tap = torch.tensor([0.25, 0.5, 0.25], device=values.device)
    blur = torch.einsum("i,j,k->ijk", tap, tap, tap)
    if first:
        blur = blur - blur.mean()
    mix = values[:, :, 1, 1, 1] * values.shape[1] ** -0.5
    if upsampling:  # the eight children of a voxel are neighbours in the order of the channels
        mix = mix[::8].repeat_interleave(8, dim=0)
    noise = 0.05 * (27 * values.shape[1]) ** -0.5
    return mix[:, :, None, None, None] * blur + noise * values
