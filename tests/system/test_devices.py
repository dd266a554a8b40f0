"""The device chosen on machines with no GPU, one GPU or several."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("torch")

import torch

from sam3d_gs.errors import UsageError
from sam3d_gs.system import devices
from sam3d_gs.system.devices import choose_device
from sam3d_gs.system.nvidia import Gpu


def fake_gpus(monkeypatch: pytest.MonkeyPatch, free_mib: dict[str, int], listed: dict[str, int]) -> list[torch.device]:
    """Fake GPUs, UUID -> free MiB; nvidia-smi lists only those in `listed`. Returns the calls of set_device."""
    current: list[torch.device] = []
    properties = [SimpleNamespace(uuid=uuid) for uuid in free_mib]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(free_mib))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(free_mib))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties[index])
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    found = [Gpu(str(i), "GPU", "580", 80_000, free, f"GPU-{uuid}") for i, (uuid, free) in enumerate(listed.items())]
    monkeypatch.setattr(devices, "all_gpus", lambda: found)
    return current


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_the_gpu_with_the_most_free_memory_is_chosen(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    # nvidia-smi and CUDA number the GPUs differently.
    gpus = {"a": 2_000, "b": 70_000, "c": 30_000}
    current = fake_gpus(monkeypatch, gpus, dict(reversed(gpus.items())))
    assert choose_device(name) == torch.device("cuda", 1)
    assert current == [torch.device("cuda", 1)]


def test_the_first_gpu_is_chosen_if_nvidia_smi_lists_none(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_gpus(monkeypatch, {"a": 0, "b": 0}, {})
    assert choose_device("auto") == torch.device("cuda", 0)


def test_a_single_gpu_stays_current(monkeypatch: pytest.MonkeyPatch) -> None:
    current = fake_gpus(monkeypatch, {"a": 9}, {"a": 9})
    assert choose_device("cuda") == torch.device("cuda")
    assert current == []


def test_an_unavailable_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_gpus(monkeypatch, {}, {})
    assert choose_device("auto", ("cuda", "cpu")) == torch.device("cpu")
    with pytest.raises(UsageError, match=r"--device cuda: .* finds none here"):
        choose_device("cuda")
