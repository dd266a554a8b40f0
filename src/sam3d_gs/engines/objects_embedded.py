"""Objects without a GPU: the embedded network, or plain inflation, placed by a reading of the ground."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from sam3d_gs import __version__
from sam3d_gs.embedded.placement.camera import attitude, gravity_up, tilted, turned_to_camera
from sam3d_gs.embedded.placement.geometry import (
    SceneGeometry,
    log_depths,
    pitch_of_horizon_deg,
    read_geometry,
    shows_surroundings,
)
from sam3d_gs.embedded.placement.pitch import KNOWN_SPREAD_DEG, Pitch, estimate_pitch
from sam3d_gs.embedded.placement.place_objects import Silhouette, place, silhouette
from sam3d_gs.embedded.placement.plates import Plate, find_plates, flattened
from sam3d_gs.embedded.proposals.mask_net import WEIGHTS, load_mask_net
from sam3d_gs.embedded.shape.amodal_completion import continued, crop_margin, occluders, without_torn
from sam3d_gs.embedded.shape.crops import CROP_PX, Crop, box_of, covered_by, crop_object
from sam3d_gs.embedded.shape.inflate import inflate
from sam3d_gs.embedded.shape.mask_repair import complete_plate, keep_hidden, without_specks
from sam3d_gs.embedded.shape.object_net import ObjectNet, TwoLayers, load_object_net, predict, shipped_weights
from sam3d_gs.embedded.shape.surfel_builder import build_surfels, relative_depth
from sam3d_gs.embedded.shape.surfels import to_gaussians
from sam3d_gs.engines.api import FailedObject
from sam3d_gs.gaussians.pose import matrix_to_quat
from sam3d_gs.options import EmbeddedObjectOptions
from sam3d_gs.photo import intrinsics
from sam3d_gs.types import InstanceMask, Photo, PlacedObject, Pose

SHIPPED = "shipped"
CUTOUT_FOV_DEG = 30.0  # of pictures on a plain ground: what fills a frame is photographed from afar, or was cut out


@dataclass(frozen=True)
class _Draft:
    """One object before it is placed."""

    item: InstanceMask
    rgb: np.ndarray  # (H, W, 3) uint8, the photo, with what the object hides under others painted in
    mask: np.ndarray  # (H, W) bool, with the same additions
    crop: Crop
    layers: TwoLayers


class EmbeddedObjects:
    """Lifts masks on a CPU; see `embedded/weights/OBJECTS_CARD.md` for what to expect."""

    def __init__(
        self, options: EmbeddedObjectOptions, weights: Path | str | None = SHIPPED, mask_weights: Path = WEIGHTS
    ) -> None:
        """`weights`: a .safetensors file, "shipped" for the package's own, or None for inflation without any.

        When the package's own file is missing, inflation takes over. `mask_weights`: of the mask net, whose geometry
        head helps to place what the network makes.
        """
        self.options = options
        path = shipped_weights() if weights == SHIPPED else weights
        usable = path is not None and (weights != SHIPPED or Path(path).is_file())
        self._net: ObjectNet | None = load_object_net(Path(path)) if usable and path is not None else None
        self._scene_net = load_mask_net(mask_weights) if self._net and mask_weights.is_file() else None
        name = "embedded object network (sam3d_gs)" if self._net else "silhouette inflation (sam3d_gs)"
        self.licences: Mapping[str, str] = {name: "Apache-2.0"}

    def objects(
        self, photo: Photo, masks: Sequence[InstanceMask], wanted: Sequence[str]
    ) -> Iterator[PlacedObject | FailedObject]:
        """Yield the wanted objects, in the order of `masks`. All masks are read, since placement depends on them."""
        size = (photo.height_px, photo.width_px)
        usable = [item for item in masks if item.mask.shape == size and item.mask.any()]
        for item in masks:
            if item.object_id in wanted and item not in usable:
                yield FailedObject(item.object_id, _why_unusable(item, photo))
        if not usable or not any(item.object_id in wanted for item in usable):
            return

        arrays = [without_specks(item.mask) for item in usable]
        around = shows_surroundings(photo.rgb, arrays)
        fov_deg = self.options.fov_deg or (None if around else CUTOUT_FOV_DEG)
        K = intrinsics(photo.width_px, photo.height_px, photo.focal_px, fov_deg)
        plates = find_plates(arrays)
        drafts = self._drafts(photo, usable, arrays, plates)
        geometry = None
        if self._scene_net is not None and around:
            geometry = read_geometry(self._scene_net, photo.rgb)
        pitch = self._pitch(photo, drafts, plates, geometry, K)
        drafts, outlines = _held(drafts, arrays, plates, K, pitch.for_the_ground.deg)
        depths = place(outlines, K, pitch.for_the_ground, log_depths(geometry, arrays) if geometry else None)
        for i, (draft, depth) in enumerate(zip(drafts, depths, strict=True)):
            if draft.item.object_id not in wanted:
                continue
            if (draft.mask & ~arrays[i]).any():
                others = [(outlines[j], float(depths[j])) for j in range(len(drafts)) if j != i]
                hidden = keep_hidden(draft.crop, draft.layers, float(K[0, 0]), float(depth), others)
                if plates[i] is None:
                    mask = without_torn(draft.mask, arrays[i], draft.crop, draft.layers.front - hidden.front)
                    draft = replace(draft, mask=mask, crop=covered_by(draft.crop, mask))
                draft = replace(draft, layers=hidden)
            yield self._placed(photo, draft, K, pitch.deg, float(depth))

    def _pitch(
        self,
        photo: Photo,
        drafts: Sequence[_Draft],
        plates: Sequence[Plate | None],
        geometry: SceneGeometry | None,
        K: np.ndarray,
    ) -> Pitch:
        if self.options.pitch_deg is not None:
            return Pitch(self.options.pitch_deg, KNOWN_SPREAD_DEG)
        predicted = [d.layers for d in drafts] if self._net else None
        size_px = photo.width_px, photo.height_px
        horizon_deg = pitch_of_horizon_deg(geometry, K, size_px) if geometry else None
        return estimate_pitch([d.crop for d in drafts], predicted, plates, K, horizon_deg)

    def _drafts(
        self,
        photo: Photo,
        items: Sequence[InstanceMask],
        masks: Sequence[np.ndarray],
        plates: Sequence[Plate | None],
    ) -> list[_Draft]:
        pictures = [
            (photo.rgb, masks[i]) if plate is None else complete_plate(photo.rgb, i, masks, plate)
            for i, plate in enumerate(plates)
        ]
        in_front = [self._in_front(i, masks, plate) for i, plate in enumerate(plates)]
        margins = [crop_margin(mask, hiding) for mask, hiding in zip(masks, in_front, strict=True)]
        side_px = self._net.config.side_px if self._net else CROP_PX
        crops = [crop_object(*picture, side_px, margin) for picture, margin in zip(pictures, margins, strict=True)]
        layers = predict(self._net, crops) if self._net else [inflate(crop) for crop in crops]
        drafts = [
            _Draft(item, rgb, mask, crop, layer)
            for item, (rgb, mask), crop, layer in zip(items, pictures, crops, layers, strict=True)
        ]
        return [_whole(draft, hiding) for draft, hiding in zip(drafts, in_front, strict=True)]

    def _in_front(self, index: int, masks: Sequence[np.ndarray], plate: Plate | None) -> list[np.ndarray]:
        """The masks behind which the network may look for more of object `index`; a plate is whole already."""
        if plate is not None or self._net is None or self._net.config.layers < 4:
            return []
        return [masks[j] for j in occluders(index, masks)]

    def _placed(self, photo: Photo, draft: _Draft, K: np.ndarray, pitch_deg: float, depth: float) -> PlacedObject:
        surfels = build_surfels(draft.rgb, draft.mask, draft.crop, draft.layers, K, depth, self.options.seed)
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
            seed=self.options.seed,
            engine="embedded",
            scale_source="arbitrary",
            versions={"sam3d_gs": __version__, "torch": str(torch.__version__)},
        )


def _whole(draft: _Draft, in_front: Sequence[np.ndarray]) -> _Draft:
    """The draft with what the network expects of it behind the masks in front, where it expects any."""
    if draft.layers.whole is None or not in_front:
        return draft
    rgb, mask = continued(draft.rgb, draft.mask, draft.crop, draft.layers.whole, in_front)
    return replace(draft, rgb=rgb, mask=mask, crop=covered_by(draft.crop, mask))


def _held(
    drafts: Sequence[_Draft],
    masks: Sequence[np.ndarray],
    plates: Sequence[Plate | None],
    K: np.ndarray,
    pitch_deg: float,
) -> tuple[list[_Draft], list[Silhouette]]:
    """The drafts as the camera sees them, held upright or flat, and what placement needs of them."""
    held, outlines = [], []
    for draft, mask, plate in zip(drafts, masks, plates, strict=True):
        layers = turned_to_camera(draft.crop, draft.layers, K)
        how = attitude(mask, plate, draft.crop, layers, K, pitch_deg)
        layers = tilted(draft.crop, layers, how)
        if plate is not None:
            layers = flattened(layers, plate, draft.crop)
        held.append(replace(draft, layers=layers))
        outlines.append(silhouette(mask, draft.crop, relative_depth(draft.crop, layers, K), how.lies_flat))
    return held, outlines


def upright_frame(up: np.ndarray, center: np.ndarray) -> np.ndarray:
    """(3, 3) rotation, object to camera: z against gravity, -y level towards the camera, x to the right."""
    level = center - (center @ up) * up
    length = float(np.linalg.norm(level))
    forward = level / length if length > 1e-9 * math.hypot(*center) else np.cross(up, [1.0, 0.0, 0.0])
    return np.stack([np.cross(forward, up), forward, up], axis=1)


def _scores(draft: _Draft) -> dict[str, float]:
    """What the network thinks of its answer, each 0..1.

    visible: mean probability that the object's pixels show it. shape: 1 less the expected error in depth of front and
    back, in halves of the object's longer side in the photo; only from networks that tell it.
    """
    inside = draft.crop.coverage > 0.5
    if not inside.any():
        return {"visible": 0.0}
    scores = {"visible": float(draft.layers.visible[inside].mean())}
    if draft.layers.scale is not None:
        box = box_of(draft.mask)
        longer_px = max(s.stop - s.start for s in box)
        error = float(draft.layers.scale[inside].mean()) * draft.crop.half_px / (longer_px / 2)
        scores["shape"] = float(np.clip(1 - error, 0, 1))
    return scores


def _why_unusable(item: InstanceMask, photo: Photo) -> str:
    if not item.mask.any():
        return "The mask is empty."
    height, width = item.mask.shape
    return f"The mask is {width}x{height} px, the photo {photo.width_px}x{photo.height_px} px."
