"""Small kernels beside large ones: a second CUDA stream that leaves the first one's and meets it again.

Only while a CUDA graph is recorded. There the two streams become two branches of the graph, and launches cost next to
nothing; otherwise a second stream would wait for its launches as the first does, and nothing would be won.
"""

from __future__ import annotations

import torch


class Beside:
    """``with beside:`` what stands in the block may run beside what follows it, until `meet`.

    The block sees all that was asked for before it. Memory that it takes from the first stream must stay referenced
    until `meet`, or the first stream may use it again too early.
    """

    def __init__(self, device: torch.device) -> None:
        self._side: torch.cuda.Stream | None = None
        if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            # The first to get what the large kernels free, or each small one would wait for a large one to end.
            self._main, self._side = torch.cuda.current_stream(device), torch.cuda.Stream(device, priority=-1)
            self._inside = torch.cuda.stream(self._side)

    def __enter__(self) -> None:
        if self._side is not None:
            self._side.wait_stream(self._main)
            self._inside.__enter__()

    def __exit__(self, *raised: object) -> None:
        if self._side is not None:
            self._inside.__exit__(*raised)

    def meet(self) -> None:
        """What follows sees all that the blocks did."""
        if self._side is not None:
            self._main.wait_stream(self._side)
