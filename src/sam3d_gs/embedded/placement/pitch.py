"""Estimate the camera's pitch, from all objects of a photo and from the predicted horizon.

In order of preference:
- Plates that carry something: a circle seen from above is an ellipse, whose axes give the angle.
- Predicted up directions, of every object and of the whole photo, as likelihoods over the pitch. Each prediction may be
  an outlier, and so may all those for the objects together. An unsure network repeats the pitches of its training set,
  so their distribution is divided out.
- The normals of the predicted surfaces. Most objects have level tops and upright sides, so along the true up direction
  the normals have two clusters. From higher up more of the tops is visible; the likelihood accounts for that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from sam3d_gs.embedded.placement.camera import angle_below_axis_deg, surface_slopes
from sam3d_gs.embedded.placement.plates import Plate
from sam3d_gs.embedded.shape.crops import Crop
from sam3d_gs.embedded.shape.object_net import DepthLayers

PITCH_RANGE_DEG = (2.0, 70.0)  # looking up is rare, and below 2 degrees the ground gives no depth
MIN_CANDIDATE_DEG = -40.0  # lowest candidate; estimates below the range are clipped to it
PRIOR_PITCH_DEG, PRIOR_STD_DEG = 10.0, 16.0  # prior: photos that people take
TRAINING_PITCH_DEG, TRAINING_STD_DEG = 30.0, 20.0  # distribution in the networks' training set
HORIZON_STD_DEG = 12.0  # error of the predicted horizon, on the benchmark's scenes
OUTLIER_PROBABILITY = 0.5  # that a prediction has nothing to do with the photo
COMMON_OUTLIER_PROBABILITY = 0.1  # that no prediction for the objects of a photo has
PLATE_STD_DEG = 2.0
KNOWN_STD_DEG = 1.0  # of a pitch given by the user
MAX_GROUND_PITCH_DEG = 85.0  # from there on, level and upright cannot be told apart in the image
NORMALS_PER_OBJECT = 20.0  # effective number of independent normals per object, whose errors are correlated
TOP_SHARE = 0.2  # share of a typical object's surface that is level and faces up
SIDE_SHARE = 0.4  # share that is upright; the rest is round
TOP_CONCENTRATION = 60.0  # k in exp(k (c - 1)): tops are within about 10 degrees of level
SIDE_STD = 0.05  # of c: sides are within about 3 degrees of upright
ROUND_DENSITY = 0.8  # per unit of c where it faces up, falling to 0 straight down, where objects stand
SAMPLES = 2000  # maximum number of pixels used per object


class Pitch(NamedTuple):
    """Angle of the camera's axis below the horizon and its uncertainty; degrees."""

    deg: float
    std_deg: float  # a standard deviation, from the interquartile range of the posterior

    @property
    def for_ground(self) -> Pitch:
        """Clipped to what the ground depth and the alignment with gravity can use."""
        return self._replace(deg=min(max(self.deg, PITCH_RANGE_DEG[0]), MAX_GROUND_PITCH_DEG))


def estimate_pitch(
    crops: Sequence[Crop],
    layers: Sequence[DepthLayers] | None,
    plates: Sequence[Plate | None],
    K: np.ndarray,
    horizon_deg: float | None = None,
) -> Pitch:
    """The pitch from all objects of the photo; the prior when there is no evidence.

    layers: predicted, one per crop; None for inflated silhouettes, which have no orientation. plates: one per crop,
    None where it shows no plate. K: (3, 3) px. horizon_deg: pitch from the predicted horizon, if any.
    """
    visible = [(plate, crop) for plate, crop in zip(plates, crops, strict=True) if plate is not None]
    if visible:
        pitches = [plate.elevation_deg - angle_below_axis_deg(crop, K) for plate, crop in visible]
        widths = [plate.half_width_px for plate, _ in visible]
        return Pitch(float(np.clip(np.average(pitches, weights=widths), *PITCH_RANGE_DEG)), PLATE_STD_DEG)
    if layers is None:
        return Pitch(PRIOR_PITCH_DEG, PRIOR_STD_DEG)
    candidates = np.arange(MIN_CANDIDATE_DEG, PITCH_RANGE_DEG[1] + 0.1, 0.5)
    log_posterior = -0.5 * ((candidates - PRIOR_PITCH_DEG) / PRIOR_STD_DEG) ** 2
    if horizon_deg is not None:
        log_density = -0.5 * ((candidates - horizon_deg) / HORIZON_STD_DEG) ** 2
        log_posterior += _log_likelihood_of_one(log_density, candidates)
    predicted_up = _predicted_up(crops, layers, K)
    if predicted_up is None:
        log_posterior += _log_likelihood_of_objects(crops, layers, K, candidates)
    else:
        log_likelihood = np.zeros(len(candidates))
        for up, towards in predicted_up:  # von Mises-Fisher distributions; the vector's length is the concentration
            log_density = up * np.cos(np.radians(candidates)) + towards * np.sin(np.radians(candidates))
            log_likelihood += _log_likelihood_of_one(log_density, candidates)
        log_posterior += _with_outliers(log_likelihood, COMMON_OUTLIER_PROBABILITY)
    low, middle, high = _quartiles(candidates, log_posterior)
    return Pitch(float(np.clip(middle, *PITCH_RANGE_DEG)), (high - low) / 1.349)


def _log_likelihood_of_one(log_density: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """(C,) log-likelihood of the candidates for one prediction, given its log-density over them (C,).

    The density of the training set is divided out, and the prediction may be an outlier.
    """
    training = np.exp(-0.5 * ((candidates - TRAINING_PITCH_DEG) / TRAINING_STD_DEG) ** 2) + 0.1
    return _with_outliers(log_density - np.log(training), OUTLIER_PROBABILITY)


def _with_outliers(log_likelihood: np.ndarray, probability: float) -> np.ndarray:
    """(C,) log-likelihood mixed with a uniform one, which has this probability."""
    likelihood = np.exp(log_likelihood - log_likelihood.max())
    return np.asarray(np.log(probability + (1 - probability) * likelihood / likelihood.mean()))


def _quartiles(at: np.ndarray, log_density: np.ndarray) -> tuple[float, float, float]:
    """Quartiles of a density over evenly spaced values (C,). A Gaussian's are 1.349 standard deviations apart."""
    weights = np.exp(log_density - log_density.max())
    middles = np.cumsum(weights) - weights / 2
    low, middle, high = np.interp(np.array((0.25, 0.5, 0.75)) * weights.sum(), middles, at)
    return float(low), float(middle), float(high)


def _log_likelihood_of_objects(
    crops: Sequence[Crop], layers: Sequence[DepthLayers], K: np.ndarray, candidates: np.ndarray
) -> np.ndarray:
    """(C,) log-likelihood of the predicted normals of all objects, for pitches (C,) in degrees."""
    support, weights = np.zeros(len(candidates)), []
    for crop, layer in zip(crops, layers, strict=True):
        slopes = surface_slopes(crop, layer)
        if slopes is None:
            continue
        weights.append(crop.half_px)
        support += crop.half_px * _log_likelihood_of_slopes(*slopes, candidates + angle_below_axis_deg(crop, K))
    return np.asarray(NORMALS_PER_OBJECT * len(weights) * support / max(sum(weights), 1e-9))


def _predicted_up(crops: Sequence[Crop], layers: Sequence[DepthLayers], K: np.ndarray) -> np.ndarray | None:
    """(N, 2) components up and towards the viewer of the predicted up vectors; None when there is no prediction.

    Each is rotated from the ray through its crop's centre to the camera's axis.
    """
    rotated = []
    for crop, layer in zip(crops, layers, strict=True):
        if layer.up is None:
            return None
        below = math.radians(angle_below_axis_deg(crop, K))
        _, y, z = layer.up
        rotated.append((y * math.cos(below) + z * math.sin(below), z * math.cos(below) - y * math.sin(below)))
    return np.array(rotated)


def _log_likelihood_of_slopes(slope_x: np.ndarray, slope_y: np.ndarray, elevations_deg: np.ndarray) -> np.ndarray:
    """(E,) mean log-density of the visible normals, for each elevation (E,) of the viewer above the object."""
    step = -(-len(slope_x) // SAMPLES)
    slope_x, slope_y = slope_x[::step], slope_y[::step]
    facing = 1 / np.sqrt(1 + slope_x**2 + slope_y**2)
    elevation = np.radians(elevations_deg)[:, None]
    upward = slope_y * facing * np.cos(elevation) + facing * np.sin(elevation)
    whole_degrees, log_area = _log_visible_area()
    return np.asarray(np.log(_normal_density(upward)).mean(axis=1) - np.interp(elevations_deg, whole_degrees, log_area))


def _normal_density(upward: np.ndarray) -> np.ndarray:
    """Distribution of the upward component c of the normals over a typical object's surface, per unit of c."""
    tops = TOP_CONCENTRATION * np.exp(TOP_CONCENTRATION * (upward - 1))
    sides = np.exp(-0.5 * (upward / SIDE_STD) ** 2) / (SIDE_STD * math.sqrt(2 * math.pi))
    curved = ROUND_DENSITY * np.clip(1 + upward, 1e-3, 1)
    return np.asarray(TOP_SHARE * tops + SIDE_SHARE * sides + (1 - TOP_SHARE - SIDE_SHARE) * curved)


@cache
def _log_visible_area() -> tuple[np.ndarray, np.ndarray]:
    """Elevations in degrees, and for each the log of the visible area of a typical object.

    The integral of `_normal_density` over the normals that face the viewer, weighted by their foreshortening.
    """
    degrees = np.arange(-60.0, 131.0)
    from_axis = (np.arange(60) + 0.5) * (math.pi / 120)
    around = np.arange(120) * (math.pi / 60)
    screen_up = np.outer(np.sin(from_axis), np.cos(around))
    facing = np.cos(from_axis)[:, None]
    share = np.sin(from_axis)[:, None] * facing * np.ones_like(screen_up)
    area = [
        np.average(_normal_density(screen_up * math.cos(e) + facing * math.sin(e)), weights=share)
        for e in np.radians(degrees)
    ]
    return degrees, np.log(area)
