"""The scene JSON: the description of a scene for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sam3d_gs import __version__
from sam3d_gs.errors import BadInputError
from sam3d_gs.files import read_json, write_json
from sam3d_gs.gaussians.pose import pose_from_matrix
from sam3d_gs.json_values import Fields
from sam3d_gs.types import ObjectDescription, SceneDescription

SCHEMA = 1
FRAME = "camera of the photo, OpenCV: x right, y down, z forward"


def write_scene(path: Path, scene: SceneDescription, files: dict[str, str]) -> None:
    """Write a scene in the camera frame. `files`: kind -> path below the workspace, of the whole scene's files."""
    write_json(path, {**_head(scene, FRAME, files), "objects": [_object(obj) for obj in scene.objects]})


def write_moved_scene(
    path: Path, scene: SceneDescription, frame: str, T_frame_camera: np.ndarray, files: dict[str, str]
) -> None:
    """Write what `moved_scene_data` makes."""
    write_json(path, moved_scene_data(scene, frame, T_frame_camera, files))


def moved_scene_data(
    scene: SceneDescription, frame: str, T_frame_camera: np.ndarray, files: dict[str, str]
) -> dict[str, Any]:
    """The JSON of a scene whose objects, boxes and up are in another frame than the camera's; `frame` describes it.

    T_frame_camera: (4, 4) from the camera frame to that one.
    """
    rows = [_object(obj) for obj in scene.objects]
    for row in rows:
        row["T_frame_object"] = row.pop("T_camera_object")
        del row["files"]  # those are in the camera frame, or in none
    return {**_head(scene, frame, files), "T_frame_camera": _plain(T_frame_camera), "objects": rows}


def _head(scene: SceneDescription, frame: str, files: dict[str, str]) -> dict[str, Any]:
    width, height = scene.image_size
    return {
        "schema": SCHEMA,
        "tool": f"sam3d_gs {__version__}",
        "photo": scene.photo,
        "frame": frame,
        "units": "metres" if scene.scale_source.startswith("metric") else "arbitrary",
        "scale_source": scene.scale_source,
        "up": _plain(scene.up),
        "K": _plain(scene.K),
        "image_size": [width, height],
        "files": files,
    }


def read_scene(path: Path) -> SceneDescription:
    """The scene of a JSON written by `write_scene`. Raises BadInputError naming the file."""
    try:
        data = Fields(read_json(path, "scene file"))
        if (schema := data.value.get("schema")) != SCHEMA:
            raise BadInputError(f"{path} has schema {schema!r:.40}, this version reads {SCHEMA}.")
        width, height = data.array("image_size", (2,))
        K, up = data.array("K", (3, 3)), data.array("up", (3,))
        if min(K[0, 0], K[1, 1], width, height) < 1e-6 or max(width, height) > 1e6:
            raise ValueError("K and image_size are not those of a camera")
        if abs(np.linalg.norm(up) - 1) > 1e-3:
            raise ValueError("up is not a unit vector")
        return SceneDescription(
            photo=data.text("photo"),
            K=K,
            image_size=(int(width), int(height)),
            scale_source=data.text("scale_source"),
            up=up,
            objects=tuple(_read_object(row) for row in data.rows("objects", "object")),
        )
    except ValueError as error:
        raise BadInputError(
            f"{path} is not a scene file of this program: {error}. Run the scene stage again with --force."
        ) from error


def _object(obj: ObjectDescription) -> dict[str, Any]:
    return {
        "object_id": obj.object_id,
        "phrase": obj.phrase,
        "scores": {name: round(float(score), 6) for name, score in obj.scores.items()},
        "T_camera_object": _plain(obj.T_camera_object),
        "aabb": _plain(obj.aabb),
        "obb": _plain(obj.obb),
        "gaussians": obj.gaussians,
        "files": dict(obj.files),
        "reprojection_iou": None if obj.reprojection_iou is None else round(obj.reprojection_iou, 4),
        **({"edited": list(obj.edited)} if obj.edited else {}),
    }


def _read_object(row: Fields) -> ObjectDescription:
    """Raises ValueError."""
    pose_from_matrix(row.array("T_camera_object", (4, 4)))
    return ObjectDescription(
        object_id=row.text("object_id"),
        phrase=row.text("phrase"),
        scores=row.each_number("scores"),
        T_camera_object=row.array("T_camera_object", (4, 4)),
        aabb=row.array("aabb", (2, 3)),
        obb=row.array("obb", (8, 3)),
        gaussians=row.whole("gaussians"),
        files=row.each_text("files"),
        reprojection_iou=row.number("reprojection_iou", None),
        edited=row.texts("edited"),
    )


def _plain(array: np.ndarray) -> Any:
    return np.asarray(array, dtype=np.float64).tolist()
