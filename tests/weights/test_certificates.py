"""Hubs whose certificate this machine does not know: mirrors of companies, proxies that look into TLS."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sam3d_gs.weights.certificates import certificate_distrust, certificate_fault, share_variables
from tests.hub import GOOD_TOKEN, FakeHub, serving

pytest.importorskip("huggingface_hub")

VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
FILES = {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 200}


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate of 127.0.0.1 and localhost with its key."""
    if not shutil.which("openssl"):
        pytest.skip("the program openssl makes the certificate of this test")
    folder = tmp_path_factory.mktemp("tls")
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout key.pem -out cert.pem "
        "-subj /O=Acme/CN=AcmeMirror -addext subjectAltName=IP:127.0.0.1,DNS:localhost"
    )
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    (folder / "both.pem").write_text((folder / "key.pem").read_text() + (folder / "cert.pem").read_text())
    return folder


@pytest.fixture
def fake(pem: Path) -> Iterator[FakeHub]:
    with serving(FakeHub({"a/model": FILES}, certificate=pem / "both.pem")) as hub:
        yield hub


def _sam3d_gs(hub: FakeHub, root: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, since the HTTP client reads the variables once."""
    environment = {key: value for key, value in os.environ.items() if key not in VARIABLES}
    environment |= {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(root / "hf"), "HF_TOKEN": GOOD_TOKEN, **variables}
    return subprocess.run(
        [sys.executable, "-m", "sam3d_gs", *arguments], env=environment, capture_output=True, text=True, cwd=root
    )


@pytest.mark.slow
def test_an_unknown_certificate_is_named_with_host_and_issuer(fake: FakeHub, tmp_path: Path) -> None:
    done = _sam3d_gs(fake, tmp_path, "checkpoints", "download", "a/model")
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "certificate of 127.0.0.1 is not trusted" in last
    assert "self" in last and "issued by AcmeMirror" in last and "SSL_CERT_FILE" in last
    assert GOOD_TOKEN not in done.stderr and not fake.requests


@pytest.mark.slow
@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_each_variable_for_certificates_is_honoured(fake: FakeHub, tmp_path: Path, pem: Path, variable: str) -> None:
    done = _sam3d_gs(fake, tmp_path, "checkpoints", "download", "a/model", **{variable: str(pem / "cert.pem")})
    assert done.returncode == 0, done.stderr
    assert "complete" in done.stdout


@pytest.mark.slow
def test_doctor_names_certificates_that_are_not_there(fake: FakeHub, tmp_path: Path) -> None:
    done = _sam3d_gs(fake, tmp_path, "doctor", "--profile", "full", SSL_CERT_FILE="/nowhere/ca.pem")
    assert "SSL_CERT_FILE names /nowhere/ca.pem, which does not exist." in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("content", [None, b"", b"no certificate", b"\0\xff" * 50])
def test_a_file_of_certificates_that_is_none_is_named(fake: FakeHub, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    done = _sam3d_gs(fake, tmp_path, "checkpoints", "download", "a/model", REQUESTS_CA_BUNDLE=str(path))
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert str(path) in last and "names" in last


@pytest.mark.parametrize(
    ("given", "added"),
    [
        ({}, {}),
        ({"REQUESTS_CA_BUNDLE": "/a.pem"}, {"SSL_CERT_FILE": "/a.pem"}),
        ({"CURL_CA_BUNDLE": "/a.pem"}, {"SSL_CERT_FILE": "/a.pem"}),
        ({"CURL_CA_BUNDLE": "/"}, {"SSL_CERT_DIR": "/"}),
        ({"SSL_CERT_FILE": "/a.pem"}, {"REQUESTS_CA_BUNDLE": "/a.pem"}),
        ({"SSL_CERT_FILE": "/a.pem", "REQUESTS_CA_BUNDLE": "/b.pem"}, {}),
        ({"REQUESTS_CA_BUNDLE": ""}, {}),
    ],
)
def test_one_variable_serves_all_clients(given: dict[str, str], added: dict[str, str]) -> None:
    environment = dict(given)
    share_variables(environment)
    assert environment == given | added


def test_other_errors_are_no_distrust(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert not certificate_fault()
    assert not certificate_distrust(ConnectionError("refused"), "https://localhost")
    wrapped = OSError(ssl.SSLError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: expired"))
    assert "certificate of localhost is not trusted" in certificate_distrust(wrapped, "https://localhost:1")
