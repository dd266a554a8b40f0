"""`sam3d-gs checkpoints`: download the weights of the full profile, verify them, and list where they are."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sam3d_gs.commands.help_pages import HelpTyper
from sam3d_gs.commands.terminal import say, say_json, tell
from sam3d_gs.errors import EXIT_FAILED, EXIT_STOPPED, UsageError
from sam3d_gs.weights.repositories import REPOSITORIES, Repository, find_repository

if TYPE_CHECKING:
    from sam3d_gs.weights.checkpoints import Checkpoints, Store
    from sam3d_gs.weights.hub import Access
    from sam3d_gs.weights.remote_files import RemoteFile

log = logging.getLogger("sam3d_gs")
app = HelpTyper()

_KNOWN = ", ".join(repository.name for repository in REPOSITORIES)
Names = Annotated[
    list[str] | None,
    typer.Argument(help=f"{_KNOWN}, or owner/name on the hub. Default: the first four.", metavar="NAME"),
]
Folders = Annotated[
    list[str],
    typer.Option("--folder", help="Folder of NAME's files, instead of the hub's cache.", metavar="NAME=DIR"),
]
Root = Annotated[
    Path,
    typer.Option("--workspace", "-w", help="Root of all output folders.", envvar="SAM3D_GS_WORKSPACE", file_okay=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def download(
    names: Names = None,
    everything: Annotated[bool, typer.Option("--all", help="Also files that the full profile does not need.")] = False,
    folder: Folders = [],  # noqa: B006  Typer copies it
    workspace: Root = Path(),
) -> None:
    """Download missing files. Access and disk space are checked first; every file is verified."""
    from sam3d_gs.weights.download import download as download_missing

    with _transfers():
        done = download_missing(
            stores(names, folder, workspace), everything, on_access=_log_access, on_file=_log_download
        )
    _print(done)


@app.command()
def verify(
    names: Names = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Download only the damaged and missing files again.")
    ] = False,
    sizes_only: Annotated[bool, typer.Option("--sizes", help="Compare only sizes; takes no time.")] = False,
    folder: Folders = [],  # noqa: B006
    workspace: Root = Path(),
    as_json: AsJson = False,
) -> None:
    """Compare the files' sizes and SHA-256 with the hub's or, offline, with those recorded at the download."""
    from sam3d_gs.weights import checkpoints
    from sam3d_gs.weights.download import download as download_missing

    selected = stores(names, folder, workspace)
    found = checkpoints.verify(selected, hash_too=not sizes_only)
    broken = {state.repository.id for state in found if not state.complete}
    if repair and broken:
        with _transfers():
            repaired = download_missing(
                [store for store in selected if store.repository.id in broken],
                hash_too=not sizes_only,
                on_access=_log_access,
                on_file=_log_download,
            )
        found = [state for state in found if state.complete] + repaired
    _print(found, as_json)
    if not all(state.complete for state in found):
        raise typer.Exit(EXIT_FAILED)


@app.command("list")
def list_(names: Names = None, folder: Folders = [], workspace: Root = Path(), as_json: AsJson = False) -> None:  # noqa: B006
    """List the checkpoints, their state and where they are on this disk, without asking the hub."""
    from sam3d_gs.weights.checkpoints import inspect

    _print([inspect(store) for store in stores(names, folder, workspace)], as_json)


def stores(names: list[str] | None, folders: list[str], workspace: Path) -> list[Store]:
    """The repositories named on the command line, each with its folder on this disk. Raises UsageError."""
    from sam3d_gs.weights.checkpoints import Store
    from sam3d_gs.weights.hub import Hub

    own = {}
    for pair in folders:
        name, equals, path = pair.partition("=")
        if not equals or not path:
            raise UsageError(f"--folder {pair}: expected NAME=DIR, e.g. sam-3d-objects=/data/checkpoints/hf.")
        own[find_repository(name).id] = _folder(pair, path)
    hub = Hub.from_environment()
    repositories = [find_repository(name) for name in names] if names else list(REPOSITORIES)
    found = [Store(placed(repository, own, workspace), hub) for repository in dict.fromkeys(repositories)]
    roots: dict[Path, str] = {}
    for store in found:
        other = roots.setdefault(store.root, store.repository.id)
        if other != store.repository.id:
            raise UsageError(
                f"--folder: {other} and {store.repository.id} cannot share {store.root}. Give each its own."
            )
    return found


def _folder(pair: str, path: str) -> Path:
    """The folder of one --folder. Raises UsageError."""
    try:
        folder = Path(path).expanduser().absolute()
        real = folder.resolve()
        if real.exists() and not real.is_dir():
            raise UsageError(f"--folder {pair}: {folder} is a file, expected a folder.")
    except (OSError, RuntimeError, ValueError) as error:  # a name too long, a loop of links, ~nobody
        raise UsageError(f"--folder {pair}: {error}") from error
    if real == Path(real.anchor):
        raise UsageError(f"--folder {pair}: this is the root of the file system. Give a folder for these files alone.")
    return folder


def placed(repository: Repository, own: dict[str, Path], workspace: Path) -> Repository:
    """The repository with its folder: from --folder, the default, or for MoGe where the objects engines look first."""
    folder = own.get(repository.id)
    if folder is None and repository.folder is not None:
        folder = workspace.absolute() / repository.folder
    if folder is not None and not (folder / "pipeline.yaml").exists() and (folder / "checkpoints").is_dir():
        folder = folder / repository.prefix  # as the hub's own command downloads it
    if folder is None and repository.name == "moge":
        objects = placed(find_repository("sam-3d-objects"), own, workspace).folder
        if objects is not None and (objects / "moge-vitl" / "model.pt").is_file():
            folder = objects / "moge-vitl"
    return replace(repository, folder=folder)


def _log_access(repository: Repository, access: Access) -> None:
    log.info("%s: access %s", repository.id, access.state)


def _print(found: list[Checkpoints], as_json: bool = False) -> None:
    from sam3d_gs.commands.status import aligned

    if as_json:
        say_json([as_data(state) for state in found])
        return
    rows = [["checkpoints", "repository", "size", "access", "state", "compared with", "folder"]]
    for state in found:
        repository = state.repository
        size = f"{repository.gib:.1f} GiB" if repository.gib else "-"
        gate = "on request" if repository.gated else "free"
        rows.append([repository.name, repository.id, size, gate, state.summary, state.compared_with, str(state.where)])
    say("\n".join(aligned(rows)))
    for state in found:
        for file in state.bad if state.summary != "not here" else ():
            say(f"  {file.state}: {file.path}")
    if not all(state.complete for state in found):
        names = " ".join(state.repository.name for state in found if not state.complete)
        say(f"Download what is missing: sam3d-gs checkpoints download {names}")


def as_data(state: Checkpoints) -> dict[str, Any]:
    """The state of one repository for --json."""
    return {
        "name": state.repository.name,
        "repository": state.repository.id,
        "licence": state.repository.licence,
        "gated": state.repository.gated,
        "where": str(state.where),
        "complete": state.complete,
        "compared_with": state.compared_with,
        "files": [
            {"name": file.name, "path": str(file.path), "bytes": file.size, "state": file.state} for file in state.files
        ],
    }


def _log_download(repository: Repository, file: RemoteFile) -> None:
    name = f"{repository.name}/{file.name.removeprefix(repository.prefix)}"
    log.info("%s (%.1f MiB) ...", name, (file.size or 0) / 2**20)


@contextmanager
def _transfers() -> Iterator[None]:
    """Show huggingface_hub's progress bars unless --quiet, and silence its log: its errors are raised as ours."""
    from sam3d_gs.weights.hub import library

    hub = library().utils
    verbosity, bars_off = hub.logging.get_verbosity(), hub.are_progress_bars_disabled()
    hub.logging.set_verbosity_error()
    if not log.isEnabledFor(logging.INFO):
        hub.disable_progress_bars()
    try:
        yield
    except KeyboardInterrupt:
        tell("Stopped. Finished files are kept; run the same command again to resume.")
        raise typer.Exit(EXIT_STOPPED) from None
    finally:
        hub.logging.set_verbosity(verbosity)
        if not bars_off:
            hub.enable_progress_bars()
