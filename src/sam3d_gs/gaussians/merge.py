"""Many objects into one scene .ply in the camera frame, with at most two objects in memory.

Reading, packing and writing overlap: two threads read the next object, move and pack blocks of this one, and the main
thread writes them in order; NumPy and the write call release the interpreter lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from sam3d_gs.errors import BadInputError
from sam3d_gs.gaussians.ply import PROPERTIES, PlyWriter, blocks, pack, ply_writer, unpack
from sam3d_gs.gaussians.pose import product_matrix, quat_to_matrix
from sam3d_gs.gaussians.pt import PtFile, PtHeader, open_pt
from sam3d_gs.types import Gaussians, PlacedObject, Pose

SCENE_COMMENT = "camera frame: x right, y down, z forward"
SINGLE_COMMENT = "object frame: z up, canonical unit cube"
_WORKERS = 2
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_MEANS, _SH0, _OPACITY, _LOG_SCALES, _QUATS = map(PROPERTIES.index, ("x", "f_dc_0", "opacity", "scale_0", "rot_0"))


def open_objects(paths: Sequence[Path]) -> list[PtFile]:
    """Open the .pt files of one scene; each is opened this once.

    Raises BadInputError naming the file when one is not usable or belongs to another photo, or when there are none.
    """
    files = [open_pt(path) for path in paths]
    check_same_photo([file.header for file in files])
    return files


def merge_objects(
    files: Sequence[PtFile],
    scene_ply: Path,
    single_ply: Callable[[str], Path | None] | None = None,
    then: Callable[[PlacedObject], None] | None = None,
) -> None:
    """Write the Gaussians of all objects, moved to the camera frame, into one .ply, in the order given.

    Args:
        files: from `open_objects`; they are used up.
        scene_ply: replaced when everything has gone well; otherwise that of an earlier run stays as it was.
        single_ply: object id -> path. Each object is also written alone, in its object frame; None: this one is not.
        then: called with each object once it is written, while it is in memory. It must not keep the object, or
            more than two will be in memory at a time.

    Raises BadInputError naming the file when its Gaussians are not usable, Sam3dGsError when writing fails.
    """
    total = sum(file.header.count for file in files)
    with ply_writer(scene_ply, total, [SCENE_COMMENT]) as scene, ThreadPoolExecutor(_WORKERS) as pool:
        for obj in _ahead(pool, PtFile.take, files, ahead=1):
            write_moved(scene, pool, obj.gaussians, obj.pose)
            if single_ply and (path := single_ply(obj.object_id)):
                with ply_writer(path, len(obj.gaussians), [SINGLE_COMMENT]) as single:
                    for records in _ahead(pool, pack, blocks(obj.gaussians), ahead=2 * _WORKERS):
                        single.write(records)
            if then:
                then(obj)
            del obj  # before the object after the next one is read


def write_scene(scene_ply: Path, objects: Sequence[PlacedObject]) -> None:
    """The scene .ply of objects in memory, byte by byte that of `merge_objects`. Raises the same errors."""
    check_same_photo(objects)
    total = sum(len(obj.gaussians) for obj in objects)
    with ply_writer(scene_ply, total, [SCENE_COMMENT]) as scene, ThreadPoolExecutor(_WORKERS) as pool:
        for obj in objects:
            write_moved(scene, pool, obj.gaussians, obj.pose)


def write_moved(writer: PlyWriter, pool: ThreadPoolExecutor, gaussians: Gaussians, pose: Pose) -> None:
    """Append the Gaussians, moved by the pose, to an open .ply; the threads of `pool` pack ahead of the writer."""
    for records in _ahead(pool, partial(pack_moved, pose=pose), blocks(gaussians), ahead=2 * _WORKERS):
        writer.write(records)


def in_camera_frame(obj: PlacedObject) -> Gaussians:
    """The object's Gaussians in the camera frame, bit by bit those of the scene .ply."""
    return unpack(np.concatenate([pack_moved(part, obj.pose) for part in blocks(obj.gaussians)]))


def pack_moved(gaussians: Gaussians, pose: Pose) -> np.ndarray:
    """``pack(transform(gaussians, pose))``, (N, 17) float32, written straight into the records: twice as fast.

    Means are computed in float64 like there; quats in float32, which costs two units in the last place.
    """
    records = np.zeros((len(gaussians), len(PROPERTIES)), "<f4")
    linear = pose.scale * quat_to_matrix(pose.quat_wxyz)
    means = gaussians.means.astype(np.float64) @ linear.T
    grow = np.float32(np.log(pose.scale))
    for i in range(3):
        np.add(means[:, i], pose.translation[i], out=records[:, _MEANS + i], casting="same_kind")
        np.add(gaussians.log_scales[:, i], grow, out=records[:, _LOG_SCALES + i])
        records[:, _SH0 + i] = gaussians.sh0[:, i]
    records[:, _OPACITY] = gaussians.opacity_logits
    turn = product_matrix(pose.quat_wxyz).astype(np.float32)
    np.matmul(gaussians.quats, turn.T, out=records[:, _QUATS:])
    return records


def concatenated(parts: Sequence[Gaussians]) -> Gaussians:
    """Gaussians of one frame, one part after the other."""
    return Gaussians(
        means=np.concatenate([part.means for part in parts]),
        quats=np.concatenate([part.quats for part in parts]),
        log_scales=np.concatenate([part.log_scales for part in parts]),
        opacity_logits=np.concatenate([part.opacity_logits for part in parts]),
        sh0=np.concatenate([part.sh0 for part in parts]),
    )


def check_same_photo(objects: Sequence[PtHeader] | Sequence[PlacedObject]) -> None:
    """Raises BadInputError naming the object when there are none or they do not belong to one scene."""
    if not objects:
        raise BadInputError("There are no objects to merge. Run the objects stage first.")
    first, seen = objects[0], set[str]()
    for one in objects:
        same_camera = one.image_size == first.image_size and np.allclose(one.K, first.K)
        if not same_camera or one.scale_source != first.scale_source:
            raise BadInputError(
                f"{_name(one)} has another camera or scale than {_name(first)}. Objects of one scene come from one "
                "photo and engine; run the objects stage again with --force."
            )
        if one.object_id in seen:
            where = f", the second in {one.path}" if isinstance(one, PtHeader) else ""
            raise BadInputError(f"There are two objects {one.object_id}{where}. Leave one of them out.")
        seen.add(one.object_id)


def _name(one: PtHeader | PlacedObject) -> str:
    return str(one.path) if isinstance(one, PtHeader) else one.object_id


def _ahead(
    pool: ThreadPoolExecutor, work: Callable[[_Item], _Result], items: Iterable[_Item], ahead: int
) -> Iterator[_Result]:
    """`work` of every item, in order, at most `ahead` items before they are needed; `pool.map` would not wait."""
    waiting: deque[Future[_Result]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
