"""Networks with random weights that make an object: for tests and for measuring speed without the trained weights.

What comes out resembles nothing, but it is finite, with a few thousand to a few ten thousand voxels in smooth lumps,
visible Gaussians, and a depth map that a pinhole camera explains.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from torch import Tensor, nn

from sam3d_gs.sam3d_torch.checkpoints.network_source import (
    LATENT_CONDITION,
    LATENT_FLOW,
    MOGE,
    STRUCTURE_CONDITION,
    STRUCTURE_DECODER,
    STRUCTURE_FLOW,
    NetworkSource,
    Part,
    Reader,
    decoder_name,
    network_parts,
)
from sam3d_gs.sam3d_torch.config import (
    IMAGE_MEAN,
    IMAGE_STD,
    VITS,
    ConditionConfig,
    DinoConfig,
    GaussianDecoderConfig,
    LatentConfig,
    LatentFlowConfig,
    PointPatchConfig,
    PreprocessConfig,
    Sam3dConfig,
    SamplerConfig,
    StructureDecoderConfig,
    StructureFlowConfig,
)
from sam3d_gs.sam3d_torch.gaussian_decoder import FIELD_CHANNELS, spread
from sam3d_gs.sam3d_torch.layers import position_embedding
from sam3d_gs.sam3d_torch.moge import MogeConfig, MogeV1
from sam3d_gs.sam3d_torch.structure_decoder import StructureDecoder

POSE_LATENTS = {"6drotation_normalized": 6, "scale": 3, "translation": 3, "translation_scale": 1}
POSE_ORDER = ("6drotation_normalized", "translation", "scale", "translation_scale")
OFFICIAL_MEAN = (0.12211431, 0.37204156, -1.26521907, -2.05276058, -3.10432536, -0.11294304, -0.85146744, 0.45506954)
OFFICIAL_STD = (2.37326008, 2.13174402, 2.2413953, 2.30589401, 2.1191894, 1.8969511, 2.41684989, 2.08374642)
FULL_MOGE: Mapping[str, Any] = {
    "encoder": "dinov2_vitl14",
    "remap_output": "exp",
    "intermediate_layers": 4,
    "dim_proj": 512,
    "dim_upsample": [256, 128, 64],
    "dim_times_res_block_hidden": 2,
    "num_res_blocks": 2,
    "trained_area_range": [250000, 500000],
    "last_conv_channels": 32,
    "last_conv_size": 1,
}
TINY_MOGE: Mapping[str, Any] = {
    **FULL_MOGE,
    "encoder": "dinov2_tiny14",
    "dim_proj": 16,
    "dim_upsample": [16, 16, 16],
    "num_res_blocks": 1,
    "trained_area_range": [4000, 8000],
    "last_conv_channels": 8,
}

NOWHERE = Path("random weights")  # stands for the files there are none of
POOL = 4_194_301  # numbers that all weights are cut from; a prime, so that no two rows of a matrix are equal
BRANCH_GAIN = 0.5  # of the layers that write into a residual stream or modulate it
BRANCHES = ("to_out", "mlp.2", "conv2", "adaLN")
OUTPUT_GAIN = 0.1  # of the layers that give velocities: states stay near the noise, whose statistics are known
DECODER_GAIN = 0.3  # of the layer that gives Gaussians
CALIBRATION_SIDE = 8  # tokens a side on which the decoder's bias is found; it is a convolution, any side will do


def tiny_config() -> Sam3dConfig:
    """Every part of the official networks with two blocks, 32 channels and half the grid."""
    return _config(
        vit="dinov2_tiny14_reg",
        input_px=56,
        point=PointPatchConfig(width=32, input_px=32, patch_px=8),
        width=32,
        blocks=2,
        heads=2,
        resolution=8,
        decoder_channels=(16, 8, 8),
        io_channels=16,
        decoder=(32, 2, 2),
        steps=(4, 3),
    )


def full_config() -> Sam3dConfig:
    """The released networks."""
    return _config(
        vit="dinov2_vitl14_reg",
        input_px=518,
        point=PointPatchConfig(width=512, input_px=256, patch_px=8),
        width=1024,
        blocks=24,
        heads=16,
        resolution=16,
        decoder_channels=(512, 128, 32),
        io_channels=128,
        decoder=(768, 12, 12),
        steps=(25, 25),
    )


def _config(
    *,
    vit: str,
    input_px: int,
    point: PointPatchConfig,
    width: int,
    blocks: int,
    heads: int,
    resolution: int,
    decoder_channels: tuple[int, ...],
    io_channels: int,
    decoder: tuple[int, int, int],
    steps: tuple[int, int],
) -> Sam3dConfig:
    channels = len(OFFICIAL_MEAN)
    voxels = resolution * 2 ** (len(decoder_channels) - 1)
    image, mask = (("image", "cropped"), ("rgb_image", "full")), (("mask", "cropped"), ("rgb_image_mask", "full"))
    first = DinoConfig(VITS[vit], input_px, prenorm=False)
    second = replace(first, prenorm=True)
    latents = {name: LatentConfig(count, 1) for name, count in POSE_LATENTS.items()}
    gaussians = GaussianDecoderConfig(
        width=decoder[0],
        blocks=decoder[1],
        heads=decoder[2],
        resolution=voxels,
        mlp_ratio=4.0,
        latent_channels=channels,
        window=8,
        gaussians_per_voxel=32,
        voxel_size=1.5,
        kernel_size_3d=0.0009,
        scale_bias=0.004,
        opacity_bias=0.1,
        rotation_rate=0.1,
    )
    structure_condition = ConditionConfig(
        ((first, image), (first, mask), (point, (("pointmap", "cropped"), ("rgb_pointmap", "full"))))
    )
    latent_condition = ConditionConfig(((second, image), (second, mask)))
    return Sam3dConfig(
        structure_condition=structure_condition,
        structure_flow=StructureFlowConfig(
            width=width,
            cond_width=structure_condition.width,
            blocks=blocks,
            heads=heads,
            resolution=resolution,
            mlp_ratio=4.0,
            latents={**latents, "shape": LatentConfig(channels, resolution**3)},
            pose_stream=POSE_ORDER[0],
            pose_order=POSE_ORDER,
        ),
        structure_decoder=StructureDecoderConfig(decoder_channels, channels, 1, 2, 2),
        structure_sampler=SamplerConfig(steps=steps[0], rescale_t=3.0, guidance=7.0),
        latent_condition=latent_condition,
        latent_flow=LatentFlowConfig(
            width=width,
            cond_width=latent_condition.width,
            blocks=blocks,
            heads=heads,
            resolution=voxels,
            mlp_ratio=4.0,
            in_channels=channels,
            out_channels=channels,
            patch=2,
            io_channels=(io_channels,),
            io_res_blocks=2,
        ),
        latent_sampler=SamplerConfig(steps=steps[1], rescale_t=1.0, guidance=1.0),
        latent_mean=OFFICIAL_MEAN,
        latent_std=OFFICIAL_STD,
        gaussian_decoders={count: replace(gaussians, gaussians_per_voxel=count) for count in (4, 32)},
        preprocess=PreprocessConfig(size_px=input_px, box_factor=1.2),
        dtype="float16",
    )


@dataclass(frozen=True)
class Size:
    """What random networks are made by."""

    config: Sam3dConfig
    moge: Mapping[str, Any]
    occupied: float  # share of the grid's voxels that the structure decoder fills, before those inside are dropped


SIZES: Mapping[str, Callable[[], Size]] = {
    "tiny": lambda: Size(tiny_config(), TINY_MOGE, 0.01),
    "full": lambda: Size(full_config(), FULL_MOGE, 0.12),
}


class RandomNetworks(NetworkSource):
    """The networks of a checkpoint folder that exists nowhere: same methods as `Checkpoint`, random weights.

    Weights are made on `device`; the same seed gives the same ones everywhere, up to rounding.
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
        """What must have a certain value for an object to come out."""
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
                # Opaque, and as wide as the voxels are apart; the rest is left to the random weights.
                raw_scale = math.log(math.expm1(0.4 / decoder.resolution) / math.expm1(decoder.scale_bias))
                field_means = (0.0, 0.0, raw_scale, 0.0, 4.0)
                bias = [
                    torch.full((count * channels,), mean)
                    for mean, channels in zip(field_means, FIELD_CHANNELS, strict=True)
                ]
                offsets = spread(count, decoder.voxel_size)
                return {"offset_perturbation": offsets.to(device), "out_layer.bias": torch.cat(bias).to(device)}
        return {}

    def _occupancy_bias(self) -> Tensor:
        """The bias that fills the wanted share of the voxels for a latent of standard normal numbers."""
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
        """Both outputs read the picture coordinates: rays of a camera, log depth near 0, and a mask that is on."""
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
        """Random numbers as they are usual for a parameter of that name and shape."""
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
        """`count` numbers of the pool from `start` on, going round as often as it takes; a copy."""
        pieces = []
        while count > 0:
            pieces.append(self._pool[start : start + count])
            count, start = count - len(pieces[-1]), 0
        return torch.cat(pieces)


def _smooth(values: Tensor, *, upsampling: bool, first: bool) -> Tensor:
    """Convolution weights (C', C, 3, 3, 3) that blur, so that neighbouring voxels agree and lumps come out.

    The first layer takes differences instead: what all tokens have in common must not decide about occupancy.
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


def file_stems(config: Sam3dConfig) -> dict[str, str]:
    """Network -> the stem of the file that holds it."""
    largest = max(config.gaussian_decoders)
    decoders = {n: "slat_decoder_gs" if n == largest else "slat_decoder_gs_4" for n in config.gaussian_decoders}
    return {
        STRUCTURE_FLOW: "ss_generator",
        STRUCTURE_CONDITION: "ss_generator",
        STRUCTURE_DECODER: "ss_decoder",
        LATENT_FLOW: "slat_generator",
        LATENT_CONDITION: "slat_generator",
        **{decoder_name(count): stem for count, stem in decoders.items()},
    }
