"""Locks: one folder per photo, and one process per photo at a time.

Two photos with the same stem must not share a folder, even if their first stages start simultaneously. So a photo's
folder is assigned and its manifest written under a workspace-wide lock, which is held only briefly; the photo's own
lock is held while a stage works on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from PIL import Image

from sam3d_gs import manifest as manifests
from sam3d_gs.errors import BadInputError, Sam3dGsError
from sam3d_gs.files import atomic_path, clear_temporary
from sam3d_gs.locks import hold
from sam3d_gs.manifest import Manifest
from sam3d_gs.types import Photo
from sam3d_gs.workspace import Workspace, folder_name


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
    with hold(Workspace(root, "x").run_dir.parent / ".lock", waits=True):
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
            held.enter_context(hold(workspace.run_dir / ".lock", waits))
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


def clear_leftovers(workspace: Workspace) -> None:
    """Remove the temporary files that killed runs of this photo left; those of other photos may be in use."""
    for folder in workspace.folders():
        clear_temporary(folder)
    clear_temporary(workspace.multi_dir, workspace.in_multi_dir())
