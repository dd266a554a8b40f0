"""The token and passwords: whom they are sent to, and that no message repeats them."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sam3d_gs.cli import app
from sam3d_gs.engines import registry
from sam3d_gs.errors import Sam3dGsError, UsageError
from sam3d_gs.weights.checkpoints import Store
from sam3d_gs.weights.download import download
from sam3d_gs.weights.hub import Hub, keep_token_from_libraries
from sam3d_gs.weights.repositories import Repository
from tests.hub import GOOD_TOKEN, Canned, FakeHub, serving

pytest.importorskip("huggingface_hub")

FILES = {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 200}
EVIL = ["http://mirror.example", "http://127.0.0.1.evil.com", "http://localhost.evil.com", "http://10.0.0.1:80"]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with serving(FakeHub({"a/model": dict(FILES)})) as hub:
        yield hub


@pytest.fixture(params=[True, False], ids=["as-the-hub", "as-a-mirror"])
def official(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(Hub, "official", request.param)
    return bool(request.param)


def _store(fake: FakeHub, root: Path) -> Store:
    return Store(Repository("model", "a/model", "", folder=root / "folder"), Hub(fake.endpoint, root, GOOD_TOKEN))


@pytest.mark.parametrize("endpoint", EVIL)
def test_no_token_without_tls(tmp_path: Path, endpoint: str) -> None:
    hub = Hub(endpoint, tmp_path, GOOD_TOKEN)
    assert hub.credentials is False
    assert "is not sent there" in hub.notes()[0]


@pytest.mark.parametrize(
    "endpoint", ["https://mirror.example", "http://127.0.0.2", "http://[::1]:80", "http://LOCALHOST"]
)
def test_the_token_over_tls_or_on_this_machine(tmp_path: Path, endpoint: str) -> None:
    hub = Hub(endpoint, tmp_path, GOOD_TOKEN)
    assert hub.credentials == GOOD_TOKEN and not hub.notes()


def test_plain_http_to_this_machine_by_a_proxy_leaves_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.delenv("no_proxy", raising=False)
    assert Hub("http://127.0.0.1:80", tmp_path, GOOD_TOKEN).credentials is False
    assert Hub("https://127.0.0.1:80", tmp_path, GOOD_TOKEN).credentials == GOOD_TOKEN
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert Hub("http://127.0.0.1:80", tmp_path, GOOD_TOKEN).credentials == GOOD_TOKEN


@pytest.mark.usefixtures("official")
def test_an_open_repository_needs_no_token(
    fake: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Hub, "encrypted", False)
    monkeypatch.setenv("HF_TOKEN", GOOD_TOKEN)
    (state,) = download([_store(fake, tmp_path)])
    assert state.complete and caplog.text.count("is not sent there") == 1
    assert not any(r.authorization for r in fake.requests)


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/api/", "/resolve/"])
def test_the_token_does_not_follow_to_another_server(fake: FakeHub, tmp_path: Path, path: str, official: bool) -> None:
    with serving(FakeHub({"a/model": dict(FILES)})) as other:
        url = "/api/models/a/model?blobs=true" if path == "/api/" else "/a/model/resolve/main/config.json"
        fake.canned = [Canned(path, 302, headers={"Location": f"{other.endpoint}{url}"}, times=9)]
        fake.elsewhere = other.endpoint
        with suppress(Sam3dGsError):
            download([_store(fake, tmp_path)])
    assert official or other.requests  # huggingface_hub itself does not even follow
    assert not any(r.authorization for r in other.requests)
    assert any(r.authorization for r in fake.requests)


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/api/", "/resolve/", "/stored/"])
@pytest.mark.parametrize("status", [401, 404, 503])
@pytest.mark.usefixtures("official")
def test_an_answer_that_repeats_the_token(
    fake: FakeHub, tmp_path: Path, path: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    words = f"no access with {GOOD_TOKEN}"
    headers = {"X-Error-Message": words, "X-Error-Code": GOOD_TOKEN, "X-Request-Id": GOOD_TOKEN}
    fake.canned = [Canned(path, status, json.dumps({"error": words}).encode(), headers, times=99)]
    with caplog.at_level(logging.DEBUG, "sam3d_gs"), pytest.raises(Sam3dGsError) as caught:
        download([_store(fake, tmp_path)])
    text = f"{caught.value}{caught.value.__cause__}{caplog.text}"
    assert GOOD_TOKEN not in text and "\n" not in str(caught.value)


def test_a_list_that_repeats_the_token(fake: FakeHub, tmp_path: Path) -> None:
    fake.listed = {"config.json": f"../{GOOD_TOKEN}"}
    with pytest.raises(Sam3dGsError, match="outside its folder") as caught:
        download([_store(fake, tmp_path)])
    assert GOOD_TOKEN not in str(caught.value)


@pytest.mark.parametrize("token", ["hf_a b", "hf_é", "hf_a\nX-Evil: 1", "hf_\x00"])
def test_a_token_that_is_none_is_named_and_not_sent(fake: FakeHub, tmp_path: Path, token: str) -> None:
    hub = Hub(fake.endpoint, tmp_path, token)
    access = hub.access("a/model", "config.json")
    assert access.state == "bad token" and token not in access.advice
    assert hub.credentials is False


@pytest.mark.slow
def test_passwords_in_addresses_are_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://me:secret1@127.0.0.1:9/hub")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HTTP_PROXY", "http://me:secret2@127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://me:secret2@127.0.0.1:9")
    shown = ""
    for command in (["checkpoints", "download", "moge"], ["checkpoints", "verify", "moge"], ["doctor", "--online"]):
        result = CliRunner().invoke(app, ["-v", *command])
        shown += f"{result.output}{result.exception}{getattr(result.exception, '__cause__', '')}"
    shown += "".join(capfd.readouterr())
    assert "secret" not in shown
    assert "***@127.0.0.1" in shown


@pytest.mark.parametrize("value", ["hf-mirror.com", "ftp://x", "file:///etc", "http://", "http://[::1", "http://a:b"])
def test_an_endpoint_that_is_no_address(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", value)
    with pytest.raises(UsageError, match="no address of a hub"):
        Hub.from_environment()


def test_libraries_that_download_by_themselves_do_not_get_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_IMPLICIT_TOKEN", False)
    for endpoint in EVIL:
        environment = {"HF_ENDPOINT": endpoint, "HF_TOKEN": GOOD_TOKEN}
        keep_token_from_libraries(environment)
        assert GOOD_TOKEN not in environment.values()
        assert environment["HF_HUB_DISABLE_IMPLICIT_TOKEN"] == "1"
    for endpoint in ("", "https://mirror.example", "http://127.0.0.1:80"):
        environment = {"HF_ENDPOINT": endpoint, "HF_TOKEN": GOOD_TOKEN}
        keep_token_from_libraries(environment)
        assert environment == {"HF_ENDPOINT": endpoint, "HF_TOKEN": GOOD_TOKEN}


def test_an_engine_is_loaded_without_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.utils import build_hf_headers

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_IMPLICIT_TOKEN", False)
    monkeypatch.setattr("os.environ", dict(os.environ, HF_ENDPOINT=EVIL[0], HF_TOKEN=GOOD_TOKEN))
    assert "authorization" in build_hf_headers()
    spec = registry.choose_spec("phrases", "given", "embedded", ())
    registry.load(registry.EngineChoice(spec, spec.options(phrases=("cup",))))
    assert "authorization" not in build_hf_headers()
    assert "HF_TOKEN" not in os.environ
