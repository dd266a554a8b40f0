"""Merging: every Gaussian in its place, bounds that hold, and an old scene that survives every failure."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sam3d_gs.errors import BadInputError
from sam3d_gs.gaussians import merge, ply
from sam3d_gs.gaussians.pose import object_bounds, transform, transform_points
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
    merged = merge.merge_objects(sources, tmp_path / "scene.ply", lambda name: tmp_path / "single" / f"{name}.ply")
    scene = ply.read_ply(tmp_path / "scene.ply")
    assert len(scene) == sum(COUNTS)
    assert [one.start for one in merged] == [0, COUNTS[0], COUNTS[0] + COUNTS[1]]
    for made, one in zip(objects, merged, strict=True):
        assert (one.header.object_id, one.header.count) == (made.object_id, len(made.gaussians))
        placed = transform(made.gaussians, made.pose)
        for name in FIELDS:
            ours = getattr(scene, name)[one.start : one.start + one.header.count]
            # quaternions are turned in float32, everything else rounds once from float64
            np.testing.assert_allclose(ours, getattr(placed, name), atol=3e-7 if name == "quats" else 0, err_msg=name)
        assert_same(ply.read_ply(tmp_path / "single" / f"{made.object_id}.ply"), made.gaussians)


def test_bounds_hold_the_objects(tmp_path: Path, objects: list[PlacedObject], sources: list[Path]) -> None:
    for made, one in zip(objects, merge.merge_objects(sources, tmp_path / "scene.ply"), strict=True):
        np.testing.assert_allclose(one.aabb, object_bounds(transform(made.gaussians, made.pose)), atol=0.02)
        low, high = object_bounds(made.gaussians)
        np.testing.assert_allclose(one.obb[0], transform_points(made.pose, low[None])[0], atol=1e-9)
        np.testing.assert_allclose(one.obb[7], transform_points(made.pose, high[None])[0], atol=1e-9)


def test_headers_say_the_frame(tmp_path: Path, sources: list[Path]) -> None:
    merge.merge_objects(sources, tmp_path / "scene.ply", lambda name: tmp_path / f"{name}.ply")
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
        merge.merge_objects(sources, scene)
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
        merge.merge_objects(sources, scene)
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
