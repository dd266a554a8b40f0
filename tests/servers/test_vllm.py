"""A real vLLM (CPU build) with a tiny Qwen3-VL that was trained to name a ball of the photo's colour."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from sam3d_gs.vlm.ask import QUESTION
from tests.vlm.fake_vllm import group_members

pytestmark = pytest.mark.servers

ENVIRONMENT = Path(os.environ.get("SAM3D_GS_TEST_SERVERS", "nowhere"))
PROMPT = "Name the objects."
ARGUMENTS = "--enforce-eager --kv-cache-memory-bytes 64M --max-model-len 2048"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (ENVIRONMENT / "bin" / "vllm").exists():
        pytest.skip("no environment with vLLM: run `bash run_tests.sh --servers`")
    folder = tmp_path_factory.mktemp("model") / "tiny"
    maker = Path(__file__).with_name("tiny_qwen3vl.py")
    subprocess.run([ENVIRONMENT / "bin" / "python", maker, folder, PROMPT, QUESTION], check=True, timeout=300)
    return folder


def _start(folder: Path, model: Path, photos: list[Path], *more: str, args: str = "") -> subprocess.Popen[str]:
    (folder / "prompt.md").write_text(PROMPT)
    command = [sys.executable, "-m", "sam3d_gs", "phrases", *map(str, photos), "-w", str(folder), "--engine", "vllm"]
    command += ["--model", str(model), "--vllm-command", str(ENVIRONMENT / "bin" / "vllm")]
    command += ["--vllm-args", f"{ARGUMENTS} {args}", "--system-prompt", str(folder / "prompt.md")]
    command += ["--sent-side-px", "96", "--max-tokens", "512", "--thinking-tokens", "64", *more]

    def hears_ctrl_c() -> None:  # which background jobs do not
        signal.signal(signal.SIGINT, signal.default_int_handler)

    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        preexec_fn=hears_ctrl_c,
    )


def _photo(folder: Path, colour: str) -> Path:
    path = folder / f"{colour}.png"
    Image.new("RGB", (96, 64), {"red": (210, 30, 30), "blue": (30, 40, 210)}[colour]).save(path)
    return path


def _vllm_groups(folder: Path) -> set[int]:
    """Process groups of vLLM servers that were started for this folder, by their log file."""
    log, groups = folder / "outputs" / "master_with_vllm" / "logs" / "vllm.log", set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "fd" / "1").resolve() == log:
                    groups.add(os.getpgid(int(entry.name)))
            except (OSError, RuntimeError):
                continue
    return groups


def _wait_for_groups(folder: Path, process: subprocess.Popen[str]) -> set[int]:
    while not (groups := _vllm_groups(folder)):
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    return groups


def _answer(folder: Path, photo: str) -> dict[str, list[dict[str, object]]]:
    path = folder / "outputs" / "master_with_vllm" / photo / "answer.json"
    return dict(json.loads(path.read_text()))


def test_two_photos_one_start(model: Path, tmp_path: Path) -> None:
    started_s = time.monotonic()
    process = _start(tmp_path, model, [_photo(tmp_path, "red"), _photo(tmp_path, "blue")])
    groups = _wait_for_groups(tmp_path, process)
    _out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert len(groups) == 1
    assert not any(map(group_members, groups))
    for colour in ("red", "blue"):
        (attempt,) = _answer(tmp_path, colour)["attempts"]
        assert attempt["reasoning"].strip() == f"the photo shows {colour}"  # type: ignore[attr-defined]
        phrases = json.loads((tmp_path / "outputs" / "master_with_vllm" / colour / "phrases.json").read_text())
        assert [row["text"] for row in phrases["phrases"]] == [f"{colour} ball"]
    ready = next(line for line in err.splitlines() if "ready after" in line)
    first = _answer(tmp_path, "red")["attempts"][0]["seconds"]
    print(f"\n{ready} First answer {first} s, all {time.monotonic() - started_s:.1f} s.")


def test_thinking_without_end(model: Path, tmp_path: Path) -> None:
    """Random weights never close their thinking: the budget does, and the grammar bounds what follows."""
    process = _start(tmp_path, model, [_photo(tmp_path, "red")], args="--load-format dummy")
    groups = _wait_for_groups(tmp_path, process)
    _, err = process.communicate(timeout=300)
    assert process.returncode in (0, 1), err
    assert "Traceback" not in err
    assert 1 <= len(_answer(tmp_path, "red")["attempts"]) <= 2
    assert not any(map(group_members, groups))


def test_ctrl_c_while_it_loads(model: Path, tmp_path: Path) -> None:
    process = _start(tmp_path, model, [_photo(tmp_path, "red")])
    groups = _wait_for_groups(tmp_path, process)
    time.sleep(8)  # deep in its imports, where SIGTERM does nothing
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert not any(map(group_members, groups))


def test_killed_while_it_loads(model: Path, tmp_path: Path) -> None:
    process = _start(tmp_path, model, [_photo(tmp_path, "red")])
    (group,) = _wait_for_groups(tmp_path, process)
    time.sleep(3)
    os.kill(group, signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "vllm.log" in err.splitlines()[-1]
    assert not group_members(group)
