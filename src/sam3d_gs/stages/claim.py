"""Locks: one folder per photo, and one process per photo at a time.

Two photos with the same stem must not share a folder, even if their first stages start simultaneously. So a photo's
folder is assigned and its manifest written under a workspace-wide lock, which is held only briefly; the photo's own
lock is held while a stage works on it.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from PIL import Image

from sam3d_gs import manifest as manifests
from sam3d_gs.errors import BadInputError, Sam3dGsError
from sam3d_gs.files import atomic_path, cannot_write, clear_temporary
from sam3d_gs.manifest import Manifest
from sam3d_gs.types import Photo
from sam3d_gs.workspace import Workspace, folder_name

if sys.platform != "win32":  # Windows has no flock
    import fcntl

log = logging.getLogger("sam3d_gs")

_TAKEN = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES}  # every other error of flock is about the file system
_MAX_REMOVALS = 100  # while waiting; more only on a file system that gives one file different numbers
_unlockable: set[int] = set()  # devices whose file system cannot lock, named in a warning already


@contextmanager
def claimed(root: Path, photo: Photo, waits: bool = False) -> Iterator[Workspace]:
    """The photo's workspace, with its folder created and locked for this process while the block runs.

    If another process holds the photo, `waits` decides: wait for it, or raise Sam3dGsError.
    """
    while True:
        workspace = _assigned(root, photo)
        with locked(workspace, waits):
            if manifests.photo_hash(workspace.manifest) != photo.sha256:  # `sam3d-gs clean` ran between the two locks
                continue
            clear_leftovers(workspace)
            _write_image(workspace, photo)
            yield workspace
            return


def _assigned(root: Path, photo: Photo) -> Workspace:
    """The photo's workspace; a new one is assigned to it by writing its manifest. Raises BadInputError for links."""
    with _lock(Workspace(root, "x").run_dir.parent / ".lock", waits=True):
        workspace = Workspace(root, folder_name(root, photo.name, photo.sha256))
        _refuse_links(workspace.folders())
        manifest = manifests.load(workspace.manifest)
        if manifest is not None and manifest.photo["sha256"] != photo.sha256:
            raise BadInputError(
                f"{workspace.manifest} is of another photo, and so are all manifests of this name. Delete it."
            )
        if manifest is None:
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
    """Write image.png, the picture that masks and K refer to."""
    if not _same_size(workspace.image_png, photo):
        with atomic_path(workspace.image_png) as temporary:
            Image.fromarray(photo.rgb).save(temporary, compress_level=3)


def _same_size(image_png: Path, photo: Photo) -> bool:
    if not image_png.is_file():  # nothing, or a pipe, which would block
        return False
    try:
        with Image.open(image_png, formats=("PNG",)) as image:
            return image.size == (photo.width_px, photo.height_px)
    except Exception:  # it is damaged, and decoders raise nearly everything
        return False


@contextmanager
def locked(workspace: Workspace, waits: bool = False) -> Iterator[None]:
    """Hold the photo's lock. If another process holds it, `waits` decides: wait for it, or raise Sam3dGsError.

    Raises BadInputError if its folder is a symbolic link.
    """
    _refuse_links([workspace.run_dir])
    with ExitStack() as held:
        try:
            held.enter_context(_lock(workspace.run_dir / ".lock", waits))
        except BlockingIOError as error:
            raise Sam3dGsError(
                f"Another sam3d-gs is working on {workspace.photo!r} in {workspace.root}. Wait for it to end."
            ) from error
        yield


def _refuse_links(folders: Iterable[Path]) -> None:
    """A workspace may come from anywhere, so nothing is written through a link in place of a photo's folder.

    The folders above, which all photos share, may be links: to a larger disk, for example.
    """
    for folder in folders:
        if folder.is_symlink():
            raise BadInputError(
                f"{folder} is a symbolic link, and nothing is written through it. Remove the link and try again."
            )


@contextmanager
def _lock(path: Path, waits: bool) -> Iterator[None]:
    """Hold an exclusive lock on a file, which is created if missing. Raises BlockingIOError if it is taken.

    On a file system without locks (some of NFS, Lustre, FUSE) the block runs unlocked, after a warning.
    """
    if sys.platform == "win32":
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
        return
    handle = _open_locked(path, waits)
    try:
        yield
    finally:
        with suppress(OSError):  # closing is not enough: a forked child may hold a copy
            fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)


def _open_locked(path: Path, waits: bool) -> int:
    """A locked file descriptor; reopens the file if it was removed while waiting for the lock."""
    removals = 0
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # No O_TRUNC, and no following of links: a planted link must not damage its target.
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except OSError as error:
            if path.is_symlink():
                raise BadInputError(
                    f"{path} is a symbolic link and is not followed. Remove it and try again."
                ) from error
            raise cannot_write(path, error) from error
        try:
            _flock(handle, path, waits)
            if _is_same_file(path, handle) or removals == _MAX_REMOVALS:
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
        removals += 1


def _flock(handle: int, path: Path, waits: bool) -> None:
    """Lock an open file. Raises BlockingIOError if another process holds it."""
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if not waits or error.errno not in _TAKEN:
                raise
            log.info("Waiting for another sam3d-gs, which holds %s.", path)
            fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno in _TAKEN:
            raise BlockingIOError(error.errno, error.strerror) from error
        device = os.fstat(handle).st_dev
        if device not in _unlockable:
            _unlockable.add(device)
            log.warning(
                "The file system of %s cannot lock files (%s). Going on without: do not run two commands on the same "
                "photo at the same time.",
                path.parent,
                error.strerror or error,
            )


def _is_same_file(path: Path, handle: int) -> bool:
    """Whether `path` still names the open file."""
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(handle))
    except FileNotFoundError:
        return False


def clear_leftovers(workspace: Workspace) -> None:
    """Remove the temporary files that killed runs of this photo left; those of other photos may be in use."""
    for folder in workspace.folders():
        clear_temporary(folder)
    clear_temporary(workspace.multi_dir, workspace.in_multi_dir())
