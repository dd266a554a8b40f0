"""The calls of the structure flow for a batch of objects; on a CUDA card each is the replay of a recorded graph.

A call is some 1,500 kernels, most of them for four pose tokens and so short that a card finishes them faster than a
processor can ask for them. A CUDA graph asks once; in it the pose stream's kernels also run beside the shape stream's
(`beside.py`). All calls have the same shapes, so two graphs serve every step of every object: with and without
guidance. What they read (state, modulation, context) stays at its place in memory and is filled anew.
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
    """One after another batch of objects seen by one network."""

    def __init__(self, flow: StructureFlow) -> None:
        self.flow = flow
        self._empty: Tensor | None = None
        self._context: StructureContext | None = None
        self._recorded: dict[Groups, _Recorded] = {}
        self._records = True  # until a card or a driver refuses

    def look_at(self, tokens: Tensor) -> None:
        """The calls that follow are for these objects: (B, S, cond) condition tokens."""
        if self._empty is None:
            self._empty = self.flow.empty_context()
        if self._context is not None and self._context.own_tokens.shape == tokens.shape:
            self.flow.renew_context(self._context, tokens)
            return
        self._recorded, self._context = {}, None  # the old memory goes before the new comes
        self._context = self.flow.context(tokens)

    def velocity(self, state: Mapping[str, Tensor], modulation: Tensor, groups: Groups) -> Latents:
        """As `StructureFlow.velocity`; what comes back is valid until the next call."""
        assert self._context is not None
        assert self._empty is not None
        if not modulation.is_cuda or not self._records:
            return self.flow.velocity(state, modulation, self._context, self._empty, groups)
        if groups not in self._recorded:
            try:
                pool = next(iter(self._recorded.values())).graph.pool() if self._recorded else None
                made = _Recorded(self.flow, state, modulation, self._context, self._empty, groups, pool)
            except RuntimeError as error:  # out of memory is one, too
                why = "there is not enough memory for them" if is_out_of_memory(error) else str(error).split("\n")[0]
                log.warning("Going on without CUDA graphs, slower: %s.", why)
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
        # Once before, since kernels are compiled and chosen at their first call; what it leaves behind, `graph` frees.
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
