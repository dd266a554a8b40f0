"""Weights on this disk: which files are here, and whether they are intact.

Files are in the hub's own cache, where every library finds them, or in a plain folder. A download records sizes and
digests beside them, so that they can be verified without the hub.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sam3d_gs.errors import Sam3dGsError
from sam3d_gs.files import read_json, write_json, write_text
from sam3d_gs.weights.hub import Hub
from sam3d_gs.weights.remote_files import Listing, RemoteFile, is_digest, name_fault, remote_file
from sam3d_gs.weights.repositories import Repository
from sam3d_gs.weights.transfer import disguise

log = logging.getLogger("sam3d_gs")

_RECORD = ".sam3d_gs.json"
_BLOCK = 1 << 20
NAMES_ONLY = "nothing but names"


@dataclass(frozen=True)
class FileState:
    """One file that should be here."""

    name: str  # the hub's
    path: Path
    size: int | None  # bytes it should have
    state: str  # "ok", "missing", "unreadable", "wrong size", "wrong digest", or what it is instead of weights


@dataclass(frozen=True)
class Checkpoints:
    """The state of one repository's files on this disk."""

    repository: Repository
    where: Path
    files: tuple[FileState, ...]
    # "the hub", "the hub, which gives no digests", "the record of the download", "the known release" or
    # NAMES_ONLY
    compared_with: str

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
            commit = (self.root / "refs" / "main").read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return ""
        return commit if re.fullmatch(r"[0-9A-Za-z]{7,64}", commit) else ""  # it becomes part of a path

    def blob(self, file: RemoteFile, commit: str = "") -> Path:
        """Where a file's bytes are kept; the cache links to them from `path`."""
        if self.repository.folder is not None or file.digest is None:
            return self.path(file.name, commit)
        return self.root / "blobs" / file.digest

    def check_inside(self, path: Path) -> None:
        """Raise Sam3dGsError if a symbolic link leads from the root to another place for `path`."""
        try:
            root, real = self.root.resolve(), path.parent.resolve()
        except (OSError, RuntimeError) as error:  # a loop
            raise Sam3dGsError(f"{path.parent} cannot be followed: {error}. Remove the link and try again.") from error
        if real != root and root not in real.parents:
            raise Sam3dGsError(
                f"{path.parent} is or has a symbolic link that leads out of {self.root}, so nothing is written there. "
                "Remove the link and try again."
            )

    def recorded(self) -> list[RemoteFile]:
        """The files of an earlier download; empty when there was none or the cache has another commit by now."""
        try:
            record = read_json(self.root / _RECORD, "record of a download")
            files = [remote_file(name, row["size"], row["digest"]) for name, row in record["files"].items()]
        except (Sam3dGsError, ValueError, KeyError, TypeError, AttributeError):
            return []
        moved_on = self.repository.folder is None and record.get("commit") != self.commit()
        return [] if moved_on else files

    def point_to(self, commit: str) -> None:
        """Make `commit` the cache's main revision."""
        if self.repository.folder is None and self.commit() != commit:
            self.check_inside(self.root / "refs" / "main")
            write_text(self.root / "refs" / "main", commit)

    def record(self, commit: str, files: Iterable[RemoteFile]) -> None:
        """Write down what was downloaded, at which commit."""
        self.point_to(commit)
        files = list(files)
        if self.recorded() == files:
            return
        rows = {file.name: {"size": file.size, "digest": file.digest} for file in files}
        write_json(self.root / _RECORD, {"repository": self.repository.id, "commit": commit, "files": rows})

    @property
    def read_only(self) -> bool:
        """Whether the files lie where nothing can be written."""
        return self.root.exists() and not os.access(self.root, os.W_OK)


def inspect(
    store: Store,
    hash_too: bool = False,
    remote: Listing | None = None,
    also: Iterable[str] = (),
    strict: bool = False,
) -> Checkpoints:
    """Compare the files here with the best list there is. Nothing is written.

    Args:
        store: where the files belong.
        hash_too: compare digests, not just sizes; reads every byte.
        remote: the files on the hub; without it, the record of the download counts, else the known release.
        also: names of more files that must be here.
        strict: the cache must have the hub's commit; otherwise an earlier one with the same files counts as well.
    """
    files, commit = (list(remote.files), remote.commit) if remote else (store.recorded(), "")
    source = "the hub" if remote else "the record of the download"
    if remote and any(file.digest is None for file in files):
        source = "the hub, which gives no digests"
    if not files:
        files = _known(store)
        source = "the known release" if store.repository.sizes else NAMES_ONLY
    names = {file.name for file in files}
    files = [*files, *(RemoteFile(name, None, None) for name in also if name not in names)]
    states = tuple(_state(store, file, commit, hash_too) for file in files)
    if commit and not strict and any(state.state != "ok" for state in states):
        states = _at_earlier_commit(store, files, commit, hash_too) or states
    return Checkpoints(store.repository, store.root, states, source)


def _at_earlier_commit(
    store: Store, files: Sequence[RemoteFile], commit: str, hash_too: bool
) -> tuple[FileState, ...] | None:
    """The state of the commit that the cache has, if all its files are those of the hub's newer one."""
    here = store.commit()
    if store.repository.folder is not None or here in ("", commit):
        return None
    states = tuple(_state(store, file, here, hash_too) for file in files)
    same = all(
        state.state == "ok" and file.digest and (hash_too or _same_bytes(state.path, file.digest))
        for state, file in zip(states, files, strict=True)
    )
    return states if same else None


def _same_bytes(path: Path, digest: str) -> bool:
    """Whether a file has this digest, by the name that the cache gave its bytes or, without one, by hashing."""
    named = _cached_digest(path)
    return named == digest if named else matches(path, digest)


def verify(stores: Sequence[Store], hash_too: bool = True) -> list[Checkpoints]:
    """Compare with the hub if it answers, else with the record of the download."""
    return [inspect(store, hash_too, _remote(store)) for store in stores]


def _remote(store: Store) -> Listing | None:
    if store.hub.offline:
        return None
    try:
        listing = store.hub.files(store.repository.id)
    except Sam3dGsError as error:
        log.warning("%s", error)
        return None
    taken = {file.name for file in store.recorded()}  # after `--all`, more than the profile needs
    return listing.only(lambda name: store.repository.wants(name) or name in taken)


def _known(store: Store) -> list[RemoteFile]:
    """The files to expect without hub and record: the essential ones, and the shards that an index names."""
    repository = store.repository
    names = [_mirrored(store, name) for name in repository.essential]
    try:
        index = read_json(store.path("model.safetensors.index.json"), "index of weights")
        shards = {name for name in index["weight_map"].values() if not name_fault(name)}
        names += sorted(shards - set(names))
    except (Sam3dGsError, KeyError, TypeError, AttributeError):
        pass
    return [RemoteFile(name, repository.sizes.get(name), None) for name in names]


def _mirrored(store: Store, name: str) -> str:
    """The name, or that of its .safetensors mirror if only that is here; engines take either."""
    mirror = str(PurePosixPath(name).with_suffix(".safetensors"))
    return mirror if store.path(mirror).is_file() and not store.path(name).is_file() else name


def _state(store: Store, file: RemoteFile, commit: str, hash_too: bool) -> FileState:
    path = store.path(file.name, commit)
    try:
        state = _compared(path, file, hash_too)
    except OSError:  # no permission, a damaged disk
        state = "unreadable"
    return FileState(file.name, path, file.size, state)


def _compared(path: Path, file: RemoteFile, hash_too: bool) -> str:
    if not path.is_file():
        return "missing"
    if file.size != path.stat().st_size and (other := disguise(path)):
        return other
    if file.size not in (None, path.stat().st_size):
        return "wrong size"
    return "ok" if not hash_too or matches(path, file.digest or _cached_digest(path)) else "wrong digest"


def _cached_digest(path: Path) -> str | None:
    """The digest by which the hub's cache names a file's bytes; None in a plain folder.

    Only the first link counts: a cache that repositories share has a second one, named by another hash.
    """
    if not path.is_symlink():
        return None
    blob = Path(os.readlink(path))
    return blob.name if blob.parent.name == "blobs" and is_digest(blob.name) else None


def matches(path: Path, digest: str | None) -> bool:
    """Whether a file has this digest (see RemoteFile); True when there is none to compare with."""
    if digest is None:
        return True
    known = hashlib.sha256() if len(digest) == 64 else hashlib.sha1(b"blob %d\0" % path.stat().st_size)
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            known.update(block)
    return known.hexdigest() == digest
