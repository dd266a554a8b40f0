"""One process per photo at a time: a second one fails or waits."""

from __future__ import annotations

import threading

import pytest

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
