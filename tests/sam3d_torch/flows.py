"""Small flows with random weights, and inputs for them."""

import torch

from sam3d_gs.sam3d_torch.config import LatentConfig, LatentFlowConfig, StructureFlowConfig
from sam3d_gs.sam3d_torch.latent_flow import LatentFlow
from sam3d_gs.sam3d_torch.structure_flow import StructureFlow

STRUCTURE = StructureFlowConfig(
    width=24,
    cond_width=20,
    blocks=3,
    heads=2,
    resolution=4,
    mlp_ratio=2,
    latents={
        "6drotation_normalized": LatentConfig(6, 1),
        "scale": LatentConfig(3, 1),
        "shape": LatentConfig(8, 64),
        "translation": LatentConfig(3, 1),
        "translation_scale": LatentConfig(1, 1),
    },
    pose_stream="6drotation_normalized",
    pose_order=("6drotation_normalized", "translation", "scale", "translation_scale"),
)
LATENT = LatentFlowConfig(
    width=24,
    cond_width=20,
    blocks=3,
    heads=2,
    resolution=16,
    mlp_ratio=2,
    in_channels=8,
    out_channels=8,
    patch=2,
    io_channels=(8,),
    io_res_blocks=2,
)


def randomized(module, seed=0):
    """Every parameter redrawn; gains about one."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        drawn = torch.randn(parameter.shape, generator=generator) * (
            parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 0.2
        )
        parameter.data = drawn + (1.0 if "gamma" in name or ("norm" in name and name.endswith("weight")) else 0.0)
    for _, buffer in module.named_buffers():
        buffer.copy_(torch.randn(buffer.shape, generator=generator) * 0.3)
    return module.eval().requires_grad_(False)


def structure_flow(seed=0):
    return randomized(StructureFlow(STRUCTURE), seed)


def latent_flow(seed=0, config=LATENT):
    return randomized(LatentFlow(config), seed)


def tokens(batch=1, count=11, seed=0):
    return torch.randn(batch, count, 20, generator=torch.Generator().manual_seed(seed))


def latents(batch=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {n: torch.randn(batch, c.tokens, c.channels, generator=generator) for n, c in STRUCTURE.latents.items()}


def voxels(seed=0, resolution=16):
    generator = torch.Generator().manual_seed(seed)
    return torch.argwhere(torch.rand((resolution,) * 3, generator=generator) < 0.02)


def state(count, seed=0, channels=8):
    return torch.randn(count, channels, generator=torch.Generator().manual_seed(seed))
