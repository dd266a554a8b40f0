"""What a stand-in for nvidia-smi says, read."""

from __future__ import annotations

from pathlib import Path

import pytest

from sam3d_gs.system.nvidia import Card, all_cards, cards

FIRST = Card("0", "NVIDIA A", "580.65", 24576, 2048, "GPU-aaa")
SECOND = Card("1", "NVIDIA B, big", "580.65", 81920, 81000, "GPU-b")


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
def test_nvidia_smi_is_read() -> None:
    assert all_cards() == [FIRST, SECOND]
    assert (SECOND.total_gib, FIRST.free_gib) == (80.0, 2.0)


def test_where_it_is_missing_or_fails_there_are_none(nvidia_smi: Path) -> None:
    nvidia_smi.write_text("#!/bin/sh\necho failed; exit 9\n")
    assert all_cards() == []
    nvidia_smi.unlink()
    assert all_cards() == []


@pytest.mark.usefixtures("nvidia_smi")
@pytest.mark.parametrize(
    ("setting", "expected"),
    [("1", [SECOND]), ("", []), ("-1", []), ("0, 1", [FIRST, SECOND]), ("GPU-b", [FIRST, SECOND])],
)
def test_only_visible_cards_count(monkeypatch: pytest.MonkeyPatch, setting: str, expected: list[Card]) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", setting)
    assert cards() == expected


def test_names_of_a_card() -> None:
    assert [FIRST.is_called(name) for name in ("0", "GPU-a", "GPU-b", "a", "1")] == [True, True, False, False, False]
