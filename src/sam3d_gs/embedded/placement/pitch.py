"""How far the camera looks down, from the predicted surfaces of all objects together.

Most of what people photograph is bounded by level tops and upright sides, so seen along the right "up" the normals
pile up in two places. What would be seen of an object depends on the pitch too (from higher up, more of the tops), so
a pitch is judged by how likely it makes the normals that are seen. A plate that carries something is better evidence
still: a circle seen from above is an ellipse, and its axes give the angle. Networks that say which way is up, of an
object or of the whole photo, are listened to as witnesses: each may be misled, those who speak of the objects all at
once too, and where one has nothing to say it repeats what was usual in its training, which counts for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from sam3d_gs.embedded.placement.camera import surface_slopes, view_below_deg
from sam3d_gs.embedded.placement.plates import Plate
from sam3d_gs.embedded.shape.crops import Crop
from sam3d_gs.embedded.shape.object_net import TwoLayers

PITCH_RANGE_DEG = (2.0, 70.0)  # looking up is rare, and below 2 degrees the ground reading has no depth left
LOWEST_DEG = -40.0  # considered; what comes out below the range is its lower end
USUAL_PITCH_DEG, USUAL_SPREAD_DEG = 10.0, 16.0  # of people's photos
TRAINING_PITCH_DEG, TRAINING_SPREAD_DEG = 30.0, 20.0  # of what the networks were trained on
HORIZON_SPREAD_DEG = 12.0  # of the errors of the horizon that a network sees, on the benchmark's scenes
MISLED = 0.5  # share of the answers that have nothing to do with the photo
ALL_MISLED = 0.1  # share of the photos in which what is said of every object has nothing to do with it
PLATE_SPREAD_DEG = 2.0
KNOWN_SPREAD_DEG = 1.0  # of what a user measured
STEEPEST_DEG = 85.0  # beyond, level and upright have no meaning in the picture any more
OBJECT_EVIDENCE = 20.0  # independent normals that one object is worth; its pixels err together
TOP_SHARE = 0.2  # of a typical object's surface: level and facing up
SIDE_SHARE = 0.4  # upright; the rest is round
TOP_SHARPNESS = 60.0  # of exp(sharpness (c - 1)): tops lie within about 10 degrees of level
SIDE_SPREAD = 0.05  # in c: sides lie within about 3 degrees of upright
ROUND_DENSITY = 0.8  # per unit of c for what faces up; it falls to nothing straight down, where things stand
SAMPLES = 2000  # pixels of one object


class Pitch(NamedTuple):
    """How far the camera looks below the horizon, and how sure that is; degrees."""

    deg: float
    spread_deg: float  # a standard deviation, as the middle half of the belief has it

    @property
    def for_the_ground(self) -> Pitch:
        """Within what a reading of the ground and of level and upright faces can use."""
        return self._replace(deg=min(max(self.deg, PITCH_RANGE_DEG[0]), STEEPEST_DEG))


def estimate_pitch(
    crops: Sequence[Crop],
    layers: Sequence[TwoLayers] | None,
    plates: Sequence[Plate | None],
    K: np.ndarray,
    horizon_deg: float | None = None,
) -> Pitch:
    """From all objects of the photo.

    layers: the network's, one per crop; None where there is no network, for balloons say nothing about the pitch.
    plates: one per crop, where it shows one. K: (3, 3) px. horizon_deg: what a network makes of the whole photo.
    `USUAL_PITCH_DEG` is the answer without usable evidence.
    """
    seen = [(plate, crop) for plate, crop in zip(plates, crops, strict=True) if plate is not None]
    if seen:
        pitches = [plate.elevation_deg - view_below_deg(crop, K) for plate, crop in seen]
        widths = [plate.half_width_px for plate, _ in seen]
        return Pitch(float(np.clip(np.average(pitches, weights=widths), *PITCH_RANGE_DEG)), PLATE_SPREAD_DEG)
    if layers is None:
        return Pitch(USUAL_PITCH_DEG, USUAL_SPREAD_DEG)
    candidates = np.arange(LOWEST_DEG, PITCH_RANGE_DEG[1] + 0.1, 0.5)
    belief = -0.5 * ((candidates - USUAL_PITCH_DEG) / USUAL_SPREAD_DEG) ** 2
    if horizon_deg is not None:
        near = -0.5 * ((candidates - horizon_deg) / HORIZON_SPREAD_DEG) ** 2
        belief += _hearsay(near, candidates)
    said = _said_directions(crops, layers, K)
    if said is None:
        belief += _evidence_of_normals(crops, layers, K, candidates)
    else:
        heard = np.zeros(len(candidates))
        for up, near in said:  # concentrations of von Mises-Fisher distributions
            along = up * np.cos(np.radians(candidates)) + near * np.sin(np.radians(candidates))
            heard += _hearsay(along, candidates)
        belief += _unless_misled(heard, ALL_MISLED)
    low, middle, high = _quartiles(candidates, belief)
    return Pitch(float(np.clip(middle, *PITCH_RANGE_DEG)), (high - low) / 1.349)


def _hearsay(log_density: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """(C,) log-likelihood of what one network says, whose belief in the pitches (C,) has this log-density."""
    training = np.exp(-0.5 * ((candidates - TRAINING_PITCH_DEG) / TRAINING_SPREAD_DEG) ** 2) + 0.1
    return _unless_misled(log_density - np.log(training), MISLED)


def _unless_misled(log_likelihood: np.ndarray, misled: float) -> np.ndarray:
    """(C,) log-likelihood of an answer that is worth nothing with this probability."""
    likelihood = np.exp(log_likelihood - log_likelihood.max())
    return np.asarray(np.log(misled + (1 - misled) * likelihood / likelihood.mean()))


def _quartiles(at: np.ndarray, log_density: np.ndarray) -> tuple[float, float, float]:
    """Of a density over evenly spaced values (C,); those of a bell lie 1.349 standard deviations apart."""
    weights = np.exp(log_density - log_density.max())
    middles = np.cumsum(weights) - weights / 2
    low, middle, high = np.interp(np.array((0.25, 0.5, 0.75)) * weights.sum(), middles, at)
    return float(low), float(middle), float(high)


def _evidence_of_normals(
    crops: Sequence[Crop], layers: Sequence[TwoLayers], K: np.ndarray, candidates: np.ndarray
) -> np.ndarray:
    """(C,) log-likelihood of the seen normals for pitches (C,) in degrees."""
    support, weights = np.zeros(len(candidates)), []
    for crop, layer in zip(crops, layers, strict=True):
        slopes = surface_slopes(crop, layer)
        if slopes is None:
            continue
        weights.append(crop.half_px)
        support += crop.half_px * _log_likelihood(*slopes, candidates + view_below_deg(crop, K))
    return np.asarray(OBJECT_EVIDENCE * len(weights) * support / max(sum(weights), 1e-9))


def _said_directions(crops: Sequence[Crop], layers: Sequence[TwoLayers], K: np.ndarray) -> np.ndarray | None:
    """(N, 2) the parts up and towards the viewer of what a network says is against gravity; None when it does not.

    Each is turned from its own viewing direction to the camera's axis.
    """
    turned = []
    for crop, layer in zip(crops, layers, strict=True):
        if layer.up is None:
            return None
        below = math.radians(view_below_deg(crop, K))
        _, y, z = layer.up
        turned.append((y * math.cos(below) + z * math.sin(below), z * math.cos(below) - y * math.sin(below)))
    return np.array(turned)


def _log_likelihood(slope_x: np.ndarray, slope_y: np.ndarray, elevations_deg: np.ndarray) -> np.ndarray:
    """(E,) mean log-density of the seen normals, for each elevation (E,) from which the object may be seen."""
    step = -(-len(slope_x) // SAMPLES)
    slope_x, slope_y = slope_x[::step], slope_y[::step]
    facing = 1 / np.sqrt(1 + slope_x**2 + slope_y**2)
    elevation = np.radians(elevations_deg)[:, None]
    upward = slope_y * facing * np.cos(elevation) + facing * np.sin(elevation)
    whole_degrees, log_seen = _log_seen()
    return np.asarray(np.log(_density(upward)).mean(axis=1) - np.interp(elevations_deg, whole_degrees, log_seen))


def _density(upward: np.ndarray) -> np.ndarray:
    """How much surface of a typical object has this upward part c of its normal, per unit of c; all yaws alike."""
    tops = TOP_SHARPNESS * np.exp(TOP_SHARPNESS * (upward - 1))
    sides = np.exp(-0.5 * (upward / SIDE_SPREAD) ** 2) / (SIDE_SPREAD * math.sqrt(2 * math.pi))
    curved = ROUND_DENSITY * np.clip(1 + upward, 1e-3, 1)
    return np.asarray(TOP_SHARE * tops + SIDE_SHARE * sides + (1 - TOP_SHARE - SIDE_SHARE) * curved)


@cache
def _log_seen() -> tuple[np.ndarray, np.ndarray]:
    """Elevations in degrees, and the log of the picture area of a typical object from each of them.

    That is the integral of `_density` over the normals that face the viewer, each counted by its foreshortening.
    """
    degrees = np.arange(-60.0, 131.0)
    from_axis = (np.arange(60) + 0.5) * (math.pi / 120)
    around = np.arange(120) * (math.pi / 60)
    screen_up = np.outer(np.sin(from_axis), np.cos(around))
    facing = np.cos(from_axis)[:, None]
    share = np.sin(from_axis)[:, None] * facing * np.ones_like(screen_up)
    seen = [
        np.average(_density(screen_up * math.cos(e) + facing * math.sin(e)), weights=share) for e in np.radians(degrees)
    ]
    return degrees, np.log(seen)
