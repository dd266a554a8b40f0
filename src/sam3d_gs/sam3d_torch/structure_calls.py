"""The calls of the structure flow for a batch of objects; on a CUDA GPU each call replays a recorded graph.

A call is about 1,500 kernels, most of them for four pose tokens and so short that a GPU finishes them faster than the
CPU can launch them. A CUDA graph launches them all at once, with the pose stream's kernels on a side stream
(`side_stream.py`). All calls have the same shapes, so two graphs serve every step of every object: with and without
guidance. Their inputs (state, modulation, context) keep their place in memory and are overwritten.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sam3d_gs.sam3d_torch.layers import Groups
from sam3d_gs.sam3d_torch.memory import is_out_of_memory
from sam3d_gs.sam3d_torch.structure_flow import Latents, StructureContext, StructureFlow

log = logging.getLogger("sam3d_gs")


class StructureCalls:
    """The calls of one network, for one batch of objects after another."""

    def __init__(self, flow: StructureFlow) -> None:
        self.flow = flow
        self._empty: Tensor | None = None
        self._context: StructureContext | None = None
        self._recorded: dict[Groups, _Recorded] = {}
        self._records = True  # until a GPU or a driver refuses

    def look_at(self, tokens: Tensor) -> None:
        """Set the objects of the calls that follow: (B, S, cond) condition tokens."""
        if self._empty is None:
            self._empty = self.flow.empty_context()
        if self._context is not None and self._context.own_tokens.shape == tokens.shape:
            self.flow.renew_context(self._context, tokens)
            return
        self._recorded, self._context = {}, None  # free the old memory before the new is allocated
        self._context = self.flow.context(tokens)

    def velocity(self, state: Mapping[str, Tensor], modulation: Tensor, groups: Groups) -> Latents:
        """As `StructureFlow.velocity`; the result is valid until the next call."""
        assert self._context is not None
        assert self._empty is not None
        if not modulation.is_cuda or not self._records:
            return self.flow.velocity(state, modulation, self._context, self._empty, groups)
        if groups not in self._recorded:
            try:
                pool = next(iter(self._recorded.values())).graph.pool() if self._recorded else None
                made = _Recorded(self.flow, state, modulation, self._context, self._empty, groups, pool)
            except RuntimeError as error:  # out of memory is one, too
                why = "not enough memory for them" if is_out_of_memory(error) else str(error).split("\n")[0]
                log.warning("Continuing without CUDA graphs, which is slower: %s.", why)
                self._records, self._recorded = False, {}
                return self.velocity(state, modulation, groups)
            self._recorded[groups] = made
        return self._recorded[groups](state, modulation)


class _Recorded:
    """One call as a graph."""

    def __init__(
        self,
        flow: StructureFlow,
        state: Mapping[str, Tensor],
        modulation: Tensor,
        context: StructureContext,
        empty: Tensor,
        groups: Groups,
        pool: Any,  # memory of another graph that this one may use, or None
    ) -> None:
        self._state = {name: value.clone() for name, value in state.items()}
        self._modulation = modulation.clone()
        arguments = (self._state, self._modulation, context, empty, groups)
        # One call before recording, since kernels are compiled and chosen on first use; `graph` frees its memory.
        with torch.cuda.device(modulation.device):
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                flow.velocity(*arguments)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, pool=pool):
                self._out = flow.velocity(*arguments)

    def __call__(self, state: Mapping[str, Tensor], modulation: Tensor) -> Latents:
        for name, place in self._state.items():
            place.copy_(state[name])
        self._modulation.copy_(modulation)
        self.graph.replay()
        return self._out
