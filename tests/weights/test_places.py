"""Where files go: read-only disks, disks without links or locks, planted links, folders that are none."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import subprocess
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sam3d_gs import locks
from sam3d_gs.commands.checkpoints import app
from sam3d_gs.errors import Sam3dGsError, UsageError
from sam3d_gs.weights.checkpoints import Store, inspect, verify
from sam3d_gs.weights.download import download
from sam3d_gs.weights.hub import Hub
from sam3d_gs.weights.repositories import Repository, find_repository
from tests.hub import COMMIT, GOOD_TOKEN, FakeHub, serving

pytest.importorskip("huggingface_hub")

DATA = bytes(i * 7 % 251 for i in range(50_000))
FILES = {"config.json": b"{}", "sub/model.safetensors": DATA}
NEWER = "ab" * 20


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with serving(FakeHub({"a/model": dict(FILES)})) as hub:
        yield hub


def _store(fake: FakeHub, root: Path, cache: bool = True) -> Store:
    repository = Repository("model", "a/model", "", folder=None if cache else root / "folder")
    return Store(repository, Hub(fake.endpoint, root / "hub", GOOD_TOKEN))


def _tree(root: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_ino) for path in root.rglob("*")}


@contextmanager
def _read_only(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Mount the folder read-only; where that is not allowed, let the system say that it is."""
    mounted = subprocess.run(["mount", "--bind", root, root], capture_output=True).returncode == 0
    if mounted and subprocess.run(["mount", "-o", "remount,ro,bind", root], capture_output=True).returncode != 0:
        subprocess.run(["umount", root], check=True)
        mounted = False
    if not mounted:
        real = os.access
        monkeypatch.setattr(os, "access", lambda path, mode, **rest: not mode & os.W_OK and real(path, mode, **rest))
    try:
        yield
    finally:
        if mounted:
            subprocess.run(["umount", root], check=True)


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("cache", [True, False])
def test_complete_on_a_read_only_disk(
    fake: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: bool, recorded: bool
) -> None:
    store = _store(fake, tmp_path, cache)
    download([store])
    if not recorded:  # as another tool leaves it
        for name in (".sam3d_gs.json", ".sam3d_gs.lock"):
            (store.root / name).unlink()
    before = _tree(store.root)
    with _read_only(store.root, monkeypatch):
        assert download([store])[0].complete
        assert verify([store])[0].complete
        assert inspect(store).complete
        assert _tree(store.root) == before


@pytest.mark.parametrize("links", [True, False])
def test_a_read_only_cache_of_an_earlier_commit_with_the_same_files(
    fake: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    store = _store(fake, tmp_path)
    if not links:
        monkeypatch.setattr(os, "symlink", _refuses(errno.EPERM))
    download([store])
    fake.model = lambda answer: answer | {"sha": NEWER}
    with _read_only(store.root, monkeypatch):
        assert download([store])[0].complete and verify([store])[0].complete
        for name in FILES:
            fake.repositories["a/model"][name] = FILES[name][::-1]
        assert not verify([store])[0].complete
        with pytest.raises(Sam3dGsError, match="cannot be written"):
            download([store])


def test_without_access_the_files_that_are_here_are_enough(
    fake: FakeHub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    download([_store(fake, tmp_path)])
    fake.gates["a/model"] = "not asked for"
    (state,) = download([_store(fake, tmp_path)])
    assert state.complete and state.compared_with == "the record of the download"
    assert "not asked for" in caplog.text and "complete by the record" in caplog.text
    next(tmp_path.rglob(".sam3d_gs.json")).unlink()  # names alone do not tell that all is here
    with pytest.raises(Sam3dGsError, match="Nothing was downloaded: a/model: not asked for"):
        download([_store(fake, tmp_path)])
    next(tmp_path.rglob("snapshots/*/config.json")).unlink()
    with pytest.raises(Sam3dGsError, match="Nothing was downloaded: a/model: not asked for"):
        download([_store(fake, tmp_path)])


def test_repair_without_the_hub_does_not_call_damaged_files_complete(fake: FakeHub, tmp_path: Path) -> None:
    store = _store(fake, tmp_path, cache=False)
    download([store])
    (store.root / "sub/model.safetensors").write_bytes(DATA[::-1])
    offline = Store(store.repository, Hub(fake.endpoint, tmp_path / "hub", offline=True))
    with pytest.raises(Sam3dGsError, match="not complete here"):
        download([offline], hash_too=True)


def _refuses(code: int) -> Callable[..., None]:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return refuse


@pytest.mark.slow
@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EACCES])
def test_without_symbolic_links_bytes_lie_on_the_disk_once(
    fake: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    from huggingface_hub import hf_hub_download

    monkeypatch.setattr(os, "symlink", _refuses(code))
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 0, len(DATA) + 10))
    store = _store(fake, tmp_path)
    (state,) = download([store])
    assert state.complete and not any(path.is_symlink() for path in tmp_path.rglob("*"))
    sizes = [path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()]
    assert len([size for size in sizes if size == len(DATA)]) == 1
    fake.requests.clear()
    assert download([store])[0].complete and verify([store])[0].complete
    assert not fake.transfers()
    found = hf_hub_download("a/model", "sub/model.safetensors", cache_dir=tmp_path / "hub", local_files_only=True)
    assert Path(found).read_bytes() == DATA
    state.files[1].path.write_bytes(DATA[::-1])
    assert download([store], hash_too=True)[0].complete and Path(found).read_bytes() == DATA
    fake.model = lambda answer: answer | {"sha": NEWER}  # the same files: not downloaded again
    fake.requests.clear()
    assert download([store])[0].complete and not fake.transfers()


def test_links_switched_off(fake: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_SYMLINKS", True, raising=False)
    assert download([_store(fake, tmp_path)])[0].complete
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


def test_a_cache_that_repositories_share(fake: FakeHub, tmp_path: Path) -> None:
    """Since 2026 the bytes of a blob may lie elsewhere in the cache, named by the hash of Xet."""
    store = _store(fake, tmp_path)
    download([store])
    blob = next(path for path in (store.root / "blobs").iterdir() if len(path.name) == 64)
    shared = tmp_path / "hub" / "blobs" / "ab" / ("ab" * 32)
    shared.parent.mkdir(parents=True)
    blob.rename(shared)
    blob.symlink_to(os.path.relpath(shared, blob.parent))
    (store.root / ".sam3d_gs.json").unlink()
    assert inspect(store, hash_too=True).complete
    assert verify([store])[0].complete
    shared.write_bytes(DATA[::-1])
    assert [file.state for file in verify([store])[0].bad] == ["wrong digest"]


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO])
def test_a_disk_without_locks(
    fake: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    monkeypatch.setattr(fcntl, "flock", _refuses(code))
    monkeypatch.setattr(locks, "_unlockable", set())
    assert download([_store(fake, tmp_path)])[0].complete
    assert "cannot lock files" in caplog.text


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.EACCES])
def test_a_taken_lock(fake: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(fcntl, "flock", _refuses(code))
    with pytest.raises(Sam3dGsError, match="Another download into"):
        download([_store(fake, tmp_path)])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cache", "planted"),
    [
        (False, "sub"),
        (False, ".sam3d_gs.incoming"),
        (False, ".sam3d_gs.incoming/sub"),
        (False, ".sam3d_gs.incoming/.cache"),
        (True, "snapshots"),
        (True, f"snapshots/{COMMIT}"),
        (True, f"snapshots/{COMMIT}/sub"),
        (True, "blobs"),
        (True, "refs"),
    ],
)
@pytest.mark.parametrize("official", [True, False], ids=["as-the-hub", "as-a-mirror"])
def test_a_planted_folder_is_not_followed(
    fake: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: bool, planted: str, official: bool
) -> None:
    monkeypatch.setattr(Hub, "official", official)
    victim = tmp_path / "victim"
    victim.mkdir()
    for name in ("config.json", "model.safetensors", "main", "x.0123abcd.incomplete"):
        (victim / name).write_text("precious")
    store = _store(fake, tmp_path, cache)
    (store.root / planted).parent.mkdir(parents=True)
    (store.root / planted).symlink_to(victim)
    before = _tree(victim)
    try:
        download([store])
    except Sam3dGsError as error:
        assert "link" in str(error) and "\n" not in str(error)  # noqa: PT017  it may also succeed
    assert _tree(victim) == before


@pytest.mark.parametrize("name", [".sam3d_gs.lock", ".sam3d_gs.json", "config.json", "sub/model.safetensors"])
def test_a_planted_file_keeps_its_content(fake: FakeHub, tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    store = _store(fake, tmp_path, cache=False)
    (store.root / name).parent.mkdir(parents=True)
    (store.root / name).symlink_to(victim)
    if name == ".sam3d_gs.lock":
        with pytest.raises(Sam3dGsError, match="is a symbolic link"):
            download([store])
    else:
        assert download([store])[0].complete
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("content", ["../../victim", "/etc", "a/b", "..", "", "x" * 5000, "a\0b"])
def test_a_reference_in_the_cache_is_no_path(fake: FakeHub, tmp_path: Path, content: str) -> None:
    store = _store(fake, tmp_path)
    (store.root / "refs").mkdir(parents=True)
    (store.root / "refs" / "main").write_text(content)
    assert store.commit() == ""
    assert store.root in inspect(store).files[0].path.resolve().parents
    assert download([store])[0].complete and store.commit() == COMMIT


RECORDS = [
    "[]",
    "null",
    '{"files": 1}',
    '{"files": {"../../x": {"size": 1, "digest": null}}}',
    '{"files": {"a": 1}}',
    '{"files": {"config.json": {"size": "x", "digest": 5}}}',
    '{"files": {"config.json": {"size": 1e400, "digest": "../x"}}}',
    '{"files": {"a\\u0000": {"size": 1, "digest": null}}}',
    "[" * 100_000,
    "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
]


@pytest.mark.parametrize("number", range(len(RECORDS)))
def test_a_damaged_record_is_no_record(fake: FakeHub, tmp_path: Path, number: int) -> None:
    store = _store(fake, tmp_path, cache=False)
    store.root.mkdir()
    (store.root / ".sam3d_gs.json").write_text(RECORDS[number])
    assert all(file.path == store.root / file.name for file in inspect(store, hash_too=True).files)
    assert download([store])[0].complete
    assert json.loads((store.root / ".sam3d_gs.json").read_text())["files"]


@pytest.mark.parametrize("weights", [["../../x"], {"a": "../../x", "b": "/etc/passwd"}, {"a": 5, "b": ["x"]}, 7])
def test_an_index_cannot_name_files_elsewhere(fake: FakeHub, tmp_path: Path, weights: object) -> None:
    store = _store(fake, tmp_path, cache=False)
    store.root.mkdir()
    (store.root / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))
    assert [file.name for file in inspect(store).files] == ["config.json"]


@pytest.mark.parametrize(
    "name", ["../..", "./x", "a/..", "a/.b", "a--b/c", "a/b.git", "a/b c", "/x", "a/", "a/b/c", "ä/b"]
)
def test_no_name_of_a_repository(fake: FakeHub, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", fake.endpoint)
    with pytest.raises(UsageError, match="Unknown checkpoints"):
        find_repository(name)
    result = CliRunner().invoke(app, ["download", "--", name])
    assert isinstance(result.exception, UsageError)
    assert not fake.requests


@pytest.mark.parametrize("name", ["Qwen/Qwen3-VL-8B-Thinking", "a/b", "_x/y_1", "01-ai/Yi.v2"])
def test_usual_names_of_repositories(name: str) -> None:
    assert find_repository(name).id == name


@pytest.mark.slow
def test_folders_that_are_none(fake: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", fake.endpoint)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    (tmp_path / "file").write_text("precious")
    (tmp_path / "link").symlink_to("/")
    (tmp_path / "loop").symlink_to("loop")
    for folder in ("/", "/tmp/..", "//", tmp_path / "file", tmp_path / "link", tmp_path / "loop", "/" + "x" * 5000):
        result = CliRunner().invoke(app, ["download", "a/model", "--folder", f"a/model={folder}"])
        assert isinstance(result.exception, UsageError), (folder, result.output, result.exception)
    pair = ["--folder", f"a/model={tmp_path / 'one'}", "--folder", f"moge={tmp_path / 'one'}"]
    result = CliRunner().invoke(app, ["download", "a/model", "moge", *pair])
    assert isinstance(result.exception, UsageError) and "cannot share" in str(result.exception)
    assert not fake.requests and not (tmp_path / "one").exists()
    (tmp_path / "disk").mkdir()
    (tmp_path / "there").symlink_to(tmp_path / "disk")
    result = CliRunner().invoke(app, ["download", "a/model", "--folder", f"a/model={tmp_path / 'there'}"])
    assert result.exit_code == 0 and (tmp_path / "disk/sub/model.safetensors").read_bytes() == DATA


@pytest.mark.parametrize("made", ["file", "below a file", "~nobody-of-this-name/x"])
def test_a_cache_that_cannot_be_made(fake: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: str) -> None:
    (tmp_path / "file").write_text("precious")
    home = {"file": tmp_path / "file", "below a file": tmp_path / "file" / "x"}.get(made, made)
    monkeypatch.setenv("HF_ENDPOINT", fake.endpoint)
    monkeypatch.setenv("HF_HOME", str(home))
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for command in ("download", "verify", "list"):
        result = CliRunner().invoke(app, [command, "a/model"])
        assert result.exit_code in (0, 1, 2)
        assert result.exception is None or isinstance(result.exception, (Sam3dGsError, SystemExit)), result.exception
    assert (tmp_path / "file").read_text() == "precious"


def test_a_disk_that_is_full_or_a_file_that_cannot_be_read(
    fake: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = _store(fake, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("sam3d_gs.weights.transfer._append", _refuses(errno.ENOSPC))
        with pytest.raises(Sam3dGsError, match="Free some space or choose another place with HF_HOME or --folder"):
            download([store])
    download([store])
    monkeypatch.setattr("sam3d_gs.weights.checkpoints.matches", _refuses(errno.EIO))
    assert {file.state for file in inspect(store, hash_too=True).files} == {"unreadable"}
