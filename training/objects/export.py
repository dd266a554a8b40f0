"""Write a run's averaged weights as a file that the package loads.

    python -m training.objects.export RUN OUT.safetensors

The file has half precision and contains the net's configuration. If `training.objects.shape_error` and
`benchmarks/embedded.py` show that it is better, put it into the weights folder of `sam3d_gs.embedded` and update
OBJECTS_CARD.md.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from sam3d_gs.embedded.shape.object_net import ObjectNet, ObjectNetConfig, save_object_net
from sam3d_gs.errors import BadInputError, Sam3dGsError
from training.checkpoint import load


def export(run: Path, out: Path, config: ObjectNetConfig) -> Path:
    """Write the moving average of the newest checkpoint. Raises BadInputError if there is none."""
    state = load(run)
    if state is None:
        raise BadInputError(f"{run} has no checkpoint. Train first, or give the folder of the training run.")
    with torch.device("meta"):
        net = ObjectNet(config)
    net.load_state_dict(state.average, strict=True, assign=True)
    save_object_net(net, out)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of the training run")
    parser.add_argument("out", type=Path, help=".safetensors file to write")
    options = parser.parse_args()
    try:
        setting = json.loads((options.run / "run.json").read_text())
        out = export(options.run, options.out, ObjectNetConfig.from_json(setting["net"]))
    except (OSError, ValueError, KeyError, Sam3dGsError) as error:
        raise SystemExit(f"error: {options.run} cannot be exported: {error}") from error
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
