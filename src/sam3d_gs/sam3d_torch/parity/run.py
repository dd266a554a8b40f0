"""Recorded runs of the whole pipeline: photo, mask and pointmap in, posed Gaussians out, by the runtime itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sam3d_gs.sam3d_torch import pose
from sam3d_gs.sam3d_torch.checkpoint import Checkpoint
from sam3d_gs.sam3d_torch.condition import ConditionEmbedder, DinoEmbedder, raw_tokens
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
from sam3d_gs.sam3d_torch.dino import DinoVit
from sam3d_gs.sam3d_torch.gaussian_decoder import GaussianDecoder
from sam3d_gs.sam3d_torch.latent_flow import LatentFlow
from sam3d_gs.sam3d_torch.parity.case import Case
from sam3d_gs.sam3d_torch.parity.voxels import gaussian_decoder_config, structure_decoder_config
from sam3d_gs.sam3d_torch.preprocess import object_inputs
from sam3d_gs.sam3d_torch.runtime import SHAPE, Failure, PhotoGeometry, Request, RuntimeOptions, Sam3dRuntime
from sam3d_gs.sam3d_torch.structure_decoder import StructureDecoder
from sam3d_gs.sam3d_torch.structure_flow import StructureFlow
from sam3d_gs.sam3d_torch.voxels import occupied

POSE_STREAM = "6drotation_normalized"
POSE_ORDER = ("6drotation_normalized", "translation", "scale", "translation_scale")
NOISE = "noise."
LATENT_NOISE = "slat"  # beside the names of the structure latents

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class RecordedCheckpoint:
    """The weights of a case, as the runtime asks a checkpoint folder for them."""

    case: Case
    config: Sam3dConfig
    folder: str = "recorded"
    dinos: list[DinoVit] = field(default_factory=list)  # one of each: equal copies are one object, as in a checkpoint

    def structure_condition(self, device: torch.device, dtype: torch.dtype) -> ConditionEmbedder:
        return self._load_condition(self.config.structure_condition, "ss_condition_embedder.")

    def latent_condition(self, device: torch.device, dtype: torch.dtype) -> ConditionEmbedder:
        return self._load_condition(self.config.latent_condition, "slat_condition_embedder.")

    def structure_flow(self, device: torch.device, dtype: torch.dtype) -> StructureFlow:
        return self._load(lambda: StructureFlow(self.config.structure_flow), "ss_generator.reverse_fn.backbone.")

    def structure_decoder(self, device: torch.device, dtype: torch.dtype) -> StructureDecoder:
        return self._load(lambda: StructureDecoder(self.config.structure_decoder), "ss_decoder.")

    def latent_flow(self, device: torch.device, dtype: torch.dtype) -> LatentFlow:
        return self._load(lambda: LatentFlow(self.config.latent_flow), "slat_generator.reverse_fn.backbone.")

    def gaussian_decoder(self, per_voxel: int, device: torch.device, dtype: torch.dtype) -> GaussianDecoder:
        return self._load(lambda: GaussianDecoder(self.config.gaussian_decoders[per_voxel]), "slat_decoder_gs.")

    def moge(self, device: torch.device, dtype: torch.dtype) -> nn.Module:
        raise NotImplementedError("recorded runs have their pointmap as an input")

    def weight_bytes(self, dtype: torch.dtype, per_voxel: int) -> dict[str, int]:
        return {}  # small enough to be left out of a memory plan

    def _load(self, build: Callable[[], Network], prefix: str) -> Network:
        """float32 on the case's device, whatever is asked for: that is how the case was recorded."""
        with torch.device("meta"):
            network = build()
        state = {k.removeprefix(prefix): v for k, v in self.case.state.items() if k.startswith(prefix)}
        network.load_state_dict(state, strict=True, assign=True)
        return network.eval().requires_grad_(False)

    def _load_condition(self, config: ConditionConfig, prefix: str) -> ConditionEmbedder:
        condition = self._load(lambda: ConditionEmbedder(config), prefix)
        for embedder, _ in condition.embedders():
            if isinstance(embedder, DinoEmbedder):
                equal = (dino for dino in self.dinos if _equal(dino, embedder.backbone))
                embedder.backbone = next(equal, embedder.backbone)
                self.dinos.append(embedder.backbone)
        return condition


def run_whole(case: Case) -> dict[str, Tensor]:
    """The runtime's result for the case's photo and noise, and what it computes on the way."""
    pointmap = case.inputs["pointmap"]
    rgba = case.inputs["rgba"].cpu().numpy()
    rgb, alpha = np.ascontiguousarray(rgba[..., :3]), rgba[..., 3].astype(np.float32) / 255
    noise = {k.removeprefix(NOISE): v for k, v in case.inputs.items() if k.startswith(NOISE)}
    checkpoint = RecordedCheckpoint(case, whole_config(case.config, noise))
    runtime = Sam3dRuntime(cast(Checkpoint, checkpoint), RuntimeOptions(device=str(pointmap.device), dtype="fp32"))
    request = Request(
        "recorded",
        alpha,
        structure_noise={name: tensor for name, tensor in noise.items() if name != LATENT_NOISE},
        latent_noise=noise[LATENT_NOISE][0],
    )
    (result,) = runtime.reconstruct(rgb, PhotoGeometry(pointmap, np.eye(3), "recorded"), [request])
    if isinstance(result, Failure):
        raise ValueError(result.reason)

    inputs = object_inputs(rgb, alpha, pointmap, checkpoint.config.preprocess)
    where = (pointmap.device, torch.float32)
    stages = [checkpoint.structure_condition(*where), checkpoint.latent_condition(*where)]
    tokens = [stage.assemble(raw) for stage, raw in zip(stages, raw_tokens(stages, inputs.tensors), strict=True)]
    placed = pose.decode(result.latents, inputs.scale, inputs.shift, result.downsample)
    everything = occupied(checkpoint.structure_decoder(*where)(result.latents[SHAPE]))
    mean = torch.tensor(checkpoint.config.latent_mean, device=pointmap.device)
    std = torch.tensor(checkpoint.config.latent_std, device=pointmap.device)
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
        "rotation": torch.from_numpy(placed.quat_wxyz)[None],
        "translation": torch.from_numpy(placed.translation)[None],
        "scale": torch.full((1, 3), placed.scale),
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
    """From the fields of the case; what the latents look like is told by their noise."""
    first, second = config["stage1"], config["stage2"]
    multiplier = first.get("projection_net_hidden_dim_multiplier", 4.0)
    image, inputs = _dino(first["dino"]), _dino(second["dino"])
    points = PointPatchConfig(
        width=first["point_patch"]["embed_dim"],
        input_px=first["point_patch"]["input_size"],
        patch_px=first["point_patch"]["patch_size"],
        heads=first["point_patch"].get("num_heads", 16),
        mlp_ratio=first["point_patch"].get("mlp_ratio", 2.0),
    )
    pictures = (("image", "cropped"), ("rgb_image", "full"))
    masks = (("mask", "cropped"), ("rgb_image_mask", "full"))
    pointmaps = (("pointmap", "cropped"), ("rgb_pointmap", "full"))
    decoder = gaussian_decoder_config(config["slat_decoder_gs"])
    structure, latent = first["flow"], second["flow"]
    channels = noise[LATENT_NOISE].shape[-1]
    return Sam3dConfig(
        structure_condition=ConditionConfig(((image, pictures), (image, masks), (points, pointmaps)), multiplier),
        structure_flow=StructureFlowConfig(
            width=structure["model_channels"],
            cond_width=structure["cond_channels"],
            blocks=structure["num_blocks"],
            heads=structure["num_heads"],
            resolution=structure["resolution"],
            mlp_ratio=structure["mlp_ratio"],
            latents={
                name: LatentConfig(channels=start.shape[2], tokens=start.shape[1])
                for name, start in noise.items()
                if name != LATENT_NOISE
            },
            pose_stream=POSE_STREAM,
            pose_order=POSE_ORDER,
        ),
        structure_decoder=structure_decoder_config({"out_channels": 1, **config["ss_decoder"]}),
        structure_sampler=_sampler(first),
        latent_condition=ConditionConfig(
            ((inputs, pictures), (inputs, masks)), second.get("projection_net_hidden_dim_multiplier", multiplier)
        ),
        latent_flow=LatentFlowConfig(
            width=latent["model_channels"],
            cond_width=latent["cond_channels"],
            blocks=latent["num_blocks"],
            heads=latent["num_heads"],
            resolution=latent["resolution"],
            mlp_ratio=latent["mlp_ratio"],
            in_channels=channels,
            out_channels=channels,
            patch=latent["patch_size"],
            io_channels=tuple(latent["io_block_channels"]),
            io_res_blocks=latent["num_io_res_blocks"],
        ),
        latent_sampler=_sampler(second),
        latent_mean=tuple(second["slat_mean"]),
        latent_std=tuple(second["slat_std"]),
        gaussian_decoders={decoder.gaussians_per_voxel: decoder},
        preprocess=PreprocessConfig(config["preprocess"]["resize"], config["preprocess"]["box_size_factor"]),
        dtype="float32",
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


def _equal(first: nn.Module, second: nn.Module) -> bool:
    other = second.state_dict()
    return all(torch.equal(tensor, other[name]) for name, tensor in first.state_dict().items())


RUNNERS: dict[str, Callable[[Case], dict[str, Tensor]]] = {"e2e_run": run_whole}
