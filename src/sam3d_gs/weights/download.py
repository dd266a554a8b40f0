"""Downloads the missing and damaged files of repositories: access first, then disk space, then files.

A file arrives in a folder for incoming files on the same disk. There its size and digest are compared with the hub's,
and only then is it moved into place: an old file stays until the new one is verified. Where everything is here already,
nothing is written, so caches on read-only disks are fine.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sam3d_gs.errors import Sam3dGsError
from sam3d_gs.files import cannot_write
from sam3d_gs.locks import hold
from sam3d_gs.weights.checkpoints import NAMES_ONLY, Checkpoints, Store, inspect, matches
from sam3d_gs.weights.hub import ATTEMPTS, ELSEWHERE, LONGEST_WAIT_S, Access, library, wait
from sam3d_gs.weights.remote_files import Listing, RemoteFile, clash
from sam3d_gs.weights.repositories import Repository
from sam3d_gs.weights.transfer import TransferError, disguise

log = logging.getLogger("sam3d_gs")

_LOCK, _INCOMING = ".sam3d_gs.lock", ".sam3d_gs.incoming"
_GIB = 2**30

OnFile = Callable[[Repository, RemoteFile], None]
OnAccess = Callable[[Repository, Access], None]


@dataclass(frozen=True)
class _Plan:
    """What one repository should have here, at one commit."""

    store: Store
    wanted: Listing
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
    present = [inspect(store, hash_too) for store in stores]
    if all(store.hub.offline for store in stores):
        incomplete = [state.repository.id for state in present if not state.complete]
        if incomplete:
            raise Sam3dGsError(f"HF_HUB_OFFLINE is set, and {', '.join(incomplete)} is not complete here. Unset it.")
        return present
    for note in dict.fromkeys(note for store in stores for note in store.hub.notes()):
        log.warning("%s", note)
    known = [state for state in present if state.complete and state.compared_with != NAMES_ONLY]
    enough = {} if everything else {state.repository.id: state for state in known}
    readable = _readable(stores, enough, on_access)
    plans = [_plan(store, everything, hash_too) for store in readable]
    done = dict(enough)
    with ExitStack() as locks:
        for plan in plans:
            if plan.bad:
                locks.enter_context(_alone(plan.store))
                _clear_leftovers(plan.store.root / _INCOMING)
        _check_space(plans)
        for plan in plans:
            _carry_out(plan, on_file)
            done[plan.store.repository.id] = inspect(plan.store, remote=plan.wanted)
    return [done[store.repository.id] for store in stores]


def _plan(store: Store, everything: bool, hash_too: bool) -> _Plan:
    repository = store.repository
    wanted = store.hub.files(repository.id).only(lambda name: repository.wants(name, everything))
    if not wanted.files:
        raise Sam3dGsError(
            f"{repository.id}: {store.hub.address} lists no files to download. Check HF_ENDPOINT and the name."
        )
    if two := clash(wanted.files):
        raise Sam3dGsError(
            f"{repository.id}: {store.hub.address} lists {two[0]!r} and {two[1]!r}, which cannot both be files on "
            "every system. Nothing was downloaded. Tell the owners of the repository."
        )
    state = inspect(store, hash_too, wanted)
    if store.read_only and not state.complete:
        raise Sam3dGsError(
            f"{repository.id} is not complete in {store.root}, which cannot be written ({state.summary}). Choose "
            f"{ELSEWHERE}. Nothing was downloaded."
        )
    linked = all(file.path.is_symlink() for file in state.files)
    kept = state.complete and (store.read_only or not linked)
    if not kept:  # the files of an earlier commit only need links to become those of the new one
        state = inspect(store, hash_too, wanted, strict=True)
    bad = {file.name for file in state.bad}
    return _Plan(store, wanted, tuple(file for file in wanted.files if file.name in bad))


def _readable(stores: Sequence[Store], enough: dict[str, Checkpoints], on_access: OnAccess) -> list[Store]:
    """The repositories that may be read. Those that may not must be complete here, in `enough`; else Sam3dGsError."""
    readable, denied = [], []
    for store in stores:
        repository = store.repository
        access = store.hub.access(repository.id, repository.essential[0])
        on_access(repository, access)
        if access.granted:
            readable.append(store)
        elif repository.id in enough:
            source = enough[repository.id].compared_with
            log.warning(
                "%s: %s. %s Its files are here, complete by %s.", repository.id, access.state, access.advice, source
            )
        else:
            denied.append(f"{repository.id}: {access.state}. {access.advice}")
    if denied:
        raise Sam3dGsError(f"Nothing was downloaded: {' '.join(denied)}")
    return readable


def _check_space(plans: Iterable[_Plan]) -> None:
    needed: dict[int, tuple[int, Path]] = {}  # device -> bytes, folder
    for plan in plans:
        for file in plan.bad:
            folder = next(parent for parent in plan.store.blob(file).absolute().parents if parent.exists())
            device = folder.stat().st_dev
            size = plan.store.repository.sizes.get(file.name, 0) if file.size is None else file.size
            needed[device] = (needed.get(device, (0, folder))[0] + size, folder)
    for size, folder in needed.values():
        free = shutil.disk_usage(folder).free
        if size > free:
            raise Sam3dGsError(
                f"The download needs {size / _GIB:.1f} GiB, and only {free / _GIB:.1f} GiB are free at {folder}. "
                "Free some space, or choose another disk with HF_HOME or --folder. Nothing was downloaded."
            )


@contextmanager
def _alone(store: Store) -> Iterator[None]:
    """One download at a time into one place."""
    root = store.root
    with ExitStack() as held:
        try:
            held.enter_context(hold(root / _LOCK, instead=ELSEWHERE))
        except BlockingIOError as error:
            raise Sam3dGsError(f"Another download into {root} is running. Wait for it, then try again.") from error
        yield


def _clear_leftovers(incoming: Path) -> None:
    """Remove what a killed process left and cannot be resumed, and links, which could lead an arriving file elsewhere.

    huggingface_hub gives its partial files random names since June 2026 and never resumes them; before, the name was
    the file's digest, and a later process did.
    """
    if incoming.is_symlink():
        incoming.unlink()
    for path in incoming.rglob("*"):
        if path.is_symlink() or re.search(r"\.[0-9a-f]{8}\.incomplete$", path.name):
            path.unlink(missing_ok=True)


def _carry_out(plan: _Plan, on_file: OnFile) -> None:
    store, commit = plan.store, plan.wanted.commit
    if not plan.bad:
        _settle(plan)
        return
    if not store.commit():  # else the earlier commit stays the main one until the new one is complete
        store.point_to(commit)
    for file in plan.bad:
        on_file(store.repository, file)
        _bring(store, file, plan.wanted)
    store.record(commit, plan.wanted.files)
    shutil.rmtree(store.root / _INCOMING, ignore_errors=True)


def _settle(plan: _Plan) -> None:
    """Write down that all files are here, if they are of the hub's commit and this can be written."""
    store, listing = plan.store, plan.wanted
    if store.read_only or not inspect(store, remote=listing, strict=True).complete:
        return
    try:
        store.record(listing.commit, listing.files)
    except Sam3dGsError as error:
        log.warning("%s is complete, but this could not be written down. %s", store.repository.id, error)


def _bring(store: Store, file: RemoteFile, listing: Listing) -> None:
    """Make a file complete where engines look for it."""
    blob, pointer = store.blob(file, listing.commit), store.path(file.name, listing.commit)
    if not _intact(blob, file):
        fetch(store, file, listing)
    if pointer != blob:
        _link(store, pointer, blob)


def _link(store: Store, pointer: Path, blob: Path) -> None:
    """Make `pointer` a link to `blob`. Without symbolic links the file itself moves there, as huggingface_hub does it:
    its bytes never lie on the disk twice."""
    store.check_inside(pointer)
    new = pointer.with_name(f".{blob.name[:16]}.new")
    try:
        pointer.parent.mkdir(parents=True, exist_ok=True)
        new.unlink(missing_ok=True)
        try:
            if getattr(library().constants, "HF_HUB_DISABLE_SYMLINKS", False):
                raise OSError("switched off")
            new.symlink_to(os.path.relpath(blob, pointer.parent))
        except (OSError, NotImplementedError):
            os.replace(blob, pointer)
        else:
            os.replace(new, pointer)
    except OSError as error:
        raise cannot_write(pointer, error, ELSEWHERE) from error


def fetch(store: Store, file: RemoteFile, listing: Listing) -> None:
    """Download a file, verify it and move it to `store.blob(file)`; a second time if it arrived damaged.

    Raises Sam3dGsError; nothing has changed then.
    """
    repository, target = store.repository.id, store.blob(file, listing.commit)
    store.check_inside(target)
    for attempt in range(2):
        arrived = _transfer(store, file, listing, again=attempt > 0)
        other = "" if _is_verified(arrived, file) else disguise(arrived)
        if not other and _intact(arrived, file):
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(arrived, target)
            except OSError as error:
                raise cannot_write(target, error, ELSEWHERE) from error
            return
        arrived.unlink()
        if other:
            raise Sam3dGsError(
                f"{repository}: instead of {file.name}, {store.hub.address} sent a {other}, so it was not kept. Check "
                "that the mirror has the file itself, or whether a proxy or the login page of a network answers."
            )
        log.warning("%s: %s arrived damaged%s.", repository, file.name, "" if attempt else "; trying once more")
    raise Sam3dGsError(
        f"{repository}: {file.name} arrived twice with a digest other than the hub's, so it was not kept. "
        f"Check the proxy or mirror ({store.hub.address}) and run the same command again."
    )


def _transfer(store: Store, file: RemoteFile, listing: Listing, again: bool) -> Path:
    """Download a file to the folder for incoming files. huggingface_hub 0.x and early 1.x give up when a connection
    drops, but resume in the next call; later ones have resumed by themselves before they give up."""
    folder = store.root / _INCOMING
    for _ in range(ATTEMPTS - 1):
        try:
            return store.hub.download(store.repository.id, file, listing.asked, folder, again=again)
        except TransferError as error:
            log.debug("%s", error)
            if error.wait_s > LONGEST_WAIT_S:
                raise
            wait(error.wait_s, str(error))
            again = False
    return store.hub.download(store.repository.id, file, listing.asked, folder, again=again)


def _is_verified(path: Path, file: RemoteFile) -> bool:
    """Whether the bytes are those that the hub's digest names."""
    return file.digest is not None and _intact(path, file)


def _intact(path: Path, file: RemoteFile) -> bool:
    return path.is_file() and file.size in (None, path.stat().st_size) and matches(path, file.digest)
