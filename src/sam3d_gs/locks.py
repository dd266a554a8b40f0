"""Exclusive locks between processes, as files."""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sam3d_gs.errors import BadInputError
from sam3d_gs.files import cannot_write

if sys.platform != "win32":  # Windows has no flock
    import fcntl

log = logging.getLogger("sam3d_gs")

_TAKEN = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES}  # every other error of flock is about the file system
_MAX_REMOVALS = 100  # while waiting; more only on a file system that gives one file different numbers
_unlockable: set[int] = set()  # devices whose file system cannot lock, named in a warning already


@contextmanager
def hold(path: Path, waits: bool = False, instead: str = "another --workspace") -> Iterator[None]:
    """Hold an exclusive lock on a file, which is created if missing. Raises BlockingIOError if it is taken.

    On a file system without locks (some of NFS, Lustre, FUSE) the block runs unlocked, after a warning.
    """
    if sys.platform == "win32":
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
        return
    handle = _open_locked(path, waits, instead)
    try:
        yield
    finally:
        with suppress(OSError):  # closing is not enough: a forked child may hold a copy
            fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)


def _open_locked(path: Path, waits: bool, instead: str) -> int:
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
            raise cannot_write(path, error, instead) from error
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
                "The file system of %s cannot lock files (%s). Continuing without locks: do not run two "
                "commands there on the same photo, or two downloads, at the same time.",
                path.parent,
                error.strerror or error,
            )


def _is_same_file(path: Path, handle: int) -> bool:
    """Whether `path` still names the open file."""
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(handle))
    except FileNotFoundError:
        return False
