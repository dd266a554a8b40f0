"""Write a run's averaged net as a weights file of the package, and print the facts for its model card.

python -m training.masks.export runs/masks masks.safetensors [--mean-with earlier.safetensors]
python benchmarks/mask_recall.py --photos DIR --weights masks.safetensors
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from sam3d_gs.embedded.proposals.mask_net import MaskNet, load_mask_net, save_mask_net
from sam3d_gs.errors import BadInputError
from training import checkpoint
from training.masks.train import CONFIG, TINY_CONFIG

MOST_BYTES = 16_000_000


def export(run: Path, out: Path, mean_with: Path | None = None) -> dict[str, str]:
    """Write `out` and return facts about the run, by name.

    mean_with: weights that the run started from. If given, the mean of both is written, which generalises better to
    pictures unlike the training data than either (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models").

    Raises BadInputError if there is no checkpoint, if it or `mean_with` is of another net, or if the file is too large
    for the package.
    """
    state = checkpoint.load(run)
    if state is None:
        raise BadInputError(f"No checkpoint in {run}. Give the folder that training.masks.train wrote to.")
    shapes = {name: value.shape for name, value in state.average.items()}
    for config in (CONFIG, TINY_CONFIG):
        net = MaskNet(config)
        if {name: value.shape for name, value in net.named_parameters()} == shapes:
            break
    else:
        raise BadInputError(f"The checkpoint in {run} is not of the net that training.masks.train trains.")
    net.load_state_dict(_mean(state.average, mean_with) if mean_with else state.average)
    size = 2 * sum(value.numel() for value in state.average.values())
    if size > MOST_BYTES:
        raise BadInputError(f"{size} bytes of weights are too large for the package (limit {MOST_BYTES}).")
    save_mask_net(net, out)
    load_mask_net(out)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    seconds = sum(line["seconds"] for line in lines if line["step"] <= state.step)
    checked = [line for line in lines if any(key.startswith("val_") for key in line)]
    facts = {
        "parameters": f"{size / 2e6:.2f} M",
        "file": f"{out.stat().st_size / 1e6:.2f} MB",
        "steps": f"{state.step} of {state.settings['total_steps']}",
        "training": f"{seconds:.0f} s of steps, {lines[-1]['samples_per_s']:.0f} scenes/s",
    }
    if checked:
        facts |= {key.removeprefix("val_"): f"{checked[-1][key]:.3f}" for key in checked[-1] if key.startswith("val_")}
    return facts


def _mean(weights: dict[str, Tensor], other: Path) -> dict[str, Tensor]:
    others = load_file(other)
    if {name: value.shape for name, value in others.items()} != {name: value.shape for name, value in weights.items()}:
        raise BadInputError(f"{other} is of another net than the run. Give the weights that the run started from.")
    return {name: (value.float() + others[name].float()) / 2 for name, value in weights.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of the training run")
    parser.add_argument("out", type=Path, help=".safetensors file to write")
    parser.add_argument("--mean-with", type=Path, help="weights that the run started from: write the mean of both")
    arguments = parser.parse_args()
    for name, value in export(arguments.run, arguments.out, arguments.mean_with).items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
