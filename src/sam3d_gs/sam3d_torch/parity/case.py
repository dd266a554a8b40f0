"""One recorded case: the inputs, weights and outputs of an upstream module."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from sam3d_gs.errors import BadInputError


@dataclass(frozen=True)
class Case:
    """Tensors and settings of one case. Names come without their `state.`, `in.` and `out.`; stored dtypes are kept."""

    name: str
    config: dict[str, Any]  # the module's settings, by their names in upstream's YAML
    meta: dict[str, Any]  # the whole description, tolerance included
    state: dict[str, Tensor]  # by upstream's state-dict keys
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]  # of upstream's module


def case_names(folder: Path) -> list[str]:
    """Every case in the folder, sorted: the .json files with tensors; unreadable ones included.

    Raises:
        BadInputError: there is no such folder or no case in it.
    """
    if not folder.is_dir():
        raise BadInputError(f"{folder} is not a folder. Give the folder that holds the recorded cases (.json).")
    names = sorted(path.stem for path in folder.glob("*.json") if _is_case(path))
    if not names:
        raise BadInputError(f"{folder} holds no recorded case (.json with the key files). Give another folder.")
    return names


def read_case(folder: Path | str, name: str) -> Case:
    """Read `<name>.json` and the .safetensors files it lists.

    Raises:
        BadInputError: a file is missing or is not what it should be.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    meta = _description(folder / f"{name}.json")
    tensors: dict[str, Tensor] = {}
    for file in meta["files"]:
        try:
            tensors.update(load_file(folder / file))
        except (OSError, SafetensorError) as error:
            reason = str(error).splitlines()[0]
            raise BadInputError(f"Cannot read {folder / file} ({reason}). Copy the case {name} again.") from error
    return Case(
        name=name,
        config=meta.get("config", {}),
        meta=meta,
        state=_part(tensors, "state."),
        inputs=_part(tensors, "in."),
        outputs=_part(tensors, "out."),
    )


def to_device(case: Case, device: str) -> Case:
    """The same case with weights and inputs on `device`; the recorded outputs stay where they are."""

    def moved(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {key: tensor.to(device) for key, tensor in tensors.items()}

    return Case(case.name, case.config, case.meta, moved(case.state), moved(case.inputs), case.outputs)


def _is_case(path: Path) -> bool:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return True  # `read_case` reports what is wrong
    return isinstance(content, dict) and "files" in content


def _description(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
        content["files"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BadInputError(f"{path} does not describe a case ({error}). Copy it again.") from error
    return content


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
