"""A scene in memory: its objects with their Gaussians, poses and masks; saved, moved and shown from here."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sam3d_gs.engines.api import FailedObject
from sam3d_gs.errors import UsageError
from sam3d_gs.options import EXPORT_SPZ_VERSION
from sam3d_gs.types import Gaussians, InstanceMask, Photo, Phrase, PlacedObject, Pose, SceneDescription

if TYPE_CHECKING:
    from PIL import Image

PICTURE_GAUSSIANS = 150_000


@dataclass(frozen=True, eq=False)
class SceneObject:
    """One object of a scene."""

    placed: PlacedObject
    mask: np.ndarray | None = None  # (H, W) bool at the photo's size; None: not known
    reprojection_iou: float | None = None  # of its rendered silhouette with its mask, 0..1; None without a mask

    @property
    def object_id(self) -> str:
        """<phrase number>-<slug>-<instance>, e.g. "00-red-cup-0"."""
        return self.placed.object_id

    @property
    def phrase(self) -> str:
        """What it was called."""
        return self.placed.phrase

    @property
    def gaussians(self) -> Gaussians:
        """In the object frame: canonical unit cube about the origin, Z up."""
        return self.placed.gaussians

    @property
    def pose(self) -> Pose:
        """Object frame to camera frame, ``x_cam = scale * R @ x_obj + translation``."""
        return self.placed.pose

    @property
    def scores(self) -> dict[str, float]:
        """The engine's own measures, each 0..1."""
        return dict(self.placed.scores)

    @property
    def T_camera_object(self) -> np.ndarray:
        """(4, 4) float64, the pose as a matrix, scale included."""
        from sam3d_gs.gaussians.pose import pose_matrix

        return pose_matrix(self.pose)

    def gaussians_in_camera(self) -> Gaussians:
        """In the camera frame of the photo (OpenCV: x right, y down, z forward), scene units."""
        from sam3d_gs.gaussians.merge import in_camera_frame

        return in_camera_frame(self.placed)


@dataclass(frozen=True, eq=False)
class Scene:
    """The objects of one photo. ``scene["00-red-cup-0"]`` or ``scene[0]`` is one; iterate for all.

    Frames: objects are in their object frame, poses lead to the camera frame of the photo (OpenCV: x right, y down,
    z forward), and `K` projects that to pixels of the photo.
    """

    photo: Photo
    objects: tuple[SceneObject, ...]
    phrases: tuple[Phrase, ...] = ()
    masks: tuple[InstanceMask, ...] = ()  # kept and dropped; the dropped ones say why
    failures: tuple[FailedObject, ...] = ()  # objects that could not be made, with the reason

    def __len__(self) -> int:
        return len(self.objects)

    def __iter__(self) -> Iterator[SceneObject]:
        return iter(self.objects)

    def __getitem__(self, key: str | int) -> SceneObject:
        """By object id or position. KeyError names the ids there are."""
        if not isinstance(key, str):
            return self.objects[operator.index(key)]
        for obj in self.objects:
            if obj.object_id == key:
                return obj
        raise KeyError(f"{key!r}; this scene has {', '.join(self.object_ids)}")

    def __contains__(self, object_id: object) -> bool:
        return object_id in self.object_ids

    @property
    def object_ids(self) -> tuple[str, ...]:
        """In the order of the objects."""
        return tuple(obj.object_id for obj in self.objects)

    @property
    def K(self) -> np.ndarray:
        """(3, 3) float64: projects the camera frame to pixels; the top-left pixel covers 0..1."""
        return self.objects[0].placed.K

    @property
    def scale_source(self) -> str:
        """What one scene unit is: "arbitrary", or "metric: ..."."""
        return self.objects[0].placed.scale_source

    @property
    def up(self) -> np.ndarray:
        """(3,) float64 unit vector against gravity, camera frame: the mean of the objects' own up axes."""
        from sam3d_gs.gaussians.scene import scene_up

        return scene_up([obj.pose for obj in self.objects])

    @cached_property
    def description(self) -> SceneDescription:
        """Poses, boxes and measures of all objects, as the scene JSON has them."""
        from sam3d_gs.gaussians.scene import describe_object

        placed = [obj.placed for obj in self.objects]
        described = tuple(describe_object(obj.placed, obj.reprojection_iou, {}) for obj in self.objects)
        first = placed[0]
        return SceneDescription(self.photo.name, first.K, first.image_size, first.scale_source, self.up, described)

    def with_pose(self, object_id: str, pose: Pose) -> Scene:
        """A copy in which one object has another pose; its reprojection IoU is measured again.

        Raises KeyError when there is no such object.
        """
        from sam3d_gs.gaussians.reprojection import MaskFit

        moved = replace(self[object_id].placed, pose=pose)
        iou = MaskFit(self.masks).iou(moved)
        objects = tuple(
            replace(obj, placed=moved, reprojection_iou=iou) if obj.object_id == object_id else obj for obj in self
        )
        return replace(self, objects=objects)

    def without(self, *object_ids: str) -> Scene:
        """A copy that leaves these objects out. Raises KeyError for an unknown one, UsageError when none is left."""
        for object_id in object_ids:
            self[object_id]
        if not set(self.object_ids) - set(object_ids):
            raise UsageError("A scene needs at least one object.")
        return replace(self, objects=tuple(obj for obj in self if obj.object_id not in object_ids))

    def save(
        self,
        path: str | PathLike[str],
        frame: str = "opencv",
        scale: float = 1.0,
        spz_version: int = EXPORT_SPZ_VERSION,
    ) -> list[Path]:
        """Write all Gaussians into one splat file, and beside it `<path>.json` with camera, poses and boxes.

        Args:
            path: ends with .ply (INRIA layout), .compressed.ply (PlayCanvas) or .spz (Niantic).
            frame: "opencv" or "opengl" (the camera's), or "y-up", "z-up", "ros": level, on the floor below the camera.
            scale: units of the file per scene unit, e.g. to write metres.
            spz_version: 2 writes an .spz for readers from before version 3, such as GaussianSplats3D and spz-js.

        Returns the paths written. Raises UsageError for another suffix or frame, Sam3dGsError when writing fails,
        MissingPackageError without gsply for the compressed formats.
        """
        from sam3d_gs.assets.moved import moved_scene
        from sam3d_gs.assets.splat_files import write_scene_splats
        from sam3d_gs.assets.splat_formats import SUFFIXES
        from sam3d_gs.gaussians.frames import AXES
        from sam3d_gs.gaussians.pose import pose_matrix
        from sam3d_gs.scene_files import write_moved_scene, write_scene

        if not (np.isfinite(scale) and scale > 0):
            raise UsageError(f"scale is {scale}. Expected a number above 0.")
        target = Path(path)
        moved = write_scene_splats(target, [obj.placed for obj in self.objects], frame, scale, spz_version)
        described = target.with_name(f"{target.name}.json")
        files = {"compressed" if target.name.endswith(SUFFIXES) else "ply": target.name}
        if moved is None:
            write_scene(described, self.description, files)
        else:
            description = moved_scene(self.description, moved)
            write_moved_scene(described, description, AXES[frame], pose_matrix(moved.motion), files)
        return [target, described]

    def turntable(self, frames: int = 24) -> list[Image.Image]:
        """Pictures of the scene from a camera that goes around it; the first is near the photo's. Needs numba."""
        from sam3d_gs.gaussians.merge import concatenated
        from sam3d_gs.gaussians.pose import transform
        from sam3d_gs.gaussians.thinning import share, thin
        from sam3d_gs.report import pictures

        limits = share([len(obj.gaussians) for obj in self.objects], PICTURE_GAUSSIANS)
        parts = [
            transform(thin(obj.gaussians, limit), obj.pose) for obj, limit in zip(self.objects, limits, strict=True)
        ]
        size = self.objects[0].placed.image_size
        return pictures.turntable(concatenated(parts), self.K, size, up=self.up, frames=frames)

    def picture(self, views: int = 4) -> Image.Image:
        """The scene from `views` sides, 1 or more, in one strip. Needs numba."""
        from PIL import Image

        frames = self.turntable(max(1, views))
        strip = Image.new("RGB", (sum(frame.width for frame in frames), frames[0].height))
        for number, frame in enumerate(frames):
            strip.paste(frame, (number * frame.width, 0))
        return strip

    def show(self) -> None:
        """Open the live 3D viewer in a browser until Ctrl-C; in a notebook, show the scene from four sides instead."""
        if _in_notebook():
            from IPython.display import display

            display(self.picture())
            return
        from sam3d_gs.report.viewer import from_memory, serve_scene

        serve_scene(from_memory(self.description, [obj.placed for obj in self.objects], self.photo), port=0)

    def _repr_png_(self) -> bytes:
        """How a notebook shows a scene that is the last value of a cell."""
        import io

        stream = io.BytesIO()
        self.picture().save(stream, "PNG")
        return stream.getvalue()

    def __repr__(self) -> str:
        total = sum(len(obj.gaussians) for obj in self.objects)
        return f"<Scene of {self.photo.name}: {len(self)} objects, {total:,} Gaussians>"


def make_scene(
    photo: Photo,
    placed: Sequence[PlacedObject],
    phrases: Sequence[Phrase] = (),
    masks: Sequence[InstanceMask] = (),
    failures: Sequence[FailedObject] = (),
) -> Scene:
    """The scene of these objects, in the order of their masks, each with its mask and how well it covers it."""
    from sam3d_gs.gaussians.reprojection import MaskFit

    kept = {mask.object_id: mask.mask for mask in masks if mask.dropped is None}
    fit = MaskFit(masks)
    order = {object_id: number for number, object_id in enumerate(kept)}
    in_order = sorted(placed, key=lambda obj: order.get(obj.object_id, len(order)))
    objects = tuple(SceneObject(obj, kept.get(obj.object_id), fit.iou(obj)) for obj in in_order)
    return Scene(photo, objects, tuple(phrases), tuple(masks), tuple(failures))


def _in_notebook() -> bool:
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    shell = get_ipython()
    return shell is not None and hasattr(shell, "kernel")
