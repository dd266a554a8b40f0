"""Recorded cases of the two decoders and of the steps between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sam3d_gs.sam3d_torch.config import GaussianDecoderConfig, StructureDecoderConfig
from sam3d_gs.sam3d_torch.gaussian_decoder import GaussianDecoder, from_identity
from sam3d_gs.sam3d_torch.parity.case import Case
from sam3d_gs.sam3d_torch.structure_decoder import StructureDecoder
from sam3d_gs.sam3d_torch.voxels import downsample, occupied, prune, surface


def structure_decoder_config(config: Mapping[str, Any]) -> StructureDecoderConfig:
    """From upstream's YAML fields."""
    return StructureDecoderConfig(
        channels=tuple(config["channels"]),
        latent_channels=config["latent_channels"],
        out_channels=config["out_channels"],
        res_blocks=config["num_res_blocks"],
        middle_blocks=config["num_res_blocks_middle"],
    )


def gaussian_decoder_config(config: Mapping[str, Any]) -> GaussianDecoderConfig:
    """From upstream's YAML fields."""
    representation = config["representation_config"]
    return GaussianDecoderConfig(
        width=config["model_channels"],
        blocks=config["num_blocks"],
        heads=config["num_heads"],
        resolution=config["resolution"],
        mlp_ratio=config["mlp_ratio"],
        latent_channels=config["latent_channels"],
        window=config["window_size"],
        gaussians_per_voxel=representation["num_gaussians"],
        voxel_size=representation["voxel_size"],
        kernel_size_3d=representation["3d_filter_kernel_size"],
        scale_bias=representation["scaling_bias"],
        opacity_bias=representation["opacity_bias"],
        rotation_rate=representation["lr"]["_rotation"],
    )


def run_structure_decoder(case: Case) -> dict[str, Tensor]:
    """Logits, the occupied voxels and their surface."""
    with torch.device("meta"):
        decoder = StructureDecoder(structure_decoder_config(case.config))
    decoder.load_state_dict(case.state, strict=True, assign=True)
    logits = decoder(case.inputs["shape_latent"])
    per_object = list(enumerate(logits.split(1)))
    return {
        "logits": logits,
        "coords": torch.cat([_with_batch(occupied(each), i) for i, each in per_object]),
        "coords_pruned": torch.cat([_with_batch(surface(each), i) for i, each in per_object]),
    }


def run_occupancy(case: Case) -> dict[str, Tensor]:
    """Pruning and shrinking of every occupancy grid in the case, voxels stored as its outputs store them."""
    outputs: dict[str, Tensor] = {}
    for key, grid in case.inputs.items():
        name = key.removesuffix(".occupancy")
        resolution = len(grid)
        pruned = prune(torch.argwhere(grid > 0).int(), resolution)
        final, factor = downsample(pruned, resolution, case.config["max_coords"])
        for field, coords in (("coords_pruned", pruned), ("coords_final", final)):
            stored = case.outputs[f"{name}.{field}"]
            coords = _with_batch(coords, 0) if stored.shape[1] == 4 else coords
            outputs[f"{name}.{field}"] = coords.to(stored.dtype)
        outputs[f"{name}.downsample_factor"] = torch.tensor(factor)
    return outputs


def run_gaussian_decoder(case: Case) -> dict[str, Tensor]:
    """Raw features, Gaussians, and the columns of a .ply file."""
    with torch.device("meta"):
        decoder = GaussianDecoder(gaussian_decoder_config(case.config))
    decoder.load_state_dict(case.state, strict=True, assign=True)
    coords = case.inputs["coords"][:, 1:]
    raw = decoder(case.inputs["slat"], coords)
    fields = decoder.gaussians(raw, coords)
    ours = {
        "raw_features": raw,
        "means": fields.means,
        "means_unit_cube": fields.means + 0.5,
        "scales": fields.scales,
        "scales_raw": fields.scales_raw,
        "rotations": fields.quats,
        "rotations_raw": fields.quats_raw,
        "opacities": fields.opacities[:, None],
        "opacities_raw": fields.opacities_raw[:, None],
        "f_dc": fields.sh0[:, None],
        "ply.opacity": fields.opacity_logits[:, None],
        "ply.scale": fields.scales.log(),
        "ply.rot": from_identity(fields.quats_raw),
    }
    return {name: ours[name] for name in case.outputs}


def _with_batch(coords: Tensor, index: int) -> Tensor:
    """(N, 3) -> (N, 4) with the number of the object in front."""
    return F.pad(coords, (1, 0), value=index)


RUNNERS: dict[str, Callable[[Case], dict[str, Tensor]]] = {
    "ss_decoder": run_structure_decoder,
    "occupancy_postprocess": run_occupancy,
    "gs_decoder": run_gaussian_decoder,
}
