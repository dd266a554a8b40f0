"""The attitude of one photo: up, and how each object is held against it; `pitch` finds the pitch."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from sam3d_gs.embedded.placement.plates import Plate
from sam3d_gs.embedded.shape.crops import Crop
from sam3d_gs.embedded.shape.object_net import TwoLayers

MAX_RAMP = 0.3  # how far one object's depths may be tilted, as depth per image length
RAMP_WEIGHT = 0.10  # cost of tilting that far, in the unit of `_misfit`
SHEET_FACING = 0.5  # mean upward part of the normals of a rug
SHEET_DEPTH = 1.0  # depth over width of a sheet that may lie on the floor
PLATE_RELIEF = 0.25  # of the relief the network sees in a plate: half covered, plates look like bowls to it


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


def view_below_deg(crop: Crop, K: np.ndarray) -> float:
    """How far the ray of an object's middle points below the camera's axis: seen from that much higher up."""
    return math.degrees(math.atan2(crop.center_px[1] - K[1, 2], K[1, 1]))


@dataclass(frozen=True)
class Attitude:
    """How one object is held: the ramp that is added to its depths, and whether it then lies flat."""

    ramp: float  # depth per image length, positive: the bottom comes nearer
    lies_flat: bool = False
    relief: float = 1.0  # share of the network's own relief that is kept


def attitude(
    mask: np.ndarray, plate: Plate | None, crop: Crop, layers: TwoLayers, K: np.ndarray, pitch_deg: float
) -> Attitude:
    """How to tilt the object of one mask (H, W) so that its faces agree with the photo's pitch.

    The network reads each crop alone and may see an object lean. Plates, and sheets that face up and are no deeper
    than wide when laid on the floor, are laid flat; sheets that would be deeper stand upright; all else is tilted a
    little towards the nearest upright and level faces.
    """
    slopes = surface_slopes(crop, layers)
    if slopes is None:
        return Attitude(0.0)
    slope_x, slope_y = slopes
    flat_slope, upright_slope = 1 / math.tan(math.radians(pitch_deg)), -math.tan(math.radians(pitch_deg))
    median = float(np.median(slope_y))
    if plate is not None:
        return Attitude(flat_slope - PLATE_RELIEF * median, lies_flat=True, relief=PLATE_RELIEF)
    if _facing_up(slope_x, slope_y) > SHEET_FACING:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        below_deg = pitch_deg + view_below_deg(crop, K)
        depth_over_width = (np.ptp(rows) + 1) / (np.ptp(columns) + 1) / max(math.sin(math.radians(below_deg)), 1e-3)
        if depth_over_width <= SHEET_DEPTH:
            local_slope = 1 / math.tan(math.radians(max(below_deg, 5.0)))
            return Attitude(local_slope - median, lies_flat=True)
        return Attitude(upright_slope - median)
    ramps = np.linspace(-MAX_RAMP, MAX_RAMP, 17)
    cost = [_misfit(slope_x, slope_y + r, pitch_deg) + RAMP_WEIGHT * (r / MAX_RAMP) ** 2 for r in ramps]
    return Attitude(float(ramps[np.argmin(cost)]))


def tilted(crop: Crop, layers: TwoLayers, held: Attitude) -> TwoLayers:
    """The layers with a ramp along the vertical added to their depth; no pixel leaves its ray."""
    rows = np.linspace(-1, 1, layers.front.shape[0], dtype=np.float32)[:, None]
    inside = crop.coverage > 0.5
    mean = float(layers.front[inside].mean()) if inside.any() else 0.0
    pressed = replace(layers, front=mean + np.float32(held.relief) * (layers.front - mean))
    return _sloped(crop, pressed, np.float32(held.ramp) * rows)


def turned_to_camera(crop: Crop, layers: TwoLayers, K: np.ndarray) -> TwoLayers:
    """The layers as depth along the camera's axis: the network gives it along the ray of the object's middle.

    On a ray that points right by an angle a, going right by x brings a surface x sin(a) nearer to the camera's plane.
    The same along the vertical is left to `attitude`, which compares every object with the photo's pitch.
    """
    columns = np.linspace(-1, 1, layers.front.shape[1], dtype=np.float32)[None, :]
    aside = math.atan2(crop.center_px[0] - K[0, 2], K[0, 0])
    return _sloped(crop, layers, np.float32(math.sin(aside)) * columns)


def _sloped(crop: Crop, layers: TwoLayers, ramp: np.ndarray) -> TwoLayers:
    """The layers with `ramp` added to their depth, the mean depth of the object staying as it is."""
    inside = np.broadcast_to(crop.coverage > 0.5, layers.front.shape)
    ramp = np.broadcast_to(ramp, layers.front.shape)
    return replace(layers, front=layers.front + ramp - (ramp * inside).sum() / max(inside.sum(), 1))


def surface_slopes(crop: Crop, layers: TwoLayers) -> tuple[np.ndarray, np.ndarray] | None:
    """Slope of the front towards the viewer along x (right) and y (down), away from the rim; None if too small."""
    from scipy.ndimage import binary_erosion

    core = binary_erosion(crop.coverage > 0.5, iterations=3)
    if np.count_nonzero(core) < 60:
        return None
    pixel = 2 / layers.front.shape[0]
    slope_y, slope_x = np.gradient(layers.front, pixel)
    return slope_x[core], slope_y[core]


def _facing_up(slope_x: np.ndarray, slope_y: np.ndarray) -> float:
    """Mean part of the normals that points up in the picture."""
    return float(np.mean(slope_y / np.sqrt(1 + slope_x**2 + slope_y**2)))


def _misfit(slope_x: np.ndarray, slope_y: np.ndarray, pitch_deg: float) -> float:
    """0 when every normal is parallel or perpendicular to up, at most sqrt(1/2)."""
    up = gravity_up(pitch_deg)
    along = np.abs(up[1] * slope_y + up[2]) / np.sqrt(1 + slope_x**2 + slope_y**2)
    return float(np.mean(np.minimum(along, np.sqrt(np.maximum(0, 1 - along**2)))))
