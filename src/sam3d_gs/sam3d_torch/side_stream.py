"""A second CUDA stream, so that small kernels run at the same time as large ones.

It is used only while a CUDA graph is recorded. There the two streams become two branches of the graph, and launches
cost next to nothing; otherwise a second stream would wait for its launches as the first does, and gain nothing.
"""

from __future__ import annotations

import torch


class SideStream:
    """``with side_stream:`` lets the block run at the same time as the code after it, until `meet`.

    The block sees the results of everything before it. Memory of the main stream that it reads must stay referenced
    until `meet`, or the main stream may reuse it too early.
    """

    def __init__(self, device: torch.device) -> None:
        self._side: torch.cuda.Stream | None = None
        if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            # High priority: otherwise each small kernel would wait for a large one to end.
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
        """Make the code that follows see the results of the blocks."""
        if self._side is not None:
            self._main.wait_stream(self._side)
