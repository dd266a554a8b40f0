"""One process per photo, and one folder per photo: who may work where.

Two photos of one stem must not share a folder, even when their first stages start at the same moment. So a photo's name
in the workspace is looked up, and its owner written down, under a lock of the whole workspace that is held for a moment
only; the photo's own lock is then held while a stage works on it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from sam3d_gs import manifest as manifests
from sam3d_gs.errors import Sam3dGsError
from sam3d_gs.files import atomic_path, cannot_write, clear_temporary
from sam3d_gs.manifest import Manifest
from sam3d_gs.types import Photo
from sam3d_gs.workspace import Workspace, folder_name

if sys.platform != "win32":  # which has no such locks
    import fcntl


@contextmanager
def claimed(root: Path, photo: Photo, waits: bool = False) -> Iterator[Workspace]:
    """The photo's workspace, for this process alone while the block runs, with its folder made.

    When another process works on the photo: waits for its end, or raises Sam3dGsError.
    """
    while True:
        workspace = _named(root, photo)
        with locked(workspace, waits):
            if manifests.photo_hash(workspace.manifest) != photo.sha256:  # cleaned away between the two locks
                continue
            clear_leftovers(workspace)
            _write_image(workspace, photo)
            yield workspace
            return


def _named(root: Path, photo: Photo) -> Workspace:
    """The workspace that belongs to the photo; a new one is entered as its own at once."""
    with _lock(Workspace(root, "x").run_dir.parent / ".lock", waits=True):
        workspace = Workspace(root, folder_name(root, photo.name, photo.sha256))
        if manifests.load(workspace.manifest) is None:
            manifests.save(
                workspace.manifest,
                Manifest(
                    photo={
                        "name": workspace.photo,
                        "file": str(photo.path),
                        "sha256": photo.sha256,
                        "width_px": photo.width_px,
                        "height_px": photo.height_px,
                    }
                ),
            )
        return workspace


def _write_image(workspace: Workspace, photo: Photo) -> None:
    """image.png: the picture that masks and `K` refer to."""
    if not _same_size(workspace.image_png, photo):
        with atomic_path(workspace.image_png) as temporary:
            Image.fromarray(photo.rgb).save(temporary, compress_level=3)


def _same_size(image_png: Path, photo: Photo) -> bool:
    try:
        with Image.open(image_png) as image:
            return image.size == (photo.width_px, photo.height_px)
    except OSError:
        return False


@contextmanager
def locked(workspace: Workspace, waits: bool = False) -> Iterator[None]:
    """One process per photo at a time. When another one is at work: waits for its end, or raises Sam3dGsError."""
    try:
        with _lock(workspace.run_dir / ".lock", waits):
            yield
    except BlockingIOError as error:
        raise Sam3dGsError(
            f"Another sam3d-gs is working on {workspace.photo!r} in {workspace.root}. Wait for it to end."
        ) from error


@contextmanager
def _lock(path: Path, waits: bool) -> Iterator[None]:
    """Hold an exclusive lock on a file, made if it is not there. Raises BlockingIOError when it is taken."""
    if sys.platform == "win32":
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
        return
    handle = _open_locked(path, waits)
    try:
        yield
    finally:
        fcntl.flock(handle, fcntl.LOCK_UN)  # also for a child process that was forked meanwhile and has a copy
        os.close(handle)


def _open_locked(path: Path, waits: bool) -> int:
    """A locked file descriptor. The file is opened again when it was removed while we waited for it."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Never followed, never truncated: a planted link must not damage what it points to.
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise cannot_write(path, error) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
            if _is_still(path, handle):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _is_still(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(handle))
    except FileNotFoundError:
        return False


def clear_leftovers(workspace: Workspace) -> None:
    """Remove temporary files of killed runs of this photo; those of other photos may be in use."""
    masks = workspace.masks_dir
    for folder in (workspace.run_dir, masks, masks / "dropped", workspace.objects_dir, workspace.single_dir):
        clear_temporary(folder)
    clear_temporary(workspace.multi_dir, workspace.in_multi_dir())
