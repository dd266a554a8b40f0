"""Which files a user has edited since the program wrote them. An edited file is never lost.

Files that users may edit (`Workspace.is_editable`) are recorded with a `Stamp` when they are written. A stage keeps an
edited file and works with it; where it cannot, it refuses and says why. With --force the new file replaces the edited
one, which then stays beside it under another name (`Workspace.set_aside`).
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path

from sam3d_gs.files import cannot_write, sha256_of
from sam3d_gs.manifest import StageRecord, Stamp
from sam3d_gs.workspace import Workspace

log = logging.getLogger("sam3d_gs")


def stamp(path: Path) -> Stamp:
    """The stamp of a file that was just written."""
    return Stamp(sha256_of(path), path.stat().st_mtime_ns // 1000)


def differs(path: Path, size: int | None, stamped: Stamp | None) -> bool:
    """Whether the file is there and is not the one of that size and stamp. None: not known, so not compared."""
    try:
        found = path.stat()
    except OSError:
        return False
    if size is not None and found.st_size != size:
        return True
    if stamped is None or found.st_mtime_ns // 1000 == stamped.mtime_us:
        return False
    return sha256_of(path) != stamped.sha256


def is_edited(workspace: Workspace, record: StageRecord | None, path: Path) -> bool:
    """Whether a user has changed the file since the stage of `record` wrote it; a deleted file is not edited."""
    if record is None or not workspace.is_editable(path):
        return False
    name = workspace.relative(path)
    sizes = {item.output: item.size for item in record.items.values()}
    return differs(path, record.outputs.get(name, sizes.get(name)), record.stamps.get(name))


def edited_files(workspace: Workspace, record: StageRecord | None) -> list[Path]:
    """All files of a stage that a user has changed since."""
    if record is None:
        return []
    names = {*record.outputs, *(item.output for item in record.items.values()), *record.stamps}
    return [path for path in (workspace.root / name for name in sorted(names)) if is_edited(workspace, record, path)]


def set_aside(workspace: Workspace, edited: Iterable[Path], why: str = "a new one replaces it") -> None:
    """Keep edited files under another name, and say so; they also stay in place until something replaces them.

    Raises Sam3dGsError when that fails.
    """
    for path in edited:
        kept = workspace.set_aside(path)
        try:
            kept.unlink(missing_ok=True)
            _link_or_copy(path, kept)
        except OSError as error:
            raise cannot_write(kept, error) from error
        log.warning("%s: %s was edited by hand, and %s. Yours is kept as %s.", workspace.photo, path, why, kept.name)


def _link_or_copy(path: Path, target: Path) -> None:
    try:
        os.link(path, target)
    except OSError:  # a file system without hard links
        shutil.copy2(path, target)


def names(paths: Collection[Path]) -> str:
    """File names for a message; no more than three of them."""
    listed = [path.name for path in paths]
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")
