"""What every process of a pair does in `test_distributed.py`; alone, it does the work of both.

python -m tests.training.pair FOLDER
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training.distributed import Group, join
from training.loop import Settings, train


class Halves:
    """Learn y = 2 x from eight fixed points, of which each of two processes has every second one."""

    def __init__(self, group: Group) -> None:
        points = torch.randn(8, 3, 2, 2, generator=torch.Generator().manual_seed(3))
        self._points = points[group.rank :: group.count]
        self.batch_size = len(self._points)

    def batch(self, generator: torch.Generator) -> Tensor:
        return self._points

    def losses(self, net: Callable[..., Any], batch: Tensor) -> dict[str, Tensor]:
        return {"total": (net(batch) - 2 * batch).square().mean()}

    def validate(self, net: nn.Module) -> dict[str, float]:
        return {}


def main() -> None:
    folder = Path(sys.argv[1])
    group, device = join("cpu")
    torch.manual_seed(7)
    net = nn.Conv2d(3, 3, 3, padding=1)
    settings = Settings(total_steps=6, leg_steps=3, warmup_steps=2, cards=group.count)
    train(net, Halves(group), settings, folder / "run", device, group=group)
    torch.save(net.state_dict(), folder / f"net-{group.rank}-of-{group.count}.pt")


if __name__ == "__main__":
    main()
