"""SAM 3D Objects through its official package, on a CUDA GPU; `objects_native` does the same without the package.

Not yet run with the real package (see `sam3d_official.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib import metadata
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sam3d_gs import __version__
from sam3d_gs.engines import sam3d_official as official
from sam3d_gs.engines.api import FailedObject
from sam3d_gs.errors import BadInputError, Sam3dGsError
from sam3d_gs.options import Sam3dOptions
from sam3d_gs.sam3d_torch.presets import DRAFT_SLAT_STEPS, DRAFT_STEPS, FEW, QUALITY_FACTOR
from sam3d_gs.sam3d_torch.runtime import object_seed
from sam3d_gs.system.devices import choose_device
from sam3d_gs.types import InstanceMask, Photo, PlacedObject

log = logging.getLogger("sam3d_gs")

_MIN_SIDE_PX = 3  # of a mask: the package cannot crop to less


class OfficialObjects:
    """Lifts masks with the official pipeline, one object after the other, Gaussians only."""

    def __init__(self, options: Sam3dOptions) -> None:
        """Load all networks onto the GPU, about 12 GiB. Raises Sam3dGsError."""
        self.options = options
        folder = options.checkpoints
        if (folder / "checkpoints" / "pipeline.yaml").is_file():
            folder = folder / "checkpoints"  # as the release is downloaded
        pipeline_yaml = folder / "pipeline.yaml"
        if not torch.cuda.is_available():
            raise Sam3dGsError(
                "The official SAM 3D Objects package runs only on CUDA GPUs, and there is none here. "
                "Choose --objects-engine native."
            )
        if not pipeline_yaml.is_file():
            raise BadInputError(f"No pipeline.yaml in {folder}. Name the checkpoints with --checkpoints.")
        choose_device("cuda")  # makes the GPU with the most free memory the package's "cuda"
        checkout = official.find_checkout(folder)
        log.info("Loading the official SAM 3D Objects from %s (a minute or more) ...", checkout)
        self._pipeline: Any = official.load_pipeline(checkout, pipeline_yaml)
        self._effort = effort(options, self._pipeline)

    def close(self) -> None:
        """Free the GPU's memory."""
        self._pipeline = None
        official.free()

    def objects(
        self, photo: Photo, masks: Sequence[InstanceMask], wanted: Sequence[str]
    ) -> Iterator[PlacedObject | FailedObject]:
        """Yield the wanted objects, each as soon as it is finished; neighbours have no influence."""
        asked = [mask for mask in masks if mask.object_id in wanted]
        if not asked:
            return
        pointmap, K = official.depth(self._pipeline, photo.rgb)
        for mask in asked:
            why = unusable(mask, pointmap)
            yield FailedObject(mask.object_id, why) if why else self._object(photo, mask, pointmap, K)

    def _object(self, photo: Photo, mask: InstanceMask, pointmap: Tensor, K: np.ndarray) -> PlacedObject | FailedObject:
        seed = object_seed(self.options.seed, mask.object_id)
        try:
            with torch.no_grad():
                made = self._pipeline.run(
                    official.rgba(photo.rgb, mask.mask),
                    None,
                    seed,
                    pointmap=pointmap,
                    **official.GAUSSIANS_ONLY,
                    **self._effort,
                )
            (form,) = self._effort["decode_formats"]
            gaussians, pose = official.gaussians(made[form][0]), official.pose(made)
        except Exception as error:  # the package has no error types of its own: whatever it raises is about this object
            log.debug("%s failed", mask.object_id, exc_info=True)
            torch.cuda.empty_cache()
            return FailedObject(mask.object_id, f"The official package failed: {official.reason(error)}")
        return PlacedObject(
            object_id=mask.object_id,
            phrase=mask.phrase,
            gaussians=gaussians,
            pose=pose,
            K=K,
            image_size=(photo.width_px, photo.height_px),
            scores={"mask": float(np.clip(mask.score, 0, 1))},
            seed=seed,
            engine="sam3d-objects",
            scale_source="arbitrary (MoGe)",
            versions=_versions(self.options.preset),
        )


def effort(options: Sam3dOptions, pipeline: Any) -> dict[str, Any]:
    """Arguments of `run` for the preset; None is the checkpoint's own value.

    The presets are those of engine `native`, except that the package spaces the steps of `draft` unequally in time.
    """
    draft, quality = options.preset == "draft", options.preset == "quality"
    steps, slat_steps = options.steps, options.slat_steps
    if draft:
        steps, slat_steps = steps or DRAFT_STEPS, slat_steps or DRAFT_SLAT_STEPS
    elif quality:
        steps = steps or QUALITY_FACTOR * pipeline.ss_inference_steps
        slat_steps = slat_steps or QUALITY_FACTOR * pipeline.slat_inference_steps
    few = options.gaussians_per_voxel == FEW or (draft and options.gaussians_per_voxel is None)
    return {
        "stage1_inference_steps": steps,
        "stage2_inference_steps": slat_steps,
        "use_stage1_distillation": draft,
        "use_stage2_distillation": draft,
        "decode_formats": ["gaussian_4" if few else "gaussian"],
    }


def unusable(mask: InstanceMask, pointmap: Tensor) -> str | None:
    """Why an object cannot be made: the package would crash, or place it arbitrarily. `pointmap` is (H, W, 3)."""
    x1, y1, x2, y2 = mask.box_xyxy
    if min(x2 - x1, y2 - y1) < _MIN_SIDE_PX:
        return f"Its mask spans only {x2 - x1} x {y2 - y1} px; at least {_MIN_SIDE_PX} x {_MIN_SIDE_PX} px are needed."
    inside = torch.from_numpy(mask.mask).to(pointmap.device)
    if not bool(torch.isfinite(pointmap[inside]).all(-1).any()):
        return "There is no valid depth inside its mask."
    return None


def _versions(preset: str) -> dict[str, str]:
    versions = {"sam3d_gs": __version__, "torch": str(torch.__version__), "preset": preset}
    with suppress(metadata.PackageNotFoundError):  # a checkout that is not installed
        versions["sam3d_objects"] = metadata.version(official.PACKAGE)
    return versions
