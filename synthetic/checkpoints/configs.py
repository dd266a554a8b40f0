"""The two sizes of synthetic checkpoints: the released networks, and tiny ones with all of their parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sam3d_gs.sam3d_torch.checkpoints.network_source import (
    LATENT_CONDITION,
    LATENT_FLOW,
    STRUCTURE_CONDITION,
    STRUCTURE_DECODER,
    STRUCTURE_FLOW,
    decoder_name,
)
from sam3d_gs.sam3d_torch.config import (
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

POSE_LATENTS = {"6drotation_normalized": 6, "scale": 3, "translation": 3, "translation_scale": 1}
POSE_ORDER = ("6drotation_normalized", "translation", "scale", "translation_scale")
OFFICIAL_MEAN = (0.12211431, 0.37204156, -1.26521907, -2.05276058, -3.10432536, -0.11294304, -0.85146744, 0.45506954)
OFFICIAL_STD = (2.37326008, 2.13174402, 2.2413953, 2.30589401, 2.1191894, 1.8969511, 2.41684989, 2.08374642)
CHANNELS = len(OFFICIAL_MEAN)  # of a shape token and of a voxel's latent
IMAGE_INPUTS = (("image", "cropped"), ("rgb_image", "full"))
MASK_INPUTS = (("mask", "cropped"), ("rgb_image_mask", "full"))
POINTMAP_INPUTS = (("pointmap", "cropped"), ("rgb_pointmap", "full"))
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


@dataclass(frozen=True)
class Size:
    """What random networks are made from."""

    config: Sam3dConfig
    moge: Mapping[str, Any]
    occupied: float  # share of the grid's voxels that the structure decoder fills, before those inside are dropped


@dataclass(frozen=True)
class _Dimensions:
    """The numbers in which the sizes differ."""

    vit: str  # a key of VITS
    input_px: int
    point: PointPatchConfig
    width: int  # of both flows
    blocks: int
    heads: int
    resolution: int  # shape tokens along an axis
    decoder_channels: tuple[int, ...]  # of the structure decoder, a level each
    io_channels: int
    gaussian_width: int  # of the Gaussian decoder
    gaussian_blocks: int
    gaussian_heads: int
    structure_steps: int
    latent_steps: int

    @property
    def voxels(self) -> int:
        """Along an axis; every level but the first doubles the resolution."""
        return self.resolution * 2 ** (len(self.decoder_channels) - 1)


TINY = _Dimensions(
    vit="dinov2_tiny14_reg",
    input_px=56,
    point=PointPatchConfig(width=32, input_px=32, patch_px=8),
    width=32,
    blocks=2,
    heads=2,
    resolution=8,
    decoder_channels=(16, 8, 8),
    io_channels=16,
    gaussian_width=32,
    gaussian_blocks=2,
    gaussian_heads=2,
    structure_steps=4,
    latent_steps=3,
)
FULL = _Dimensions(
    vit="dinov2_vitl14_reg",
    input_px=518,
    point=PointPatchConfig(width=512, input_px=256, patch_px=8),
    width=1024,
    blocks=24,
    heads=16,
    resolution=16,
    decoder_channels=(512, 128, 32),
    io_channels=128,
    gaussian_width=768,
    gaussian_blocks=12,
    gaussian_heads=12,
    structure_steps=25,
    latent_steps=25,
)


def tiny_config() -> Sam3dConfig:
    """Every part of the official networks with two blocks, 32 channels and half the grid."""
    return _config(TINY)


def full_config() -> Sam3dConfig:
    """The released networks."""
    return _config(FULL)


SIZES: Mapping[str, Callable[[], Size]] = {
    "tiny": lambda: Size(tiny_config(), TINY_MOGE, 0.01),
    "full": lambda: Size(full_config(), FULL_MOGE, 0.12),
}


def _config(size: _Dimensions) -> Sam3dConfig:
    structure_condition, latent_condition = _structure_condition(size), _latent_condition(size)
    return Sam3dConfig(
        structure_condition=structure_condition,
        structure_flow=_structure_flow(size, structure_condition.width),
        structure_decoder=StructureDecoderConfig(size.decoder_channels, CHANNELS, 1, 2, 2),
        structure_sampler=SamplerConfig(steps=size.structure_steps, rescale_t=3.0, guidance=7.0),
        latent_condition=latent_condition,
        latent_flow=_latent_flow(size, latent_condition.width),
        latent_sampler=SamplerConfig(steps=size.latent_steps, rescale_t=1.0, guidance=1.0),
        latent_mean=OFFICIAL_MEAN,
        latent_std=OFFICIAL_STD,
        gaussian_decoders={count: _gaussian_decoder(size, count) for count in (4, 32)},
        preprocess=PreprocessConfig(size_px=size.input_px, box_factor=1.2),
        dtype="float16",
    )


def _structure_condition(size: _Dimensions) -> ConditionConfig:
    dino = DinoConfig(VITS[size.vit], size.input_px, prenorm=False)
    return ConditionConfig(((dino, IMAGE_INPUTS), (dino, MASK_INPUTS), (size.point, POINTMAP_INPUTS)))


def _latent_condition(size: _Dimensions) -> ConditionConfig:
    dino = DinoConfig(VITS[size.vit], size.input_px, prenorm=True)
    return ConditionConfig(((dino, IMAGE_INPUTS), (dino, MASK_INPUTS)))


def _structure_flow(size: _Dimensions, cond_width: int) -> StructureFlowConfig:
    pose = {name: LatentConfig(channels, 1) for name, channels in POSE_LATENTS.items()}
    return StructureFlowConfig(
        width=size.width,
        cond_width=cond_width,
        blocks=size.blocks,
        heads=size.heads,
        resolution=size.resolution,
        mlp_ratio=4.0,
        latents={**pose, "shape": LatentConfig(CHANNELS, size.resolution**3)},
        pose_stream=POSE_ORDER[0],
        pose_order=POSE_ORDER,
    )


def _latent_flow(size: _Dimensions, cond_width: int) -> LatentFlowConfig:
    return LatentFlowConfig(
        width=size.width,
        cond_width=cond_width,
        blocks=size.blocks,
        heads=size.heads,
        resolution=size.voxels,
        mlp_ratio=4.0,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        patch=2,
        io_channels=(size.io_channels,),
        io_res_blocks=2,
    )


def _gaussian_decoder(size: _Dimensions, gaussians_per_voxel: int) -> GaussianDecoderConfig:
    return GaussianDecoderConfig(
        width=size.gaussian_width,
        blocks=size.gaussian_blocks,
        heads=size.gaussian_heads,
        resolution=size.voxels,
        mlp_ratio=4.0,
        latent_channels=CHANNELS,
        window=8,
        gaussians_per_voxel=gaussians_per_voxel,
        voxel_size=1.5,
        kernel_size_3d=0.0009,
        scale_bias=0.004,
        opacity_bias=0.1,
        rotation_rate=0.1,
    )


def file_stems(config: Sam3dConfig) -> dict[str, str]:
    """Network name -> stem of the file with its weights."""
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
