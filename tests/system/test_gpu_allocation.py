"""The GPUs of stages that run at the same time."""

from __future__ import annotations

import math

import pytest

from sam3d_gs.engines.registry import choose
from sam3d_gs.engines.spec import GpuRequest
from sam3d_gs.options import VllmOptions
from sam3d_gs.system.gpu_allocation import for_server, others_gib, place
from sam3d_gs.system.nvidia import Gpu

REQUESTS = {
    "phrases": GpuRequest(21.3, gpus=None),
    "masks": GpuRequest(7.5),
    "objects": GpuRequest(8.0),
    "scene": GpuRequest(0.0),
}


def gpus(*free_gib: float) -> list[Gpu]:
    return [
        Gpu(str(index), "GPU", "580", round(gib * 1024), round(gib * 1024), f"GPU-{index}")
        for index, gib in enumerate(free_gib)
    ]


@pytest.mark.parametrize(
    ("free_gib", "expected"),
    [
        ((), {}),  # all on the CPU
        ((23.5,), None),  # 24 GB hold them only one after another
        ((139,), {"phrases": ("0",), "objects": ("0",), "masks": ("0",)}),
        ((23.9, 23.9), {"phrases": ("0",), "objects": ("1",), "masks": ("1",)}),
        ((139, 139), {"phrases": ("0",), "objects": ("1",), "masks": ("1",)}),
        ((40, 139, 40), {"phrases": ("1",), "objects": ("0",), "masks": ("2",)}),
        ((15, 15, 15, 15), {"phrases": ("0", "1"), "objects": ("2",), "masks": ("3",)}),
        ((15, 15), None),
    ],
)
def test_place(free_gib: tuple[float, ...], expected: dict[str, tuple[str, ...]] | None) -> None:
    assert place(REQUESTS, gpus(*free_gib)) == expected


def test_requested_gpus_and_counts_are_respected() -> None:
    named = {**REQUESTS, "phrases": GpuRequest(21.3, on=("1",), gpus=None)}
    assert place(named, gpus(139, 139)) == {"phrases": ("1",), "objects": ("0",), "masks": ("0",)}
    assert place({"phrases": GpuRequest(21.3, gpus=2)}, gpus(139, 139)) == {"phrases": ("0", "1")}
    assert place({"phrases": GpuRequest(math.inf, gpus=None)}, gpus(139)) is None


def test_the_server_leaves_memory_for_other_stages_on_its_gpu() -> None:
    options = VllmOptions()
    shared = place(REQUESTS, gpus(139))
    assert shared is not None
    assert others_gib("phrases", shared, REQUESTS) == pytest.approx(15.5)
    assert for_server(options, shared, REQUESTS).leave_free_gib == pytest.approx(15.5)
    apart = place(REQUESTS, gpus(139, 139))
    assert apart is not None
    alone = for_server(options, apart, REQUESTS)
    assert (alone.gpus, alone.tensor_parallel, alone.leave_free_gib) == ("0", 1, 0)
    assert for_server(options, {}, REQUESTS) == options


def test_gpu_requests_depend_on_the_options() -> None:
    assert choose("phrases", "vllm", gpus="2, 3", tensor_parallel=2).gpu == GpuRequest(19.9, ("2", "3"), 2)
    assert choose("phrases", "vllm", model="owner/model").gpu.gib == math.inf
    assert choose("masks", "sam3").gpu.gib == 7.5
    assert choose("masks", "sam3", device="cpu").gpu.gib == 0
    assert choose("objects", "native").gpu.gib == 8
    assert choose("objects", "native", vram_gib=5.0).gpu.gib == 5
    assert choose("phrases", "openai", base_url="http://127.0.0.1:1/v1").gpu.gib == 0
    for stage in ("phrases", "masks", "objects"):
        assert choose(stage, "embedded").gpu.gib == 0
