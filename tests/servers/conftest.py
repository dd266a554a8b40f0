"""Two tiny language models, trained once for the whole job, and nothing of any server left after a test."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sam3d_gs.vlm.ask import QUESTION
from tests.servers.real_vllm import ENVIRONMENT, PROMPT, adopt_orphans, left_behind


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (ENVIRONMENT / "bin" / "vllm").exists():
        pytest.skip("no environment with vLLM: run `bash run_tests.sh --servers`")
    folder = tmp_path_factory.mktemp("models")
    maker = Path(__file__).with_name("tiny_qwen3vl.py")
    subprocess.run([ENVIRONMENT / "bin" / "python", maker, folder, PROMPT, QUESTION], check=True, timeout=1200)
    return folder


@pytest.fixture(scope="session")
def model(models: Path) -> Path:
    """It names a ball of the photo's colour."""
    return models / "brief"


@pytest.fixture(scope="session")
def endless(models: Path) -> Path:
    """The same, but it never closes its thinking."""
    return models / "endless"


@pytest.fixture(autouse=True)
def _nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    adopt_orphans()
    before = left_behind()
    yield
    assert sorted(left_behind()) == sorted(before)
