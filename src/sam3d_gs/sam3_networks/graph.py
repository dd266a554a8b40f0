"""A function of tensors made quicker: as a CUDA graph, compiled, or as it is."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

log = logging.getLogger("sam3d_gs")

Function = Callable[..., tuple[Tensor, ...]]

_WARM_UP = 2


def accelerated(function: Function, acceleration: str, device: torch.device) -> Function:
    """`function` by an acceleration of options.ACCELERATIONS; "auto" is a graph on CUDA and nothing elsewhere."""
    if acceleration == "auto":
        acceleration = "graph" if device.type == "cuda" else "plain"
    if acceleration == "compile":
        return torch.compile(function)
    if acceleration == "graph" and device.type == "cuda":
        return Replayed(function)
    if acceleration == "graph":
        log.warning("--acceleration graph is for CUDA cards; on %s the network runs as it is.", device.type)
    return function


@dataclass(frozen=True)
class _Capture:
    graph: torch.cuda.CUDAGraph
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


class Replayed:
    """A CUDA function, captured once for each set of input shapes and replayed: nothing is left to the host.

    The outputs are the same memory at every call: use them before the next one. Where capturing fails, the function
    runs as it is from then on.
    """

    def __init__(self, function: Function) -> None:
        self._function = function
        self._captures: dict[tuple[torch.Size, ...], _Capture] = {}
        self._plain = False

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        if self._plain:
            return self._function(*inputs)
        shapes = tuple(tensor.shape for tensor in inputs)
        if shapes not in self._captures:
            try:
                self._captures[shapes] = self._capture(inputs)
            except RuntimeError as error:
                reason = str(error).strip().split("\n")[0]
                log.warning("No CUDA graph (%s): the network runs as it is, slower.", reason)
                self._plain = True
                return self._function(*inputs)
        capture = self._captures[shapes]
        for static, new in zip(capture.inputs, inputs, strict=True):
            if static is not new:  # another graph's output is in its place already
                static.copy_(new)
        capture.graph.replay()
        return capture.outputs

    def _capture(self, inputs: tuple[Tensor, ...]) -> _Capture:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                self._function(*inputs)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = self._function(*inputs)
        return _Capture(graph, inputs, outputs)
