"""One reconstructed object as a .pt file: a flat dict of tensors and plain values, never a pickled class.

Any PyTorch opens it without this package: ``torch.load(path, weights_only=True)``. Keys:

    schema            int, SCHEMA
    means             (N, 3) float32, object frame        quats             (N, 4) float32, wxyz, unit length
    log_scales        (N, 3) float32, natural log         opacity_logits    (N,)   float32
    sh0               (N, 3) float32
    rotation          (4,) float64, wxyz; translation (3,) float64; scale () float64: object to camera
    intrinsics        (3, 3) float64, pixels              image_size        [width, height], pixels
    object_id, phrase, engine, scale_source               str
    scores            {str: float}; versions {str: str}; seed int

torch is imported inside the functions: the command line must start without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sam3d_gs.errors import BadInputError, MissingPackageError, ObjectError
from sam3d_gs.files import atomic_path
from sam3d_gs.gaussians.check import COLUMNS, problem, unit_quats
from sam3d_gs.gaussians.ply import count_ply, read_ply
from sam3d_gs.types import Gaussians, PlacedObject, Pose
from sam3d_gs.workspace import is_object_id

SCHEMA = 1  # 1: first version


@dataclass(frozen=True)
class PtHeader:
    """All of a .pt file but the Gaussians; see `PlacedObject` for the fields."""

    path: Path
    count: int  # Gaussians in the file
    object_id: str
    phrase: str
    pose: Pose
    K: np.ndarray  # (3, 3) float64, pixels of the photo
    image_size: tuple[int, int]  # (width, height) px
    scores: Mapping[str, float]
    seed: int
    engine: str
    scale_source: str
    versions: Mapping[str, str]


def write_pt(path: Path, obj: PlacedObject) -> None:
    """Write the object, whole or not at all.

    Raises ObjectError when its Gaussians, pose or scores are not usable, Sam3dGsError when writing fails.
    """
    torch = _torch(path)
    reason = problem(obj.gaussians) or _header_problem(obj.pose, obj.K, obj.scores)
    if reason:
        raise ObjectError(f"{obj.object_id} was not written to {path}: {reason}. Run the objects stage for it again.")
    content: dict[str, Any] = {
        "schema": SCHEMA,
        **{field: _tensor(torch, getattr(obj.gaussians, field), np.float32) for field in COLUMNS},
        "rotation": _tensor(torch, obj.pose.quat_wxyz, np.float64),
        "translation": _tensor(torch, obj.pose.translation, np.float64),
        "scale": _tensor(torch, np.asarray(obj.pose.scale), np.float64),
        "intrinsics": _tensor(torch, obj.K, np.float64),
        "image_size": [int(side) for side in obj.image_size],
        "object_id": obj.object_id,
        "phrase": obj.phrase,
        "scores": {name: float(score) for name, score in obj.scores.items()},
        "seed": int(obj.seed),
        "engine": obj.engine,
        "scale_source": obj.scale_source,
        "versions": {name: str(version) for name, version in obj.versions.items()},
    }
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        try:
            torch.save(content, stream)
        except RuntimeError as error:  # how its zip writer reports that the disk is full
            raise error.__context__ if isinstance(error.__context__, OSError) else OSError(str(error)) from error


def read_pt(path: Path) -> PlacedObject:
    """Read and check one object: `open_pt` and `take` in one. Raises BadInputError as they do."""
    return open_pt(path).take()


class PtFile:
    """An open .pt file: its header is checked and in memory, its Gaussians wait in the file until `take`."""

    def __init__(self, header: PtHeader, content: dict[str, Any], ply: Path | None = None) -> None:
        self.header = header
        self._content = content
        self._ply = ply  # whose Gaussians, in the object frame, count instead

    def edited(self, pose: Pose | None = None, phrase: str | None = None, ply: Path | None = None) -> PtFile:
        """The same object with a user's pose, phrase, or Gaussians from a .ply; None leaves one as it is.

        Raises BadInputError naming the .ply when it is not usable.
        """
        header = replace(
            self.header,
            pose=pose or self.header.pose,
            phrase=self.header.phrase if phrase is None else phrase,
            count=count_ply(ply) if ply else self.header.count,
        )
        return PtFile(header, self._content, ply or self._ply)

    def take(self) -> PlacedObject:
        """Check the Gaussians and hand the object over. Can be called once: the file is then let go.

        The arrays are mapped from the file, so pages are read when they are used and freed with the object.
        Raises BadInputError naming the file when an array is missing, misshapen or not usable.
        """
        content, self._content = self._content, {}
        header = self.header
        try:
            gaussians = read_ply(self._ply) if self._ply else _gaussians(content)
        except (ValueError, TypeError, OverflowError, RuntimeError) as error:
            raise _bad(header.path, str(error)) from error
        return PlacedObject(
            object_id=header.object_id,
            phrase=header.phrase,
            gaussians=gaussians,
            pose=header.pose,
            K=header.K,
            image_size=header.image_size,
            scores=header.scores,
            seed=header.seed,
            engine=header.engine,
            scale_source=header.scale_source,
            versions=header.versions,
        )


def open_pt(path: Path) -> PtFile:
    """Map one .pt file and check its header.

    Raises BadInputError naming the file when it is missing, cut short, holds a pickled class, or lacks or misshapes a
    value of the header.
    """
    torch = _torch(path)
    if not path.is_file():
        raise BadInputError(f"No .pt file at {path}. Run the objects stage for it.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises nearly everything: Unpickling, Runtime, EOF, Key, Type, Unicode, ...
        raise _bad(path, "PyTorch cannot load it as plain tensors (cut short, or it holds a pickled class)") from error
    if not isinstance(content, dict):
        raise _bad(path, f"it holds a {type(content).__name__}, not a dict")
    try:
        return PtFile(_header(path, content), content)
    except (ValueError, TypeError, OverflowError) as error:  # the file may hold anything
        raise _bad(path, str(error)) from error


def _gaussians(content: dict[str, Any]) -> Gaussians:
    """Raises ValueError with the reason."""
    gaussians = Gaussians(**{field: _array(content, field, np.float32) for field in COLUMNS})
    if reason := problem(gaussians):
        raise ValueError(reason)
    return replace(gaussians, quats=unit_quats(gaussians.quats))


def _header(path: Path, content: dict[str, Any]) -> PtHeader:
    """Raises ValueError with the reason."""
    schema = _value(content, "schema", int)
    if schema != SCHEMA:
        raise ValueError(f"its schema is {schema}, this version of sam3d_gs reads {SCHEMA}")
    pose = Pose(
        quat_wxyz=_array(content, "rotation", np.float64, (4,)),
        translation=_array(content, "translation", np.float64, (3,)),
        scale=float(_array(content, "scale", np.float64, ())),
    )
    K = _array(content, "intrinsics", np.float64, (3, 3))
    scores = _value(content, "scores", dict)
    if reason := _header_problem(pose, K, scores):
        raise ValueError(reason)
    object_id = _value(content, "object_id", str)
    if not is_object_id(object_id):
        raise ValueError(f"object_id {object_id[:60]!r} is not a safe file name")
    size = _value(content, "image_size", (list, tuple))
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise ValueError(f"image_size is {size!r:.60}, expected [width, height] in pixels")
    means = _value(content, "means", _torch(path).Tensor)
    return PtHeader(
        path=path,
        count=len(means) if means.ndim else 0,
        object_id=object_id,
        phrase=_value(content, "phrase", str),
        pose=pose,
        K=K,
        image_size=(size[0], size[1]),
        scores={str(name): float(score) for name, score in scores.items()},
        seed=_value(content, "seed", int),
        engine=_value(content, "engine", str),
        scale_source=_value(content, "scale_source", str),
        versions={str(name): str(version) for name, version in _value(content, "versions", dict).items()},
    )


def _value(content: dict[str, Any], key: str, kind: type | tuple[type, ...]) -> Any:
    if key not in content:
        raise ValueError(f"it has no {key}")
    if not isinstance(content[key], kind):
        raise ValueError(f"{key} is a {type(content[key]).__name__}")
    return content[key]


def _array(
    content: dict[str, Any], key: str, dtype: type[np.floating[Any]], shape: tuple[int, ...] | None = None
) -> np.ndarray:
    """A tensor of the file as an array. Raises ValueError with the reason.

    Without a `shape` it is large, and stays mapped from the file if it has the dtype. With one it is a copy, so that a
    header does not keep its file mapped.
    """
    import torch

    tensor = _value(content, key, torch.Tensor)
    dense = tensor.layout == torch.strided and tensor.is_contiguous()  # an expanded one may claim any size
    if not dense or tensor.device.type != "cpu" or not tensor.is_floating_point():
        raise ValueError(f"{key} is not a dense tensor of real numbers")
    if shape is not None and tuple(tensor.shape) != shape:
        raise ValueError(f"{key} has shape {tuple(tensor.shape)}, expected {shape}")
    wanted = torch.float32 if dtype is np.float32 else torch.float64
    return np.asarray(tensor.detach().to(wanted, copy=shape is not None).numpy())


def _header_problem(pose: Pose, K: np.ndarray, scores: Mapping[str, Any]) -> str | None:
    """Why the values around the Gaussians cannot be used, as a clause, or None."""
    numbers = (pose.quat_wxyz, pose.translation, np.asarray(pose.scale), K)
    if not all(np.isfinite(array).all() for array in numbers):
        return "its pose or intrinsics have NaN or infinite values"
    if abs(np.linalg.norm(pose.quat_wxyz) - 1.0) > 1e-3 or pose.scale <= 0.0:
        return "its pose is not a rotation with a positive scale"
    if K[0, 0] <= 0.0 or K[1, 1] <= 0.0 or not np.array_equal(K[2], (0.0, 0.0, 1.0)):
        return "its intrinsics are not a pinhole matrix"
    if not all(isinstance(score, (int, float, np.number)) and np.isfinite(score) for score in scores.values()):
        return "its scores are not all numbers"
    return None


def _tensor(torch: Any, array: np.ndarray, dtype: type[np.floating[Any]]) -> Any:
    """A tensor that owns just its own values: torch.save would store the whole base of a view."""
    return torch.from_numpy(np.array(array, dtype=dtype, order="C"))


def _bad(path: Path, reason: str) -> BadInputError:
    return BadInputError(f"{path} is not a usable .pt file: {reason}. Delete it and run the objects stage again.")


def _torch(path: Path) -> Any:
    try:
        import torch
    except ImportError as error:
        raise MissingPackageError(
            f"PyTorch is needed for {path.name} and is not installed here. pip install 'sam3d_gs[embedded]', or run "
            "this in the environment of the objects stage."
        ) from error
    return torch
