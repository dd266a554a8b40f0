"""Merging: every Gaussian in its place, bounds that hold, and an old scene that survives every failure."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sam3d_gs.errors import BadInputError
from sam3d_gs.gaussians import merge, ply, pt
from sam3d_gs.gaussians.pose import transform
from sam3d_gs.gaussians.pt import write_pt
from sam3d_gs.types import PlacedObject
from tests.gaussians.helpers import FIELDS, assert_same, random_object

pytest.importorskip("torch")
COUNTS = (3 * ply.BLOCK + 17, 1, 400)  # several blocks and a rest, a single Gaussian, part of a block


@pytest.fixture
def objects() -> list[PlacedObject]:
    return [random_object(f"{i:02d}-thing-0", n, seed=i) for i, n in enumerate(COUNTS)]


@pytest.fixture
def sources(tmp_path: Path, objects: list[PlacedObject]) -> list[Path]:
    paths = [tmp_path / "pt" / f"{one.object_id}.pt" for one in objects]
    for path, one in zip(paths, objects, strict=True):
        write_pt(path, one)
    return paths


def test_every_gaussian_is_in_its_place(tmp_path: Path, objects: list[PlacedObject], sources: list[Path]) -> None:
    merge.merge_objects(
        merge.open_objects(sources), tmp_path / "scene.ply", lambda name: tmp_path / "single" / f"{name}.ply"
    )
    scene = ply.read_ply(tmp_path / "scene.ply")
    assert len(scene) == sum(COUNTS)
    start = 0
    for made, count in zip(objects, COUNTS, strict=True):
        placed = transform(made.gaussians, made.pose)
        for name in FIELDS:
            ours = getattr(scene, name)[start : start + count]
            # quaternions are turned in float32, everything else rounds once from float64
            np.testing.assert_allclose(ours, getattr(placed, name), atol=3e-7 if name == "quats" else 0, err_msg=name)
        assert_same(ply.read_ply(tmp_path / "single" / f"{made.object_id}.ply"), made.gaussians)
        start += count


def test_objects_in_memory_give_the_same_file(tmp_path: Path, objects: list[PlacedObject], sources: list[Path]) -> None:
    merge.merge_objects(merge.open_objects(sources), tmp_path / "from files.ply")
    merge.write_scene(tmp_path / "from memory.ply", objects)
    assert (tmp_path / "from memory.ply").read_bytes() == (tmp_path / "from files.ply").read_bytes()
    merged = ply.read_ply(tmp_path / "from files.ply")
    assert_same(merge.concatenated([merge.in_camera_frame(obj) for obj in objects]), merged)


def test_each_object_is_handed_on_once_it_is_written(
    tmp_path: Path, objects: list[PlacedObject], sources: list[Path]
) -> None:
    handed: list[str] = []

    def then(obj: PlacedObject) -> None:
        assert_same(ply.read_ply(tmp_path / f"{obj.object_id}.ply"), obj.gaussians)
        handed.append(obj.object_id)

    merge.merge_objects(
        merge.open_objects(sources), tmp_path / "scene.ply", lambda name: tmp_path / f"{name}.ply", then
    )
    assert handed == [made.object_id for made in objects]


class InlinePool:
    """A thread pool whose work is done before `submit` returns: as early as it may ever be done."""

    def __init__(self, workers: int) -> None:
        pass

    def __enter__(self) -> InlinePool:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def submit(self, work: Callable[..., object], item: object) -> Future[object]:
        future: Future[object] = Future()
        future.set_result(work(item))
        return future


def test_at_most_two_objects_are_in_memory(
    tmp_path: Path, objects: list[PlacedObject], monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [replace(objects[2], object_id=f"{i:02d}-thing-0") for i in range(8)]
    for obj in many:
        write_pt(tmp_path / f"{obj.object_id}.pt", obj)
    alive: list[str] = []
    most = 0
    take = pt.PtFile.take

    def counted(file: pt.PtFile) -> PlacedObject:
        nonlocal most
        obj = take(file)
        alive.append(obj.object_id)
        weakref.finalize(obj, alive.remove, obj.object_id)
        most = max(most, len(alive))
        return obj

    monkeypatch.setattr(pt.PtFile, "take", counted)
    monkeypatch.setattr(merge, "ThreadPoolExecutor", InlinePool)
    files = merge.open_objects(sorted(tmp_path.glob("*.pt")))
    merge.merge_objects(files, tmp_path / "scene.ply", then=lambda obj: None)
    assert (most, alive) == (2, [])
    maps = Path("/proc/self/maps")
    assert not maps.exists() or str(tmp_path) not in maps.read_text(), "a file is still mapped"


def test_headers_say_the_frame(tmp_path: Path, sources: list[Path]) -> None:
    merge.merge_objects(merge.open_objects(sources), tmp_path / "scene.ply", lambda name: tmp_path / f"{name}.ply")
    assert b"comment camera frame: x right, y down, z forward\n" in (tmp_path / "scene.ply").read_bytes()[:200]
    assert b"comment object frame: z up" in (tmp_path / "00-thing-0.ply").read_bytes()[:200]


@pytest.mark.parametrize("problem", ["camera", "size", "scale source", "twice", "none", "missing", "nan"])
def test_what_does_not_belong_together_is_refused(
    tmp_path: Path, objects: list[PlacedObject], sources: list[Path], problem: str
) -> None:
    scene = tmp_path / "scene.ply"
    scene.write_bytes(b"the scene of an earlier run")
    last = objects[-1]
    if problem == "camera":
        write_pt(sources[-1], replace(last, K=last.K * np.array([[1.1, 1, 1], [1, 1, 1], [1, 1, 1]])))
    elif problem == "size":
        write_pt(sources[-1], replace(last, image_size=(640, 481)))
    elif problem == "scale source":
        write_pt(sources[-1], replace(last, scale_source="metric: depth"))
    elif problem == "twice":
        write_pt(sources[-1], objects[0])
    elif problem == "none":
        sources = []
    elif problem == "missing":
        sources[-1].unlink()
    else:  # found only when its turn comes, with most of the scene written
        data = sources[-1].read_bytes()
        sources[-1].write_bytes(
            data.replace(last.gaussians.sh0.tobytes(), np.full_like(last.gaussians.sh0, np.nan).tobytes())
        )
    with pytest.raises(BadInputError) as caught:
        merge.merge_objects(merge.open_objects(sources), scene)
    assert not sources or str(sources[-1]) in str(caught.value)
    assert scene.read_bytes() == b"the scene of an earlier run"
    assert sorted(os.listdir(tmp_path)) == ["pt", "scene.ply"]


def test_ctrl_c_leaves_the_old_scene_and_no_thread(
    tmp_path: Path, sources: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = tmp_path / "scene.ply"
    scene.write_bytes(b"the scene of an earlier run")

    def interrupt(self: ply.PlyWriter, records: np.ndarray) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ply.PlyWriter, "write", interrupt)
    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        merge.merge_objects(merge.open_objects(sources), scene)
    assert scene.read_bytes() == b"the scene of an earlier run"
    assert sorted(os.listdir(tmp_path)) == ["pt", "scene.ply"]
    assert threading.active_count() == threads


def test_only_a_few_blocks_are_ahead_of_the_writer(objects: list[PlacedObject]) -> None:
    """This bounds the memory of a merge, however slow the disk is."""
    from concurrent.futures import ThreadPoolExecutor

    made = 0

    def work(part: object) -> np.ndarray:
        nonlocal made
        made += 1
        return np.zeros(1)

    with ThreadPoolExecutor(1) as pool:
        results = merge._ahead(pool, work, ply.blocks(objects[0].gaussians, size=1000), ahead=4)
        next(results)
        pool.submit(lambda: None).result()  # the queue is empty now
        assert made <= 5
        assert sum(1 for _ in results) == -(-COUNTS[0] // 1000) - 1
