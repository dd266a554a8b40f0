"""Writes checkpoint folders in the official layout with random weights: tiny for tests, full-size for speed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from sam3d_gs.files import atomic_path, write_text
from sam3d_gs.sam3d_torch.checkpoints.network_source import (
    GAUSSIAN_DECODER,
    LATENT_CONDITION,
    LATENT_FLOW,
    MOGE,
    STRUCTURE_CONDITION,
    STRUCTURE_DECODER,
    STRUCTURE_FLOW,
    stored_dtype,
    tensors_of,
)
from sam3d_gs.sam3d_torch.config import Sam3dConfig
from synthetic.checkpoints.configs import SIZES, file_stems
from synthetic.checkpoints.random_networks import RandomNetworks
from synthetic.checkpoints.yaml_writing import yaml_files


def make_checkpoints(
    folder: Path, size: str = "tiny", seed: int = 0, *, safetensors: bool = False, identical_dino: bool = True
) -> Path:
    """Write a checkpoint folder in the official layout, MoGe included, and return it.

    Args:
        folder: created if missing; files of the same name are replaced.
        size: "tiny" (a few MB) or "full" (14 GB).
        seed: of the weights.
        safetensors: write .safetensors files instead of those of torch.save, except for MoGe.
        identical_dino: make the four copies of DINO's weights equal, as in the release.
    """
    made = SIZES[size]()
    config, networks = made.config, RandomNetworks(made, seed, identical_dino=identical_dino)
    suffix = ".safetensors" if safetensors else ".ckpt"
    for name, content in yaml_files(config).items():
        write_text(folder / name, yaml.safe_dump(content, sort_keys=False))
    for stem in dict.fromkeys(file_stems(config).values()):
        tensors: dict[str, Tensor] = {}
        for part, prefix in _contents(config, stem).items():
            tensors |= {prefix + name: value for name, value in _state(networks, part).items()}
        _save(folder / (stem + suffix), tensors if prefix == "" else {"state_dict": tensors})
    _save(folder / "moge-vitl" / "model.pt", {"model_config": dict(made.moge), "model": _state(networks, MOGE)})
    return folder


def _contents(config: Sam3dConfig, stem: str) -> dict[str, str]:
    """The networks in a file, each with the prefix of its keys."""
    own = [part for part, home in file_stems(config).items() if home == stem]
    if len(own) == 1:
        return {own[0]: ""}
    prefixes = {
        STRUCTURE_FLOW: "_base_models.generator.reverse_fn.backbone.",
        LATENT_FLOW: "_base_models.generator.reverse_fn.backbone.",
        STRUCTURE_CONDITION: "_base_models.condition_embedder.",
        LATENT_CONDITION: "_base_models.condition_embedder.",
    }
    contents = {part: prefixes[part] for part in own}
    if STRUCTURE_FLOW in own:
        contents[STRUCTURE_DECODER] = "_base_models.decoder."  # the release has it twice
    return contents


def _state(networks: RandomNetworks, name: str) -> dict[str, Tensor]:
    """A network's tensors in the dtypes of the release: generators and MoGe float32, decoders mostly float16."""
    part = networks.parts[name]
    dtype = torch.float16 if name.startswith((STRUCTURE_DECODER, GAUSSIAN_DECODER)) else torch.float32
    with networks.reader(part) as read:
        return {
            tensor_name: read(tensor_name).to(stored_dtype(owner, tensor_name, dtype)).contiguous()
            for owner, _, tensor_name, _ in tensors_of(part.on_meta(nn.Module))
        }


def _save(path: Path, content: dict[str, Any]) -> None:
    with atomic_path(path) as temporary:
        if path.suffix == ".safetensors":
            from safetensors.torch import save_file

            save_file(content.get("state_dict", content), temporary)
        else:
            torch.save(content, temporary)
