"""Noise to data: the time grid, guidance and the Euler steps of both stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sam3d_gs.sam3d_torch.config import SamplerConfig, StructureFlowConfig
from sam3d_gs.sam3d_torch.latent_flow import LatentFlow
from sam3d_gs.sam3d_torch.layers import Groups
from sam3d_gs.sam3d_torch.structure_calls import StructureCalls
from sam3d_gs.sam3d_torch.structure_flow import Latents

OnStep = Callable[[int, Any], None]  # steps done, and the state they led to


def time_grid(config: SamplerConfig) -> list[float]:
    """steps + 1 times from 0 (noise) to 1 (data): s / (1 + (r - 1) (1 - s)) for equal steps of s."""
    r = config.rescale_t
    even = [k / config.steps for k in range(config.steps + 1)]
    return [s / (1 + (r - 1) * (1 - s)) for s in even]


def guided_steps(config: SamplerConfig) -> list[bool]:
    """Which steps use guidance: those whose time lies in the interval, ends included."""
    low, high = config.interval
    on = config.guidance != 0 and not config.shortcut
    return [on and low <= config.time_scale * t <= high for t in time_grid(config)[:-1]]


def network_calls(config: SamplerConfig) -> int:
    """Number of network calls of one sample; a guided step counts twice."""
    return config.steps + sum(guided_steps(config))


def guide(velocity: Tensor, weight: float) -> Tensor:
    """``(1 + w) v_c - w v_u`` of a (2 B, ...) velocity, conditional half first, to (B, ...)."""
    conditional, unconditional = velocity.chunk(2)
    return (1 + weight) * conditional - weight * unconditional


def structure_noise(config: StructureFlowConfig, generator: torch.Generator, device: torch.device | str) -> Latents:
    """Standard normal (1, tokens, channels) for every latent, drawn in the order of their sorted names.

    Drawn on the generator's device, so that a CPU generator gives the same object on every device.
    """
    return {
        name: torch.randn(1, latent.tokens, latent.channels, generator=generator, device=generator.device).to(device)
        for name, latent in sorted(config.latents.items())
    }


def latent_noise(voxels: int, channels: int, generator: torch.Generator, device: torch.device | str) -> Tensor:
    """Standard normal (voxels, channels), drawn on the generator's device."""
    return torch.randn(voxels, channels, generator=generator, device=generator.device).to(device)


def sample_structure(
    calls: StructureCalls,
    tokens: Tensor,
    noise: Mapping[str, Tensor],
    config: SamplerConfig,
    on_step: OnStep | None = None,
) -> Latents:
    """Coarse shape and pose latents of B objects.

    Args:
        calls: of the network.
        tokens: (B, S, cond) condition tokens.
        noise: name -> (B, tokens, channels).
        config: steps and guidance.
        on_step: called after every step.

    Returns:
        name -> (B, tokens, channels) float32.
    """
    grid, guided = time_grid(config), guided_steps(config)
    device = tokens.device
    times = torch.tensor(grid[:-1], dtype=torch.float32, device=device) * config.time_scale
    sizes = torch.full_like(times, config.time_scale / config.steps if config.shortcut else 0.0)
    modulations = calls.flow.modulations(times, sizes)
    calls.look_at(tokens)
    state = {name: value.to(device, torch.float32) for name, value in noise.items()}
    for k in range(config.steps):
        groups = Groups(conditional=True, unconditional=guided[k])
        velocity = calls.velocity(state, modulations[k], groups)
        dt = grid[k + 1] - grid[k]
        velocity = {name: guide(v, config.guidance) if guided[k] else v for name, v in velocity.items()}
        state = {name: state[name] + dt * v for name, v in velocity.items()}
        if on_step is not None:
            on_step(k + 1, state)
    return state


def sample_latent(
    flow: LatentFlow,
    coords: Tensor,
    tokens: Tensor,
    noise: Tensor,
    config: SamplerConfig,
    on_step: OnStep | None = None,
) -> Tensor:
    """Latent vectors of one object's voxels: (N, 3) coords, (1, S, cond) tokens, (N, 8) noise to (N, 8) float32."""
    return sample_latent_batch(flow, [coords], [tokens], [noise], config, on_step)[0]


def sample_latent_batch(
    flow: LatentFlow,
    coords: Sequence[Tensor],
    tokens: Sequence[Tensor],
    noise: Sequence[Tensor],
    config: SamplerConfig,
    on_step: OnStep | None = None,
) -> list[Tensor]:
    """Latent vectors of several objects in one pass of the weights.

    Args:
        flow: the network.
        coords: for each object (N, 3) integer voxel coordinates.
        tokens: for each object (1, S, cond) condition tokens.
        noise: for each object (N, channels).
        config: steps and guidance.
        on_step: called after every step.

    Returns:
        For each object (N, channels) float32, normalised: the checkpoint's std and mean are still to be applied.
    """
    grid, guided = time_grid(config), guided_steps(config)
    device = tokens[0].device
    times = torch.tensor(grid[:-1], dtype=torch.float32, device=device) * config.time_scale
    modulations = flow.modulations(times)
    voxels = flow.voxels(coords)
    context = flow.context(torch.cat(list(tokens)))
    state = torch.cat([part.to(device, torch.float32) for part in noise])
    for k in range(config.steps):
        groups = Groups(conditional=True, unconditional=guided[k])
        v = flow.velocity(state, voxels, modulations.step(k), context, groups)
        state = state + (grid[k + 1] - grid[k]) * (guide(v, config.guidance) if guided[k] else v)
        if on_step is not None:
            on_step(k + 1, state)
    return list(state.split([len(part) for part in coords]))
