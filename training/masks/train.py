"""Train the mask net on procedural scenes, for some minutes or to the end of its schedule.

    python -m training.masks.train runs/masks --minutes 9

Repeat the command to resume; it prints a line when the schedule is finished. `--smoke` runs everything for about a
minute, with few sprites and a network that is not compiled, prints the speed of the scene generator and keeps nothing.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from sam3d_gs.embedded.proposals.mask_net import AttentionBlock, MaskNet, MaskNetConfig, ResidualBlock
from training.distributed import Group, join
from training.loop import schedule, silence, train
from training.masks.library import library
from training.masks.scenes import make_scenes
from training.masks.task import MaskTask, Plan
from training.objects.raycast import build

CONFIG = MaskNetConfig(geometry=True)
PLAN = Plan()
STEPS, LEG_STEPS, LEARNING_RATE, WEIGHT_DECAY = 48_000, 500, 1.2e-3, 0.03
TINY_CONFIG = MaskNetConfig(widths=(8, 16, 16, 48, 64), embedding=8, query_width=16, geometry=True)
TINY_PLAN = Plan(4, 64, 8, shape_sets=24, lasting=16, passing=8, sprite_px=32, check_scenes=8)


def new_net(config: MaskNetConfig, seed: int = 0) -> MaskNet:
    """An untrained net whose blocks start as the identity, and its masks mostly empty and close to their cells."""
    torch.manual_seed(seed)
    net = MaskNet(config)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, ResidualBlock):
                silence(module.conv2)
            elif isinstance(module, AttentionBlock):
                silence(module.project, module.contract)
        last, first_term = net.query[-1], config.embedding
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        last.bias.zero_()
        last.weight[first_term : first_term + 6] *= 0.1
        last.bias[first_term + 2 : first_term + 4] = -0.3  # of dx^2 and dy^2
        last.bias[first_term + 5] = -2.0  # of the constant
    return net


def started_from(net: MaskNet, weights: Path) -> MaskNet:
    """`net` with all parameters that a weights file has in common; the others are unchanged."""
    net.load_state_dict({name: value.float() for name, value in load_file(weights).items()}, strict=False)
    return net


def speed(task: MaskTask, repeats: int = 20) -> float:
    """Scenes per second, without training."""
    bank = task.bank(0)
    seeds = torch.arange(task.batch_size, dtype=torch.int32, device=task.device)
    make_scenes(seeds, bank, task.plan.side_px)
    if task.device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(repeats):
        make_scenes(seeds, bank, task.plan.side_px)
    if task.device.type == "cuda":
        torch.cuda.synchronize()
    return repeats * task.batch_size / (time.perf_counter() - started)


def _plan(arguments: argparse.Namespace, group: Group) -> Plan:
    return replace(
        PLAN,
        batch_size=arguments.batch // group.count,
        lasting=arguments.sprites,
        passing=arguments.sprites // 6,
        sprite_px=arguments.sprite_px,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", help="folder of the checkpoints and the log")
    parser.add_argument("--minutes", type=float, default=9.0, help="stop after about this long, start-up included")
    parser.add_argument("--steps", type=int, default=STEPS, help="total steps of the schedule")
    parser.add_argument("--leg", type=int, default=LEG_STEPS, help="steps between two checkpoints")
    parser.add_argument("--rate", type=float, default=LEARNING_RATE, help="learning rate at its peak")
    parser.add_argument("--batch", type=int, default=PLAN.batch_size)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--start-from", type=Path, help="weights that a new run starts from, such as the shipped ones")
    parser.add_argument(
        "--no-compile", action="store_true", help="do not compile the net (slower, but starts immediately)"
    )
    parser.add_argument("--bf16", action="store_true", help="bfloat16 on a CPU: twice as fast with AVX512_BF16")
    parser.add_argument(
        "--sprites", type=int, default=PLAN.lasting, help="sprites kept for the whole run; each leg adds a sixth"
    )
    parser.add_argument("--sprite-px", type=int, default=PLAN.sprite_px, help="side of a sprite, a power of two")
    parser.add_argument("--tiny", action="store_true", help="a tiny net and few scenes, to test everything on a CPU")
    parser.add_argument(
        "--smoke", action="store_true", help="measure the speed, and train for half a minute in a temporary folder"
    )
    return parser


def main() -> None:
    parser = _parser()
    arguments = parser.parse_args()
    if arguments.run is None and not arguments.smoke:
        parser.error("name the folder of the run (or --smoke)")
    started = time.perf_counter()
    group, device = join(arguments.device)
    plan = TINY_PLAN if arguments.tiny else _plan(arguments, group)
    settings = schedule(
        arguments.steps,
        leg_steps=5 if arguments.tiny else arguments.leg,
        learning_rate=arguments.rate,
        weight_decay=WEIGHT_DECAY,
        bf16_on_cpu=arguments.bf16,
        cards=group.count,
    )
    if arguments.smoke:
        plan = replace(plan, shape_sets=min(plan.shape_sets, 8_000), lasting=min(plan.lasting, 3_000))
        plan = replace(plan, passing=min(plan.passing, 500))
        settings = replace(settings, leg_steps=min(settings.leg_steps, 50))
    net = new_net(TINY_CONFIG if arguments.tiny else CONFIG)
    if arguments.start_from:
        net = started_from(net, arguments.start_from)
    with group.leader_first():
        library(device.type)
        build(device)
    task = MaskTask(plan, device, max(1, (os.cpu_count() or 1) // group.count))
    bank = task.bank(0)
    if group.is_leader:
        print(
            f"{len(bank.sprites)} sprites after {time.perf_counter() - started:.0f} s; {speed(task):.0f} scenes/s",
            flush=True,
        )

    left = 0.5 if arguments.smoke else arguments.minutes - (time.perf_counter() - started) / 60
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) if arguments.smoke else arguments.run
        compiled = device.type == "cuda" and not arguments.no_compile and not arguments.smoke
        progress = train(net, task, settings, run, device, left, compile_net=compiled, group=group)
    if not group.is_leader:
        return
    if progress.finished:
        print("The schedule is finished. Next: python -m training.masks.export")
    elif not arguments.smoke:
        print(f"Step {progress.step} of {progress.total_steps}. Repeat the command to resume.")


if __name__ == "__main__":
    main()
