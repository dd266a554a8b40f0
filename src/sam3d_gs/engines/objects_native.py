"""SAM 3D Objects in plain PyTorch (`sam3d_torch`), from the official checkpoints."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from sam3d_gs import __version__
from sam3d_gs.engines.api import FailedObject
from sam3d_gs.options import NativeOptions
from sam3d_gs.photo import USUAL_FOV_DEG, intrinsics, warn_of_unused_fov
from sam3d_gs.rgbd.depth_units import read_depth
from sam3d_gs.rgbd.photo_fit import depth_of_photo, intrinsics_of_photo
from sam3d_gs.sam3d_torch.checkpoints.checkpoint import Checkpoint
from sam3d_gs.sam3d_torch.contract import Failure, PhotoGeometry, Request, Result, RuntimeOptions
from sam3d_gs.sam3d_torch.gaussian_decoder import GaussianFields
from sam3d_gs.sam3d_torch.pointmap import from_depth
from sam3d_gs.sam3d_torch.runtime import Sam3dRuntime, object_seed
from sam3d_gs.types import Gaussians, InstanceMask, Photo, PlacedObject

log = logging.getLogger("sam3d_gs")


class NativeObjects:
    """Lifts masks with the checkpoints of SAM 3D Objects and, unless depth is given, MoGe."""

    def __init__(self, options: NativeOptions) -> None:
        """Check checkpoint and device; nothing is loaded onto the device yet. Raises Sam3dGsError."""
        self.options = options
        checkpoint = Checkpoint(options.checkpoints, moge=options.moge)
        if options.depth is None:
            with checkpoint.reader(checkpoint.moge_part()):
                pass  # raises if it is missing or does not fit
        self._runtime = Sam3dRuntime(
            checkpoint,
            RuntimeOptions(
                device=options.device,
                dtype=options.dtype,
                preset=options.preset,
                steps=options.steps,
                slat_steps=options.slat_steps,
                gaussians_per_voxel=options.gaussians_per_voxel,
                vram_gib=options.vram_gib,
            ),
        )

    def close(self) -> None:
        """Free the device's memory."""
        self._runtime.close()

    def objects(
        self, photo: Photo, masks: Sequence[InstanceMask], wanted: Sequence[str]
    ) -> Iterator[PlacedObject | FailedObject]:
        """Yield the wanted objects, each as soon as it is finished; neighbours have no influence."""
        asked = {mask.object_id: mask for mask in masks if mask.object_id in wanted}
        if not asked:
            return
        geometry = self._geometry(photo)
        requests = [
            Request(object_id, mask.mask, object_seed(self.options.seed, object_id))
            for object_id, mask in asked.items()
        ]
        seeds = {request.object_id: request.seed for request in requests}
        for made in self._runtime.reconstruct(photo.rgb, geometry, requests):
            if isinstance(made, Failure):
                yield FailedObject(made.object_id, made.reason)
            else:
                yield self._placed(photo, asked[made.object_id], geometry, made, seeds[made.object_id])

    def _geometry(self, photo: Photo) -> PhotoGeometry:
        if self.options.depth is None:
            return self._runtime.geometry(photo.rgb)
        depth = read_depth(self.options.depth, self.options.depth_unit)
        log.info("%s", depth.summary)
        for warning in depth.warnings:
            log.warning("%s", warning)
        metres = depth_of_photo(depth.metres, photo, str(self.options.depth))
        K = self._intrinsics(photo)
        pointmap = from_depth(metres, K, (photo.width_px, photo.height_px))
        unit = "" if depth.unit == "metres" else f", in {depth.unit}"
        return PhotoGeometry(pointmap, K, f"metric: depth from {self.options.depth.name}{unit}")

    def _intrinsics(self, photo: Photo) -> np.ndarray:
        """K of the user's own depth: from --intrinsics, EXIF or --fov."""
        if self.options.intrinsics:
            return intrinsics_of_photo(self.options.intrinsics, photo)
        warn_of_unused_fov(photo, self.options.fov_deg)
        if photo.focal_px is None:
            log.warning(
                "%s: no focal length in EXIF and no --intrinsics, so --fov %g is assumed; widths may be off.",
                photo.path.name,
                self.options.fov_deg or USUAL_FOV_DEG,
            )
        return intrinsics(photo.width_px, photo.height_px, photo.focal_px, self.options.fov_deg)

    def _placed(
        self, photo: Photo, mask: InstanceMask, geometry: PhotoGeometry, made: Result, seed: int
    ) -> PlacedObject:
        return PlacedObject(
            object_id=made.object_id,
            phrase=mask.phrase,
            gaussians=to_gaussians(made.gaussians),
            pose=made.pose,
            K=geometry.K,
            image_size=(photo.width_px, photo.height_px),
            scores={"mask": float(np.clip(mask.score, 0, 1))},
            seed=seed,
            engine="native",
            scale_source=geometry.scale_source,
            versions={
                "sam3d_gs": __version__,
                "torch": str(torch.__version__),
                "dtype": str(self._runtime.dtype).removeprefix("torch."),
                "preset": self.options.preset,
            },
        )


def to_gaussians(fields: GaussianFields) -> Gaussians:
    """Decoded Gaussians, activated tensors on any device, encoded as in a .ply."""

    def array(tensor: torch.Tensor) -> np.ndarray:
        return tensor.float().cpu().numpy()

    return Gaussians(
        means=array(fields.means),
        quats=array(fields.quats),
        log_scales=array(fields.scales.log()),
        opacity_logits=array(fields.opacity_logits),
        sh0=array(fields.sh0),
    )
