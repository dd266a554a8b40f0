"""Networks on demand: each is built without memory, then filled tensor by tensor on the device and in its dtype.

PyTorch's "meta" device gives parameters a shape without memory. A subclass provides the values, as `checkpoint.py`
does from files.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from sam3d_gs.errors import BadInputError
from sam3d_gs.sam3d_torch.condition import ConditionEmbedder, DinoEmbedder
from sam3d_gs.sam3d_torch.config import Sam3dConfig
from sam3d_gs.sam3d_torch.dino import DinoVit
from sam3d_gs.sam3d_torch.gaussian_decoder import GaussianDecoder
from sam3d_gs.sam3d_torch.latent_flow import LatentFlow
from sam3d_gs.sam3d_torch.moge import MogeV1
from sam3d_gs.sam3d_torch.structure_decoder import StructureDecoder
from sam3d_gs.sam3d_torch.structure_flow import StructureFlow

# Names of the networks, as `memory.py` counts them.
STRUCTURE_FLOW, LATENT_FLOW = "structure_flow", "latent_flow"
STRUCTURE_CONDITION, LATENT_CONDITION = "structure_condition", "latent_condition"
STRUCTURE_DECODER, GAUSSIAN_DECODER, MOGE = "structure_decoder", "gaussian_decoder", "moge"

# What stays float32 in a 16-bit network: norms, and tensors with one of these words in their name. They are small,
# and what they scale, add to or end in is computed in float32.
FLOAT32_NORMS = (nn.LayerNorm, nn.GroupNorm)
KEEP_FLOAT32 = frozenset(
    {
        "cls_token",
        "gamma",
        "idx_emb",
        "image_mean",
        "image_std",
        "input_layer",
        "invalid_xyz_token",
        "mask_token",
        "offset_perturbation",
        "out_layer",
        "output_block",
        "pos_emb",
        "pos_embed",
        "pos_embed_window",
        "register_tokens",
    }
)

Network = TypeVar("Network", bound=nn.Module)
Reader = Callable[[str], Tensor]  # a parameter's name -> its values, on any device, in any dtype


@dataclass(frozen=True)
class Part:
    """One network and the place of its weights."""

    name: str
    build: Callable[[], nn.Module]
    path: Path
    yaml: str  # the file with its configuration

    def on_meta(self, kind: type[Network]) -> Network:
        """The network on the meta device, without memory for its parameters."""
        with torch.device("meta"):
            network = self.build()
        assert isinstance(network, kind)
        return network.eval().requires_grad_(False)


class NetworkSource(ABC):
    """Builds the networks of a configuration.

    Every method that returns a network builds and fills a new one, in evaluation mode, without gradients. DINO copies
    with equal weights are one object in memory, as long as anyone holds it.
    """

    def __init__(self, config: Sam3dConfig, parts: Mapping[str, Part], folder: Path) -> None:
        self.config = config
        self.parts = dict(parts)
        self.folder = folder
        self._dinos: WeakValueDictionary[tuple[int, torch.device, torch.dtype], DinoVit] = WeakValueDictionary()
        self._dino_groups: dict[tuple[str, int], int] | None = None

    @abstractmethod
    def reader(self, part: Part) -> AbstractContextManager[Reader]:
        """Opens the values of one network."""

    def structure_flow(self, device: torch.device, dtype: torch.dtype) -> StructureFlow:
        return self._load(self.parts[STRUCTURE_FLOW], StructureFlow, device, dtype)

    def latent_flow(self, device: torch.device, dtype: torch.dtype) -> LatentFlow:
        return self._load(self.parts[LATENT_FLOW], LatentFlow, device, dtype)

    def structure_decoder(self, device: torch.device, dtype: torch.dtype) -> StructureDecoder:
        decoder = self._load(self.parts[STRUCTURE_DECODER], StructureDecoder, device, dtype)
        if device.type == "cuda":  # the layout its convolutions read
            decoder.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        return decoder

    def gaussian_decoder(self, gaussians_per_voxel: int, device: torch.device, dtype: torch.dtype) -> GaussianDecoder:
        """Raises BadInputError when there is none for that number."""
        return self._load(self._decoder(gaussians_per_voxel), GaussianDecoder, device, dtype)

    def structure_condition(self, device: torch.device, dtype: torch.dtype) -> ConditionEmbedder:
        return self._load(self.parts[STRUCTURE_CONDITION], ConditionEmbedder, device, dtype)

    def latent_condition(self, device: torch.device, dtype: torch.dtype) -> ConditionEmbedder:
        return self._load(self.parts[LATENT_CONDITION], ConditionEmbedder, device, dtype)

    def moge(self, device: torch.device, dtype: torch.dtype) -> MogeV1:
        """The depth network. Raises BadInputError saying where to put its file when there is none."""
        return self._load(self.moge_part(), MogeV1, device, dtype)

    def moge_part(self) -> Part:
        """The depth network's file, which may be missing, since depth may be given."""
        return self.parts[MOGE]

    def weight_bytes(self, dtype: torch.dtype, gaussians_per_voxel: int) -> dict[str, int]:
        """Bytes of every network on the device by its name; a shared DINO copy counts once, in the first network.

        "moge" is left out when there is none.
        """
        names = (STRUCTURE_FLOW, STRUCTURE_CONDITION, STRUCTURE_DECODER, LATENT_FLOW, LATENT_CONDITION)
        parts = {name: self.parts[name] for name in names}
        parts[GAUSSIAN_DECODER] = self._decoder(gaussians_per_voxel)
        with suppress(BadInputError):  # the reason is for who asks for the network
            parts[MOGE] = self.moge_part()
        counted: set[int] = set()
        sizes = {}
        for name, part in parts.items():
            network = part.on_meta(nn.Module)
            for i, embedder in _dino_embedders(network):
                group = self.dino_groups()[name, i]
                if group in counted:
                    embedder.backbone = nn.Identity()  # type: ignore[assignment]
                counted.add(group)
            sizes[name] = sum(
                empty.numel() * stored_dtype(owner, name, dtype).itemsize
                for owner, _, name, empty in tensors_of(network)
            )
        return sizes

    def dino_groups(self) -> dict[tuple[str, int], int]:
        """A number for every DINO copy, (condition embedder, place in its list); equal weights have equal numbers.

        Weights are read once, a tensor of two copies at a time, up to the first that differs.
        """
        if self._dino_groups is None:
            groups: dict[tuple[str, int], int] = {}
            firsts: list[tuple[DinoVit, Reader]] = []
            with ExitStack() as stack:
                for name in (STRUCTURE_CONDITION, LATENT_CONDITION):
                    part = self.parts[name]
                    read = stack.enter_context(self.reader(part))
                    for i, embedder in _dino_embedders(part.on_meta(ConditionEmbedder)):
                        copy = embedder.backbone, _below(read, f"module_list.{i}.backbone.")
                        equal = (number for number, first in enumerate(firsts) if _equal(first, copy))
                        groups[name, i] = next(equal, len(firsts))
                        if groups[name, i] == len(firsts):
                            firsts.append(copy)
            self._dino_groups = groups
        return self._dino_groups

    def _decoder(self, gaussians_per_voxel: int) -> Part:
        if decoder_name(gaussians_per_voxel) not in self.parts:
            known = " or ".join(map(str, sorted(self.config.gaussian_decoders)))
            raise BadInputError(
                f"{self.folder} has no decoder for {gaussians_per_voxel} Gaussians a voxel. "
                f"Choose --gaussians-per-voxel {known}."
            )
        return self.parts[decoder_name(gaussians_per_voxel)]

    def _load(self, part: Part, kind: type[Network], device: torch.device, dtype: torch.dtype) -> Network:
        network = part.on_meta(kind)
        for i, embedder in _dino_embedders(network):
            key = (self.dino_groups()[part.name, i], device, dtype)
            embedder.backbone = self._dinos.setdefault(key, embedder.backbone)
        with self.reader(part) as read:
            for owner, leaf, name, empty in list(tensors_of(network)):
                if empty.is_meta:
                    # Cast on the target device: a GPU is faster, and the copy needs no buffer on the host.
                    value = read(name).to(device, copy=True)
                    if value.is_floating_point():
                        value = value.to(stored_dtype(owner, name, dtype))
                    is_parameter = isinstance(empty, nn.Parameter)
                    setattr(owner, leaf, nn.Parameter(value, requires_grad=False) if is_parameter else value)
        return network


def decoder_name(gaussians_per_voxel: int) -> str:
    return f"{GAUSSIAN_DECODER}_{gaussians_per_voxel}"


def network_parts(config: Sam3dConfig, paths: Mapping[str, Path]) -> dict[str, Part]:
    """Every network but the depth network, by name; `paths` has their weights by the same names."""
    builders: dict[str, Callable[[], nn.Module]] = {
        STRUCTURE_FLOW: lambda: StructureFlow(config.structure_flow),
        STRUCTURE_CONDITION: lambda: ConditionEmbedder(config.structure_condition),
        STRUCTURE_DECODER: lambda: StructureDecoder(config.structure_decoder),
        LATENT_FLOW: lambda: LatentFlow(config.latent_flow),
        LATENT_CONDITION: lambda: ConditionEmbedder(config.latent_condition),
    }
    for count, decoder in config.gaussian_decoders.items():
        builders[decoder_name(count)] = lambda decoder=decoder: GaussianDecoder(decoder)  # type: ignore[misc]
    return {name: Part(name, build, paths[name], f"{paths[name].stem}.yaml") for name, build in builders.items()}


def stored_dtype(owner: nn.Module, name: str, dtype: torch.dtype) -> torch.dtype:
    """The dtype in which parameter `name` of the layer `owner` is kept, in a network of `dtype`."""
    if isinstance(owner, FLOAT32_NORMS) or not KEEP_FLOAT32.isdisjoint(name.split(".")):
        return torch.float32
    return dtype


def tensors_of(network: nn.Module) -> Iterator[tuple[nn.Module, str, str, Tensor]]:
    """Every parameter and buffer once: its layer, its name there, its full name, itself."""
    for path, owner in network.named_modules():
        for leaf, tensor in [*owner.named_parameters(recurse=False), *owner.named_buffers(recurse=False)]:
            yield owner, leaf, f"{path}.{leaf}" if path else leaf, tensor


def _dino_embedders(network: nn.Module) -> Iterator[tuple[int, DinoEmbedder]]:
    """The DINO copies of a condition embedder, with their place in its list."""
    if isinstance(network, ConditionEmbedder):
        for i, embedder in enumerate(network.module_list):
            if isinstance(embedder, DinoEmbedder):
                yield i, embedder


def _below(read: Reader, prefix: str) -> Reader:
    return lambda name: read(prefix + name)


def _equal(first: tuple[DinoVit, Reader], second: tuple[DinoVit, Reader]) -> bool:
    """Whether two networks have the same configuration and the same values."""
    if first[0].vit != second[0].vit:
        return False
    return all(torch.equal(first[1](name), second[1](name)) for name in first[0].state_dict())
