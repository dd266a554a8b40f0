"""Access to repositories in every way it can be denied, and lists of files."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from sam3d_gs.errors import Sam3dGsError
from sam3d_gs.weights.hub import Hub
from sam3d_gs.weights.remote_files import name_fault
from tests.hub import COMMIT, GATES, GOOD_TOKEN, FakeHub, serving

pytest.importorskip("huggingface_hub")

FILES = {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 20}


def _ask(tmp_path: Path, fake: FakeHub, token: str | None, repository: str = "a/model") -> str:
    with serving(fake):
        return Hub(fake.endpoint, tmp_path, token).access(repository, "config.json").state


@pytest.mark.parametrize("gate", GATES)
def test_each_answer_of_a_gated_repository(tmp_path: Path, gate: str) -> None:
    fake = FakeHub({"a/model": FILES}, gates={"a/model": gate})
    assert _ask(tmp_path, fake, GOOD_TOKEN) == ("not asked for" if gate == "reset" else gate)


def test_tokens(tmp_path: Path) -> None:
    fake = FakeHub({"a/model": FILES}, gates={"a/model": "granted"})
    assert _ask(tmp_path, fake, None) == "no token"
    assert _ask(tmp_path, fake, "hf_old") == "bad token"
    assert _ask(tmp_path, FakeHub({"a/model": FILES}), None) == "granted"


def test_no_such_repository(tmp_path: Path) -> None:
    assert _ask(tmp_path, FakeHub({}), None) == "not found"
    assert _ask(tmp_path, FakeHub({}), GOOD_TOKEN) == "not found"


def test_nobody_there_and_offline(tmp_path: Path) -> None:
    with socket.socket() as taken:  # bound, not listening: refused at once
        taken.bind(("127.0.0.1", 0))
        access = Hub(f"http://127.0.0.1:{taken.getsockname()[1]}", tmp_path).access("a/model", "config.json")
    assert access.state == "unreachable"
    assert "HF_ENDPOINT" in access.advice
    assert Hub("http://127.0.0.1:1", tmp_path, offline=True).access("a/model", "config.json").state == "offline"


def test_the_advice_names_the_page_and_never_the_token(tmp_path: Path) -> None:
    fake = FakeHub({"a/model": FILES}, gates={"a/model": "not asked for"})
    with serving(fake):
        hub = Hub(fake.endpoint, tmp_path, GOOD_TOKEN)
        access = hub.access("a/model", "config.json")
    assert "https://huggingface.co/a/model" in access.advice
    assert GOOD_TOKEN not in repr(hub) + access.advice


def test_files_come_with_size_and_digest(tmp_path: Path) -> None:
    with serving(FakeHub({"a/model": FILES})) as fake:
        listing = Hub(fake.endpoint, tmp_path).files("a/model")
        files = listing.files
        assert listing.commit == listing.asked == COMMIT
        assert {f.name: f.size for f in files} == {name: len(data) for name, data in FILES.items()}
        assert [len(f.digest or "") for f in files] == [40, 64]
        with pytest.raises(Sam3dGsError, match="a/nothing: not found"):
            Hub(fake.endpoint, tmp_path).files("a/nothing")


UNSAFE = ["checkpoints//x", "../../x", "a/../b", "./x", "/etc/x", "C:/x", "checkpoints/C:x", "a\\b", "..", "", "a/"]


@pytest.mark.parametrize("name", UNSAFE)
def test_a_name_that_would_leave_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    assert name_fault(name)
    with serving(FakeHub({"a/model": FILES}, listed={"config.json": name})) as fake:
        with pytest.raises(Sam3dGsError, match="outside its folder") as caught:
            Hub(fake.endpoint, tmp_path).files("a/model")
        assert repr(name) in str(caught.value)


@pytest.mark.parametrize("name", ["config.json", "a/b/c.ckpt", "..hidden", "a..b/.gitignore", "v1.0:final/x"])
def test_usual_names_are_taken(name: str) -> None:
    assert not name_fault(name)


@pytest.mark.parametrize(
    ("endpoint", "sent"),
    [
        ("https://huggingface.co", True),
        ("https://mirror.example", True),
        ("http://127.0.0.1:8000", True),
        ("http://localhost:8000", True),
        ("http://mirror.example", False),
        ("http://127.0.0.1.mirror.example", False),
    ],
)
def test_the_token_is_never_sent_in_clear(tmp_path: Path, endpoint: str, sent: bool) -> None:
    assert Hub(endpoint, tmp_path, GOOD_TOKEN).credentials == (GOOD_TOKEN if sent else False)


def test_a_gated_repository_behind_http_says_why_no_token_was_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hub, "encrypted", False)
    with serving(FakeHub({"a/model": FILES}, gates={"a/model": "granted"})) as fake:
        access = Hub(fake.endpoint, tmp_path, GOOD_TOKEN).access("a/model", "config.json")
    assert access.state == "token withheld" and "not https" in access.advice
    assert not any(r.authorization for r in fake.requests)


@pytest.mark.slow
def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example/")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert Hub.from_environment() == Hub("https://mirror.example", tmp_path / "hub", None, offline=True)
    (tmp_path / "token").write_text("hf_file\n")
    assert Hub.from_environment().token == "hf_file"
    monkeypatch.setenv("HF_TOKEN", "hf_variable")
    assert Hub.from_environment().token == "hf_variable"
