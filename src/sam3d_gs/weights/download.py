"""Downloads the missing and damaged files of repositories: access first, then disk space, then files.

huggingface_hub transfers a file into a folder for incoming files on the same disk. There its size and digest are
compared with the hub's, and only then is it moved into place: an old file stays until the new one is verified.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sam3d_gs.errors import Sam3dGsError
from sam3d_gs.files import cannot_write
from sam3d_gs.weights.checkpoints import Checkpoints, Store, inspect, matches
from sam3d_gs.weights.hub import Access, RemoteFile, TransferError, library
from sam3d_gs.weights.repositories import Repository

log = logging.getLogger("sam3d_gs")

_LOCK, _INCOMING = ".sam3d_gs.lock", ".sam3d_gs.incoming"
ATTEMPTS = 5  # of one file, while its connection fails
_WAIT_S = 1.0  # between them
_GIB = 2**30

OnFile = Callable[[Repository, RemoteFile], None]
OnAccess = Callable[[Repository, Access], None]


@dataclass(frozen=True)
class _Plan:
    """What one repository should have here, at one commit."""

    store: Store
    commit: str
    wanted: tuple[RemoteFile, ...]
    bad: tuple[RemoteFile, ...]  # those of `wanted` that are missing or damaged


def download(
    stores: Sequence[Store],
    everything: bool = False,
    hash_too: bool = False,
    on_access: OnAccess = lambda repository, access: None,
    on_file: OnFile = lambda repository, file: None,
) -> list[Checkpoints]:
    """Download files that are missing or have the wrong size, and return what is here afterwards.

    Args:
        stores: where the files belong.
        everything: also files that the full profile does not need.
        hash_too: also replace files whose digest is wrong.
        on_access: called with the hub's answer for each repository, before anything is downloaded.
        on_file: called before each file.

    Raises Sam3dGsError. Nothing is downloaded unless every repository may be read and the disks have room for all.
    """
    present = [inspect(store) for store in stores]
    if all(store.hub.offline for store in stores):
        incomplete = [state.repository.id for state in present if not state.complete]
        if incomplete:
            raise Sam3dGsError(f"HF_HUB_OFFLINE is set, and {', '.join(incomplete)} is not complete here. Unset it.")
        return present
    _check_access(stores, on_access)
    plans = [_plan(store, everything, hash_too) for store in stores]
    with ExitStack() as locks:
        for plan in plans:
            locks.enter_context(_alone(plan.store.root))
            _clear_leftovers(plan.store.root / _INCOMING)
        _check_space(plans)
        for plan in plans:
            _carry_out(plan, on_file)
    return [inspect(plan.store, remote=(plan.commit, plan.wanted)) for plan in plans]


def _plan(store: Store, everything: bool, hash_too: bool) -> _Plan:
    commit, files = store.hub.files(store.repository.id)
    wanted = tuple(file for file in files if store.repository.wants(file.name, everything))
    bad = {file.name for file in inspect(store, hash_too, (commit, wanted)).bad}
    return _Plan(store, commit, wanted, tuple(file for file in wanted if file.name in bad))


def _check_access(stores: Sequence[Store], on_access: OnAccess) -> None:
    denied = []
    for store in stores:
        access = store.hub.access(store.repository.id, store.repository.essential[0])
        on_access(store.repository, access)
        if not access.granted:
            denied.append(f"{store.repository.id}: {access.state}. {access.advice}")
    if denied:
        raise Sam3dGsError(f"Nothing was downloaded: {' '.join(denied)}")


def _check_space(plans: Iterable[_Plan]) -> None:
    needed: dict[int, tuple[int, Path]] = {}  # device -> bytes, folder
    for plan in plans:
        for file in plan.bad:
            folder = next(parent for parent in plan.store.blob(file).absolute().parents if parent.exists())
            device = folder.stat().st_dev
            needed[device] = (needed.get(device, (0, folder))[0] + (file.size or 0), folder)
    for size, folder in needed.values():
        free = shutil.disk_usage(folder).free
        if size > free:
            raise Sam3dGsError(
                f"The download needs {size / _GIB:.1f} GiB, and only {free / _GIB:.1f} GiB are free at {folder}. "
                "Free some space, or choose another disk with HF_HOME or --folder. Nothing was downloaded."
            )


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """One download at a time into one place."""
    import filelock  # comes with huggingface_hub

    try:
        root.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(root / _LOCK, timeout=0):
            yield
    except filelock.Timeout as error:
        raise Sam3dGsError(f"Another download into {root} is running. Wait for it, then try again.") from error


def _clear_leftovers(incoming: Path) -> None:
    """Remove partial files of a killed process. huggingface_hub gives them random names since June 2026 and never
    resumes them; before, the name was the file's digest, and a later process did."""
    for path in incoming.rglob("*.incomplete"):
        if re.search(r"\.[0-9a-f]{8}\.incomplete$", path.name):
            path.unlink(missing_ok=True)


def _carry_out(plan: _Plan, on_file: OnFile) -> None:
    store = plan.store
    store.point_to(plan.commit)
    for file in plan.bad:
        on_file(store.repository, file)
        _bring(store, file, plan.commit)
    store.record(plan.commit, plan.wanted)
    shutil.rmtree(store.root / _INCOMING, ignore_errors=True)


def _bring(store: Store, file: RemoteFile, commit: str) -> None:
    """Make a file complete where engines look for it."""
    target, pointer = store.blob(file), store.path(file.name, commit)
    if not _intact(target, file):
        fetch(store, file, commit)
    if pointer != target:
        pointer.unlink(missing_ok=True)
        # The bytes are where huggingface_hub keeps them: it only adds its link.
        library().hf_hub_download(
            store.repository.id,
            file.name,
            revision=commit,
            cache_dir=store.hub.cache,
            endpoint=store.hub.endpoint,
            token=store.hub.credentials,
        )


def fetch(store: Store, file: RemoteFile, commit: str) -> None:
    """Download a file, verify it and move it to `store.blob(file)`; a second time if it arrived damaged.

    Raises Sam3dGsError; nothing has changed then.
    """
    repository, target = store.repository.id, store.blob(file)
    for attempt in range(2):
        arrived = _transfer(store, file, commit, again=attempt > 0)
        if _intact(arrived, file):
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(arrived, target)
            except OSError as error:
                raise cannot_write(target, error) from error
            return
        arrived.unlink()
        log.warning("%s: %s arrived damaged%s.", repository, file.name, "" if attempt else "; trying once more")
    raise Sam3dGsError(
        f"{repository}: {file.name} arrived twice with a digest other than the hub's, so it was not kept. "
        f"Check the proxy or mirror ({store.hub.endpoint}) and run the same command again."
    )


def _transfer(store: Store, file: RemoteFile, commit: str, again: bool) -> Path:
    """Download a file to the folder for incoming files. huggingface_hub 0.x and early 1.x give up when a connection
    drops, but resume in the next call; later ones have resumed by themselves before they give up."""
    folder = store.root / _INCOMING
    for _ in range(ATTEMPTS - 1):
        try:
            return store.hub.download(store.repository.id, file.name, commit, folder, again=again)
        except TransferError as error:
            log.debug("%s", error)
            time.sleep(_WAIT_S)
            again = False
    return store.hub.download(store.repository.id, file.name, commit, folder, again=again)


def _intact(path: Path, file: RemoteFile) -> bool:
    return path.is_file() and file.size in (None, path.stat().st_size) and matches(path, file.digest)
