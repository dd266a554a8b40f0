"""The three presets: steps, guidance and Gaussians per voxel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from sam3d_gs.sam3d_torch.config import Sam3dConfig, SamplerConfig

DRAFT_STEPS, DRAFT_SLAT_STEPS = 4, 10
QUALITY_FACTOR = 2  # times the checkpoint's own steps
FEW, MANY = 4, 32  # Gaussians per voxel of the two official decoders


@dataclass(frozen=True)
class Effort:
    """The work that a runtime does for every object."""

    structure: SamplerConfig
    latent: SamplerConfig
    gaussians_per_voxel: int


def effort(
    config: Sam3dConfig,
    preset: str = "normal",
    *,
    steps: int | None = None,
    slat_steps: int | None = None,
    gaussians_per_voxel: int | None = None,
) -> Effort:
    """A preset with the caller's changes.

    normal: the checkpoint's own number of steps. quality: twice as many. draft: few steps without guidance, so that
    each costs one call of the network instead of two; the first stage takes the network's trained shortcut, and 4
    Gaussians per voxel are enough where the checkpoint has that decoder.

    Raises ValueError when the checkpoint has no decoder for `gaussians_per_voxel`, KeyError for an unknown preset.
    """
    presets: Mapping[str, tuple[SamplerConfig, SamplerConfig, int]] = MappingProxyType(
        {
            "draft": (
                # Equal steps in time: the shortcut tells the network one step size, 1 / steps, for all of them.
                replace(config.structure_sampler, steps=DRAFT_STEPS, shortcut=True, guidance=0.0, rescale_t=1.0),
                replace(config.latent_sampler, steps=DRAFT_SLAT_STEPS, guidance=0.0),
                FEW,
            ),
            "normal": (config.structure_sampler, config.latent_sampler, MANY),
            "quality": (
                replace(config.structure_sampler, steps=QUALITY_FACTOR * config.structure_sampler.steps),
                replace(config.latent_sampler, steps=QUALITY_FACTOR * config.latent_sampler.steps),
                MANY,
            ),
        }
    )
    structure, latent, wanted = presets[preset]
    there = sorted(config.gaussian_decoders)
    if gaussians_per_voxel is not None and gaussians_per_voxel not in there:
        raise ValueError(
            f"the checkpoint has no decoder for {gaussians_per_voxel} Gaussians per voxel, only for "
            f"{' and '.join(map(str, there))}"
        )
    return Effort(
        structure=replace(structure, steps=steps or structure.steps),
        latent=replace(latent, steps=slat_steps or latent.steps),
        gaussians_per_voxel=gaussians_per_voxel or (wanted if wanted in there else there[-1]),
    )
