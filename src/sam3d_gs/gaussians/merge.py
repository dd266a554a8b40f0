"""Many .pt files into one scene .ply in the camera frame, with at most two objects in memory.

Reading, packing and writing overlap: two threads read the next object, move and pack blocks of this one, and the main
thread writes them in order; NumPy and the write call release the interpreter lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from sam3d_gs.errors import BadInputError
from sam3d_gs.gaussians.ply import PROPERTIES, PlyWriter, blocks, pack, ply_writer
from sam3d_gs.gaussians.pose import box_corners, object_bounds, product_matrix, quat_to_matrix, thinned, transform
from sam3d_gs.gaussians.pt import PtHeader, read_pt, read_pt_header
from sam3d_gs.types import Gaussians, PlacedObject, Pose

SCENE_COMMENT = "camera frame: x right, y down, z forward"
SINGLE_COMMENT = "object frame: z up, canonical unit cube"
_WORKERS = 2
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_MEANS, _SH0, _OPACITY, _LOG_SCALES, _QUATS = map(PROPERTIES.index, ("x", "f_dc_0", "opacity", "scale_0", "rot_0"))


@dataclass(frozen=True)
class MergedObject:
    """One object of a merged scene. Its Gaussians are `start` up to `start + header.count` of the scene .ply."""

    header: PtHeader
    start: int
    aabb: np.ndarray  # (2, 3) float64 min and max corner, camera frame; robust as in `object_bounds`
    obb: np.ndarray  # (8, 3) float64 corners of the object-frame box, camera frame


def merge_objects(
    sources: Sequence[Path], scene_ply: Path, single_ply: Callable[[str], Path] | None = None
) -> list[MergedObject]:
    """Write the Gaussians of all .pt files, moved to the camera frame, into one .ply, in the order given.

    With `single_ply` (object id -> path) each object is also written alone, in its object frame, from the same read.
    Raises BadInputError naming the file when one is not usable or belongs to another photo; the scene .ply of an
    earlier run then stays as it was.
    """
    headers = [read_pt_header(path) for path in sources]
    _check_same_photo(headers)
    merged: list[MergedObject] = []
    total = sum(header.count for header in headers)
    with ply_writer(scene_ply, total, [SCENE_COMMENT]) as scene, ThreadPoolExecutor(_WORKERS) as pool:
        start = 0
        for header, obj in zip(headers, _ahead(pool, read_pt, sources, ahead=1), strict=True):
            _write(obj, pool, scene, single_ply)
            few = thinned(obj.gaussians)
            aabb = object_bounds(transform(few, obj.pose))
            merged.append(MergedObject(header, start, aabb, box_corners(object_bounds(few), obj.pose)))
            start += header.count
            del obj, few  # before the object after the next one is read
    return merged


def _write(
    obj: PlacedObject, pool: ThreadPoolExecutor, scene: PlyWriter, single_ply: Callable[[str], Path] | None
) -> None:
    for records in _ahead(pool, partial(pack_moved, pose=obj.pose), blocks(obj.gaussians), ahead=2 * _WORKERS):
        scene.write(records)
    if single_ply:
        with ply_writer(single_ply(obj.object_id), len(obj.gaussians), [SINGLE_COMMENT]) as single:
            for records in _ahead(pool, pack, blocks(obj.gaussians), ahead=2 * _WORKERS):
                single.write(records)


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


def _ahead(
    pool: ThreadPoolExecutor, work: Callable[[_Item], _Result], items: Iterable[_Item], ahead: int
) -> Iterator[_Result]:
    """`work` of every item, in order, at most `ahead` items before who takes them; `pool.map` would not wait."""
    waiting: deque[Future[_Result]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _check_same_photo(headers: Sequence[PtHeader]) -> None:
    if not headers:
        raise BadInputError("There are no objects to merge. Run the objects stage first.")
    first, seen = headers[0], set[str]()
    for header in headers:
        same_camera = header.image_size == first.image_size and np.allclose(header.K, first.K)
        if not same_camera or header.scale_source != first.scale_source:
            raise BadInputError(
                f"{header.path} has another camera or scale than {first.path}. Objects of one scene come from one "
                "photo and engine; run the objects stage again with --force."
            )
        if header.object_id in seen:
            raise BadInputError(f"{header.path} holds {header.object_id} a second time. Leave one of them out.")
        seen.add(header.object_id)
