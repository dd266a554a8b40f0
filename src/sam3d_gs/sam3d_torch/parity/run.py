"""Recorded runs of the whole pipeline: photo, mask and pointmap in, posed Gaussians out, by the runtime itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sam3d_gs.errors import BadInputError
from sam3d_gs.gaussians.pose import matrix_to_quat, quat_to_matrix
from sam3d_gs.sam3d_torch.checkpoints.network_source import (
    GAUSSIAN_DECODER,
    LATENT_CONDITION,
    LATENT_FLOW,
    STRUCTURE_CONDITION,
    STRUCTURE_DECODER,
    STRUCTURE_FLOW,
    NetworkSource,
    Part,
    Reader,
    decoder_name,
    network_parts,
)
from sam3d_gs.sam3d_torch.condition import raw_tokens
from sam3d_gs.sam3d_torch.config import (
    ConditionConfig,
    DinoConfig,
    LatentConfig,
    LatentFlowConfig,
    PointPatchConfig,
    PreprocessConfig,
    Sam3dConfig,
    SamplerConfig,
    StructureFlowConfig,
    VitConfig,
)
from sam3d_gs.sam3d_torch.contract import Failure, PhotoGeometry, Request, RuntimeOptions
from sam3d_gs.sam3d_torch.parity.case import Case
from sam3d_gs.sam3d_torch.parity.voxels import gaussian_decoder_config, structure_decoder_config
from sam3d_gs.sam3d_torch.preprocess import object_inputs
from sam3d_gs.sam3d_torch.runtime import SHAPE, Sam3dRuntime
from sam3d_gs.sam3d_torch.voxels import occupied

POSE_STREAM = "6drotation_normalized"
POSE_ORDER = ("6drotation_normalized", "translation", "scale", "translation_scale")
NOISE = "noise."
LATENT_NOISE = "slat"  # next to the names of the structure latents

PREFIXES = {
    STRUCTURE_CONDITION: "ss_condition_embedder.",
    STRUCTURE_FLOW: "ss_generator.reverse_fn.backbone.",
    STRUCTURE_DECODER: "ss_decoder.",
    LATENT_CONDITION: "slat_condition_embedder.",
    LATENT_FLOW: "slat_generator.reverse_fn.backbone.",
    GAUSSIAN_DECODER: "slat_decoder_gs.",
}


class RecordedNetworks(NetworkSource):
    """The recorded networks of a case, in place of a checkpoint folder. There is none for depth."""

    def __init__(self, state: Mapping[str, Tensor], config: Sam3dConfig) -> None:
        (count,) = config.gaussian_decoders
        self._state = state
        self._prefixes = {decoder_name(count) if name == GAUSSIAN_DECODER else name: p for name, p in PREFIXES.items()}
        nowhere = Path("recorded")
        super().__init__(config, network_parts(config, dict.fromkeys(self._prefixes, nowhere)), nowhere)

    @contextmanager
    def reader(self, part: Part) -> Iterator[Reader]:
        prefix = self._prefixes[part.name]
        state = {key.removeprefix(prefix): tensor for key, tensor in self._state.items() if key.startswith(prefix)}
        # Keys and shapes that differ raise here.
        part.on_meta(nn.Module).load_state_dict(state, strict=True, assign=True)
        yield state.__getitem__

    def moge_part(self) -> Part:
        raise BadInputError("A recorded run has its pointmap as an input and no depth network.")


def run_whole(case: Case) -> dict[str, Tensor]:
    """The runtime's result for the case's photo and noise, with the intermediate results that the case records."""
    pointmap = case.inputs["pointmap"]
    rgba = case.inputs["rgba"].cpu().numpy()
    rgb, alpha = np.ascontiguousarray(rgba[..., :3]), rgba[..., 3].astype(np.float32) / 255
    noise = {k.removeprefix(NOISE): v for k, v in case.inputs.items() if k.startswith(NOISE)}
    networks = RecordedNetworks(case.state, whole_config(case.config, noise))
    runtime = Sam3dRuntime(networks, RuntimeOptions(device=str(pointmap.device), dtype="fp32"))
    request = Request(
        "recorded",
        alpha,
        structure_noise={name: tensor for name, tensor in noise.items() if name != LATENT_NOISE},
        latent_noise=noise[LATENT_NOISE][0],
    )
    (result,) = runtime.reconstruct(rgb, PhotoGeometry(pointmap, np.eye(3), "recorded"), [request])
    if isinstance(result, Failure):
        raise ValueError(result.reason)

    inputs = object_inputs(rgb, alpha, pointmap, networks.config.preprocess)
    where = (pointmap.device, torch.float32)
    stages = [networks.structure_condition(*where), networks.latent_condition(*where)]
    tokens = [stage.assemble(raw) for stage, raw in zip(stages, raw_tokens(stages, inputs.tensors), strict=True)]
    flip = np.diag([-1.0, -1.0, 1.0])  # our pose is column form in OpenCV's camera, upstream's row form in PyTorch3D's
    rotation = matrix_to_quat((flip @ quat_to_matrix(result.pose.quat_wxyz)).T)
    everything = occupied(networks.structure_decoder(*where)(result.latents[SHAPE]))
    mean = torch.tensor(networks.config.latent_mean, device=pointmap.device)
    std = torch.tensor(networks.config.latent_std, device=pointmap.device)
    made = result.gaussians
    first, step = case.config["cond_token_stride"]
    return {
        "ss_cond_tokens_sub": tokens[0][:, first::step],
        "slat_cond_tokens_sub": tokens[1][:, first::step],
        "pointmap_scale": inputs.scale[None],
        "pointmap_shift": inputs.shift[None],
        "shape_latent_sub": result.latents[SHAPE][:, :: case.config["shape_latent_stride"]],
        "6drotation_normalized": result.latents["6drotation_normalized"],
        "translation_scale": result.latents["translation_scale"],
        "coords_original": F.pad(everything, (1, 0)),  # the batch column
        "coords": F.pad(result.coords, (1, 0)),
        "rotation": torch.from_numpy(rotation)[None],
        "translation": torch.from_numpy(flip @ result.pose.translation)[None],
        "scale": torch.full((1, 3), result.pose.scale),
        "slat_final": ((result.slat - mean) / std)[None],
        "slat": result.slat,
        "gaussian.means": made.means,
        "gaussian.scales": made.scales,
        "gaussian.rotations": made.quats,
        "gaussian.rotations_raw": made.quats_raw,
        "gaussian.opacities": made.opacities[:, None],
        "gaussian.f_dc": made.sh0,
    }


def whole_config(config: Mapping[str, Any], noise: Mapping[str, Tensor]) -> Sam3dConfig:
    """The configuration of a case, from its fields; the latents have the shapes of their noise."""
    first, second = config["stage1"], config["stage2"]
    multiplier = first.get("projection_net_hidden_dim_multiplier", 4.0)
    image, inputs, points = _dino(first["dino"]), _dino(second["dino"]), _point_patch(first["point_patch"])
    pictures = (("image", "cropped"), ("rgb_image", "full"))
    masks = (("mask", "cropped"), ("rgb_image_mask", "full"))
    pointmaps = (("pointmap", "cropped"), ("rgb_pointmap", "full"))
    decoder = gaussian_decoder_config(config["slat_decoder_gs"])
    return Sam3dConfig(
        structure_condition=ConditionConfig(((image, pictures), (image, masks), (points, pointmaps)), multiplier),
        structure_flow=_structure_flow(first["flow"], noise),
        structure_decoder=structure_decoder_config({"out_channels": 1, **config["ss_decoder"]}),
        structure_sampler=_sampler(first),
        latent_condition=ConditionConfig(
            ((inputs, pictures), (inputs, masks)), second.get("projection_net_hidden_dim_multiplier", multiplier)
        ),
        latent_flow=_latent_flow(second["flow"], noise[LATENT_NOISE].shape[-1]),
        latent_sampler=_sampler(second),
        latent_mean=tuple(second["slat_mean"]),
        latent_std=tuple(second["slat_std"]),
        gaussian_decoders={decoder.gaussians_per_voxel: decoder},
        preprocess=PreprocessConfig(config["preprocess"]["resize"], config["preprocess"]["box_size_factor"]),
        dtype="float32",
    )


def _structure_flow(config: Mapping[str, Any], noise: Mapping[str, Tensor]) -> StructureFlowConfig:
    return StructureFlowConfig(
        width=config["model_channels"],
        cond_width=config["cond_channels"],
        blocks=config["num_blocks"],
        heads=config["num_heads"],
        resolution=config["resolution"],
        mlp_ratio=config["mlp_ratio"],
        latents={
            name: LatentConfig(channels=start.shape[2], tokens=start.shape[1])
            for name, start in noise.items()
            if name != LATENT_NOISE
        },
        pose_stream=POSE_STREAM,
        pose_order=POSE_ORDER,
    )


def _latent_flow(config: Mapping[str, Any], channels: int) -> LatentFlowConfig:
    return LatentFlowConfig(
        width=config["model_channels"],
        cond_width=config["cond_channels"],
        blocks=config["num_blocks"],
        heads=config["num_heads"],
        resolution=config["resolution"],
        mlp_ratio=config["mlp_ratio"],
        in_channels=channels,
        out_channels=channels,
        patch=config["patch_size"],
        io_channels=tuple(config["io_block_channels"]),
        io_res_blocks=config["num_io_res_blocks"],
    )


def _point_patch(config: Mapping[str, Any]) -> PointPatchConfig:
    return PointPatchConfig(
        width=config["embed_dim"],
        input_px=config["input_size"],
        patch_px=config["patch_size"],
        heads=config.get("num_heads", 16),
        mlp_ratio=config.get("mlp_ratio", 2.0),
    )


def _dino(config: Mapping[str, Any]) -> DinoConfig:
    patch = config.get("patch_size", 14)
    vit = VitConfig(
        width=config["embed_dim"],
        depth=config["depth"],
        heads=config["num_heads"],
        registers=config["num_register_tokens"],
        patch_px=patch,
        grid=config["input_size"] // patch,
        mlp_ratio=config.get("mlp_ratio", 4.0),
    )
    return DinoConfig(vit, config["input_size"], config["prenorm_features"])


def _sampler(stage: Mapping[str, Any]) -> SamplerConfig:
    low, high = stage["cfg_interval"]
    return SamplerConfig(
        steps=stage["inference_steps"],
        rescale_t=stage["rescale_t"],
        guidance=stage["cfg_strength"],
        interval=(low, high),
        time_scale=stage.get("time_scale", 1000.0),
    )


RUNNERS: dict[str, Callable[[Case], dict[str, Tensor]]] = {"e2e_run": run_whole}
