"""The lessons can be learned, a run can be broken off, and what is exported is what the product loads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sam3d_gs.embedded.proposals.mask_net import (
    Geometry,
    MaskNet,
    MaskNetConfig,
    affinity,
    load_mask_net,
    save_mask_net,
)
from sam3d_gs.errors import BadInputError
from training import checkpoint
from training.loop import Settings, train
from training.masks.export import export
from training.masks.losses import geometry_losses, losses, mask_logits, sample_cells
from training.masks.rows import IGNORE
from training.masks.scenes import Scenes
from training.masks.task import MaskTask
from training.masks.train import TINY_CONFIG, TINY_PLAN, new_net
from training.masks.validation import figures

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def task() -> MaskTask:
    return MaskTask(TINY_PLAN, CPU, processes=1)


def discs(side: int = 64) -> Scenes:
    """Two pictures of a level floor with two discs each, the left one nearer."""
    at = torch.arange(side) + 0.5
    rgb, labels, inverse = (
        torch.full((2, 3, side, side), 0.5),
        torch.zeros(2, side, side),
        torch.full((2, side, side), 0.1),
    )
    for n in range(2):
        for k, (x, y, colour) in enumerate(((16, 30 + 8 * n, (0.9, 0.1, 0.1)), (46, 36 - 8 * n, (0.1, 0.2, 0.9)))):
            inside = (at[None] - x) ** 2 + (at[:, None] - y) ** 2 < 14**2
            rgb[n][:, inside] = torch.tensor(colour)[:, None]
            labels[n][inside], inverse[n][inside] = k + 1, 1.0 if k == 0 else 0.4
    rise = (-(at / side - 0.5)).view(1, side, 1).expand(2, side, side).contiguous()
    return Scenes(rgb, labels.to(torch.uint8), inverse, rise, (labels == 0).to(torch.uint8), torch.ones(2))


@pytest.mark.slow
def test_two_scenes_are_learned_by_heart() -> None:
    net, scenes = new_net(TINY_CONFIG), discs()
    optimizer = torch.optim.AdamW(net.parameters(), 4e-3)
    totals = []
    for _ in range(24):
        found = losses(net(scenes.rgb), scenes, 8)
        optimizer.zero_grad()
        found["total"].backward()
        optimizer.step()
        totals.append(float(found["total"].detach()))
    assert totals[-1] < 0.55 * totals[0]
    after = figures(net.eval(), scenes)
    assert min(after["iou"]) > 0.5
    assert after["order"] == [1.0, 1.0]


def test_cells_of_small_objects_are_sampled() -> None:
    labels = torch.zeros(1, 64, 64, dtype=torch.uint8)
    labels[:, :, 32:] = 1  # 32 cells
    labels[:, :16, :16] = 2  # 4 cells
    labels[:, 40:48, :8] = 3  # 1 cell: too few
    labels[:, 56:, :16] = IGNORE
    torch.manual_seed(0)
    sampled = sample_cells(labels, 200)
    objects, counts = torch.unique(sampled.object, return_counts=True)
    assert objects.tolist() == [1, 2]
    assert counts[1] > 20  # by area it would be 22, of which rarity makes more
    assert sampled.counts.all()
    assert sampled.on_object.sum() == 32 + 4 + 1
    assert (sampled.matters == 0).sum() == 1 + 2


def test_losses_are_finite_without_objects() -> None:
    scenes = discs()._replace(labels=torch.zeros(2, 64, 64, dtype=torch.uint8))
    found = losses(new_net(TINY_CONFIG)(scenes.rgb), scenes, 4)
    assert all(value.isfinite() for value in found.values())
    assert float(found["dice"].detach()) == 0


def test_training_and_product_evaluate_queries_alike() -> None:
    net = new_net(replace(TINY_CONFIG, geometry=False)).eval()
    with torch.no_grad():
        for parameter in net.parameters():  # the first weights make flat masks
            parameter.add_(
                0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
            )
    rgb = torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(1))
    said = affinity(net, rgb)
    with torch.no_grad():
        maps = net(rgb[None])
    cell = torch.arange(8 * 12)[None]
    pixels = mask_logits(maps.embedding, maps.queries.flatten(2).transpose(1, 2), cell)[0]
    # The quadratic at a cell's middle differs from the mean over its pixels by the spread of the squares alone.
    c, d = (maps.queries[0, net.config.embedding + k].flatten() for k in (2, 3))
    spread = (c + d) * 5 * (1 / 80) ** 2  # variance of the pixel middles -3, -1, 1, 3
    cells = torch.nn.functional.avg_pool2d(pixels[None], 4)[0].flatten(1) - spread[:, None]
    assert torch.allclose(cells.sigmoid(), said.belongs, atol=1e-4)


def test_depth_is_compared_up_to_a_factor_and_only_where_there_is_a_ground() -> None:
    scenes = discs()
    true = Geometry(
        *(t[:, 2::4, 2::4] for t in (scenes.inverse_depth.log() + 3, scenes.rise, 20 * (scenes.ground - 0.5)))
    )
    perfect = geometry_losses(true, scenes)
    assert all(float(value) < 1e-4 for value in perfect.values())
    bent = true._replace(log_inverse_depth=true.log_inverse_depth * 1.5)
    assert float(geometry_losses(bent, scenes)["depth"]) > 0.05
    strewn = scenes._replace(placed=torch.zeros(2))
    assert all(float(value) == 0 for value in geometry_losses(bent, strewn).values())


@pytest.mark.slow
def test_a_leg_has_the_same_scenes_whatever_came_before(task: MaskTask) -> None:
    generator = torch.Generator().manual_seed(11)
    first = task.batch(generator)
    task.batch(torch.Generator().manual_seed(12))
    again = task.batch(torch.Generator().manual_seed(11))
    assert torch.equal(first.rgb, again.rgb)
    assert not torch.equal(first.rgb, task.batch(generator).rgb)


@pytest.mark.slow
def test_a_run_in_two_pieces_is_the_same_run(tmp_path: Path, task: MaskTask) -> None:
    settings = Settings(total_steps=4, leg_steps=2, warmup_steps=2)
    train(new_net(TINY_CONFIG), task, settings, tmp_path / "whole", CPU)

    class Stopped(Exception):
        pass

    class Breaking:
        batch_size, validate, done = task.batch_size, staticmethod(task.validate), 0

        def batch(self, generator: torch.Generator) -> Scenes:
            self.done += 1
            if self.done > 2:
                raise Stopped
            return task.batch(generator)

        losses = staticmethod(task.losses)

    with pytest.raises(Stopped):
        train(new_net(TINY_CONFIG), Breaking(), settings, tmp_path / "pieces", CPU)
    fresh = MaskTask(TINY_PLAN, CPU, processes=1)
    assert train(new_net(TINY_CONFIG, seed=5), fresh, settings, tmp_path / "pieces", CPU).finished
    whole, pieces = checkpoint.load(tmp_path / "whole"), checkpoint.load(tmp_path / "pieces")
    assert whole is not None and pieces is not None
    assert all(torch.equal(value, pieces.average[name]) for name, value in whole.average.items())

    facts = export(tmp_path / "pieces", tmp_path / "net.safetensors")
    assert facts["steps"] == "4 of 4"
    assert {"iou", "order", "rise_deg"} <= set(facts)
    made = dict(load_mask_net(tmp_path / "net.safetensors").named_parameters())
    assert all(torch.equal(value, made[name]) for name, value in pieces.average.items())

    earlier = new_net(TINY_CONFIG, seed=7).half().float()
    save_mask_net(earlier, tmp_path / "earlier.safetensors")
    export(tmp_path / "pieces", tmp_path / "mean.safetensors", tmp_path / "earlier.safetensors")
    mean = dict(load_mask_net(tmp_path / "mean.safetensors").named_parameters())
    for name, value in earlier.named_parameters():
        torch.testing.assert_close(mean[name], (value + made[name]) / 2, atol=1e-3, rtol=1e-3)
    save_mask_net(MaskNet(replace(TINY_CONFIG, geometry=False)), tmp_path / "other.safetensors")
    with pytest.raises(BadInputError, match="another net"):
        export(tmp_path / "pieces", tmp_path / "mean.safetensors", tmp_path / "other.safetensors")


def test_an_empty_folder_cannot_be_exported(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="No checkpoint"):
        export(tmp_path, tmp_path / "net.safetensors")


def test_weights_carry_their_configuration(tmp_path: Path) -> None:
    net = new_net(TINY_CONFIG).half().float().eval()
    save_mask_net(net, tmp_path / "net.safetensors")
    loaded = load_mask_net(tmp_path / "net.safetensors")
    assert loaded.config == TINY_CONFIG
    rgb = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        ours, theirs = net(rgb), loaded(rgb)
    torch.testing.assert_close(ours.queries, theirs.queries, atol=1e-4, rtol=0)  # kernels are laid out otherwise
    assert ours.geometry is not None and theirs.geometry is not None
    torch.testing.assert_close(ours.geometry.sin_elevation, theirs.geometry.sin_elevation, atol=1e-4, rtol=0)


def test_the_first_version_is_what_a_file_without_configuration_holds() -> None:
    """The shipped file is of the second, with a geometry head; the default net has none."""
    assert load_mask_net().config == MaskNetConfig(geometry=True)
    first = MaskNet()
    assert first.config == MaskNetConfig((40, 64, 128, 192, 256), 48, 160, False)
    assert sum(p.numel() for p in first.parameters()) == 7_767_352
