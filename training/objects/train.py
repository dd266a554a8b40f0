"""Train the object net, or resume its training.

    python -m training.objects.train RUN [--minutes 9] [--steps 60000] [...]

RUN is the folder of the checkpoints. The schedule has --steps steps, in any number of calls; each call stops after
--minutes and prints its progress. Options that affect the result are stored with the checkpoint; resuming with other
values is an error.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam3d_gs.embedded.shape.object_net import (
    AttentionBlock,
    ObjectNet,
    ObjectNetConfig,
    Prediction,
    ResidualBlock,
    load_object_net,
)
from sam3d_gs.errors import BadInputError, Sam3dGsError
from sam3d_gs.files import write_json
from training.distributed import join
from training.loop import schedule, silence, train
from training.objects.draw import Draw
from training.objects.layout import MATERIAL_LENGTH, MATERIALS
from training.objects.losses import losses
from training.objects.raycast import Shapes, render
from training.objects.samples import Batch, SampleOptions, make_batch, net_input
from training.objects.shapes import PoolChoice, kept_pool

# Version 1's widths, more depth where pixels are few, and all heads: 8.0 M parameters, 16 MB in half precision.
VERSION_3 = ObjectNetConfig(middle=3, attention8=True, layers=4, uncertain=True, upright=True)
HELD_OUT_SEED = 10_000_000  # shapes from here on are for validation; the evaluation set begins at 20,000,000


class ObjectsTask:
    """Random views of random shapes."""

    def __init__(self, pool: Shapes, held_out: Shapes, options: SampleOptions, batch_size: int) -> None:
        self.pool, self.held_out, self.options, self.batch_size = pool, held_out, options, batch_size

    def batch(self, generator: torch.Generator) -> Batch:
        draw = Draw(generator)
        shapes = draw.integers(len(self.pool), self.batch_size // 2)  # each gives two samples
        return make_batch(draw, self.pool.pick(shapes), self.options)

    def losses(self, net: Callable[[Tensor], Prediction], batch: Batch) -> dict[str, Tensor]:
        x = net_input(batch.image, batch.mask).contiguous(memory_format=torch.channels_last)
        return losses(Prediction(*(part.float() for part in net(x))), batch)

    @torch.no_grad()
    def validate(self, net: nn.Module) -> dict[str, float]:
        """Mean losses on the held-out shapes, with augmentation, and the median angle of `up`."""
        device = self.held_out.rows.device
        draw = Draw(torch.Generator(device).manual_seed(5))
        torch.manual_seed(5)
        totals: dict[str, float] = {}
        angles = []
        starts = range(0, len(self.held_out), self.batch_size // 2)
        for start in starts:
            index = torch.arange(start, min(start + self.batch_size // 2, len(self.held_out)), device=device)
            batch = make_batch(draw, self.held_out.pick(index), self.options)
            answer = Prediction(*(part.float() for part in net(net_input(batch.image, batch.mask))))
            for name, value in losses(answer, batch).items():
                totals[name] = totals.get(name, 0.0) + float(value) / len(starts)
            if answer.up.shape[1]:
                angles.append(torch.cosine_similarity(answer.up, batch.up).clamp(-1, 1).acos()[batch.usable > 0])
        if angles:
            totals["up_deg"] = float(torch.cat(angles).median().rad2deg())
        return totals


def new_net(config: ObjectNetConfig) -> ObjectNet:
    """An untrained net whose blocks start as the identity, which helps deep nets to learn."""
    torch.manual_seed(0)
    net = ObjectNet(config)
    for module in net.modules():
        if isinstance(module, ResidualBlock):
            silence(module.conv2)
        elif isinstance(module, AttentionBlock):
            silence(module.project, module.narrow)
    return net


def grown_net(weights: Path) -> ObjectNet:
    """The net of a file, extended by all heads and blocks of version 3, which have no effect at first.

    Its side and widths are unchanged.
    """
    old = load_object_net(weights)
    deep = max(old.config.middle, VERSION_3.middle)
    net = new_net(replace(VERSION_3, side_px=old.config.side_px, channels=old.config.channels, middle=deep))
    state = old.state_dict()
    parts = list(zip(old.parts, net.parts, strict=True))
    for name in ("head.weight", "head.bias"):
        rows = [
            F.pad(part, (0, 0) * (part.ndim - 1) + (0, new - before))
            for part, (before, new) in zip(state[name].split(old.parts), parts, strict=True)
        ]
        state[name] = torch.cat(rows)
    net.load_state_dict(state, strict=False)
    return net


def measure(task: ObjectsTask, device: torch.device) -> dict[str, float]:
    """Milliseconds to generate a batch, and of the ray caster alone."""
    generator = torch.Generator(device).manual_seed(0)
    batch = task.batch(generator)
    shapes = task.pool.pick(torch.arange(len(batch.views), device=device))
    materials = torch.zeros(len(shapes), MATERIALS, MATERIAL_LENGTH, device=device)

    def milliseconds(work: Callable[[], object]) -> float:
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(5):
            work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return round((time.perf_counter() - started) * 200, 1)

    rays = milliseconds(lambda: render(shapes, batch.views, materials, task.options.side_px))
    return {"batch_ms": milliseconds(lambda: task.batch(generator)), "rays_ms": rays}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of this run")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop and save after this time")
    parser.add_argument("--steps", type=int, default=60_000, help="total steps of the schedule")
    parser.add_argument("--leg", type=int, default=250, help="steps between two checkpoints")
    parser.add_argument("--batch", type=int, default=128, help="samples per step; an even number per GPU")
    parser.add_argument("--rate", type=float, default=1.5e-3, help="learning rate at its peak")
    parser.add_argument(
        "--side", type=int, default=VERSION_3.side_px, help="side of a crop in pixels, a multiple of 16"
    )
    parser.add_argument("--start-from", type=Path, help="weights, of any version, that a new run starts from")
    parser.add_argument("--bf16", action="store_true", help="bfloat16 on a CPU: twice as fast with AVX512_BF16")
    parser.add_argument("--pool", type=int, default=160_000, help="number of shapes")
    parser.add_argument("--held-out", type=int, default=1024, help="number of shapes for validation")
    parser.add_argument("--evaluated-only", action="store_true", help="only the families of version 1")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--no-compile", action="store_true", help="do not compile the net (slower steps, quick start)")
    return parser.parse_args()


def main() -> None:
    options = parse()
    started = time.monotonic()
    group, device = join(options.device)
    if options.batch % (2 * group.count):
        raise BadInputError(f"--batch {options.batch} cannot be divided evenly: use a multiple of {2 * group.count}.")
    net = grown_net(options.start_from) if options.start_from else new_net(replace(VERSION_3, side_px=options.side))
    config = net.config
    setting = {"net": config.to_json(), "batch": options.batch, "pool": options.pool}
    setting |= {"evaluated_only": options.evaluated_only}
    further = not options.evaluated_only
    with group.leader_first():
        _same_or_new(options.run / "run.json", setting)
        pool = kept_pool(PoolChoice(options.pool, further=further)).to(device)
        held_out = kept_pool(PoolChoice(options.held_out, HELD_OUT_SEED, further)).to(device)
        task = ObjectsTask(pool, held_out, SampleOptions(config.side_px), options.batch // group.count)
        seconds = {"pool_s": round(time.monotonic() - started, 1), **measure(task, device)}
    net = net.to(device)
    count = sum(p.numel() for p in net.parameters())
    if group.is_leader:
        about = {"parameters": count, "shapes": options.pool, "device": str(device), "cards": group.count}
        print(json.dumps(about | seconds), flush=True)

    progress = train(
        net,
        task,
        schedule(
            options.steps,
            leg_steps=options.leg,
            learning_rate=options.rate,
            bf16_on_cpu=options.bf16,
            cards=group.count,
        ),
        options.run,
        device,
        options.minutes - (time.monotonic() - started) / 60,
        compile_net=device.type == "cuda" and not options.no_compile,
        group=group,
    )
    if group.is_leader:
        print(json.dumps({"done_steps": progress.step, "of": progress.total_steps, "finished": progress.finished}))


def _same_or_new(path: Path, setting: dict[str, object]) -> None:
    """Store settings that the loop does not store. Raises BadInputError if a resumed run has other ones."""
    if path.is_file():
        before = json.loads(path.read_text())
        other = sorted(k for k in before | setting if before.get(k) != setting.get(k))
        if other:
            raise BadInputError(f"{path} has another {', '.join(other)}. Use the same options, or a new folder.")
    write_json(path, setting)


if __name__ == "__main__":
    try:
        main()
    except Sam3dGsError as error:
        raise SystemExit(f"error: {error}") from error
