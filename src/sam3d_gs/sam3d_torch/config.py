"""Configurations of the networks: frozen dataclasses, no defaults for values that a checkpoint states.

Widths are in channels, sizes in pixels or voxels. `checkpoints/yaml_files.py` fills these from a checkpoint folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

IMAGE_MEAN = (0.485, 0.456, 0.406)  # ImageNet, what every DINOv2 was trained with
IMAGE_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class VitConfig:
    """A DINOv2 vision transformer (Oquab et al. 2023; registers: Darcet et al. 2023)."""

    width: int
    depth: int
    heads: int
    registers: int = 4  # 0 for MoGe's encoder
    patch_px: int = 14
    grid: int = 37  # side of the learned position table, in patches
    mlp_ratio: float = 4.0


# The names in the YAML files and in MoGe's own configuration. The last is ours, for synthetic checkpoints.
VITS: Mapping[str, VitConfig] = MappingProxyType(
    {
        "dinov2_vits14": VitConfig(384, 12, 6, registers=0),
        "dinov2_vitb14": VitConfig(768, 12, 12, registers=0),
        "dinov2_vitl14": VitConfig(1024, 24, 16, registers=0),
        "dinov2_vits14_reg": VitConfig(384, 12, 6),
        "dinov2_vitb14_reg": VitConfig(768, 12, 12),
        "dinov2_vitl14_reg": VitConfig(1024, 24, 16),
        "dinov2_tiny14": VitConfig(32, 4, 2, registers=0),
        "dinov2_tiny14_reg": VitConfig(32, 2, 2),
    }
)


@dataclass(frozen=True)
class DinoConfig:
    """One image or mask embedder."""

    vit: VitConfig
    input_px: int
    prenorm: bool  # True: tokens before the final norm, registers kept, and an affine-free norm (stage 2)


@dataclass(frozen=True)
class PointPatchConfig:
    """The pointmap embedder."""

    width: int
    input_px: int
    patch_px: int
    heads: int = 16
    mlp_ratio: float = 2.0


@dataclass(frozen=True)
class ConditionConfig:
    """The condition embedder of one stage: embedders in order, each with (input name, "cropped" or "full")."""

    embedders: tuple[tuple[DinoConfig | PointPatchConfig, tuple[tuple[str, str], ...]], ...]
    hidden_multiplier: float = 4.0

    @property
    def width(self) -> int:
        """Channels of every token."""
        return max(c.vit.width if isinstance(c, DinoConfig) else c.width for c, _ in self.embedders)


@dataclass(frozen=True)
class LatentConfig:
    """One of the latents the structure flow moves."""

    channels: int
    tokens: int


@dataclass(frozen=True)
class StructureFlowConfig:
    """Stage 1: shape and pose together (a mixture of two transformers)."""

    width: int
    cond_width: int
    blocks: int
    heads: int
    resolution: int
    mlp_ratio: float
    latents: Mapping[str, LatentConfig]  # "shape" and the pose latents
    pose_stream: str  # name of the stream that holds the pose tokens, as in the state dict
    pose_order: tuple[str, ...]  # pose latents in token order


@dataclass(frozen=True)
class StructureDecoderConfig:
    """Shape latent to occupancy logits."""

    channels: tuple[int, ...]  # one per level; each level after the first doubles the resolution
    latent_channels: int
    out_channels: int
    res_blocks: int
    middle_blocks: int


@dataclass(frozen=True)
class LatentFlowConfig:
    """Stage 2: one latent vector per occupied voxel."""

    width: int
    cond_width: int
    blocks: int
    heads: int
    resolution: int
    mlp_ratio: float
    in_channels: int
    out_channels: int
    patch: int  # voxels per token along each axis
    io_channels: tuple[int, ...]
    io_res_blocks: int


@dataclass(frozen=True)
class GaussianDecoderConfig:
    """Latent per voxel to Gaussians."""

    width: int
    blocks: int
    heads: int
    resolution: int
    mlp_ratio: float
    latent_channels: int
    window: int
    gaussians_per_voxel: int
    voxel_size: float  # how far a Gaussian may leave its voxel, in voxels
    kernel_size_3d: float  # floor of every scale, object units
    scale_bias: float  # scale of a zero output
    opacity_bias: float  # opacity of a zero output
    rotation_rate: float  # factor on the raw rotation


@dataclass(frozen=True)
class SamplerConfig:
    """Euler steps of one stage."""

    steps: int
    rescale_t: float
    guidance: float  # w in (1 + w) conditional - w unconditional; 0 is off
    interval: tuple[float, float] = (0.0, 500.0)  # of 1000 t, both ends included
    time_scale: float = 1000.0
    shortcut: bool = False  # stage 1 only: tell the network the step size and leave guidance out


@dataclass(frozen=True)
class PreprocessConfig:
    """How an object is cut out of its photo."""

    size_px: int
    box_factor: float
    scene_scale: bool = True


@dataclass(frozen=True)
class Sam3dConfig:
    """The whole configuration of a checkpoint folder."""

    structure_condition: ConditionConfig
    structure_flow: StructureFlowConfig
    structure_decoder: StructureDecoderConfig
    structure_sampler: SamplerConfig
    latent_condition: ConditionConfig
    latent_flow: LatentFlowConfig
    latent_sampler: SamplerConfig
    latent_mean: tuple[float, ...]
    latent_std: tuple[float, ...]
    gaussian_decoders: Mapping[int, GaussianDecoderConfig]  # by Gaussians per voxel: 32 and, where present, 4
    preprocess: PreprocessConfig
    dtype: str  # "float16", "bfloat16" or "float32": what upstream computes in
