"""Samples, losses and the training of the objects net, small."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sam3d_gs.embedded.shape.crops import crop_object
from sam3d_gs.embedded.shape.object_net import (
    ObjectNet,
    ObjectNetConfig,
    Prediction,
    load_object_net,
    predict,
    save_object_net,
)
from training.loop import Settings, train
from training.objects import augment, views
from training.objects.draw import Draw
from training.objects.export import export
from training.objects.layout import MATERIAL
from training.objects.losses import fisher, laplace, losses
from training.objects.samples import Batch, SampleOptions, make_batch
from training.objects.shapes import PoolChoice, make_pool
from training.objects.train import VERSION_3, ObjectsTask, grown_net, new_net

pytestmark = pytest.mark.skipif(not shutil.which("g++"), reason="the ray caster's CPU build needs g++")

CPU = torch.device("cpu")
SMALL = replace(VERSION_3, side_px=32, channels=(8, 8, 16, 16, 16))


@pytest.fixture(scope="module")
def batch() -> Batch:
    torch.manual_seed(3)
    return make_batch(Draw(torch.Generator().manual_seed(3)), make_pool(PoolChoice(24), 1), SampleOptions(48))


@pytest.mark.slow
def test_layers_are_in_order_and_only_where_the_object_is(batch: Batch) -> None:
    inside = batch.amodal[:, 0] > 0
    for near, far in ((0, 1), (1, 2), (2, 3)):
        assert (batch.layers[:, near] >= batch.layers[:, far] - 1e-5)[inside].all()
    assert (batch.layers[:, 1] > batch.layers[:, 2])[batch.hollow[:, 0] > 0].all()
    assert (batch.layers.abs().amax(1)[~inside] == 0).all()


@pytest.mark.slow
def test_occluders_cut_the_mask_and_not_the_shape(batch: Batch) -> None:
    assert (batch.visible <= batch.amodal).all()
    cut = (batch.visible.mean((1, 2, 3)) < 0.9 * batch.amodal.mean((1, 2, 3))).float().mean()
    assert 0.05 < cut < 0.6
    hidden = (batch.amodal > 0) & (batch.visible == 0)
    assert (batch.layers[:, :1] != 0)[hidden].float().mean() > 0.9


def test_the_second_half_mirrors_the_first(batch: Batch) -> None:
    half = len(batch.image) // 2
    assert torch.equal(batch.layers[half:], batch.layers[:half].flip(-1))
    assert torch.equal(batch.up[half:, 0], -batch.up[:half, 0])
    assert torch.equal(batch.up[half:, 1:], batch.up[:half, 1:])
    assert not torch.equal(batch.image[half:], batch.image[:half].flip(-1))  # another camera


def test_drawings_show_edges_on_paper_and_have_a_blank_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disc that stands out from its ground: strokes at its rim alone, whatever the colours were."""
    monkeypatch.setattr(augment, "DRAWING_SHARE", 1.0)
    y, x = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 64), indexing="ij")
    disc = ((x**2 + y**2) < 0.36).float().expand(8, 1, 64, 64)
    image = torch.full((8, 3, 64, 64), 0.3)
    whole = torch.ones_like(disc)
    seen, back = augment.photographed(Draw(torch.Generator().manual_seed(0)), image, image, whole, disc)
    assert back.flatten(2).std(-1).max() < 1e-4
    rim = ((x**2 + y**2).sqrt() - 0.6).abs() < 0.03
    grey = seen.mean(1)
    assert grey[:, rim].mean() < 0.75 * grey[:, ~rim].mean()


@pytest.mark.slow
def test_a_cast_object_has_one_plain_material_and_the_evaluation_set_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(share: float, plain: bool) -> Batch:
        monkeypatch.setattr(views, "CAST_SHARE", share)
        torch.manual_seed(3)
        draw = Draw(torch.Generator().manual_seed(3))
        return make_batch(draw, make_pool(PoolChoice(12), 1), SampleOptions(32, plain=plain))

    cast, usual = made(1.0, plain=False).materials, made(0.0, plain=False).materials
    assert torch.equal(cast[:, 1:], cast[:, :1].expand_as(cast[:, 1:]))
    assert (cast[..., MATERIAL["PATTERN"]] == 0).all()
    assert not torch.equal(usual[:, 1:], usual[:, :1].expand_as(usual[:, 1:]))
    assert torch.equal(made(1.0, plain=True).image, made(0.0, plain=True).image)


@pytest.mark.slow
def test_plain_samples_fill_the_crop_with_the_given_margin() -> None:
    options = SampleOptions(64, plain=True)
    plain = make_batch(Draw(torch.Generator().manual_seed(1)), make_pool(PoolChoice(12), 1), options)
    rows, columns = (plain.mask[:, 0].amax(axis).sum(-1) for axis in (2, 1))
    share = torch.maximum(rows, columns) / 64
    # The box is found in a coarse picture, which adds up to one of its pixels on either side.
    assert ((share > 0.7) & (share <= 1 / options.margin + 0.05)).all()
    assert torch.allclose(plain.up.norm(dim=-1), torch.ones(12), atol=1e-5)


def true_answer(batch: Batch) -> Prediction:
    front, thickness = batch.layers[:, :1], batch.layers[:, :1] - batch.layers[:, 3:]
    safe = thickness.clamp(min=1e-6)
    near = (front - batch.layers[:, 1:2]) / safe
    far = (batch.layers[:, 2:3] - batch.layers[:, 3:]) / safe
    return Prediction(
        front,
        thickness,
        batch.back_rgb,
        20 * (2 * batch.visible - 1),
        torch.cat([near, 1 - near - far, far], dim=1),
        20 * (2 * batch.hollow - 1),
        20 * (2 * batch.amodal - 1),
        torch.full_like(batch.layers[:, :2], -7.0),
        batch.up * 100,
    )


def test_the_truth_costs_nothing_and_errors_cost(batch: Batch) -> None:
    answer = true_answer(batch)
    right = losses(answer, batch)
    for name in ("front", "back", "gradients", "normals", "colour", "visible", "inner", "hollow", "amodal"):
        assert float(right[name]) < 1e-3, name
    wrong = losses(answer._replace(front=answer.front + 0.1 * torch.rand_like(answer.front)), batch)
    for name in ("front", "back", "gradients", "normals"):
        assert float(wrong[name]) > 0.02, name
    shares = answer.shares.roll(1, 1)
    assert float(losses(answer._replace(shares=shares), batch)["inner"]) > 0.01


def test_version_one_has_losses_too(batch: Batch) -> None:
    net = new_net(ObjectNetConfig(48, (8, 8, 16, 16, 16)))
    said = net(torch.zeros(len(batch.image), 6, 48, 48))
    assert set(losses(said, batch)) >= {"front", "total"}
    assert "hollow" not in losses(said, batch)


def test_the_best_scale_is_the_mean_error() -> None:
    errors = torch.tensor([0.1, 0.2, 0.6])
    costs = [float(laplace(errors, torch.tensor(math.log(scale))).mean()) for scale in (0.2, 0.3, 0.4)]
    assert min(costs) == costs[1]


def test_fisher_is_a_density_on_the_sphere() -> None:
    """Its exponential integrates to 1 over directions, whatever the concentration; 4 pi is left out of it."""
    directions = torch.nn.functional.normalize(
        torch.randn(40_000, 3, generator=torch.Generator().manual_seed(0)), dim=1
    )
    for k in (0.01, 2.0, 15.0):
        density = torch.exp(-fisher(torch.tensor([[0.0, k, 0.0]]), directions))
        assert float(density.mean()) == pytest.approx(1, rel=0.08)


@pytest.mark.slow
def test_trains_and_exports_what_the_package_loads(tmp_path: Path) -> None:
    pool = make_pool(PoolChoice(16), 1)
    task = ObjectsTask(pool, pool, SampleOptions(32), 8)
    net = new_net(SMALL)
    train(net, task, Settings(total_steps=3, leg_steps=3, warmup_steps=1), tmp_path / "run", CPU)
    weights = export(tmp_path / "run", tmp_path / "objects.safetensors", SMALL)
    loaded = load_object_net(weights)
    assert loaded.config == SMALL
    y, x = np.mgrid[:60, :80]
    mask = np.hypot(x - 40, y - 30) < 20
    rgb = np.full((60, 80, 3), 120, np.uint8)
    (layers,) = predict(loaded, [crop_object(rgb, mask, SMALL.side_px)])
    assert layers.front.shape == (32, 32)
    assert layers.cavity is not None and layers.depth_error is not None and layers.up is not None
    assert ((layers.cavity.near_share + layers.cavity.far_share) <= 1 + 1e-5).all()


def test_a_grown_net_says_what_the_old_one_said_and_more(tmp_path: Path) -> None:
    torch.manual_seed(2)
    old = ObjectNet(ObjectNetConfig(32, (8, 8, 16, 16, 16), uncertain=True))
    save_object_net(old, tmp_path / "old.safetensors")
    grown = grown_net(tmp_path / "old.safetensors")
    assert grown.config == SMALL
    x = torch.randn(2, 6, 32, 32)
    before, after = load_object_net(tmp_path / "old.safetensors")(x), grown(x)
    for name in ("front", "thickness", "back_rgb", "visible", "log_depth_error"):
        torch.testing.assert_close(getattr(after, name), getattr(before, name))
    assert before.hollow.shape[1] == 0
    assert (after.hollow == 0).all()


def test_files_of_nets_that_cannot_be_built_are_refused() -> None:
    assert ObjectNetConfig.from_json(SMALL.to_json()) == SMALL
    with pytest.raises(ValueError, match="layers"):
        ObjectNetConfig.from_json(replace(SMALL, layers=3).to_json())
    with pytest.raises(ValueError, match="middle"):
        ObjectNetConfig.from_json(replace(SMALL, middle=0).to_json())
    assert ObjectNet(SMALL).config.side_px == 32
