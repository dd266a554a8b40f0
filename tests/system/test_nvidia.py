"""Parsing the output of a fake nvidia-smi."""

from __future__ import annotations

from pathlib import Path

import pytest

from sam3d_gs.system.nvidia import Gpu, all_gpus, gpus

FIRST = Gpu("0", "NVIDIA A", "580.65", 24576, 2048, "GPU-aaa")
SECOND = Gpu("1", "NVIDIA B, big", "580.65", 81920, 81000, "GPU-b")


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    program = tmp_path / "nvidia-smi"
    rows = (
        "0, NVIDIA A, 580.65, 24576, 2048, GPU-aaa",
        '1, "NVIDIA B, big", 580.65, 81920, 81000, GPU-b',
        "2, NVIDIA C, 580.65, [N/A], [N/A], GPU-c",
        "garbage",
    )
    program.write_text("#!/bin/sh\n" + "".join(f"echo '{row}'\n" for row in rows))
    program.chmod(0o755)
    return program


@pytest.mark.usefixtures("nvidia_smi")
def test_rows_without_memory_are_skipped() -> None:
    assert all_gpus() == [FIRST, SECOND]
    assert (SECOND.total_gib, FIRST.free_gib) == (80.0, 2.0)


def test_no_gpus_if_nvidia_smi_is_missing_or_fails(nvidia_smi: Path) -> None:
    nvidia_smi.write_text("#!/bin/sh\necho failed; exit 9\n")
    assert all_gpus() == []
    nvidia_smi.unlink()
    assert all_gpus() == []


@pytest.mark.usefixtures("nvidia_smi")
@pytest.mark.parametrize(
    ("setting", "expected"),
    [("1", [SECOND]), ("", []), ("-1", []), ("0, 1", [FIRST, SECOND]), ("GPU-b", [FIRST, SECOND])],
)
def test_cuda_visible_devices_filters_by_index(
    monkeypatch: pytest.MonkeyPatch, setting: str, expected: list[Gpu]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", setting)
    assert gpus() == expected


def test_a_gpu_is_called_by_index_or_uuid_prefix() -> None:
    assert [FIRST.is_called(name) for name in ("0", "GPU-a", "GPU-b", "a", "1")] == [True, True, False, False, False]
