"""One file over a bad line: resumed, verified, and never left half."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sam3d_gs.errors import Sam3dGsError
from sam3d_gs.weights import transfer
from sam3d_gs.weights.hub import Hub, RemoteFile
from sam3d_gs.weights.transfer import PART_SUFFIX, fetch
from tests.hub import GOOD_TOKEN, FakeHub, Fault, serving

pytest.importorskip("huggingface_hub")

NAME = "weights/model.ckpt"
DATA = bytes(i * 7 % 251 for i in range(300_000))


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "RETRY_WAIT_S", 0.0)


@pytest.fixture
def fake() -> Iterator[FakeHub]:
    with serving(FakeHub({"a/model": {NAME: DATA, "small.yaml": b"x: 1\n", "empty.txt": b""}})) as hub:
        yield hub


def _fetch(fake: FakeHub, target: Path, name: str = NAME, token: str | None = GOOD_TOKEN) -> None:
    hub = Hub(fake.endpoint, target.parent, token)
    file = next(f for f in hub.files("a/model")[1] if f.name == name)
    fetch(hub, "a/model", file, target)


def test_large_small_and_empty_files(fake: FakeHub, tmp_path: Path) -> None:
    for name, data in fake.repositories["a/model"].items():
        _fetch(fake, tmp_path / "out", name)
        assert (tmp_path / "out").read_bytes() == data
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_token_stays_with_the_hub(fake: FakeHub, tmp_path: Path) -> None:
    _fetch(fake, tmp_path / "out")
    elsewhere = [r for r in fake.requests if r.host.startswith("localhost")]
    assert elsewhere and not any(r.authorization for r in elsewhere)


def test_a_dropped_connection_goes_on_where_it_was(fake: FakeHub, tmp_path: Path) -> None:
    fake.faults[NAME] = Fault("drop", after=70_000, times=3)
    _fetch(fake, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == DATA
    assert [r.range for r in fake.transfers(NAME)] == ["", "bytes=70000-", "bytes=140000-", "bytes=210000-"]


def test_a_later_process_goes_on_too(fake: FakeHub, tmp_path: Path) -> None:
    (tmp_path / f"out{PART_SUFFIX}").write_bytes(DATA[:123_456])
    _fetch(fake, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == DATA
    assert [r.range for r in fake.transfers(NAME)] == ["bytes=123456-"]


def test_a_server_without_ranges_starts_over(fake: FakeHub, tmp_path: Path) -> None:
    (tmp_path / f"out{PART_SUFFIX}").write_bytes(DATA[:1000])
    fake.faults[NAME] = Fault("no range")
    _fetch(fake, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == DATA


@pytest.mark.parametrize("rest", [b"\xff" * 1000, bytes(400_000)], ids=["of another file", "longer than the file"])
def test_a_wrong_rest_of_an_earlier_try_is_found_out(fake: FakeHub, tmp_path: Path, rest: bytes) -> None:
    (tmp_path / f"out{PART_SUFFIX}").write_bytes(rest)
    _fetch(fake, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == DATA


def test_damaged_once_is_fetched_again(fake: FakeHub, tmp_path: Path) -> None:
    fake.faults[NAME] = Fault("corrupt", times=1)
    _fetch(fake, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == DATA


def test_damaged_twice_is_not_kept(fake: FakeHub, tmp_path: Path) -> None:
    fake.faults[NAME] = Fault("corrupt")
    with pytest.raises(Sam3dGsError, match="digest other than the hub's"):
        _fetch(fake, tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fault", [Fault("short", after=1000), Fault("drop", after=0), Fault("500")])
def test_what_never_comes_whole_is_an_error_with_its_name(fake: FakeHub, tmp_path: Path, fault: Fault) -> None:
    fake.faults[NAME] = fault
    with pytest.raises(Sam3dGsError, match=rf"a/model: {NAME} stopped at .* of 300000 bytes"):
        _fetch(fake, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_access_withdrawn_meanwhile(fake: FakeHub, tmp_path: Path) -> None:
    fake.gates["a/model"] = "refused"
    with pytest.raises(Sam3dGsError, match="a/model: refused"):
        fetch(Hub(fake.endpoint, tmp_path, GOOD_TOKEN), "a/model", RemoteFile(NAME, len(DATA), None), tmp_path / "out")
