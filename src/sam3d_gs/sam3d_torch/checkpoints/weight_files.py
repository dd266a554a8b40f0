"""One file of weights, memory-mapped: names and shapes at once, values on demand.

`.ckpt` and `.pt` are files of torch.save, read without running anything they contain; `.safetensors` is read with
that package. A tensor is read from the disk when it is copied, so a file larger than the memory can be loaded.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sam3d_gs.errors import BadInputError, MissingPackageError, first_line

_PYTHON_OBJECT = re.compile(r"unsupported global:? (?:GLOBAL )?([\w.]+)", re.IGNORECASE)  # what torch.load refused


class WeightFile(Mapping[str, Tensor]):
    """The tensors of a file by key, on the CPU. Use it in a `with` block of `open_weights`."""

    def __init__(self, path: Path, tensors: Mapping[str, Tensor], extra: Mapping[str, Any]) -> None:
        self.path = path
        self.extra = extra  # other entries of the file, such as MoGe's "model_config"
        self._tensors = tensors

    def __getitem__(self, key: str) -> Tensor:
        return self._tensors[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def shape(self, key: str) -> tuple[int, ...]:
        """Without reading the values."""
        tensors = self._tensors
        return tensors.shape(key) if isinstance(tensors, _SafeTensors) else tuple(tensors[key].shape)


class _SafeTensors(Mapping[str, Tensor]):
    """The tensors of an open .safetensors file."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._keys = tuple(handle.keys())

    def __getitem__(self, key: str) -> Tensor:
        if key not in self._keys:
            raise KeyError(key)
        return self._handle.get_tensor(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def shape(self, key: str) -> tuple[int, ...]:
        return tuple(self._handle.get_slice(key).get_shape())


@contextmanager
def open_weights(path: Path) -> Iterator[WeightFile]:
    """Open a weight file. Raises BadInputError when it is missing, truncated, or not a weight file.

    A dictionary that holds the tensors under "state_dict" (Lightning) or "model" (MoGe) is looked into.
    """
    if not path.is_file():
        raise BadInputError(f"No weights at {path}. Download the file, or correct the folder given to --checkpoints.")
    with ExitStack() as stack:
        if path.suffix == ".safetensors":
            yield WeightFile(path, _open_safetensors(path, stack), {})
        else:
            content = _load(path)
            name = next((key for key in ("state_dict", "model") if isinstance(content.get(key), dict)), None)
            tensors = content if name is None else content[name]
            wrong = next((key for key, value in tensors.items() if not isinstance(value, Tensor)), None)
            if wrong is not None or not tensors:
                found = f"{wrong!r} is no tensor" if tensors else "it holds no tensor"
                raise BadInputError(f"{path} is not a file of weights: {found}. Download it again.")
            yield WeightFile(path, tensors, {key: value for key, value in content.items() if key != name})


def _open_safetensors(path: Path, stack: ExitStack) -> _SafeTensors:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise MissingPackageError(
            f"{path} needs the package safetensors. Install it with `pip install safetensors`."
        ) from error
    try:
        return _SafeTensors(stack.enter_context(safe_open(str(path), framework="pt", device="cpu")))
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from error


def _load(path: Path) -> dict[str, Any]:
    """What torch.save wrote, memory-mapped. The format before torch 1.6 is no zip file and cannot be mapped."""
    try:
        content = torch.load(path, map_location="cpu", mmap=zipfile.is_zipfile(path), weights_only=True)
    except Exception as error:  # RuntimeError, UnpicklingError, EOFError, ... by what is wrong with the file
        raise _unreadable(path, error) from error
    if not isinstance(content, dict):
        raise BadInputError(f"{path} is not a file of weights: it holds a {type(content).__name__}. Download it again.")
    return content


def _unreadable(path: Path, error: Exception) -> BadInputError:
    return BadInputError(f"{path} is not a readable file of weights: {_reason(path, error)}. Download it again.")


def _reason(path: Path, error: Exception) -> str:
    """What is wrong, in our own words: torch advises to load such a file without its safeguards."""
    try:
        with path.open("rb") as stream:
            start = stream.read(64)
    except OSError as unopened:
        return unopened.strerror or type(unopened).__name__
    if not start:
        return "it is empty"
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, the weights themselves were not downloaded"
    if start.lstrip().startswith(b"<"):
        return "it is a web page, the weights themselves were not downloaded"
    reason = first_line(error).rstrip(".")
    if path.suffix == ".safetensors" or isinstance(error, OSError):
        return reason
    if start.startswith(b"PK") and not zipfile.is_zipfile(path):
        return f"it ends early, after {path.stat().st_size:,} bytes"
    found = _PYTHON_OBJECT.search(str(error))
    if found:
        return f"it holds the Python object {found[1]}, and nothing but tensors is loaded"
    return reason if isinstance(error, RuntimeError) else "it was not written by torch.save"
