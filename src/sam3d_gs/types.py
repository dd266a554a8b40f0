"""The data passed between stages: frozen dataclasses of numpy arrays, without file access.

Frames used throughout. *Object frame*: canonical unit cube about the origin, right-handed, Z up. *Camera frame*:
OpenCV (x right, y down, z forward). `Pose` maps object to camera, ``x_cam = scale * R @ x_obj + translation``,
and ``K`` projects the camera frame to photo pixels, with pixel centres at half-integers: the top-left pixel
covers [0, 1) x [0, 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

SH_C0 = 0.28209479177387814  # Y_00 = 1 / (2 sqrt(pi)): colour = 0.5 + SH_C0 * sh0, as in Kerbl et al. 2023


def _check(array: np.ndarray, shape: tuple[int | None, ...], name: str) -> None:
    wrong = array.ndim != len(shape) or any(
        want is not None and have != want for have, want in zip(array.shape, shape, strict=False)
    )
    if wrong:
        wanted = ", ".join("N" if n is None else str(n) for n in shape)
        raise ValueError(f"{name} has shape {array.shape}, expected ({wanted})")


@dataclass(frozen=True)
class Photo:
    """One photo, upright, at the size that all stages use."""

    path: Path  # the user's file
    name: str  # the file's stem; the workspace makes it unique
    rgb: np.ndarray  # (H, W, 3) uint8 RGB
    sha256: str  # of the file's bytes
    focal_px: float | None = None  # from EXIF, at this size; None: unknown
    file_size: tuple[int, int] | None = None  # (width, height) px of the upright file; None: same as `rgb`

    def __post_init__(self) -> None:
        _check(self.rgb, (None, None, 3), "Photo.rgb")

    @property
    def width_px(self) -> int:
        return int(self.rgb.shape[1])

    @property
    def height_px(self) -> int:
        return int(self.rgb.shape[0])


@dataclass(frozen=True)
class Phrase:
    """A short noun phrase that names objects in the photo."""

    number: int  # position in the list, the first part of the ids of its objects
    text: str
    score: float | None = None  # the engine's confidence, 0..1
    box_xyxy: tuple[float, float, float, float] | None = None  # pixels, if the engine gives one
    count: int | None = None  # number of such objects, if the engine gives it


@dataclass(frozen=True)
class InstanceMask:
    """The mask of one object. If it was found but not kept, `dropped` is the reason."""

    object_id: str  # <phrase number>-<slug>-<instance>, used by all stages
    phrase: str
    mask: np.ndarray  # (H, W) bool, at photo size
    score: float  # 0..1
    aliases: tuple[str, ...] = ()  # other phrases for the same object
    dropped: str | None = None
    file: str = ""  # its PNG below the folder of the masks, if it was read from there

    def __post_init__(self) -> None:
        _check(self.mask, (None, None), "InstanceMask.mask")
        if self.mask.dtype != np.bool_:
            raise ValueError(f"InstanceMask.mask is {self.mask.dtype}, expected bool")

    @cached_property
    def area_px(self) -> int:
        return int(np.count_nonzero(self.mask))

    @cached_property
    def box_xyxy(self) -> tuple[int, int, int, int]:
        """Bounding box in pixels, x1 and y1 exclusive; all zero for an empty mask."""
        columns, rows = np.flatnonzero(self.mask.any(0)), np.flatnonzero(self.mask.any(1))
        if not len(columns):
            return 0, 0, 0, 0
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


@dataclass(frozen=True)
class Pose:
    """Object to camera: ``x_cam = scale * R @ x_obj + translation`` (camera: x right, y down, z forward)."""

    quat_wxyz: np.ndarray  # (4,) float64, unit length
    translation: np.ndarray  # (3,) float64, scene units
    scale: float  # scene units per object unit, isotropic

    def __post_init__(self) -> None:
        _check(self.quat_wxyz, (4,), "Pose.quat_wxyz")
        _check(self.translation, (3,), "Pose.translation")


@dataclass(frozen=True)
class Gaussians:
    """N Gaussians, encoded as in a 3DGS .ply; properties give the linear values."""

    means: np.ndarray  # (N, 3) float32, in the owner's frame
    quats: np.ndarray  # (N, 4) float32, wxyz, unit length
    log_scales: np.ndarray  # (N, 3) float32, natural log
    opacity_logits: np.ndarray  # (N,) float32
    sh0: np.ndarray  # (N, 3) float32, degree-0 coefficients

    def __post_init__(self) -> None:
        n = len(self.means)
        _check(self.means, (None, 3), "Gaussians.means")
        _check(self.quats, (n, 4), "Gaussians.quats")
        _check(self.log_scales, (n, 3), "Gaussians.log_scales")
        _check(self.opacity_logits, (n,), "Gaussians.opacity_logits")
        _check(self.sh0, (n, 3), "Gaussians.sh0")

    def __len__(self) -> int:
        return len(self.means)

    def take(self, rows: slice | np.ndarray) -> Gaussians:
        """A subset: views for a slice, copies for indices."""
        return Gaussians(
            means=self.means[rows],
            quats=self.quats[rows],
            log_scales=self.log_scales[rows],
            opacity_logits=self.opacity_logits[rows],
            sh0=self.sh0[rows],
        )

    @property
    def scales(self) -> np.ndarray:
        """(N, 3) standard deviations along the local axes."""
        return np.exp(self.log_scales)

    @property
    def opacities(self) -> np.ndarray:
        """(N,) in 0..1."""
        return 1.0 / (1.0 + np.exp(-self.opacity_logits))

    @property
    def rgb(self) -> np.ndarray:
        """(N, 3) linear-in-file colour, clipped to 0..1."""
        return np.clip(0.5 + SH_C0 * self.sh0, 0.0, 1.0)


@dataclass(frozen=True)
class PlacedObject:
    """One reconstructed object and its pose in the photo's camera frame; the content of a .pt file."""

    object_id: str
    phrase: str
    gaussians: Gaussians  # in the object frame
    pose: Pose
    K: np.ndarray  # (3, 3) float64, pixels of the photo
    image_size: tuple[int, int]  # (width, height) px
    scores: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    engine: str = ""
    scale_source: str = "arbitrary"  # the unit of length: "arbitrary", "arbitrary (<why>)" or "metric: <how>"
    versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check(self.K, (3, 3), "PlacedObject.K")


@dataclass(frozen=True)
class ObjectDescription:
    """One object's entry in the scene JSON."""

    object_id: str
    phrase: str
    scores: Mapping[str, float]
    T_camera_object: np.ndarray  # (4, 4) float64, scale included
    aabb: np.ndarray  # (2, 3) min and max corner, camera frame
    obb: np.ndarray  # (8, 3) corners of the object-frame box, camera frame
    gaussians: int  # their number
    files: Mapping[str, str]  # kind -> path relative to the workspace
    reprojection_iou: float | None  # with its mask; None if there is no mask
    edited: tuple[str, ...] = ()  # what a user changed by hand: "pose", "phrase"


@dataclass(frozen=True)
class SceneDescription:
    """The content of the scene JSON: the merged scene, in the photo's camera frame."""

    photo: str
    K: np.ndarray  # (3, 3) float64, px
    image_size: tuple[int, int]  # (width, height) px
    scale_source: str
    up: np.ndarray  # (3,) float64 unit vector opposite to gravity, camera frame
    objects: tuple[ObjectDescription, ...]
