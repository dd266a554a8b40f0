"""Two processes that share a batch learn what one learns from the whole of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def learn(folder: Path, *launcher: str) -> None:
    # Both meet on this machine, whatever its name resolves to.
    environment = os.environ | {
        "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, *launcher, "-m", "tests.training.pair", str(folder)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=120)


@pytest.mark.slow
def test_two_halves_of_a_batch_are_the_whole(tmp_path: Path) -> None:
    for name, launcher in (("pair", TORCHRUN), ("alone", ())):
        (tmp_path / name).mkdir()
        learn(tmp_path / name, *launcher)
    first, second, alone = (
        torch.load(tmp_path / path, weights_only=True)
        for path in ("pair/net-0-of-2.pt", "pair/net-1-of-2.pt", "alone/net-0-of-1.pt")
    )
    for name, weight in alone.items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], weight, rtol=2e-3, atol=2e-4)  # weights are rounded to 16 bits
    pair, whole = (
        [json.loads(line) for line in (tmp_path / name / "run/metrics.jsonl").read_text().splitlines()]
        for name in ("pair", "alone")
    )
    assert [line["step"] for line in pair] == [3, 6]  # the leader alone writes
    assert abs(pair[-1]["total"] - whole[-1]["total"]) < 1e-3
