"""A checkpoint folder in the official layout -> networks; every file is checked before any is loaded.

Weights are memory-mapped and read tensor by tensor on their way to the device, so loading needs little memory
besides the network itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from torch import nn

from sam3d_gs.errors import BadInputError
from sam3d_gs.sam3d_torch.checkpoints.network_source import (
    LATENT_CONDITION,
    LATENT_FLOW,
    MOGE,
    STRUCTURE_CONDITION,
    STRUCTURE_DECODER,
    STRUCTURE_FLOW,
    NetworkSource,
    Part,
    Reader,
    decoder_name,
    network_parts,
)
from sam3d_gs.sam3d_torch.checkpoints.weight_files import WeightFile, open_weights
from sam3d_gs.sam3d_torch.checkpoints.yaml_files import read_folder
from sam3d_gs.sam3d_torch.moge import MogeConfig, MogeV1

FLOWS, CONDITIONS = (STRUCTURE_FLOW, LATENT_FLOW), (STRUCTURE_CONDITION, LATENT_CONDITION)
CONDITION_TOPS = frozenset({"idx_emb", "module_list", "projection_nets"})  # their keys, where prefixes were dropped
MOGE_REPOSITORY = "Ruicheng/moge-vitl"


class Checkpoint(NetworkSource):
    """The networks of a checkpoint folder. Building one reads YAML files and the headers of the weight files only.

    `moge` is the depth network's file; None looks for it on first use (see `find_moge`).

    Raises BadInputError, naming file and key, for missing, truncated or foreign files and for weights that do not fit
    the YAML files.
    """

    def __init__(self, folder: Path, moge: Path | None = None) -> None:
        if not (folder / "pipeline.yaml").exists() and (folder / "checkpoints" / "pipeline.yaml").exists():
            folder = folder / "checkpoints"  # as the release is downloaded
        config, files = read_folder(folder)
        decoder_files = {count: _weights(path) for count, path in files.gaussian_decoders.items()}
        largest = max(decoder_files)  # the release has two decoders; only the large one must be there
        present = {n: config.gaussian_decoders[n] for n, path in decoder_files.items() if n == largest or path.exists()}
        config = replace(config, gaussian_decoders=present)
        paths = {
            STRUCTURE_FLOW: _weights(files.structure),
            STRUCTURE_CONDITION: _weights(files.structure),
            STRUCTURE_DECODER: _weights(files.structure_decoder),
            LATENT_FLOW: _weights(files.latent),
            LATENT_CONDITION: _weights(files.latent),
            **{decoder_name(count): decoder_files[count] for count in present},
        }
        super().__init__(config, network_parts(config, paths), folder)
        self._depth = files.depth
        self._moge = moge
        for part in self.parts.values():
            with self.reader(part):
                pass  # opening it compares keys and shapes

    @contextmanager
    def reader(self, part: Part) -> Iterator[Reader]:
        with open_weights(part.path) as file:
            keys = match_keys(part, file)
            yield lambda name: file[keys[name]]

    def moge_part(self) -> Part:
        if MOGE not in self.parts:
            self.parts[MOGE] = _moge_part(find_moge(self.folder, self._depth, self._moge))
        return self.parts[MOGE]


def _weights(path: Path) -> Path:
    """The file that pipeline.yaml names, or its .safetensors mirror if only that exists."""
    mirror = path.with_suffix(".safetensors")
    return mirror if mirror.exists() and not path.exists() else path


def match_keys(part: Part, file: WeightFile) -> Mapping[str, str]:
    """Parameter name -> key of the file. Raises BadInputError unless it is one to one, shapes included."""
    expected = {name: tuple(tensor.shape) for name, tensor in part.on_meta(nn.Module).state_dict().items()}
    keys = _own_keys(part.name, file)
    missing = [name for name in expected if name not in keys]
    unexpected = [keys[name] for name in keys if name not in expected]
    reshaped = [name for name in expected if name in keys and file.shape(keys[name]) != expected[name]]
    problems = []
    if missing:
        problems.append(f"{len(missing)} missing (first {missing[0]})")
    if unexpected:
        problems.append(f"{len(unexpected)} unexpected (first {unexpected[0]})")
    if reshaped:
        name = reshaped[0]
        shapes = f"{file.shape(keys[name])} instead of {expected[name]}"
        problems.append(f"{len(reshaped)} of another shape (first {keys[name]}: {shapes})")
    if problems:
        raise BadInputError(
            f"{part.path} does not fit the {part.name.replace('_', ' ')} of {part.yaml}: of {len(expected)} tensors "
            f"{', '.join(problems)}. Use weights and YAML files of one release."
        )
    return keys


def _own_keys(name: str, file: WeightFile) -> dict[str, str]:
    """The keys of one network, by the names of its parameters.

    A generator's file holds the flow, its condition embedder and, in stage 1, a second structure decoder, each behind
    a prefix. Mirrors in .safetensors may have dropped the prefixes.
    """
    if name not in FLOWS + CONDITIONS:
        return {key: key for key in file}
    flow: dict[str, str] = {}
    condition: dict[str, str] = {}
    for key in file:
        own = key.removeprefix("_base_models.")
        if own.startswith("decoder."):
            continue
        if own.startswith("condition_embedder.") or own.partition(".")[0] in CONDITION_TOPS:
            condition[own.removeprefix("condition_embedder.")] = key
        else:
            flow[own.removeprefix("generator.").removeprefix("reverse_fn.backbone.")] = key
    return flow if name in FLOWS else condition


def _moge_part(path: Path) -> Part:
    with open_weights(path) as file:
        settings = file.extra.get("model_config")
    if not isinstance(settings, dict):
        raise BadInputError(f"{path} has no model_config: it is not a MoGe version 1 file. Use {MOGE_REPOSITORY}.")
    try:
        config = MogeConfig.from_checkpoint(settings)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise BadInputError(f"{path}: model_config cannot be used: {error!r}. Use {MOGE_REPOSITORY}.") from error
    return Part(MOGE, lambda: MogeV1(config), path, "its own model_config")


def find_moge(folder: Path, named: str | None, given: Path | None) -> Path:
    """MoGe's file: the one given, the one in pipeline.yaml, next to the checkpoints, or in the hub's cache.

    Raises BadInputError that says where to put it.
    """
    if given is not None:
        given = given / "model.pt" if given.is_dir() else given
        if not given.is_file():
            raise BadInputError(f"No depth weights at {given}. Correct --moge, or leave it out.")
        return given
    named = named or MOGE_REPOSITORY
    places = [folder / named, folder / named / "model.pt"]
    places += [folder / name / "model.pt" for name in ("moge-vitl", "moge")]
    places += sorted(folder.absolute().parent.glob("moge*/model.pt"))
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    hub = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    if not Path(named).is_absolute():
        places += sorted(hub.glob(f"models--{named.replace('/', '--')}/snapshots/*/model.pt"))
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise BadInputError(
            f"No depth weights for {folder}. Put model.pt of {MOGE_REPOSITORY} at {folder / 'moge-vitl' / 'model.pt'}, "
            "name it with --moge, or give --depth."
        )
    return found
