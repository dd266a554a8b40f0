"""Which GPUs a model gets, from a mocked nvidia-smi."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sam3d_gs.errors import UsageError
from sam3d_gs.system.nvidia import Gpu
from sam3d_gs.vlm import gpus as module
from sam3d_gs.vlm.gpus import GpuShare, choose_gpus, wait_until_free
from sam3d_gs.vlm.model import needed_mib, thinks

GIB = 1024


def gpu(index: str, uuid: str, total_mib: int, free_mib: int) -> Gpu:
    return Gpu(index, "card", "580", total_mib, free_mib, uuid)


BUSY = gpu("0", "GPU-aaa", 24 * GIB, 2 * GIB)
IDLE = [gpu(str(i), f"GPU-b{i}", 24 * GIB, 23 * GIB) for i in (1, 2, 3)]
ALL = [BUSY, *IDLE]


@pytest.fixture(autouse=True)
def _no_cuda_visible_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(
    ("wanted", "count", "needed", "ids"),
    [
        ("", None, 20 * GIB, ("1",)),  # the one with the most free memory
        ("", None, None, ("1",)),
        ("", None, 40 * GIB, ("1", "2")),
        ("", None, 50 * GIB, ("0", "1", "2", "3")),  # 1, 2 or 4, since heads divide by these
        ("", None, 900 * GIB, ("0", "1", "2", "3")),  # vLLM will say that it is too much
        ("2,3", None, 900 * GIB, ("2", "3")),
        ("3", None, None, ("3",)),
        ("GPU-b2", None, None, ("2",)),
        ("", 3, None, ("1", "2", "3")),
    ],
)
def test_choice(wanted: str, count: int | None, needed: int | None, ids: tuple[str, ...]) -> None:
    share = choose_gpus(ALL, wanted, count, needed)
    assert share.ids == ids
    assert share.count == len(ids)


def test_no_more_memory_than_is_free() -> None:
    assert choose_gpus(IDLE, "", None, None).memory_share == pytest.approx(0.9, abs=0.011)
    desktop = gpu("0", "GPU-a", 24 * GIB, 18 * GIB)
    share = choose_gpus([desktop], "", None, None)
    assert share.memory_share
    assert 0.6 < share.memory_share < 18 / 24


def test_room_is_left_to_others_and_not_waited_for_afterwards() -> None:
    share = choose_gpus(IDLE, "1", None, None, leave_free_mib=12 * GIB)
    assert share.memory_share == pytest.approx((23 - 12 - 0.5) / 24, abs=0.011)
    assert share.free_mib == 11 * GIB


def test_cuda_visible_devices_limits_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3")
    assert choose_gpus(ALL, "", None, None).ids == ("3",)
    assert choose_gpus(ALL, "1", None, None).ids == ("1",), "--gpus wins"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1234")
    assert choose_gpus(ALL, "", None, None) == GpuShare(("MIG-1234",))


@pytest.mark.parametrize("setting", ["", "-1"])
def test_gpus_that_are_all_hidden(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", setting)
    with pytest.raises(UsageError, match="CUDA_VISIBLE_DEVICES hides every GPU"):
        choose_gpus(ALL, "", None, None)
    assert choose_gpus(ALL, "1", None, None).ids == ("1",)
    assert choose_gpus([], "", None, None).count is None, "a CPU build needs none"


def test_without_nvidia_smi_the_user_is_believed() -> None:
    assert choose_gpus([], "", None, None) == GpuShare()
    assert choose_gpus([], "", 2, None) == GpuShare((), 2)
    assert choose_gpus([], "0,1", 2, None) == GpuShare(("0", "1"), 2)


@pytest.mark.parametrize(("wanted", "count"), [("7", None), ("1,7", None), ("", 5), ("1", 2)])
def test_gpus_that_do_not_exist(wanted: str, count: int | None) -> None:
    with pytest.raises(UsageError, match=r"--gpus|--tensor-parallel"):
        choose_gpus(ALL, wanted, count, None)


def test_waiting_for_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    full = [gpu("1", "GPU-b1", 24 * GIB, 3 * GIB)]
    answers = [full, full, IDLE]
    monkeypatch.setattr(module, "all_gpus", lambda: answers.pop(0) if len(answers) > 1 else answers[0])
    assert wait_until_free(GpuShare(("1",), 1, 0.9, 23 * GIB), timeout_s=5)
    monkeypatch.setattr(module, "all_gpus", lambda: full)
    assert not wait_until_free(GpuShare(("1",), 1, 0.9, 23 * GIB), timeout_s=0.1)
    assert wait_until_free(GpuShare(), timeout_s=0)


@pytest.mark.parametrize(
    ("model", "gib"),
    [
        ("Qwen/Qwen3-VL-8B-Thinking", 20),
        ("Qwen/Qwen3-VL-8B-Instruct-FP8", 12.5),
        ("Qwen/Qwen3-VL-235B-A22B-Thinking", 443),
        ("Qwen/Qwen3-VL-2B-Instruct", 8.7),
        ("who/knows", None),
    ],
)
def test_what_a_name_tells(model: str, gib: float | None) -> None:
    needed = needed_mib(model)
    assert needed is None if gib is None else needed and needed / GIB == pytest.approx(gib, rel=0.03)
    assert thinks(model) == ("Thinking" in model)


def test_what_a_folder_tells(tmp_path: Path) -> None:
    assert needed_mib(str(tmp_path)) is None
    (tmp_path / "model.safetensors").write_bytes(b"0" * (3 << 20))
    assert needed_mib(str(tmp_path)) == 5 * GIB + 3
    knows = {"added_tokens": ["<think>"], "chat_template": "{{ messages }}"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(knows))
    assert not thinks(str(tmp_path)), "a tokenizer knows the word also where nobody thinks"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**knows, "chat_template": "<think>\n"}))
    assert thinks(str(tmp_path))
    (tmp_path / "chat_template.jinja").write_text("no thinking")
    assert not thinks(str(tmp_path))
    (tmp_path / "chat_template.jinja").unlink()
    (tmp_path / "tokenizer_config.json").write_text("{broken")
    assert not thinks(str(tmp_path))
