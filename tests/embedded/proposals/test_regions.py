"""Proposals on made pictures, where every object is known, and on one real photo."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sam3d_gs.embedded.proposals import regions
from sam3d_gs.embedded.proposals.edges import Guide, clean_mask, refine_mask
from sam3d_gs.embedded.proposals.mask_net import MaskNet, affinity, load_mask_net
from sam3d_gs.embedded.proposals.regions import Proposal, propose, select_regions
from sam3d_gs.embedded.proposals.superpixels import (
    Pass,
    PassAffinity,
    Tree,
    fitted_size,
    merge_order,
    pass_affinity,
    region_tree,
    superpixels,
)
from sam3d_gs.errors import Sam3dGsError


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max((a | b).sum(), 1))


def shapes_on_a_table() -> tuple[np.ndarray, list[np.ndarray]]:
    """Shaded discs and boxes on a two-tone ground, (240, 320)."""
    yy, xx = np.mgrid[:240, :320].astype(np.float64)
    rgb = np.where((yy > 110)[..., None], (150.0, 125.0, 100.0), (205.0, 205.0, 200.0))
    masks = [
        (yy - 150) ** 2 + (xx - 80) ** 2 < 45**2,
        (abs(xx - 200) < 35) & (abs(yy - 140) < 50),
        (yy - 180) ** 2 / 30**2 + (xx - 275) ** 2 / 25**2 < 1,
    ]
    colours = (200, 30, 30), (30, 70, 190), (40, 150, 60)
    for mask, colour in zip(masks, colours, strict=True):
        shade = np.clip(1.15 - 0.5 * (xx - xx[mask].min()) / np.ptp(xx[mask]), 0.4, 1.2)[..., None]
        rgb = np.where(mask[..., None], np.array(colour) * shade, rgb)
    return np.clip(rgb, 0, 255).astype(np.uint8), masks


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """One small pass of the network over a small photo, where the quality of the masks is not the point."""
    monkeypatch.setattr(regions, "region_tree", partial(region_tree, passes=(Pass(30_000, False),)))
    monkeypatch.setattr(regions, "superpixels", lambda rgb: superpixels(rgb, 20_000))


@pytest.fixture(scope="module")
def table() -> tuple[np.ndarray, list[np.ndarray], list[Proposal]]:
    rgb, masks = shapes_on_a_table()
    return rgb, masks, propose(rgb)


@pytest.mark.slow
def test_every_shape_is_among_the_proposals(table: tuple[np.ndarray, list[np.ndarray], list[Proposal]]) -> None:
    _, masks, proposals = table
    for mask in masks:
        assert max(iou(mask, p.mask) for p in proposals[:10]) > 0.85


@pytest.mark.slow
def test_proposals_are_ordered_distinct_and_at_photo_size(
    table: tuple[np.ndarray, list[np.ndarray], list[Proposal]],
) -> None:
    rgb, _, proposals = table
    scores = [p.score for p in proposals]
    assert scores == sorted(scores, reverse=True)
    assert 0 <= min(scores) <= max(scores) <= 1
    assert 3 <= len(proposals) <= 30
    for n, p in enumerate(proposals):
        assert p.mask.shape == rgb.shape[:2]
        assert p.mask.dtype == bool
        assert all(iou(p.mask, other.mask) < 0.9 for other in proposals[:n])


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_the_same_photo_gives_the_same_proposals() -> None:
    rgb, _ = shapes_on_a_table()
    proposals, again = propose(rgb), propose(rgb)
    assert len(again) == len(proposals)
    assert all((a.mask == b.mask).all() and a.score == b.score for a, b in zip(again, proposals, strict=True))


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (1, 300)])
@pytest.mark.parametrize("kind", ["black", "white", "noise"])
def test_tiny_and_empty_photos_do_not_crash(shape: tuple[int, int], kind: str) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    if kind != "noise":
        rgb[:] = 0 if kind == "black" else 255
    proposals = propose(rgb)
    assert all(p.mask.shape == shape and p.mask.any() for p in proposals)
    if kind != "noise":
        assert proposals == []


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_a_banner_of_noise_gives_a_sane_result() -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (16, 4000, 3), dtype=np.uint8)
    assert all(p.mask.shape == (16, 4000) and p.mask.any() for p in propose(rgb))


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_a_grey_photo_is_a_photo() -> None:
    rgb, masks = shapes_on_a_table()
    grey = np.repeat(rgb.mean(-1, keepdims=True), 3, -1).astype(np.uint8)
    found = propose(grey)
    assert max(iou(masks[0], p.mask) for p in found) > 0.7


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("gain", "offset"), [(1.8, 30), (0.12, 0)])
def test_a_badly_exposed_photo_is_a_photo(gain: float, offset: float) -> None:
    rgb, masks = shapes_on_a_table()
    found = propose(np.clip(rgb * gain + offset, 0, 255).astype(np.uint8))
    for mask in (masks[0], masks[2]):
        assert max(iou(mask, p.mask) for p in found) > 0.85


@pytest.mark.slow
def test_an_object_that_nearly_fills_the_photo_is_found() -> None:
    rgb, masks = shapes_on_a_table()
    near = np.s_[90:205, 35:125]
    assert max(iou(masks[0][near], p.mask) for p in propose(rgb[near])) > 0.9


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_an_object_that_is_all_of_the_photo_is_not_proposed() -> None:
    rgb, masks = shapes_on_a_table()
    within = np.s_[120:180, 50:110]
    assert masks[0][within].all()
    assert all(p.mask.mean() < 0.75 for p in propose(rgb[within]))


def test_working_sizes_fit_the_net_and_the_aspect() -> None:
    assert fitted_size(683, 1024, 110_000) == (256, 416)
    for size in ((1, 1), (16, 4000), (4000, 16), (3000, 4000)):
        height, width = fitted_size(*size, 160_000)
        assert height % 32 == width % 32 == 0
        assert 96 <= min(height, width) <= max(height, width) <= 1280


def test_superpixels_stay_few_on_noise() -> None:
    rgb = np.random.default_rng(2).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    _, labels = superpixels(rgb)
    assert set(np.unique(labels)) == set(range(labels.max() + 1))
    assert labels.max() < 1400


def brute_force_merges(affinity_sum: np.ndarray, area: np.ndarray, touching: np.ndarray, stop: float) -> list[float]:
    """The affinities of the merges, found by looking at every pair each time."""
    groups = [[n] for n in range(len(area))]
    joins = []
    while True:
        best, pair = -1.0, (0, 0)
        for i, a in enumerate(groups):
            for j, b in enumerate(groups[:i]):
                if touching[np.ix_(a, b)].any():
                    value = affinity_sum[np.ix_(a, b)].sum() / (area[a].sum() * area[b].sum())
                    if value > best:
                        best, pair = value, (i, j)
        if best < stop:
            return joins
        joins.append(best)
        groups[pair[1]] += groups.pop(pair[0])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_the_quick_merge_order_is_that_of_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 24
    area = rng.integers(1, 50, n).astype(float)
    strength = rng.random((n, n)) ** 3
    summed = (strength + strength.T) / 2 * np.outer(area, area)
    touching = rng.random((n, n)) < 0.2
    touching = (touching | touching.T) & ~np.eye(n, dtype=bool)
    expected = brute_force_merges(summed, area, touching, 0.03)
    pairs, joins, inside = merge_order(summed.copy(), area.copy(), touching.copy())
    np.testing.assert_allclose(joins, expected, rtol=1e-9)
    members = [{k} for k in range(n)]
    for (left, right), total in zip(pairs, inside, strict=True):
        assert not members[left] & members[right]
        members.append(members[left] | members[right])
        group = sorted(members[-1])
        assert total == pytest.approx(summed[np.ix_(group, group)].sum())


def test_a_choice_covers_other_objects_before_it_repeats_one() -> None:
    """Ten superpixels: a big region in two versions, and a worse one elsewhere."""
    members = np.zeros((13, 10), bool)
    members[np.arange(10), np.arange(10)] = True
    members[10, :6], members[11, :5], members[12, 6:9] = True, True, True
    area = members.sum(1).astype(float)
    one = np.ones(13)
    tree = Tree(members, area, one, one, one, 0 * one)
    scores = np.array([0.01] * 10 + [0.9, 0.85, 0.3])
    assert select_regions(tree, scores, 2) == [10, 12]
    assert select_regions(tree, scores, 3) == [10, 12, 11]
    tree.members[11, 5] = True  # now the same region twice
    tree.area[11] = 6
    assert sorted(select_regions(tree, scores, 30)) == [*range(11), 12]


def test_refined_edges_follow_the_photo() -> None:
    yy, xx = np.mgrid[:480, :640]
    disc = (yy - 240) ** 2 + (xx - 320) ** 2 < 130**2
    rgb = np.where(disc[..., None], (180, 60, 40), (90, 120, 90)).astype(np.uint8)
    rgb = (rgb + np.random.default_rng(0).integers(-6, 7, rgb.shape)).clip(0, 255).astype(np.uint8)
    small = rgb[::4, ::4]
    coarse = disc[::4, ::4].copy()
    coarse[25:40, 70:90] = True  # superpixel leaking out at the top
    coarse[55:65, 112:116] = False  # and a bite taken out at the side
    blocky = coarse.repeat(4, 0).repeat(4, 1)
    result = refine_mask(Guide.of(rgb, small), coarse)
    assert iou(result, disc) > 0.98 > 0.97 > iou(blocky, disc)
    assert not refine_mask(Guide.of(rgb, small), np.zeros_like(coarse)).any()


def test_the_guide_inverts_the_colour_covariances() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    rgb[:, 30:] = 90  # flat: nothing but the smoothness
    guide = Guide.of(rgb, rgb)
    identity = guide.precision @ np.linalg.inv(guide.precision.astype(np.float64))
    np.testing.assert_allclose(identity, np.broadcast_to(np.eye(3), identity.shape), atol=1e-3)
    np.testing.assert_allclose(guide.precision[20, 50], np.eye(3) / 4e-4, rtol=0.01)


def test_tidy_drops_islands_and_fills_pinholes_only() -> None:
    mask = np.zeros((60, 60), bool)
    mask[10:50, 10:50] = True
    mask[20:22, 20:22] = False  # pinhole
    mask[25:45, 25:45] = False  # a real hole, as in a frame
    mask[2:4, 2:4] = True  # island
    expected = np.zeros((60, 60), bool)
    expected[10:50, 10:50] = True
    expected[25:45, 25:45] = False
    np.testing.assert_array_equal(clean_mask(mask), expected)


def test_the_cell_affinity_is_the_quadratic_it_claims_to_be() -> None:
    """The multiplied-out product equals the plain formula at single pairs of cells."""
    net = load_mask_net()
    rgb = torch.rand(3, 96, 128, generator=torch.Generator().manual_seed(0))
    said = affinity(net, rgb)
    with torch.inference_mode():
        embedding, queries, geometry = net(rgb[None])
    rows, columns = said.grid
    assert (rows, columns) == (12, 16)
    assert geometry is not None and said.log_depth is not None
    depth_of_last_cell = -float(geometry.log_inverse_depth[0, -2:, -2:].mean())
    assert float(said.log_depth[-1]) == pytest.approx(depth_of_last_cell, abs=1e-4)
    cells = torch.nn.functional.avg_pool2d(embedding, 4)[0]
    for (py, px), (qy, qx) in (((0, 0), (3, 5)), ((11, 15), (2, 1)), ((6, 7), (6, 7))):
        query = queries[0, :, py, px]
        dx, dy = (qx - px) * 8 / 80, (qy - py) * 8 / 80
        a, b, c, d, e, f = query[48:54]
        logit = query[:48] @ cells[:, qy, qx] / 48**0.5 + a * dx + b * dy + c * dx**2 + d * dy**2 + e * dx * dy + f
        got = said.belongs[py * columns + px, qy * columns + qx]
        assert float(got) == pytest.approx(float(logit.sigmoid()), abs=1e-4)


@pytest.mark.slow
def test_what_lies_behind_joins_last_and_a_net_without_depth_says_nothing_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rgb = np.zeros((64, 96, 3), np.uint8)
    labels = np.repeat(np.arange(3), 32)[None].repeat(64, 0)  # three stripes that claim each other alike
    alike = PassAffinity(np.full((3, 3), 0.9, np.float32), np.ones(3, np.float32), np.zeros(3, np.float32))
    for log_depth, first in (((1.0, 0.0, 0.0), {1, 2}), ((0.0, 0.0, 1.0), {0, 1})):
        look = replace(alike, log_depth=np.array(log_depth, np.float32))
        monkeypatch.setattr("sam3d_gs.embedded.proposals.superpixels._run_passes", lambda *_, look=look: [look])
        tree = region_tree(load_mask_net(), rgb, labels)
        assert set(np.flatnonzero(tree.members[3])) == first
        assert tree.cohesion[3] == pytest.approx(0.9, abs=1e-4)
    monkeypatch.undo()
    said = pass_affinity(MaskNet().eval(), rgb, labels, Pass(20_000, False))
    np.testing.assert_array_equal(said.log_depth, np.zeros(3))


@pytest.mark.slow
def test_the_tree_does_not_depend_on_the_threads_and_leaves_their_number_alone() -> None:
    rgb, _ = shapes_on_a_table()
    _, labels = superpixels(rgb)
    before = torch.get_num_threads()
    trees = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            passes = Pass(40_000, False), Pass(30_000, False), Pass(30_000, True)
            trees.append(region_tree(load_mask_net(), rgb, labels, passes))
            assert torch.get_num_threads() == threads
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(torch.get_num_threads).result() == threads
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(trees[0].members, trees[1].members)
    np.testing.assert_allclose(trees[0].cohesion, trees[1].cohesion, atol=1e-4)


def test_weights_that_do_not_fit_are_refused_with_the_file_named(tmp_path: Path) -> None:
    state = {name: value.half().contiguous() for name, value in MaskNet().state_dict().items()}
    state.pop("stem.bias")
    save_file(state, tmp_path / "short.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"not weights")
    for name in ("short.safetensors", "broken.safetensors", "absent.safetensors"):
        with pytest.raises(Sam3dGsError, match=name) as caught:
            load_mask_net(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_cup_saucer_and_spoon_of_a_real_photo() -> None:
    data = pytest.importorskip("skimage.data")
    from sam3d_gs.embedded.proposals.selection import select

    rgb = data.coffee()  # (400, 600), CC0, bundled with scikit-image
    kept = [c.mask for c in select(propose(rgb), rgb) if c.dropped is None]
    assert 2 <= len(kept) <= 8
    for (y, x), (low, high) in {(105, 290): (0.10, 0.25), (285, 362): (0.01, 0.05), (250, 130): (0.15, 0.35)}.items():
        hit = [mask.mean() for mask in kept if mask[y, x]]  # inside of the cup, bowl of the spoon, left of the saucer
        assert len(hit) == 1
        assert low < hit[0] < high
    assert not any(mask[20, 40] or mask[380, 30] for mask in kept)  # the dark corner, the wood
