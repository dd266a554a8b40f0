"""Engine vllm with a real vLLM (CPU build) and a tiny Qwen3-VL, trained to name a ball of the photo's colour."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.servers.real_vllm import ARGUMENTS, ENVIRONMENT, SMALL, photo, prompt_file, server_groups, wait_until
from tests.vlm.fake_vllm import group_members

pytestmark = pytest.mark.servers


def _start(folder: Path, model: Path, photos: list[Path], args: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "sam3d_gs", "phrases", *map(str, photos), "-w", str(folder), "--engine", "vllm"]
    command += ["--model", str(model), "--vllm-command", str(ENVIRONMENT / "bin" / "vllm")]
    command += ["--vllm-args", f"{ARGUMENTS} {args}", "--system-prompt", str(prompt_file(folder)), *SMALL]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )


def _group(folder: Path, process: subprocess.Popen[str]) -> int:
    wait_until(lambda: server_groups(folder), process)
    (group,) = server_groups(folder)
    return group


def _json(folder: Path, photo_name: str, name: str) -> dict[str, Any]:
    path = folder / "outputs" / "master_with_vllm" / photo_name / name
    return dict(json.loads(path.read_text()))


def test_two_photos_one_start(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    process = _start(tmp_path, model, [photo(tmp_path, "red"), photo(tmp_path, "blue")])
    group = _group(tmp_path, process)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert not group_members(group)
    for colour in ("red", "blue"):
        (attempt,) = _json(tmp_path, colour, "answer.json")["attempts"]
        assert attempt["reasoning"].strip() == f"the photo shows {colour}"
        assert [row["text"] for row in _json(tmp_path, colour, "phrases.json")["phrases"]] == [f"{colour} ball"]
    said = [line for line in err.splitlines() if line.startswith(("vLLM is ready", "vLLM was stopped"))]
    assert len(said) == 2, err
    first, second = (_json(tmp_path, colour, "answer.json")["attempts"][0]["seconds"] for colour in ("red", "blue"))
    with capsys.disabled():  # the figures of the job
        print(f"\n{' '.join(said)} First answer {first} s, second {second} s.")


def test_a_server_that_knows_no_thinking(endless: Path, tmp_path: Path) -> None:
    """Without its parser vLLM breaks at a budget for it: the second try, which has none, gives the list."""
    process = _start(tmp_path, endless, [photo(tmp_path, "red")], args='--reasoning-parser ""')
    group = _group(tmp_path, process)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "Trying once more, without thinking" in err
    first, second = _json(tmp_path, "red", "answer.json")["attempts"]
    assert "HTTP 500" in first["error"] and not second["reasoning"]
    assert [row["text"] for row in _json(tmp_path, "red", "phrases.json")["phrases"]] == ["red ball"]
    assert not group_members(group)


def test_ctrl_c_while_it_loads(model: Path, tmp_path: Path) -> None:
    process = _start(tmp_path, model, [photo(tmp_path, "red")])
    group = _group(tmp_path, process)
    time.sleep(8)  # deep in its imports, where SIGTERM does nothing
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert not group_members(group)


def test_killed_while_it_loads(model: Path, tmp_path: Path) -> None:
    process = _start(tmp_path, model, [photo(tmp_path, "red")])
    group = _group(tmp_path, process)
    time.sleep(3)
    os.kill(group, signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "vllm.log" in err.splitlines()[-1]
    assert not group_members(group)
