"""Weights on this disk: which files are here, and whether they are intact.

Files are in the hub's own cache, where every library finds them, or in a plain folder. A download records sizes and
digests beside them, so that they can be verified without the hub.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sam3d_gs.errors import Sam3dGsError
from sam3d_gs.files import write_json, write_text
from sam3d_gs.weights.hub import Hub, RemoteFile, stays_below
from sam3d_gs.weights.repositories import Repository

log = logging.getLogger("sam3d_gs")

_RECORD = ".sam3d_gs.json"
_BLOCK = 1 << 20


@dataclass(frozen=True)
class FileState:
    """One file that should be here."""

    name: str  # the hub's
    path: Path
    size: int | None  # bytes it should have
    state: str  # "ok", "missing", "wrong size" or "wrong digest"


@dataclass(frozen=True)
class Checkpoints:
    """The state of one repository's files on this disk."""

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
    """Where the files of a repository belong: a folder, or its place in the hub's cache."""

    repository: Repository
    hub: Hub

    @property
    def root(self) -> Path:
        return self.repository.folder or self.hub.cache / f"models--{self.repository.id.replace('/', '--')}"

    def path(self, name: str, commit: str = "") -> Path:
        """Where an engine looks for a file; without `commit`, that of the last download."""
        if self.repository.folder is not None:
            return self.root / name.removeprefix(self.repository.prefix)
        return self.root / "snapshots" / (commit or self.commit() or "none") / name

    def commit(self) -> str:
        """The commit that the cache takes for the main revision; "" when there is none."""
        try:
            return (self.root / "refs" / "main").read_text(encoding="utf-8").strip()
        except OSError:
            return ""

    def blob(self, file: RemoteFile) -> Path:
        """Where a file's bytes are kept; the cache links to them from `path`."""
        if self.repository.folder is not None or file.digest is None:
            return self.path(file.name)
        return self.root / "blobs" / file.digest

    def recorded(self) -> list[RemoteFile]:
        """The files of an earlier download; empty when there was none or the cache has another commit by now."""
        try:
            record = json.loads((self.root / _RECORD).read_text(encoding="utf-8"))
            files = [RemoteFile(str(n), f["size"], f["digest"]) for n, f in record["files"].items()]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return []
        moved_on = self.repository.folder is None and record.get("commit") != self.commit()
        return [] if moved_on or not all(stays_below(file.name) for file in files) else files

    def point_to(self, commit: str) -> None:
        """Make `commit` the cache's main revision."""
        if self.repository.folder is None and self.commit() != commit:
            write_text(self.root / "refs" / "main", commit)

    def record(self, commit: str, files: Iterable[RemoteFile]) -> None:
        """Write down what was downloaded, at which commit."""
        self.point_to(commit)
        rows = {file.name: {"size": file.size, "digest": file.digest} for file in files}
        write_json(self.root / _RECORD, {"repository": self.repository.id, "commit": commit, "files": rows})


def inspect(
    store: Store,
    hash_too: bool = False,
    remote: tuple[str, Sequence[RemoteFile]] | None = None,
    also: Iterable[str] = (),
) -> Checkpoints:
    """Compare the files here with the best list there is.

    Args:
        store: where the files belong.
        hash_too: compare digests, not just sizes; reads every byte.
        remote: commit and files on the hub; without it, the record of the download counts, else the known release.
        also: names of more files that must be here.
    """
    commit, files = (remote[0], list(remote[1])) if remote else ("", store.recorded())
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


def verify(stores: Sequence[Store], hash_too: bool = True) -> list[Checkpoints]:
    """Compare with the hub if it answers, else with the record of the download."""
    return [inspect(store, hash_too, _remote(store)) for store in stores]


def _remote(store: Store) -> tuple[str, list[RemoteFile]] | None:
    if store.hub.offline:
        return None
    try:
        commit, files = store.hub.files(store.repository.id)
    except Sam3dGsError as error:
        log.warning("%s", error)
        return None
    taken = {file.name for file in store.recorded()}  # after `--all`, more than the profile needs
    return commit, [file for file in files if store.repository.wants(file.name) or file.name in taken]


def _known(store: Store) -> list[RemoteFile]:
    """The files to expect without hub and record: the essential ones, and the shards that an index names."""
    repository = store.repository
    names = [_mirrored(store, name) for name in repository.essential]
    try:
        index = json.loads(store.path("model.safetensors.index.json").read_text(encoding="utf-8"))
        names += sorted({str(name) for name in index["weight_map"].values() if stays_below(str(name))} - set(names))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return [RemoteFile(name, repository.sizes.get(name), None) for name in names]


def _mirrored(store: Store, name: str) -> str:
    """The name, or that of its .safetensors mirror if only that is here; engines take either."""
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
    """The digest by which the hub's cache names a file's bytes; None in a plain folder."""
    name = path.resolve().name
    is_digest = path.is_symlink() and len(name) in (40, 64) and not set(name) - set("0123456789abcdef")
    return name if is_digest else None


def matches(path: Path, digest: str | None) -> bool:
    """Whether a file has this digest (see RemoteFile); True when there is none to compare with."""
    if digest is None:
        return True
    known = hashlib.sha256() if len(digest) == 64 else hashlib.sha1(b"blob %d\0" % path.stat().st_size)
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            known.update(block)
    return known.hexdigest() == digest
