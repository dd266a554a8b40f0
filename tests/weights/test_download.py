"""One file over a bad line: resumed, verified, and never left half-written."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sam3d_gs.errors import Sam3dGsError
from sam3d_gs.weights.checkpoints import Store, inspect
from sam3d_gs.weights.download import download, fetch
from sam3d_gs.weights.hub import Hub
from sam3d_gs.weights.remote_files import Listing, RemoteFile
from sam3d_gs.weights.repositories import Repository
from tests.hub import COMMIT, GOOD_TOKEN, FakeHub, Fault, serving

pytest.importorskip("huggingface_hub")

NAME = "weights/model.ckpt"
DATA = bytes(i * 7 % 251 for i in range(300_000))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 70_000)  # what is kept of a cut connection
    monkeypatch.setattr("sam3d_gs.weights.transfer._BLOCK", 70_000)


@pytest.fixture(params=[True, False], ids=["as-the-hub", "as-a-mirror"])
def fake(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """The fake hub, with both ways to download: by huggingface_hub, and by plain HTTP."""
    monkeypatch.setattr(Hub, "official", request.param)
    with serving(FakeHub({"a/model": {NAME: DATA, "small.yaml": b"x: 1\n", "empty.txt": b""}})) as hub:
        yield hub


def _store(fake: FakeHub, folder: Path, token: str | None = GOOD_TOKEN) -> Store:
    return Store(
        Repository("model", "a/model", "", folder=folder, essential=(NAME,)), Hub(fake.endpoint, folder, token)
    )


def _fetch(fake: FakeHub, folder: Path, name: str = NAME, token: str | None = GOOD_TOKEN) -> Path:
    store = _store(fake, folder, token)
    listing = store.hub.files("a/model")
    fetch(store, next(file for file in listing.files if file.name == name), listing)
    return store.path(name)


def _complete_files(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and ".sam3d_gs" not in str(path)
    }


def test_large_small_and_empty_files(fake: FakeHub, tmp_path: Path) -> None:
    for name, data in fake.repositories["a/model"].items():
        assert _fetch(fake, tmp_path, name).read_bytes() == data


def test_the_token_stays_with_the_hub(fake: FakeHub, tmp_path: Path) -> None:
    _fetch(fake, tmp_path)
    elsewhere = [r for r in fake.requests if r.host.startswith("localhost")]
    assert elsewhere and not any(r.authorization for r in elsewhere)
    assert any(r.authorization for r in fake.requests if r.host.startswith("127."))


def test_without_a_token_none_is_looked_up(fake: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", GOOD_TOKEN)
    _fetch(fake, tmp_path, token=None)
    assert not any(r.authorization for r in fake.requests)


def test_a_dropped_connection_resumes_where_it_was(fake: FakeHub, tmp_path: Path) -> None:
    fake.faults[NAME] = Fault("drop", after=70_000, times=3)
    assert _fetch(fake, tmp_path).read_bytes() == DATA
    ranges = [r.range for r in fake.transfers(NAME) if r.path.startswith("/stored")]
    assert ranges == ["", "bytes=70000-", "bytes=140000-", "bytes=210000-"]


def test_damaged_once_is_downloaded_again(fake: FakeHub, tmp_path: Path) -> None:
    fake.faults[NAME] = Fault("corrupt", times=1)
    assert _fetch(fake, tmp_path).read_bytes() == DATA


def test_damaged_twice_is_not_kept_and_the_old_file_stays(fake: FakeHub, tmp_path: Path) -> None:
    old = tmp_path / NAME
    old.parent.mkdir()
    old.write_bytes(b"of an earlier release")
    fake.faults[NAME] = Fault("corrupt")
    with pytest.raises(Sam3dGsError, match="digest other than the hub's"):
        _fetch(fake, tmp_path)
    assert old.read_bytes() == b"of an earlier release"
    assert _complete_files(tmp_path) == {NAME}


@pytest.mark.parametrize("fault", [Fault("short", after=1000), Fault("drop", after=0), Fault("500")])
def test_a_file_that_never_comes_whole_is_one_line_of_error(fake: FakeHub, tmp_path: Path, fault: Fault) -> None:
    fake.faults[NAME] = fault
    with pytest.raises(Sam3dGsError, match=r"a/model: (weights/model.ckpt could not be downloaded|HTTP \d+)") as caught:
        _fetch(fake, tmp_path)
    assert "\n" not in str(caught.value) and GOOD_TOKEN not in str(caught.value)
    assert _complete_files(tmp_path) == set()


def test_access_withdrawn_meanwhile(fake: FakeHub, tmp_path: Path) -> None:
    fake.gates["a/model"] = "refused"
    with pytest.raises(Sam3dGsError, match="a/model: refused"):
        fetch(_store(fake, tmp_path), RemoteFile(NAME, len(DATA), None), Listing(COMMIT, ()))


@pytest.mark.slow
def test_nobody_answers_any_more(fake: FakeHub, tmp_path: Path) -> None:
    store = Store(Repository("model", "a/model", "", folder=tmp_path), Hub("http://127.0.0.1:1", tmp_path))
    with pytest.raises(Sam3dGsError, match=r"weights/model.ckpt could not be downloaded from http://127.0.0.1:1 \("):
        fetch(store, RemoteFile(NAME, len(DATA), None), Listing(COMMIT, ()))


def test_a_folder_that_cannot_be_written(fake: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("a file where a folder should be")
    with pytest.raises(Sam3dGsError, match=f"Cannot write {tmp_path / NAME}"):
        _fetch(fake, tmp_path)


def test_what_a_killed_process_left_is_cleared(fake: FakeHub, tmp_path: Path) -> None:
    partial = tmp_path / ".sam3d_gs.incoming" / ".cache" / "huggingface" / "download" / "x.0123abcd.incomplete"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(DATA[:5000])
    left = []
    (state,) = download([_store(fake, tmp_path)], on_file=lambda *_: left.append(partial.exists()))
    assert state.complete and left == [False] * 3
    assert _complete_files(tmp_path) == {NAME, "small.yaml", "empty.txt"}
    assert not (tmp_path / ".sam3d_gs.incoming").exists()


def _stop_at_the_second_file(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    real, seen = Hub.download, []

    def stopped(self: Hub, repository_id: str, file: RemoteFile, *rest: object, **options: object) -> Path:
        seen.append(file.name)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return real(self, repository_id, file, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Hub, "download", stopped)
    return seen


def test_a_stopped_download_into_the_cache_is_listed_as_incomplete(
    fake: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = Repository("model", "a/model", "", essential=(NAME, "small.yaml"))
    store = Store(repository, Hub(fake.endpoint, tmp_path, GOOD_TOKEN))
    _stop_at_the_second_file(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        download([store])
    assert inspect(store).summary == "1 missing of 2 files"


def test_stopped_with_ctrl_c_the_finished_files_are_kept(
    fake: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = _stop_at_the_second_file(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        download([_store(fake, tmp_path)])
    assert _complete_files(tmp_path) == {NAME}
    (state,) = download([_store(fake, tmp_path)])
    assert state.complete and seen == [NAME, "small.yaml", "small.yaml", "empty.txt"]
