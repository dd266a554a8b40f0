"""Recording the work on a batch as a CUDA graph, which replaces a thousand kernel launches per step by one.

On slow hosts, launching the kernels takes longer than running them on the GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

_WARM_UPS = 3  # compile, choose algorithms and allocate before anything is recorded


class Recording:
    """`work` on batches, tuples of tensors whose shapes never change; its results are overwritten by the next call."""

    def __init__(self, work: Callable[[Any], dict[str, Tensor]], batch: Any) -> None:
        self._batch = tree_map(torch.clone, batch)
        before = torch.cuda.get_rng_state()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                work(self._batch)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        # Restricted to this thread: NCCL's watchdog thread may query the GPUs meanwhile.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._results = work(self._batch)
        torch.cuda.set_rng_state(before)  # as if nothing had been drawn yet

    def __call__(self, batch: Any) -> dict[str, Tensor]:
        for kept, new in zip(tree_flatten(self._batch)[0], tree_flatten(batch)[0], strict=True):
            kept.copy_(new)
        self._graph.replay()
        return self._results
