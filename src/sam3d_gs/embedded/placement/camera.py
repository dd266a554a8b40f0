"""Gravity in the camera frame, and the alignment of each object's depths with it. `pitch` estimates the pitch."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from sam3d_gs.embedded.placement.plates import Plate
from sam3d_gs.embedded.shape.crops import Crop
from sam3d_gs.embedded.shape.object_net import DepthLayers

MAX_RAMP = 0.3  # maximum ramp added to the depths of an object: depth per image length
RAMP_WEIGHT = 0.10  # cost of the maximum ramp, in the unit of `_gravity_misfit`
SHEET_FACING = 0.5  # mean upward component of the normals from which a surface is a sheet that faces up
SHEET_DEPTH = 1.0  # maximum depth over width of a sheet on the floor
PLATE_RELIEF = 0.25  # of the predicted relief is kept in a plate: the network takes partly hidden plates for bowls


def gravity_up(pitch_deg: float) -> np.ndarray:
    """(3,) unit vector against gravity in the camera frame (x right, y down, z forward); no roll is assumed."""
    pitch = math.radians(pitch_deg)
    return np.array([0.0, -math.cos(pitch), -math.sin(pitch)])


def upright_frame(up: np.ndarray, center: np.ndarray) -> np.ndarray:
    """(3, 3) rotation, object to camera: z against gravity, -y level towards the camera, x to the right.

    up: (3,) unit vector. center: (3,) the object's, in the camera frame.
    """
    level = center - (center @ up) * up
    length = float(np.linalg.norm(level))
    forward = level / length if length > 1e-9 * math.hypot(*center) else np.cross(up, [1.0, 0.0, 0.0])
    return np.stack([np.cross(forward, up), forward, up], axis=1)


def angle_below_axis_deg(crop: Crop, K: np.ndarray) -> float:
    """Angle of the ray through the crop's centre below the camera's axis, which adds to the camera's pitch."""
    return math.degrees(math.atan2(crop.center_px[1] - K[1, 2], K[1, 1]))


@dataclass(frozen=True)
class GravityAlignment:
    """How the depths of one object change to agree with gravity."""

    ramp: float  # added depth per image length; positive: the bottom comes nearer
    lies_flat: bool = False  # whether the object lies flat on the ground afterwards
    relief: float = 1.0  # factor on the predicted relief


def gravity_alignment(
    mask: np.ndarray, plate: Plate | None, crop: Crop, layers: DepthLayers, K: np.ndarray, pitch_deg: float
) -> GravityAlignment:
    """The ramp that makes the faces of the object of one mask (H, W) bool agree with the photo's pitch.

    The network sees each crop alone and may predict a leaning object. Plates are laid flat, and so are sheets that face
    up and would be no deeper than wide on the floor; deeper sheets are set upright. Anything else is tilted a little,
    towards the nearest upright and level faces.
    """
    slopes = surface_slopes(crop, layers)
    if slopes is None:
        return GravityAlignment(0.0)
    slope_x, slope_y = slopes
    flat_slope, upright_slope = 1 / math.tan(math.radians(pitch_deg)), -math.tan(math.radians(pitch_deg))
    median = float(np.median(slope_y))
    if plate is not None:
        return GravityAlignment(flat_slope - PLATE_RELIEF * median, lies_flat=True, relief=PLATE_RELIEF)
    if _mean_upward(slope_x, slope_y) > SHEET_FACING:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        below_deg = pitch_deg + angle_below_axis_deg(crop, K)
        depth_over_width = (np.ptp(rows) + 1) / (np.ptp(columns) + 1) / max(math.sin(math.radians(below_deg)), 1e-3)
        if depth_over_width <= SHEET_DEPTH:
            local_slope = 1 / math.tan(math.radians(max(below_deg, 5.0)))
            return GravityAlignment(local_slope - median, lies_flat=True)
        return GravityAlignment(upright_slope - median)
    ramps = np.linspace(-MAX_RAMP, MAX_RAMP, 17)
    cost = [_gravity_misfit(slope_x, slope_y + r, pitch_deg) + RAMP_WEIGHT * (r / MAX_RAMP) ** 2 for r in ramps]
    return GravityAlignment(float(ramps[np.argmin(cost)]))


def apply_alignment(crop: Crop, layers: DepthLayers, alignment: GravityAlignment) -> DepthLayers:
    """The layers with the relief scaled and a vertical ramp added to the depths; points stay on their pixels' rays."""
    rows = np.linspace(-1, 1, layers.front.shape[0], dtype=np.float32)[:, None]
    inside = crop.coverage > 0.5
    mean = float(layers.front[inside].mean()) if inside.any() else 0.0
    scaled = replace(layers, front=mean + np.float32(alignment.relief) * (layers.front - mean))
    return _with_ramp(crop, scaled, np.float32(alignment.ramp) * rows)


def depth_along_camera_axis(crop: Crop, layers: DepthLayers, K: np.ndarray) -> DepthLayers:
    """The layers with depths along the camera's axis instead of along the ray through the crop's centre.

    Where that ray points right by an angle a, a step x to the right brings a surface x sin(a) nearer in depth. The
    vertical part is left to `gravity_alignment`, which compares every object with the photo's pitch.
    """
    columns = np.linspace(-1, 1, layers.front.shape[1], dtype=np.float32)[None, :]
    aside = math.atan2(crop.center_px[0] - K[0, 2], K[0, 0])
    return _with_ramp(crop, layers, np.float32(math.sin(aside)) * columns)


def _with_ramp(crop: Crop, layers: DepthLayers, ramp: np.ndarray) -> DepthLayers:
    """The layers with `ramp` added to the depths, and the object's mean depth kept."""
    inside = np.broadcast_to(crop.coverage > 0.5, layers.front.shape)
    ramp = np.broadcast_to(ramp, layers.front.shape)
    return replace(layers, front=layers.front + ramp - (ramp * inside).sum() / max(inside.sum(), 1))


def surface_slopes(crop: Crop, layers: DepthLayers) -> tuple[np.ndarray, np.ndarray] | None:
    """Slopes of the front towards the viewer along x (right) and y (down), away from the rim; None for tiny objects."""
    from scipy.ndimage import binary_erosion

    core = binary_erosion(crop.coverage > 0.5, iterations=3)
    if np.count_nonzero(core) < 60:
        return None
    pixel = 2 / layers.front.shape[0]
    slope_y, slope_x = np.gradient(layers.front, pixel)
    return slope_x[core], slope_y[core]


def _mean_upward(slope_x: np.ndarray, slope_y: np.ndarray) -> float:
    """Mean upward component of the normals, in the image."""
    return float(np.mean(slope_y / np.sqrt(1 + slope_x**2 + slope_y**2)))


def _gravity_misfit(slope_x: np.ndarray, slope_y: np.ndarray, pitch_deg: float) -> float:
    """Mean distance of the normals from parallel and perpendicular to up: 0 to sqrt(1/2)."""
    up = gravity_up(pitch_deg)
    along = np.abs(up[1] * slope_y + up[2]) / np.sqrt(1 + slope_x**2 + slope_y**2)
    return float(np.mean(np.minimum(along, np.sqrt(np.maximum(0, 1 - along**2)))))
