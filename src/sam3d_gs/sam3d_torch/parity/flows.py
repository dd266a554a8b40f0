"""Recorded cases of the two flows and their samplers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sam3d_gs.sam3d_torch.config import LatentConfig, LatentFlowConfig, SamplerConfig, StructureFlowConfig
from sam3d_gs.sam3d_torch.latent_flow import LatentFlow
from sam3d_gs.sam3d_torch.layers import Groups
from sam3d_gs.sam3d_torch.parity.case import Case
from sam3d_gs.sam3d_torch.sampler import sample_latent, sample_structure, time_grid
from sam3d_gs.sam3d_torch.structure_calls import StructureCalls
from sam3d_gs.sam3d_torch.structure_flow import StructureFlow

CONDITIONAL, UNCONDITIONAL = Groups(True, False), Groups(False, True)


def structure_flow_config(config: Mapping[str, Any]) -> StructureFlowConfig:
    """From upstream's fields; cases that leave out the latents have the released ones."""
    tokens = config["resolution"] ** 3
    released = {"6drotation_normalized": 6, "scale": 3, "shape": 8, "translation": 3, "translation_scale": 1}
    latents = {name: LatentConfig(c, tokens if name == "shape" else 1) for name, c in released.items()}
    for name, latent in config.get("latents", {}).items():
        latents[name] = LatentConfig(latent["in_channels"], latent["token_len"])
    pose = "6drotation_normalized"
    shared = config.get("latent_share_transformer", {pose: [pose, "translation", "scale", "translation_scale"]})
    ((stream, order),) = shared.items()
    return StructureFlowConfig(
        width=config["model_channels"],
        cond_width=config["cond_channels"],
        blocks=config["num_blocks"],
        heads=config["num_heads"],
        resolution=config["resolution"],
        mlp_ratio=config["mlp_ratio"],
        latents=latents,
        pose_stream=stream,
        pose_order=tuple(order),
    )


def latent_flow_config(config: Mapping[str, Any]) -> LatentFlowConfig:
    """From upstream's fields."""
    return LatentFlowConfig(
        width=config["model_channels"],
        cond_width=config["cond_channels"],
        blocks=config["num_blocks"],
        heads=config["num_heads"],
        resolution=config["resolution"],
        mlp_ratio=config["mlp_ratio"],
        in_channels=config.get("in_channels", 8),
        out_channels=config.get("out_channels", 8),
        patch=config["patch_size"],
        io_channels=tuple(config["io_block_channels"]),
        io_res_blocks=config["num_io_res_blocks"],
    )


def sampler_config(config: Mapping[str, Any]) -> SamplerConfig:
    """From a sampler case's fields."""
    rescale = config["rescale_t"]
    return SamplerConfig(
        steps=config["inference_steps"],
        rescale_t=rescale[0] if isinstance(rescale, list) else rescale,
        guidance=config["cfg_strength"],
        interval=tuple(config["cfg_interval"]),
        time_scale=config.get("time_scale", 1000.0),
        shortcut=not config.get("no_shortcut", True),
    )


def _named(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _into(states: list[Any]) -> Callable[[int, Any], None]:
    return lambda _, state: states.append(state)


def _structure_flow(case: Case) -> StructureFlow:
    flow = StructureFlow(structure_flow_config(case.config))
    flow.load_state_dict(case.state, strict=True)
    return flow.to(next(iter(case.inputs.values())).device).eval()


def _latent_flow(case: Case) -> LatentFlow:
    flow = LatentFlow(latent_flow_config(case.config))
    flow.load_state_dict(case.state, strict=True)
    return flow.to(case.inputs["coords"].device).eval()


@torch.inference_mode()
def run_structure_velocity(case: Case) -> dict[str, Tensor]:
    flow = _structure_flow(case)
    latents = _named(case.inputs, "latent.")
    context, empty = flow.context(case.inputs["cond"]), flow.empty_context()
    out: dict[str, Tensor] = {}
    for call, settings in case.config["calls"].items():
        modulation = flow.modulations(case.inputs[f"{call}.t"], case.inputs[f"{call}.d"])[0]
        groups = UNCONDITIONAL if settings["unconditional"] else CONDITIONAL
        velocity = flow.velocity(latents, modulation, context, empty, groups)
        out |= {f"{call}.{name}": value for name, value in velocity.items()}
    return out


@torch.inference_mode()
def run_structure_sampler(case: Case) -> dict[str, Tensor]:
    """One trajectory for each rescale_t of the case; with several, names start with r<value>."""
    flow = _structure_flow(case)
    values = case.config["rescale_t"]
    several = isinstance(values, list)
    out: dict[str, Tensor] = {}
    for rescale in values if several else [values]:
        config = replace(sampler_config(case.config), rescale_t=rescale)
        prefix = f"r{rescale}." if several else ""
        states: list[dict[str, Tensor]] = []
        final = sample_structure(
            StructureCalls(flow), case.inputs["cond"], _named(case.inputs, "noise."), config, on_step=_into(states)
        )
        out[f"{prefix}t_grid"] = torch.tensor(time_grid(config), dtype=torch.float64)
        out |= {f"{prefix}final.{name}": value for name, value in final.items()}
        out |= {f"{prefix}step{i}.{name}": value for i, s in enumerate(states) for name, value in s.items()}
    return {name: value for name, value in out.items() if name in case.outputs}


@torch.inference_mode()
def run_latent_velocity(case: Case) -> dict[str, Tensor]:
    flow = _latent_flow(case)
    voxels = flow.voxels([case.inputs["coords"][:, -3:]])
    context = flow.context(case.inputs["cond"])
    modulation = flow.modulations(case.inputs["t"].reshape(1)).step(0)
    return {
        f"velocity_{name}": flow.velocity(case.inputs["x"].flatten(0, -2), voxels, modulation, context, groups)
        for name, groups in (("cond", CONDITIONAL), ("uncond", UNCONDITIONAL))
    }


@torch.inference_mode()
def run_latent_sampler(case: Case) -> dict[str, Tensor]:
    flow = _latent_flow(case)
    config = sampler_config(case.config)
    coords = case.inputs["coords"][:, -3:]
    states: list[Tensor] = []
    noise = case.inputs["noise"].flatten(0, -2)
    final = sample_latent(flow, coords, case.inputs["cond"], noise, config, on_step=_into(states))
    mean, std = (final.new_tensor(case.config[f"slat_{which}"]) for which in ("mean", "std"))
    out = {f"step{i}": state for i, state in enumerate(states)}
    out |= {"final": final, "slat": final * std + mean, "t_grid": torch.tensor(time_grid(config), dtype=torch.float64)}
    return {name: value for name, value in out.items() if name in case.outputs}


RUNNERS: dict[str, Callable[[Case], dict[str, Tensor]]] = {
    "ss_flow_velocity": run_structure_velocity,
    "ss_sampler": run_structure_sampler,
    "slat_flow_velocity": run_latent_velocity,
    "slat_sampler": run_latent_sampler,
}
