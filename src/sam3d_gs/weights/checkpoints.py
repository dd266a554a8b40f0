"""Weights on this disk: what is here, whether it is sound, and bringing what is not.

Files go into the hub's own cache, where every library finds them, or into a plain folder. What was downloaded is
recorded beside it with sizes and digests, so that it can be verified without the hub. One bad file is replaced alone.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sam3d_gs.errors import Sam3dGsError
from sam3d_gs.files import write_json, write_text
from sam3d_gs.weights.hub import Access, Hub, RemoteFile, library
from sam3d_gs.weights.repositories import Repository
from sam3d_gs.weights.transfer import PART_SUFFIX, Advance, fetch, matches

log = logging.getLogger("sam3d_gs")

_RECORD, _LOCK = ".sam3d_gs.json", ".sam3d_gs.lock"
_GIB = 2**30

Start = Callable[[Repository, RemoteFile], Advance]  # told which file comes next


@dataclass(frozen=True)
class FileState:
    """One file that should be here."""

    name: str  # the hub's
    path: Path
    size: int | None  # bytes it should have
    state: str  # "ok", "missing", "wrong size" or "wrong digest"


@dataclass(frozen=True)
class Checkpoints:
    """What is here of one repository."""

    repository: Repository
    where: Path
    files: tuple[FileState, ...]
    compared_with: str  # "the hub", "the record of the download", "the known release" or "nothing but names"

    @property
    def bad(self) -> tuple[FileState, ...]:
        return tuple(file for file in self.files if file.state != "ok")

    @property
    def complete(self) -> bool:
        return not self.bad

    @property
    def summary(self) -> str:
        """One cell of a table, e.g. "complete", "2 of 13 files missing"."""
        if self.complete:
            return "complete"
        if all(file.state == "missing" for file in self.files):
            return "not here"
        kinds = sorted({file.state for file in self.bad})
        counts = ", ".join(f"{sum(f.state == kind for f in self.bad)} {kind}" for kind in kinds)
        return f"{counts} of {len(self.files)} files"


@dataclass(frozen=True)
class Store:
    """Where the files of a repository are: a folder, or its place in the hub's cache."""

    repository: Repository
    hub: Hub

    @property
    def root(self) -> Path:
        return self.repository.folder or self.hub.cache / f"models--{self.repository.id.replace('/', '--')}"

    def path(self, name: str, commit: str = "") -> Path:
        """Where an engine looks for a file; `commit` is the hub's, else the one that was downloaded last."""
        if self.repository.folder is not None:
            return self.root / name.removeprefix(self.repository.prefix)
        return self.root / "snapshots" / (commit or self.commit() or "none") / name

    def commit(self) -> str:
        try:
            return (self.root / "refs" / "main").read_text(encoding="utf-8").strip()
        except OSError:
            return ""

    def blob(self, file: RemoteFile) -> Path:
        """Where its bytes go."""
        if self.repository.folder is not None or file.digest is None:
            return self.path(file.name)
        return self.root / "blobs" / file.digest

    def recorded(self) -> list[RemoteFile]:
        """What an earlier download wrote down; empty when there was none or the cache has moved on since."""
        try:
            record = json.loads((self.root / _RECORD).read_text(encoding="utf-8"))
            files = [RemoteFile(str(n), f["size"], f["digest"]) for n, f in record["files"].items()]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return []
        moved_on = self.repository.folder is None and record.get("commit") != self.commit()
        return [] if moved_on else files

    def record(self, commit: str, files: Iterable[RemoteFile]) -> None:
        rows = {file.name: {"size": file.size, "digest": file.digest} for file in files}
        if self.repository.folder is None and self.commit() != commit:
            write_text(self.root / "refs" / "main", commit)
        write_json(self.root / _RECORD, {"repository": self.repository.id, "commit": commit, "files": rows})


def inspect(
    store: Store,
    hash_too: bool = False,
    remote: tuple[str, list[RemoteFile]] | None = None,
    also: Iterable[str] = (),
) -> Checkpoints:
    """Compare what is here with the hub (`remote`: commit and files), the record, or what is known of the release.

    `also` names files that have to be here besides.
    """
    commit, files = remote or ("", store.recorded())
    source = "the hub" if remote else "the record of the download"
    if not files:
        files = _known(store)
        source = "the known release" if store.repository.sizes else "nothing but names"
    names = {file.name for file in files}
    files = [*files, *(RemoteFile(name, None, None) for name in also if name not in names)]
    return Checkpoints(
        store.repository,
        store.root,
        tuple(_state(store, file, commit, hash_too) for file in files),
        source,
    )


def download(
    stores: Sequence[Store],
    start: Start,
    everything: bool = False,
    hash_too: bool = False,
    told: Callable[[Repository, Access], None] = lambda repository, access: None,
) -> list[Checkpoints]:
    """Bring what is missing or of a wrong size (with `hash_too`: or of a wrong digest).

    Before the first byte: access to every repository (reported through `told`), then the space on the disk. Raises
    Sam3dGsError.
    """
    present = [inspect(store) for store in stores]
    if all(store.hub.offline for store in stores):
        lacking = [state.repository.id for state in present if not state.complete]
        if lacking:
            raise Sam3dGsError(f"HF_HUB_OFFLINE is set, and {', '.join(lacking)} is not complete here. Unset it.")
        return present
    _check_access(stores, told)
    plans = []
    for store in stores:
        commit, files = store.hub.files(store.repository.id)
        wanted = [file for file in files if store.repository.wants(file.name, everything)]
        plans.append((store, commit, wanted, inspect(store, hash_too, (commit, wanted))))
    _check_space([(store, file) for store, _, wanted, state in plans for file in _todo(wanted, state)])
    for store, commit, wanted, state in plans:
        with _alone(store.root):
            for file in _todo(wanted, state):
                _bring(store, file, commit, start(store.repository, file))
            store.record(commit, wanted)
    return [inspect(store, remote=(commit, wanted)) for store, commit, wanted, _ in plans]


def verify(stores: Sequence[Store], hash_too: bool = True) -> list[Checkpoints]:
    """Compare with the hub where it answers, else with what was recorded."""
    return [inspect(store, hash_too, _remote(store)) for store in stores]


def _remote(store: Store) -> tuple[str, list[RemoteFile]] | None:
    if store.hub.offline:
        return None
    try:
        commit, files = store.hub.files(store.repository.id)
    except Sam3dGsError as error:
        log.warning("%s", error)
        return None
    taken = {file.name for file in store.recorded()}  # with `--all`, more than is wanted
    return commit, [file for file in files if store.repository.wants(file.name) or file.name in taken]


def _known(store: Store) -> list[RemoteFile]:
    """Without hub and record: the essential files, and the shards that an index names."""
    repository = store.repository
    names = [_mirrored(store, name) for name in repository.essential]
    try:
        index = json.loads(store.path("model.safetensors.index.json").read_text(encoding="utf-8"))
        names += sorted({str(name) for name in index["weight_map"].values()} - set(names))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return [RemoteFile(name, repository.sizes.get(name), None) for name in names]


def _mirrored(store: Store, name: str) -> str:
    """The name, or that of its .safetensors mirror where only this is here; engines take either."""
    mirror = str(PurePosixPath(name).with_suffix(".safetensors"))
    return mirror if store.path(mirror).is_file() and not store.path(name).is_file() else name


def _state(store: Store, file: RemoteFile, commit: str, hash_too: bool) -> FileState:
    path = store.path(file.name, commit)
    if not path.is_file():
        return FileState(file.name, path, file.size, "missing")
    if file.size is not None and path.stat().st_size != file.size:
        return FileState(file.name, path, file.size, "wrong size")
    digest = file.digest or _cached_digest(path)
    return FileState(file.name, path, file.size, "ok" if not hash_too or matches(path, digest) else "wrong digest")


def _cached_digest(path: Path) -> str | None:
    """The hub's cache names bytes by their digest."""
    name = path.resolve().name
    is_digest = path.is_symlink() and len(name) in (40, 64) and not set(name) - set("0123456789abcdef")
    return name if is_digest else None


def _check_access(stores: Sequence[Store], told: Callable[[Repository, Access], None]) -> None:
    denied = []
    for store in stores:
        access = store.hub.access(store.repository.id, store.repository.essential[0])
        told(store.repository, access)
        if not access.granted:
            denied.append(f"{store.repository.id}: {access.state}. {access.advice}")
    if denied:
        raise Sam3dGsError(f"Nothing was downloaded: {' '.join(denied)}")


def _todo(wanted: Iterable[RemoteFile], state: Checkpoints) -> list[RemoteFile]:
    bad = {file.name for file in state.bad}
    return [file for file in wanted if file.name in bad]


def _check_space(todo: Iterable[tuple[Store, RemoteFile]]) -> None:
    needed: dict[int, tuple[int, Path]] = {}  # device -> bytes, folder
    for store, file in todo:
        blob = store.blob(file)
        part = blob.with_name(blob.name + PART_SUFFIX)
        folder = next(parent for parent in blob.absolute().parents if parent.exists())
        device = folder.stat().st_dev
        here = part.stat().st_size if part.exists() else 0
        needed[device] = (needed.get(device, (0, folder))[0] + max(0, (file.size or 0) - here), folder)
    for size, folder in needed.values():
        free = shutil.disk_usage(folder).free
        if size > free:
            raise Sam3dGsError(
                f"{size / _GIB:.1f} GiB are to come, and only {free / _GIB:.1f} GiB are free at {folder}. "
                "Free some space, or choose another disk with HF_HOME or --folder. Nothing was downloaded."
            )


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """One download at a time into one place."""
    import filelock  # comes with huggingface_hub

    root.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(root / _LOCK, timeout=0):
            yield
    except filelock.Timeout as error:
        raise Sam3dGsError(f"Another download into {root} is at work. Wait for it, then try again.") from error


def _bring(store: Store, file: RemoteFile, commit: str, advance: Advance) -> None:
    target, pointer = store.blob(file), store.path(file.name, commit)
    sound = target.is_file() and target.stat().st_size == file.size and matches(target, file.digest)
    if not sound:
        fetch(store.hub, store.repository.id, file, target, advance)  # the old one stays until the new one is whole
    if pointer != target:
        pointer.unlink(missing_ok=True)
        # The bytes lie where the hub's library keeps them: it only adds its link and the name of the commit.
        library().hf_hub_download(
            store.repository.id,
            file.name,
            cache_dir=store.hub.cache,
            endpoint=store.hub.endpoint,
            token=store.hub.token or False,
        )
