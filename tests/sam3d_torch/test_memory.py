"""Plans of what is on the device when, and the loading and dropping of networks."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from sam3d_gs.sam3d_torch.memory import (
    GIB,
    STAGES,
    UNCOUNTED,
    Networks,
    budget_bytes,
    is_out_of_memory,
    plan,
    set_limit,
    working_bytes,
)
from sam3d_gs.sam3d_torch.sparse import GATHER_BYTES
from sam3d_gs.sam3d_torch.voxels import VOXEL_LIMIT
from synthetic.checkpoints import full_config

# The released networks in 16 bits, DINO shared, and working memory of about the size that goes with them; MiB.
WEIGHTS = {
    "moge": 600,
    "structure_condition": 630,
    "latent_condition": 40,
    "structure_flow": 1850,
    "structure_decoder": 140,
    "latent_flow": 1150,
    "gaussian_decoder": 170,
}
WORK = {"geometry": 600, "condition": 900, "structure": 1000, "latent": 1600}


def mib(table: dict[str, int]) -> dict[str, int]:
    return {name: value << 20 for name, value in table.items()}


def planned(budget_mib: int | None) -> tuple[tuple[str, ...], ...]:
    made = plan(mib(WEIGHTS), mib(WORK), None if budget_mib is None else budget_mib << 20)
    assert [stage for stages in made.passes for stage in stages] == list(STAGES)
    if made.fits and budget_mib is not None:
        assert made.peak_bytes <= budget_mib << 20
    return made.passes


def test_everything_stays_when_it_fits() -> None:
    assert planned(None) == (STAGES,)
    need = sum(WEIGHTS.values()) + max(WORK.values()) + (UNCOUNTED >> 20)
    assert planned(need) == (STAGES,)
    assert planned(need - 1) == (("geometry", "condition", "structure"), ("latent",))


def test_less_memory_means_more_passes() -> None:
    counts = [len(planned(budget)) for budget in range(6600, 2000, -100)]
    assert counts == sorted(counts)
    assert counts[0] == 1
    assert counts[-1] == 4
    assert planned(3300) == (("geometry", "condition"), ("structure",), ("latent",))


def test_a_plan_says_when_even_the_leanest_does_not_fit() -> None:
    made = plan(mib(WEIGHTS), mib(WORK), 1 << 30)
    assert made.passes == tuple((stage,) for stage in STAGES)
    assert not made.fits
    assert made.peak_bytes == (1990 + 1000 << 20) + UNCOUNTED or made.peak_bytes == (1320 + 1600 << 20) + UNCOUNTED


def test_a_pass_keeps_its_own_networks_only() -> None:
    made = plan(mib(WEIGHTS), mib(WORK), 3300 << 20)
    assert made.parts("structure") == ("structure_flow", "structure_calls", "structure_decoder")
    assert set(made.parts("geometry")) == {"moge", "structure_condition", "latent_condition"}


def test_networks_are_loaded_once_and_let_go() -> None:
    loads: list[str] = []

    def load(name: str) -> nn.Module:
        loads.append(name)
        return nn.Linear(1, 1)

    networks = Networks({name: lambda name=name: load(name) for name in ("a", "b")})
    first = networks.get("a")
    assert networks.get("a") is first
    networks.get("b")
    networks.keep(["b"])
    assert list(networks) == ["b"]
    assert networks.get("a") is not first
    assert loads == ["a", "b", "a"]
    networks.keep(())
    assert not list(networks)


def test_the_limit_takes_a_card_without_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[tuple[float, int]] = []
    gpu = SimpleNamespace(total_memory=8 * GIB)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: gpu)
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda share, device: limits.append((share, device))
    )
    set_limit(torch.device("cuda"), 2.0)
    set_limit(torch.device("cuda:1"), None)
    set_limit(torch.device("cpu"), 2.0)
    assert limits == [(0.25, 2), (1.0, 1)]


def test_the_latent_stage_counts_the_largest_gather() -> None:
    work = working_bytes(full_config(), torch.float16, 1, 0)["latent"]
    keys_values = 2 * 24 * 5496 * 1024 * 2
    rows = 2 * VOXEL_LIMIT * 128 * 2  # both groups
    # Beside the gathered neighbours: what was joined, its norm, the skip connection, the result in parts and whole.
    assert work >= keys_values + GATHER_BYTES + (2 + 2 + 1 + 1 + 1) * rows


def test_budget_on_the_cpu_is_what_the_user_says() -> None:
    assert budget_bytes(torch.device("cpu"), None) is None
    assert budget_bytes(torch.device("cpu"), 1.5) == 1.5 * GIB


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("shape mismatch"), False),
    ],
)
def test_out_of_memory_has_many_faces(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected
