"""The embedded reconstruction: one photo and its masks in, posed objects made of Gaussians out.

`reconstruct` is the algorithm from top to bottom. Its steps are functions below and in `shape/` and `placement/`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from sam3d_gs import __version__
from sam3d_gs.embedded.placement.camera import (
    apply_alignment,
    depth_along_camera_axis,
    gravity_alignment,
    gravity_up,
    upright_frame,
)
from sam3d_gs.embedded.placement.geometry import (
    horizon_pitch_deg,
    median_log_depths,
    predict_geometry,
    shows_background,
)
from sam3d_gs.embedded.placement.object_depths import object_depths
from sam3d_gs.embedded.placement.pitch import KNOWN_STD_DEG, Pitch, estimate_pitch
from sam3d_gs.embedded.placement.plates import Plate, find_plates, flatten_plate
from sam3d_gs.embedded.placement.silhouette import Silhouette
from sam3d_gs.embedded.proposals.mask_net import MaskNet
from sam3d_gs.embedded.shape.amodal_completion import (
    complete_behind_occluders,
    crop_margin,
    occluders,
    push_behind_occluders,
    remove_detached_parts,
)
from sam3d_gs.embedded.shape.crops import CROP_PX, Crop, bounding_slices, crop_object, with_coverage
from sam3d_gs.embedded.shape.inflate import inflate
from sam3d_gs.embedded.shape.mask_repair import complete_plate, remove_specks
from sam3d_gs.embedded.shape.object_net import DepthLayers, ObjectNet, predict
from sam3d_gs.embedded.shape.surfel_builder import build_surfels, relative_depth
from sam3d_gs.embedded.shape.surfels import to_gaussians
from sam3d_gs.engines.api import FailedObject
from sam3d_gs.gaussians.pose import matrix_to_quat
from sam3d_gs.photo import intrinsics
from sam3d_gs.types import InstanceMask, Photo, PlacedObject, Pose

CUTOUT_FOV_DEG = 30.0  # assumed for objects on a plain background: cut-outs and product shots are taken from afar


@dataclass(frozen=True)
class Networks:
    """The trained networks, each of which may be missing."""

    objects: ObjectNet | None  # None: shapes are inflated silhouettes
    scene: MaskNet | None  # its geometry head predicts the depth of the scene and the horizon; None: neither is used


@dataclass(frozen=True)
class Draft:
    """One object before it has a place in the scene."""

    item: InstanceMask
    visible: np.ndarray  # (H, W) bool, what the photo shows of the object
    plate: Plate | None  # its outline, where the object is a round plate that carries others
    rgb: np.ndarray  # (H, W, 3) uint8, the photo, with the hidden parts of the object painted in
    mask: np.ndarray  # (H, W) bool, `visible` and the hidden parts
    crop: Crop
    layers: DepthLayers


def reconstruct(
    photo: Photo,
    masks: Sequence[InstanceMask],
    wanted: Sequence[str],
    networks: Networks,
    *,
    fov_deg: float | None = None,
    pitch_deg: float | None = None,
    seed: int = 0,
) -> Iterator[PlacedObject | FailedObject]:
    """Yield the objects whose ids are `wanted`, in the order of `masks`; all masks take part in the placement.

    fov_deg: field of view along the longer side; pitch_deg: how far the camera looks below the horizon; None: an
    estimate.
    seed: of the grain on unseen surfaces. Masks that are empty or not of the photo's size give a FailedObject.
    Depths have an arbitrary scale: the median object is at `TYPICAL_DEPTH`.
    """
    usable = []
    for item in masks:
        problem = _problem(item, photo)
        if problem is None:
            usable.append(item)
        elif item.object_id in wanted:
            yield FailedObject(item.object_id, problem)
    if not any(item.object_id in wanted for item in usable):
        return

    visible = [remove_specks(item.mask) for item in usable]
    has_background = shows_background(photo.rgb, visible)
    fov_deg = fov_deg or (None if has_background else CUTOUT_FOV_DEG)
    K = intrinsics(photo.width_px, photo.height_px, photo.focal_px, fov_deg)

    drafts = predict_shapes(photo.rgb, usable, visible, networks.objects)
    geometry = predict_geometry(networks.scene, photo.rgb) if networks.scene and has_background else None
    if pitch_deg is not None:
        pitch = Pitch(pitch_deg, KNOWN_STD_DEG)
    else:
        horizon_deg = horizon_pitch_deg(geometry, K, (photo.width_px, photo.height_px)) if geometry else None
        layers = [draft.layers for draft in drafts] if networks.objects else None
        pitch = estimate_pitch([d.crop for d in drafts], layers, [d.plate for d in drafts], K, horizon_deg)

    drafts, silhouettes = align_with_gravity(drafts, K, pitch.for_ground.deg)
    depths = object_depths(silhouettes, K, pitch.for_ground, median_log_depths(geometry, visible) if geometry else None)
    for i, draft in enumerate(drafts):
        if draft.item.object_id in wanted:
            others = [(silhouettes[j], float(depths[j])) for j in range(len(drafts)) if j != i]
            draft = hide_completed_parts(draft, K, float(depths[i]), others)
            yield to_placed_object(draft, photo, K, pitch.deg, float(depths[i]), seed)


def predict_shapes(
    rgb: np.ndarray, items: Sequence[InstanceMask], visible: Sequence[np.ndarray], net: ObjectNet | None
) -> list[Draft]:
    """The shape of each object in its own crop, with what other objects hide of it.

    Plates are completed in the photo, before the network sees them; all else where the network expects it.
    """
    plates = find_plates(visible)
    pictures = [
        (rgb, visible[i]) if plate is None else complete_plate(rgb, i, visible, plate) for i, plate in enumerate(plates)
    ]
    completes = net is not None and net.config.layers == 4  # nets of two layers do not predict hidden parts
    in_front = [
        [visible[j] for j in occluders(i, visible)] if completes and plate is None else []
        for i, plate in enumerate(plates)
    ]
    side_px = net.config.side_px if net else CROP_PX
    margins = [crop_margin(mask, hiding) for mask, hiding in zip(visible, in_front, strict=True)]
    crops = [crop_object(*picture, side_px, margin) for picture, margin in zip(pictures, margins, strict=True)]
    layers = predict(net, crops) if net else [inflate(crop) for crop in crops]
    drafts = [
        Draft(items[i], visible[i], plates[i], *pictures[i], crop=crops[i], layers=layers[i]) for i in range(len(items))
    ]
    return [_completed(draft, hiding) for draft, hiding in zip(drafts, in_front, strict=True)]


def _completed(draft: Draft, in_front: Sequence[np.ndarray]) -> Draft:
    """The draft with the parts that the network predicts behind the masks `in_front`."""
    if draft.layers.amodal is None or not in_front:
        return draft
    rgb, mask = complete_behind_occluders(draft.rgb, draft.mask, draft.crop, draft.layers.amodal, in_front)
    return replace(draft, rgb=rgb, mask=mask, crop=with_coverage(draft.crop, mask))


def align_with_gravity(
    drafts: Sequence[Draft], K: np.ndarray, pitch_deg: float
) -> tuple[list[Draft], list[Silhouette]]:
    """The drafts with depths along the camera's axis, aligned with gravity, and their silhouettes for the placement."""
    aligned, silhouettes = [], []
    for draft in drafts:
        layers = depth_along_camera_axis(draft.crop, draft.layers, K)
        alignment = gravity_alignment(draft.visible, draft.plate, draft.crop, layers, K, pitch_deg)
        layers = apply_alignment(draft.crop, layers, alignment)
        if draft.plate is not None:
            layers = flatten_plate(layers, draft.plate, draft.crop)
        aligned.append(replace(draft, layers=layers))
        relative = relative_depth(draft.crop, layers, K)
        silhouettes.append(Silhouette.of(draft.visible, draft.crop, relative, alignment.lies_flat))
    return aligned, silhouettes


def hide_completed_parts(
    draft: Draft, K: np.ndarray, depth: float, others: Sequence[tuple[Silhouette, float]]
) -> Draft:
    """The draft at `depth` with its completed parts behind the `others`, each given with its depth.

    A part that would have to move far from the rest to get there is removed.
    """
    if not (draft.mask & ~draft.visible).any():
        return draft
    layers = push_behind_occluders(draft.crop, draft.layers, float(K[0, 0]), depth, others)
    if draft.plate is None:
        mask = remove_detached_parts(draft.mask, draft.visible, draft.crop, draft.layers.front - layers.front)
        draft = replace(draft, mask=mask, crop=with_coverage(draft.crop, mask))
    return replace(draft, layers=layers)


def to_placed_object(
    draft: Draft, photo: Photo, K: np.ndarray, pitch_deg: float, depth: float, seed: int
) -> PlacedObject:
    """The Gaussians of the draft at `depth`, in an upright object frame that faces the camera."""
    surfels = build_surfels(draft.rgb, draft.mask, draft.crop, draft.layers, K, depth, seed)
    rotation = upright_frame(gravity_up(pitch_deg), surfels.points.mean(axis=0))
    local = surfels.points @ rotation
    low, high = local.min(axis=0), local.max(axis=0)
    origin, scale = rotation @ ((low + high) / 2), float(np.max(high - low))
    return PlacedObject(
        object_id=draft.item.object_id,
        phrase=draft.item.phrase,
        gaussians=to_gaussians(surfels, rotation, origin, scale),
        pose=Pose(matrix_to_quat(rotation), origin, scale),
        K=K,
        image_size=(photo.width_px, photo.height_px),
        scores={"mask": float(np.clip(draft.item.score, 0, 1)), **_scores(draft)},
        seed=seed,
        engine="embedded",
        scale_source="arbitrary",
        versions={"sam3d_gs": __version__, "torch": str(torch.__version__)},
    )


def _scores(draft: Draft) -> dict[str, float]:
    """The network's confidence in its prediction, each 0..1.

    visible: mean probability that the object's pixels show it. shape: 1 minus the expected depth error of front and
    back, in halves of the object's longer side in the photo; only from networks that predict their error.
    """
    inside = draft.crop.coverage > 0.5
    if not inside.any():
        return {"visible": 0.0}
    scores = {"visible": float(draft.layers.visible[inside].mean())}
    if draft.layers.depth_error is not None:
        longer_px = max(s.stop - s.start for s in bounding_slices(draft.mask))
        error = float(draft.layers.depth_error[inside].mean()) * draft.crop.half_px / (longer_px / 2)
        scores["shape"] = float(np.clip(1 - error, 0, 1))
    return scores


def _problem(item: InstanceMask, photo: Photo) -> str | None:
    """Why the mask cannot be lifted; None when it can."""
    if not item.mask.any():
        return "The mask is empty."
    height, width = item.mask.shape
    if (width, height) != (photo.width_px, photo.height_px):
        return f"The mask is {width}x{height} px, the photo {photo.width_px}x{photo.height_px} px."
    return None
