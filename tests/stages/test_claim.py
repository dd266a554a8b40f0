"""Locks and folders: photos of the same name, processed simultaneously in separate processes."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import shutil
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import pytest

from sam3d_gs import manifest as manifests
from sam3d_gs.errors import BadInputError, Sam3dGsError
from sam3d_gs.files import atomic_path
from sam3d_gs.manifest import Manifest
from sam3d_gs.stages.claim import claimed, clear_leftovers, locked
from sam3d_gs.types import Photo
from sam3d_gs.workspace import Workspace

PROCESSES = multiprocessing.get_context("fork")


def photo(name: str, content: int) -> Photo:
    return Photo(Path(f"{name}.png"), name, np.full((4, 6, 3), content, np.uint8), f"{content:064x}")


def _claim(root: Path, content: int, start: Barrier, rounds: int) -> None:
    for number in range(rounds):
        start.wait(30)
        with claimed(root / str(number), photo("s", content), waits=True) as workspace:
            (workspace.run_dir / f"claimed-by-{content}").touch()


def test_two_photos_of_one_name_get_separate_folders(tmp_path: Path) -> None:
    rounds = 20
    start = PROCESSES.Barrier(2)
    workers = [PROCESSES.Process(target=_claim, args=(tmp_path, content, start, rounds)) for content in (1, 2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    for number in range(rounds):
        folders = [path.parent for path in (tmp_path / str(number)).rglob("manifest.json")]
        assert len(folders) == 2
        for folder in folders:
            owner = int(json.loads((folder / "manifest.json").read_text())["photo"]["sha256"], 16)
            assert [path.name for path in folder.glob("claimed-by-*")] == [f"claimed-by-{owner}"]


def _write_slowly(root: Path, ready: Barrier, cleared: Barrier) -> None:
    workspace = Workspace(root, "s000.b")
    with atomic_path(workspace.scene_ply) as temporary:
        temporary.write_bytes(b"half")
        ready.wait(30)
        cleared.wait(30)
        os.stat(temporary)  # must still exist


def test_leftovers_of_other_photos_are_kept(tmp_path: Path) -> None:
    ready, cleared = PROCESSES.Barrier(2), PROCESSES.Barrier(2)
    writer = PROCESSES.Process(target=_write_slowly, args=(tmp_path, ready, cleared))
    writer.start()
    ready.wait(30)
    with claimed(tmp_path, photo("s000", 1)) as workspace:
        clear_leftovers(workspace)
    cleared.wait(30)
    writer.join(30)
    assert writer.exitcode == 0
    assert Workspace(tmp_path, "s000.b").scene_ply.exists()


def test_leftovers_of_the_photo_are_removed(tmp_path: Path) -> None:
    with claimed(tmp_path, photo("s", 1)) as workspace:
        targets = [workspace.scene_ply, workspace.scene_json, workspace.mask_png("a"), workspace.phrases_json]
        leftovers = []
        for path in targets:
            with atomic_path(path) as temporary:
                leftovers.append(temporary)
        for temporary in leftovers:
            temporary.write_bytes(b"half")
    with claimed(tmp_path, photo("s", 1)):
        assert not any(temporary.exists() for temporary in leftovers)


def test_a_photo_whose_short_hash_is_taken_gets_a_longer_one(tmp_path: Path) -> None:
    one, two = photo("s", 1), dataclasses.replace(photo("s", 2), sha256="0" * 60 + "1111")
    with claimed(tmp_path, one) as first, claimed(tmp_path, two) as second:
        third_photo = dataclasses.replace(two, sha256="0" * 60 + "2222")
        with claimed(tmp_path, third_photo) as third:
            assert len({first.photo, second.photo, third.photo}) == 3


def test_names_that_are_all_taken_are_an_error_and_no_endless_search(tmp_path: Path) -> None:
    wanted = photo("s", 1)
    for name in ("s", *(f"s-{wanted.sha256[:length]}" for length in (8, 16, 64))):
        manifests.save(Workspace(tmp_path, name).manifest, Manifest(photo={"name": name, "sha256": "planted"}))
    with pytest.raises(BadInputError, match="another photo"), claimed(tmp_path, wanted):
        pass


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    with claimed(tmp_path, photo("s", 1)) as workspace:
        pass
    lock = workspace.run_dir / ".lock"
    lock.unlink()
    lock.symlink_to(victim)
    with pytest.raises(Sam3dGsError, match=r"\.lock"), locked(workspace):
        pass
    assert victim.read_text() == "precious"


def _wait_for(root: Path, done: Path) -> None:
    with claimed(root, photo("s", 1), waits=True) as workspace:
        done.write_text(str(workspace.manifest.exists()))


def test_a_folder_removed_while_waiting_is_created_again(tmp_path: Path) -> None:
    done = tmp_path / "done"
    with claimed(tmp_path, photo("s", 1)) as workspace:
        waiting = PROCESSES.Process(target=_wait_for, args=(tmp_path, done))
        waiting.start()
        waiting.join(0.3)
        shutil.rmtree(workspace.run_dir)  # as `sam3d-gs clean` does
    waiting.join(30)
    assert waiting.exitcode == 0
    assert done.read_text() == "True"
