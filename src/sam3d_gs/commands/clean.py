"""Remove one photo's outputs, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

from sam3d_gs.files import cannot_write
from sam3d_gs.stages.bookkeeping import locked
from sam3d_gs.workspace import Workspace


def clean(workspace: Workspace, dry_run: bool = False) -> list[Path]:
    """Delete (or only list) everything below the workspace that belongs to this photo; the paths, files last.

    The photo itself is never touched. A symbolic link is removed, not followed.
    """
    files = [workspace.scene_ply, workspace.scene_json, workspace.turntable("webp"), workspace.turntable("gif")]
    files += workspace.exports()
    # The run folder goes last: it holds the manifest, which says whose the others are.
    folders = [workspace.masks_dir, workspace.objects_dir, workspace.single_dir, workspace.run_dir]
    doomed = [path for path in [*files, *folders] if path.exists() or path.is_symlink()]
    if not dry_run:
        with locked(workspace):
            for path in doomed:
                _remove(path)
    return doomed


def _remove(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError as error:
        raise cannot_write(path, error) from error
