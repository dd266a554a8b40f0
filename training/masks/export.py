"""Write a run's averaged net as the weights file the product loads, and print the facts its card needs.

python -m training.masks.export runs/masks masks.safetensors
python benchmarks/mask_recall.py --photos DIR --weights masks.safetensors
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from sam3d_gs.embedded.mask_net import MaskNet, load_mask_net, save_mask_net
from sam3d_gs.errors import BadInputError
from training import checkpoint
from training.masks.train import CONFIG, TINY_CONFIG

MOST_BYTES = 16_000_000


def export(run: Path, out: Path) -> dict[str, str]:
    """Write `out` and return facts about the run by name.

    Raises BadInputError when there is no checkpoint, it is of another net, or the file would be too large for the
    package.
    """
    state = checkpoint.load(run)
    if state is None:
        raise BadInputError(f"No checkpoint in {run}. Name the folder that training.masks.train was given.")
    shapes = {name: value.shape for name, value in state.average.items()}
    for config in (CONFIG, TINY_CONFIG):
        net = MaskNet(config)
        if {name: value.shape for name, value in net.named_parameters()} == shapes:
            break
    else:
        raise BadInputError(f"The checkpoint in {run} holds another net than training.masks.train makes.")
    net.load_state_dict(state.average)
    size = 2 * sum(value.numel() for value in state.average.values())
    if size > MOST_BYTES:
        raise BadInputError(f"{size} bytes of weights are too many for the package (limit {MOST_BYTES}).")
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder given to the training")
    parser.add_argument("out", type=Path, help=".safetensors file to write")
    arguments = parser.parse_args()
    for name, value in export(arguments.run, arguments.out).items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
