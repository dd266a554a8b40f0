"""Run the real embedded engines on a made photo, and look at what comes out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sam3d_gs.engines.objects_embedded import EmbeddedObjects
from sam3d_gs.gaussians.pose import quat_to_matrix, transform
from sam3d_gs.types import PlacedObject
from tests.embedded.photos import Picture


def lift(engine: EmbeddedObjects, picture: Picture, wanted: Sequence[str] | None = None) -> dict[str, PlacedObject]:
    """The objects by name; all of them unless `wanted` names some."""
    ids = {picture.masks[name].object_id: name for name in wanted or picture.masks}
    made = [item for item in engine.objects(picture.photo, picture.items, list(ids)) if isinstance(item, PlacedObject)]
    assert {item.object_id for item in made} == set(ids)
    return {ids[item.object_id]: item for item in made}


def depth_map(item: PlacedObject) -> np.ndarray:
    """(H, W) depth of the nearest Gaussian centre in each pixel; inf where there is none."""
    width, height = item.image_size
    points = transform(item.gaussians, item.pose).means.astype(np.float64)
    column, row, _ = np.floor(points @ item.K.T / points[:, 2:]).astype(int).T
    seen = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    depths = np.full((height, width), np.inf)
    np.minimum.at(depths, (row[seen], column[seen]), points[seen, 2])
    return depths


def pitch_deg(item: PlacedObject) -> float:
    """Of the camera, from the object's z axis, which points up."""
    up = quat_to_matrix(item.pose.quat_wxyz)[:, 2]
    return float(np.degrees(np.arctan2(-up[2], -up[1])))
