"""Adapter to the official SAM 3D Objects package: loads its pipeline, and converts its results to our types.

Written from the package's source (commit cf06676) and tested against a mock with the same signatures; it has not
been run with the package itself.
"""

from __future__ import annotations

import gc
import importlib.util
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from sam3d_gs.errors import BadInputError, MissingPackageError, Sam3dGsError
from sam3d_gs.sam3d_torch.pointmap import pixel_intrinsics, to_pytorch3d
from sam3d_gs.sam3d_torch.pose import Sam3dPose, to_opencv
from sam3d_gs.types import Gaussians, Pose

log = logging.getLogger("sam3d_gs")

PACKAGE = "sam3d_objects"
NOTEBOOK = Path("notebook") / "inference.py"  # holds the public class, outside the package
CURE = "Run `bash envs/setup.sh --env sam3d-objects`, or choose --objects-engine native, which needs none of it."
# Gaussians only: a mesh and its texture would cost more time and memory than everything else.
GAUSSIANS_ONLY = {
    "with_mesh_postprocess": False,
    "with_texture_baking": False,
    "with_layout_postprocess": False,
    "use_vertex_color": True,
}


def find_checkout(checkpoints: Path) -> Path:
    """The official repository: that of the installed package, else the one that holds checkpoints/hf.

    Raises MissingPackageError when neither holds its public class.
    """
    spec = importlib.util.find_spec(PACKAGE)
    installed = [Path(spec.origin).parents[1]] if spec and spec.origin else []
    for folder in [*installed, *checkpoints.absolute().parents[:2]]:
        if (folder / NOTEBOOK).is_file():
            return folder
    raise MissingPackageError(
        f"Engine 'sam3d-objects' needs a checkout of the official repository (with {NOTEBOOK}), and there is none "
        f"above {checkpoints}. {CURE}"
    )


def load_pipeline(checkout: Path, pipeline_yaml: Path) -> Any:
    """The official pipeline with its networks on the GPU, built by the public class `Inference`.

    Raises MissingPackageError when the package or one that it needs is missing, Sam3dGsError when loading fails.
    """
    try:
        with _as_it_expects(checkout):
            pipeline = _public_module(checkout).Inference(str(pipeline_yaml), compile=False)._pipeline
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"The official SAM 3D Objects package needs {error.name!r}, which this environment lacks. {CURE}"
        ) from error
    except Exception as error:  # whatever hydra, torch or the hub raise
        raise Sam3dGsError(
            f"The official SAM 3D Objects package cannot load {pipeline_yaml}: {reason(error)}"
        ) from error
    return pipeline


def _public_module(checkout: Path) -> ModuleType:
    """notebook/inference.py, loaded by path: its name is too common to import."""
    spec = importlib.util.spec_from_file_location("sam3d_objects_inference", checkout / NOTEBOOK)
    if spec is None or spec.loader is None or not (checkout / NOTEBOOK).is_file():
        raise BadInputError(f"No {NOTEBOOK} in {checkout}. {CURE}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def _as_it_expects(checkout: Path) -> Iterator[None]:
    """The environment that the package expects while it is imported and loads."""
    if importlib.util.find_spec(PACKAGE) is None:
        sys.path.insert(0, str(checkout))
    os.environ.setdefault("CONDA_PREFIX", sys.prefix)  # it reads this unconditionally, in a venv too
    os.environ.setdefault("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "1")  # it allows pickled objects; its files hold none
    cuda_home = os.environ.get("CUDA_HOME")  # which it overwrites
    backend = attention_backend()
    if backend:
        os.environ["ATTN_BACKEND"] = os.environ["SPARSE_ATTN_BACKEND"] = backend
    try:
        # On GPUs with certain names it insists on flash_attn, even if that is not installed or not wanted.
        with mock.patch("torch.cuda.get_device_name", return_value="CUDA") if backend else nullcontext():
            yield
    finally:
        if cuda_home is not None:
            os.environ["CUDA_HOME"] = cuda_home
    if PACKAGE in sys.modules and not log.isEnabledFor(logging.DEBUG):
        _quieten()


def attention_backend() -> str | None:
    """The package's attention backend; None without a GPU, where there is no choice.

    The user's ATTN_BACKEND wins. flash_attn is used wherever it runs: the alternative builds a voxels x voxels mask.
    """
    if not torch.cuda.is_available():
        return None
    if wanted := os.environ.get("ATTN_BACKEND"):
        return wanted
    if importlib.util.find_spec("flash_attn") and torch.cuda.get_device_capability() >= (8, 0):
        return "flash_attn"
    log.warning("flash_attn is not installed or does not support this GPU: the official package will need more memory.")
    return "sdpa"


def _quieten() -> None:
    """Silence its own logger, which prints a dozen lines per object to stderr."""
    if importlib.util.find_spec("loguru"):
        importlib.import_module("loguru").logger.disable(PACKAGE)


def depth(pipeline: Any, rgb: np.ndarray) -> tuple[Tensor, np.ndarray]:
    """MoGe's pointmap and camera of a photo, which the pipeline would compute again for every object.

    Args:
        rgb: (H, W, 3) uint8 RGB.

    Returns:
        (H, W, 3) float32 pointmap in the PyTorch3D camera frame, NaN where invalid, and K, (3, 3) float64 px, which
        the pipeline does not return.
    """
    image = torch.from_numpy((rgb / 255).astype(np.float32)).permute(2, 0, 1).contiguous()
    with torch.no_grad(), torch.autocast(pipeline.device.type, dtype=pipeline.dtype):
        found = pipeline.depth_model(image)
    height, width = rgb.shape[:2]
    return to_pytorch3d(found["pointmaps"]), pixel_intrinsics(found["intrinsics"], (width, height))


def rgba(rgb: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(H, W, 4) uint8, with the (H, W) bool mask in the alpha channel: the pipeline's input."""
    return np.dstack([rgb, np.where(mask, 255, 0).astype(np.uint8)])


def pose(made: Mapping[str, Any]) -> Pose:
    """The pose of a result, object to OpenCV camera."""
    rotation, translation, scale = (made[key][0].double().cpu().numpy() for key in ("rotation", "translation", "scale"))
    return to_opencv(Sam3dPose(rotation / np.linalg.norm(rotation), translation, float(scale[0])))  # 3 equal scales


def gaussians(made: Any) -> Gaussians:
    """The package's Gaussian representation, activated, in our encodings."""

    def array(tensor: Tensor) -> np.ndarray:
        return tensor.detach().float().cpu().numpy()

    return Gaussians(
        means=array(made.get_xyz),
        quats=array(made.get_rotation),
        log_scales=array(made.get_scaling.log()),
        opacity_logits=array(made.get_opacity[:, 0].double().logit(eps=1e-7)),
        sh0=array(made.get_features[:, 0]),
    )


def free() -> None:
    """Free the GPU's memory, after the last reference to a pipeline is gone."""
    gc.collect()
    torch.cuda.empty_cache()


def reason(error: Exception) -> str:
    """An error as one line that ends with a full stop."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text if text.endswith(".") else f"{text}."
