"""One picture of some Gaussians: `render(gaussians, camera)`, on the CPU with numba or on CUDA with gsplat.

Importing this module is cheap; the first picture imports its backend.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np

from sam3d_gs.errors import MissingPackageError
from sam3d_gs.types import Gaussians

Colour = tuple[float, float, float]  # 0..1
Backend = Literal["auto", "numba", "gsplat"]
WHITE: Colour = (1.0, 1.0, 1.0)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Camera:
    """A pinhole camera without skew. Pixel centres are at half-integers, as everywhere in this package."""

    K: np.ndarray  # (3, 3) float64, px
    width_px: int
    height_px: int
    T_camera_world: np.ndarray  # (4, 4) float64, column form, to the OpenCV camera frame; may hold a uniform scale

    def __post_init__(self) -> None:
        if self.K.shape != (3, 3) or self.T_camera_world.shape != (4, 4):
            raise ValueError(f"K is {self.K.shape}, T_camera_world {self.T_camera_world.shape}; want (3, 3), (4, 4)")
        if self.width_px < 1 or self.height_px < 1 or not (self.K[0, 0] > 0 and self.K[1, 1] > 0):
            raise ValueError("A camera needs a positive size and positive focal lengths.")


@dataclass(frozen=True)
class Rendered:
    """What a camera sees."""

    rgb: np.ndarray  # (H, W, 3) float32, 0..1; premultiplied by alpha when rendered without a background
    alpha: np.ndarray  # (H, W) float32, 0..1
    depth: np.ndarray  # (H, W) float32, camera z of what is seen, averaged by its alpha; 0 where there is nothing


def render(
    gaussians: Gaussians, camera: Camera, background: Colour | None = WHITE, backend: Backend = "auto"
) -> Rendered:
    """Render `gaussians`, given in the world frame of `camera`, over a plain background (None: over nothing).

    "auto" is gsplat where it is installed and there is a CUDA device, and numba otherwise. It is also numba, with a
    warning, when gsplat fails (its kernels may still need a compiler).
    Raises MissingPackageError when the backend is not installed.
    """
    backend = auto_backend() if backend == "auto" else backend
    if len(gaussians) == 0:
        nothing = np.zeros((camera.height_px, camera.width_px, 4), np.float32)
        return _finish(nothing, np.zeros(nothing.shape[:2], np.float32), background)
    if backend == "gsplat":
        return render_gsplat(gaussians, camera, background)
    return render_numba(gaussians, camera, background)


def render_numba(gaussians: Gaussians, camera: Camera, background: Colour | None = WHITE) -> Rendered:
    """`render` on the CPU. The first call on a machine compiles for some seconds; later ones read numba's cache."""
    try:
        from sam3d_gs.gaussians.rasterise import rasterise
    except ImportError as error:
        raise MissingPackageError("Pictures of Gaussians need numba. Run `pip install numba` and try again.") from error

    film = rasterise(
        *(np.ascontiguousarray(array, np.float32) for array in _encoded(gaussians)),
        K=camera.K,
        T_camera_world=camera.T_camera_world,
        width_px=camera.width_px,
        height_px=camera.height_px,
    )
    alpha = 1.0 - film[..., 4]
    film[..., 3] /= np.maximum(alpha, 1e-10)
    return _finish(film[..., :4], alpha, background)


def render_gsplat(
    gaussians: Gaussians, camera: Camera, background: Colour | None = WHITE, device: str = "cuda"
) -> Rendered:
    """`render` with gsplat (1.5), whose kernels need CUDA."""
    try:
        import torch
        from gsplat import rasterization
    except ImportError as error:
        raise MissingPackageError("The gsplat renderer needs gsplat and torch. Use the numba renderer.") from error

    def tensor(array: np.ndarray) -> Any:
        return torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(device)

    means, quats, log_scales, opacity_logits, rgb = map(tensor, _encoded(gaussians))
    with torch.no_grad():
        colours, alphas, _ = rasterization(
            means=means,  # (N, 3)
            quats=quats,  # (N, 4) wxyz
            scales=log_scales.exp(),  # (N, 3)
            opacities=opacity_logits.sigmoid(),  # (N,)
            colors=rgb,  # (N, 3), already linear values: no sh_degree
            viewmats=tensor(camera.T_camera_world)[None],  # (1, 4, 4)
            Ks=tensor(camera.K)[None],  # (1, 3, 3)
            width=camera.width_px,
            height=camera.height_px,
            near_plane=1e-6,  # scene units are arbitrary
            render_mode="RGB+ED",  # the fourth channel is the expected depth
            rasterize_mode="antialiased",
        )
    return _finish(colours[0].cpu().numpy(), alphas[0, ..., 0].cpu().numpy(), background)


@cache
def auto_backend() -> Backend:
    """The backend "auto" stands for on this machine. Looks for the packages first: importing torch takes seconds."""
    if find_spec("gsplat") is None or find_spec("torch") is None:
        return "numba"
    import torch

    if not torch.cuda.is_available():
        return "numba"
    one = np.zeros((1, 3), np.float32)
    speck = Gaussians(one, np.eye(1, 4, dtype=np.float32), one, one[:, 0], one)
    try:
        render_gsplat(speck, Camera(np.diag([8.0, 8.0, 1.0]), 8, 8, np.eye(4)))
    except Exception as error:  # a missing or mismatched compiler raises nearly anything
        _log.warning("gsplat does not run here, so pictures are rendered on the CPU: %s", error)
        return "numba"
    return "gsplat"


def _encoded(gaussians: Gaussians) -> tuple[np.ndarray, ...]:
    return gaussians.means, gaussians.quats, gaussians.log_scales, gaussians.opacity_logits, gaussians.rgb


def _finish(rgbd: np.ndarray, alpha: np.ndarray, background: Colour | None) -> Rendered:
    """Split off the depth and put the premultiplied colours over the background."""
    rgb = rgbd[..., :3].astype(np.float32)
    if background is not None:
        rgb += (1.0 - alpha)[..., None] * np.asarray(background, np.float32)
    return Rendered(rgb, alpha.astype(np.float32), np.ascontiguousarray(rgbd[..., 3], np.float32))
