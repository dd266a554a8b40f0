"""Which device is chosen on machines with none, one or several cards."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("torch")

import torch

from sam3d_gs.errors import UsageError
from sam3d_gs.system import devices
from sam3d_gs.system.devices import choose_device
from sam3d_gs.system.nvidia import Card


def pretend(monkeypatch: pytest.MonkeyPatch, free_mib: dict[str, int], told: dict[str, int]) -> list[torch.device]:
    """CUDA with the cards of `free_mib` by UUID, of which nvidia-smi tells those in `told`; what becomes current."""
    current: list[torch.device] = []
    properties = [SimpleNamespace(uuid=uuid) for uuid in free_mib]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(free_mib))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(free_mib))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties[index])
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    listed = [Card(str(i), "card", "580", 80_000, free, f"GPU-{uuid}") for i, (uuid, free) in enumerate(told.items())]
    monkeypatch.setattr(devices, "all_cards", lambda: listed)
    return current


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_the_card_with_the_most_free_memory(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    # nvidia-smi lists the cards in another order than CUDA.
    cards = {"a": 2_000, "b": 70_000, "c": 30_000}
    current = pretend(monkeypatch, cards, dict(reversed(cards.items())))
    assert choose_device(name) == torch.device("cuda", 1)
    assert current == [torch.device("cuda", 1)]


def test_the_first_card_when_nobody_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, {"a": 0, "b": 0}, {})
    assert choose_device("auto") == torch.device("cuda", 0)


def test_one_card_stays_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    current = pretend(monkeypatch, {"a": 9}, {"a": 9})
    assert choose_device("cuda") == torch.device("cuda")
    assert current == []


def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, {}, {})
    assert choose_device("auto", ("cuda", "cpu")) == torch.device("cpu")
    with pytest.raises(UsageError, match=r"--device cuda: .* finds none here"):
        choose_device("cuda")
