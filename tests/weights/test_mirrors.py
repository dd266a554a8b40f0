"""Hubs that are not the hub: mirrors with fewer headers, proxies that answer themselves, servers that are busy."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from sam3d_gs.errors import Sam3dGsError
from sam3d_gs.weights.checkpoints import Checkpoints, Store, inspect, verify
from sam3d_gs.weights.download import download
from sam3d_gs.weights.hub import Hub
from sam3d_gs.weights.repositories import Repository
from sam3d_gs.weights.transfer import retry_after_s
from tests.hub import COMMIT, GOOD_TOKEN, Canned, FakeHub, Fault, serving

pytest.importorskip("huggingface_hub")

DATA = bytes(i * 7 % 251 for i in range(300_000))
FILES = {"config.json": b"{}", "model.safetensors": DATA}
PAGE = b"<!DOCTYPE html><html><title>Sign in to the network</title></html>" + b" " * 900
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 300000\n"


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seconds: list[float] = []
    monkeypatch.setattr(time, "sleep", seconds.append)
    return seconds


@pytest.fixture
def fake(waits: list[float]) -> Iterator[FakeHub]:
    with serving(FakeHub({"a/model": dict(FILES)})) as hub:
        yield hub


def _store(fake: FakeHub, root: Path, cache: bool = False) -> Store:
    repository = Repository("model", "a/model", "", folder=None if cache else root / "folder")
    return Store(repository, Hub(fake.endpoint, root / "hub", GOOD_TOKEN))


def _download(fake: FakeHub, root: Path, cache: bool = False) -> Checkpoints:
    (state,) = download([_store(fake, root, cache)])
    assert state.complete
    assert {file.name: file.path.read_bytes() for file in state.files} == fake.repositories["a/model"]
    return state


def _refused(fake: FakeHub, root: Path) -> str:
    with pytest.raises(Sam3dGsError) as caught:
        download([_store(fake, root)])
    text = str(caught.value)
    assert "\n" not in text and GOOD_TOKEN not in text
    kept = [path for path in root.rglob("*") if path.is_file() and ".sam3d_gs" not in str(path)]
    assert not {path.name for path in kept} - {"config.json"}
    return text


@pytest.mark.slow
@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize(
    "without",
    [
        {"x-repo-commit"},
        {"x-repo-commit", "etag", "x-linked-etag"},
        {"x-repo-commit", "etag", "x-linked-etag", "x-linked-size", "accept-ranges"},
        {"content-length"},
        {"x-repo-commit", "etag", "x-linked-etag", "x-linked-size", "content-length"},
    ],
)
def test_headers_that_only_the_hub_sends_may_be_missing(
    fake: FakeHub, tmp_path: Path, without: set[str], cache: bool
) -> None:
    fake.without = without
    state = _download(fake, tmp_path, cache)
    assert state.compared_with == "the hub"
    if cache:
        assert (tmp_path / "hub/models--a--model/refs/main").read_text() == COMMIT


@pytest.mark.slow
@pytest.mark.parametrize("sha", [None, "", "main", "../../x", "C0FFEE", 7])
def test_a_mirror_without_commits(fake: FakeHub, tmp_path: Path, sha: object) -> None:
    from huggingface_hub import hf_hub_download

    fake.without = {"x-repo-commit"}
    fake.model = lambda answer: answer | {"sha": sha}
    _download(fake, tmp_path, cache=True)
    found = hf_hub_download("a/model", "model.safetensors", cache_dir=tmp_path / "hub", local_files_only=True)
    assert Path(found).read_bytes() == DATA
    assert all("/resolve/main/" in r.path for r in fake.transfers() if "resolve" in r.path)
    assert inspect(_store(fake, tmp_path, cache=True)).complete
    fake.requests.clear()
    _download(fake, tmp_path, cache=True)
    assert not fake.transfers()


def test_a_mirror_without_digests_says_so(fake: FakeHub, tmp_path: Path) -> None:
    fake.model = lambda answer: answer | {"siblings": [{"rfilename": name} for name in FILES]}
    for cache in (False, True):
        assert _download(fake, tmp_path, cache).compared_with == "the hub, which gives no digests"


@pytest.mark.slow
@pytest.mark.parametrize("digest", ["../../../x", "/etc/x", "e" * 63, "g" * 64, 5, ["x"], None, "e" * 64 + "/../x"])
def test_a_digest_becomes_part_of_a_path_only_if_it_is_one(fake: FakeHub, tmp_path: Path, digest: object) -> None:
    def changed(answer: dict[str, Any]) -> object:
        for row in answer["siblings"]:
            row.update(blobId=digest)
            if "lfs" in row:
                row["lfs"]["sha256"] = digest
        return answer

    fake.model = changed
    _download(fake, tmp_path, cache=True)
    assert {path.name for path in tmp_path.iterdir()} == {"hub"}


def test_digests_in_capitals(fake: FakeHub, tmp_path: Path) -> None:
    def changed(answer: dict[str, Any]) -> object:
        for row in answer["siblings"]:
            row["blobId"] = row["blobId"].upper()
        return answer

    fake.model = changed
    assert _download(fake, tmp_path, cache=True).compared_with == "the hub"


STRANGE: list[Callable[[dict[str, Any]], object]] = [
    lambda answer: [],
    lambda answer: None,
    lambda answer: "models",
    lambda answer: {},
    lambda answer: answer | {"siblings": {"a": 1}},
    lambda answer: answer | {"siblings": [1, 2]},
    lambda answer: answer | {"siblings": [{"name": "config.json"}]},
    lambda answer: answer | {"siblings": [{"rfilename": 7}]},
    lambda answer: answer | {"siblings": [{"rfilename": None}]},
    lambda answer: answer | {"siblings": []},
    lambda answer: answer | {"siblings": None},
    lambda answer: answer | {"siblings": [{"rfilename": "a", "lfs": "x"}]},
]


@pytest.mark.parametrize("number", range(len(STRANGE)))
def test_a_strange_list_of_files_is_one_line(fake: FakeHub, tmp_path: Path, number: int) -> None:
    fake.model = STRANGE[number]
    text = _refused(fake, tmp_path)
    assert fake.endpoint in text
    assert not fake.transfers()


@pytest.mark.parametrize("size", [-1, True, "300000", 1e9, 2**80, [3]])
def test_a_size_that_is_none_is_not_compared(fake: FakeHub, tmp_path: Path, size: object) -> None:
    fake.model = lambda answer: answer | {"siblings": [row | {"size": size} for row in answer["siblings"]]}
    _download(fake, tmp_path)


@pytest.mark.parametrize("path", ["", "/api/"])
def test_the_login_page_of_a_network(fake: FakeHub, tmp_path: Path, path: str) -> None:
    fake.canned = [Canned(path, body=PAGE, headers={"Content-Type": "text/html"}, times=99)]
    text = _refused(fake, tmp_path)
    assert "login page" in text
    if not path:
        assert _store(fake, tmp_path).hub.access("a/model", "config.json").state == "not a hub"


@pytest.mark.parametrize("digests", [True, False])
@pytest.mark.parametrize(("body", "name"), [(PAGE, "a web page"), (POINTER, "a Git LFS pointer")])
def test_something_else_instead_of_a_file_is_named(
    fake: FakeHub, tmp_path: Path, body: bytes, name: str, digests: bool
) -> None:
    if not digests:
        fake.model = lambda answer: answer | {"siblings": [{"rfilename": name} for name in FILES]}
    fake.canned = [Canned("/stored/", body=body, times=99)]
    assert f"instead of model.safetensors, {fake.endpoint} sent {name}" in _refused(fake, tmp_path)


def test_a_pointer_that_a_git_clone_left_is_named(fake: FakeHub, tmp_path: Path) -> None:
    store = _store(fake, tmp_path)
    store.root.mkdir()
    (store.root / "config.json").write_bytes(FILES["config.json"])
    (store.root / "model.safetensors").write_bytes(POINTER)
    (state,) = verify([store])
    assert state.summary == "1 Git LFS pointer of 2 files"
    _download(fake, tmp_path)


def test_more_bytes_than_the_list_says_do_not_fill_the_disk(fake: FakeHub, tmp_path: Path) -> None:
    fake.canned = [Canned("/stored/", body=DATA * 20, times=99)]
    assert "digest other than the hub's" in _refused(fake, tmp_path)


def test_a_server_that_cannot_resume(fake: FakeHub, tmp_path: Path) -> None:
    fake.faults["model.safetensors"] = Fault("drop", after=100_000, times=1)
    hub = _store(fake, tmp_path)
    listing = hub.hub.files("a/model")
    file = next(f for f in listing.files if f.size == len(DATA))
    with pytest.raises(Sam3dGsError, match="could not be downloaded"):
        hub.hub.download("a/model", file, COMMIT, tmp_path / "in")
    fake.faults["model.safetensors"] = Fault("no range", times=1)
    assert hub.hub.download("a/model", file, COMMIT, tmp_path / "in").read_bytes() == DATA


@pytest.mark.slow
def test_a_stopped_download_goes_on_in_the_next_run(
    fake: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sam3d_gs.weights.transfer._BLOCK", 1000)
    fake.faults["model.safetensors"] = Fault("drop", after=1000, times=5)
    with pytest.raises(Sam3dGsError, match="could not be downloaded"):
        download([_store(fake, tmp_path)])
    fake.requests.clear()
    _download(fake, tmp_path)
    assert [r.range for r in fake.transfers("model.safetensors")] == ["bytes=5000-"] * 2
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("path", ["/api/", "/resolve/", "/stored/"])
def test_a_busy_server_is_waited_for_as_long_as_it_asks(
    fake: FakeHub, tmp_path: Path, waits: list[float], status: int, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    fake.canned = [Canned(path, status, headers={"Retry-After": "7"}, times=2)]
    with caplog.at_level(logging.INFO, "sam3d_gs"):
        _download(fake, tmp_path)
    assert waits == [7, 7]
    assert f"answered {status}" in caplog.text and "Waiting 7 s" in caplog.text


@pytest.mark.parametrize("path", ["/api/", "/resolve/", "/stored/"])
def test_a_server_that_asks_for_hours_is_not_waited_for(
    fake: FakeHub, tmp_path: Path, waits: list[float], path: str
) -> None:
    fake.canned = [Canned(path, 429, headers={"Retry-After": "86400"}, times=99)]
    text = _refused(fake, tmp_path)
    assert "answered 429 (too many requests); try again in 86400 s, as it asks." in text
    assert not waits


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("30", 30), (" 5 ", 5), ("", 0), ("soon", 0), ("-5", 0), ("nan", 0), ("9" * 400, 0), ("Mon, 01 Jan 1990", 0)],
)
def test_how_long_a_server_asks_to_wait(value: str, seconds: float) -> None:
    assert retry_after_s({"Retry-After": value}) == seconds
    assert retry_after_s({}) == 0


def test_a_date_to_wait_for() -> None:
    when = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=60), usegmt=True)
    assert 50 < retry_after_s({"Retry-After": when}) <= 60


def test_a_server_without_head_requests(fake: FakeHub, tmp_path: Path) -> None:
    fake.canned = [Canned("config.json", 405)]
    _download(fake, tmp_path)


def test_a_repository_without_the_usual_files(fake: FakeHub, tmp_path: Path) -> None:
    del fake.repositories["a/model"]["config.json"]
    _download(fake, tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        ("a/b", "a"),
        ("a", "a/b/c"),
        ("Model.bin", "model.bin"),
        ("A/x", "a/X"),
        ("A", "a/x"),
        ("caf\u00e9", "cafe\u0301"),
        ("stra\u00dfe", "STRASSE"),
    ],
)
def test_names_that_cannot_both_be_files(fake: FakeHub, tmp_path: Path, names: tuple[str, str]) -> None:
    fake.listed = dict(zip(FILES, names, strict=True))
    assert "cannot both be files" in _refused(fake, tmp_path)
    assert not fake.transfers()


def test_a_git_folder_in_the_list_is_left_out(fake: FakeHub, tmp_path: Path) -> None:
    for name in (".git/config", ".git/hooks/post-checkout", "sub/.GIT/config"):
        fake.repositories["a/model"][name] = b"[core]\n\tfsmonitor = touch /tmp/owned\n"
    download([_store(fake, tmp_path)])
    assert {str(path.relative_to(tmp_path / "folder")) for path in tmp_path.glob("folder/*")} == {
        ".sam3d_gs.json",
        ".sam3d_gs.lock",
        *FILES,
    }


def test_the_earlier_commit_stays_until_the_new_one_is_complete(fake: FakeHub, tmp_path: Path) -> None:
    _download(fake, tmp_path, cache=True)
    new = hashlib.sha1(b"new").hexdigest()
    fake.repositories["a/model"]["model.safetensors"] = DATA[::-1]
    fake.model = lambda answer: answer | {"sha": new}
    fake.faults["model.safetensors"] = Fault("corrupt")
    with pytest.raises(Sam3dGsError):
        download([_store(fake, tmp_path, cache=True)])
    assert inspect(_store(fake, tmp_path, cache=True), hash_too=True).complete
    assert _store(fake, tmp_path, cache=True).commit() == COMMIT
    fake.faults.clear()
    _download(fake, tmp_path, cache=True)
    assert _store(fake, tmp_path, cache=True).commit() == new
