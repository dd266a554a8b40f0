"""Speed up a function of tensors: as a CUDA graph or compiled."""

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
    """`function` with one of options.ACCELERATIONS; "auto" is a CUDA graph on CUDA and plain elsewhere."""
    if acceleration == "auto":
        acceleration = "graph" if device.type == "cuda" else "plain"
    if acceleration == "compile":
        return torch.compile(function)
    if acceleration == "graph" and device.type == "cuda":
        return Replayed(function)
    if acceleration == "graph":
        log.warning("--acceleration graph needs a CUDA GPU; on %s the network runs without it.", device.type)
    return function


@dataclass(frozen=True)
class _Capture:
    graph: torch.cuda.CUDAGraph
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


class Replayed:
    """A function of CUDA tensors, captured as a CUDA graph once per set of input shapes and then replayed.

    Every call returns the same memory: use the outputs before the next call. After a failed capture the function runs
    without a graph.
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
                log.warning("No CUDA graph (%s): the network runs without one, slower.", reason)
                self._plain = True
                return self._function(*inputs)
        capture = self._captures[shapes]
        for static, new in zip(capture.inputs, inputs, strict=True):
            if static is not new:  # the output of another graph may already be in place
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
