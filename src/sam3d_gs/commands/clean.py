"""`sam3d-gs clean`: remove the outputs of photos, and nothing else."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sam3d_gs.commands.options import Root
from sam3d_gs.commands.terminal import say_path, tell
from sam3d_gs.errors import EXIT_PARTIAL, as_one_line

if TYPE_CHECKING:
    from sam3d_gs.errors import Sam3dGsError
    from sam3d_gs.workspace import Workspace


def clean(
    photos: Annotated[
        list[Path], typer.Argument(help="Photos, or their names in the workspace.", metavar="PHOTO", readable=False)
    ],
    workspace: Root = Path(),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be removed.")] = False,
) -> None:
    """Remove the outputs of photos, and nothing else. Exit code 3 if those of some cannot be removed."""
    from sam3d_gs.pipeline import find_workspace

    root = workspace.absolute()
    failed: list[Sam3dGsError] = []
    for photo in photos:
        try:
            for path in remove(find_workspace(root, photo), dry_run):
                say_path(path)
        except Exception as error:  # that of one photo is no reason to leave the others
            if len(photos) == 1 or isinstance(error, BrokenPipeError):
                raise
            failed.append(as_one_line(error))
            tell(f"Error in {photo.name}: {failed[-1]}")
    if failed:
        raise typer.Exit(EXIT_PARTIAL if len(failed) < len(photos) else failed[0].exit_code)


def remove(workspace: Workspace, dry_run: bool = False) -> list[Path]:
    """Delete everything in the workspace that belongs to this photo, and return the paths, files first.

    `dry_run` only returns them. The photo itself is never touched; a symbolic link is removed, not followed.
    Raises Sam3dGsError if something cannot be removed.
    """
    from sam3d_gs.stages.claim import locked

    folders = [folder for folder in workspace.folders() if folder != workspace.dropped_masks_dir]  # in masks_dir
    doomed = [path for path in [*workspace.in_multi_dir(), *folders] if os.path.lexists(path)]
    if not dry_run:
        with locked(workspace):
            for path in doomed:
                _remove(path)
    return doomed


def _remove(path: Path) -> None:
    from sam3d_gs.files import cannot_write

    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError as error:
        raise cannot_write(path, error) from error
