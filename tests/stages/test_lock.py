"""One process per photo at a time: a second one fails or waits."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from sam3d_gs import locks
from sam3d_gs.errors import Sam3dGsError
from sam3d_gs.stages.bookkeeping import Context
from sam3d_gs.stages.claim import locked


def test_a_locked_photo_is_refused(context: Context) -> None:
    message = "Another sam3d-gs is working on 'kitchen'"
    with locked(context.workspace), pytest.raises(Sam3dGsError, match=message), locked(context.workspace):
        pass
    with locked(context.workspace):
        pass


def test_waits_until_the_lock_is_released(context: Context) -> None:
    events: list[str] = []

    def second() -> None:
        with locked(context.workspace, waits=True):
            events.append("second")

    with locked(context.workspace):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.1)
        events.append("first ends")
    thread.join(10)
    assert events == ["first ends", "second"]


def _failing(code: int) -> Callable[[int, int], None]:
    def flock(handle: int, operation: int) -> None:
        if operation & fcntl.LOCK_EX:
            raise OSError(code, os.strerror(code))

    return flock


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.EIO])
@pytest.mark.parametrize("waits", [False, True])
def test_a_file_system_without_locks_is_no_other_process(
    context: Context, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: int, waits: bool
) -> None:
    monkeypatch.setattr(fcntl, "flock", _failing(code))
    monkeypatch.setattr(locks, "_unlockable", set())
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            with locked(context.workspace, waits):
                pass
    assert caplog.text.count("cannot lock files") == 1
    assert os.strerror(code) in caplog.text


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.EACCES])
def test_a_lock_held_over_the_network_is_another_process(
    context: Context, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(fcntl, "flock", _failing(code))
    with pytest.raises(Sam3dGsError, match="Another sam3d-gs"), locked(context.workspace):
        pass


def test_an_error_of_the_work_is_no_lock_error(context: Context) -> None:
    with pytest.raises(BlockingIOError, match="of the work"), locked(context.workspace):
        raise BlockingIOError("of the work")


def test_a_file_system_that_renumbers_files_does_not_wait_for_ever(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os.path, "samestat", lambda one, other: False)
    with locked(context.workspace):
        pass


def test_a_planted_lock_keeps_its_content(context: Context) -> None:
    lock: Path = context.workspace.run_dir / ".lock"
    lock.unlink(missing_ok=True)
    lock.write_text("kept")
    with locked(context.workspace):
        pass
    assert lock.read_text() == "kept"
