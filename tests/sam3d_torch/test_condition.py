"""Condition tokens: the savings give the same tokens, and what comes from where."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("torch")

import torch

from sam3d_gs.sam3d_torch.condition import ConditionEmbedder, PointPatchEmbed, projection_hidden, raw_tokens
from sam3d_gs.sam3d_torch.config import VITS, ConditionConfig, DinoConfig, PointPatchConfig, VitConfig
from tests.sam3d_torch.test_dino import randomised

VIT = VitConfig(width=24, depth=2, heads=3, registers=2, patch_px=4, grid=5)
FIRST, SECOND = DinoConfig(VIT, 20, prenorm=False), DinoConfig(VIT, 20, prenorm=True)
POINTS = PointPatchConfig(width=16, input_px=12, patch_px=4, heads=4)
IMAGES = (("image", "cropped"), ("rgb_image", "full"))
MASKS = (("mask", "cropped"), ("rgb_image_mask", "full"))
MAPS = (("pointmap", "cropped"), ("rgb_pointmap", "full"))
STRUCTURE = ConditionConfig(((FIRST, IMAGES), (FIRST, MASKS), (POINTS, MAPS)))
LATENT = ConditionConfig(((SECOND, IMAGES), (SECOND, MASKS)))


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.inference_mode():
        yield


def stages(shared=True):
    """Both stages with equal DINO weights, in one object or in four."""
    pair = [randomised(ConditionEmbedder(config), seed) for seed, config in enumerate((STRUCTURE, LATENT))]
    first = pair[0].module_list[0].backbone
    for stage in pair:
        for embedder, _ in stage.embedders():
            if hasattr(embedder, "backbone"):
                if shared:
                    embedder.backbone = first
                else:
                    embedder.backbone.load_state_dict(first.state_dict())
    return pair


def inputs(batch=1, seed=3):
    generator = torch.Generator().manual_seed(seed)

    def drawn(channels):
        return torch.rand(batch, channels, 20, 20, generator=generator)

    found = {name: drawn(3) for name in ("image", "rgb_image", "pointmap", "rgb_pointmap")}
    found |= {name: (drawn(1) > 0.5).float() for name in ("mask", "rgb_image_mask")}
    found["pointmap"][:, 1, 2:9, 5:7] = math.nan
    return found


def count_passes(network):
    seen = []
    handle = network.register_forward_hook(lambda module, args, output: seen.append(len(args[0])))
    return seen, handle


def test_one_dino_pass_serves_both_stages():
    shared, apart = stages(), stages(shared=False)
    x = inputs()
    seen, handle = count_passes(shared[0].module_list[0].backbone)
    raw = raw_tokens(shared, x)
    handle.remove()
    assert seen == [4]  # two pictures and two masks, once for both stages
    for stage, separate, found in zip(shared, apart, raw, strict=True):
        torch.testing.assert_close(stage.assemble(found), separate(x))


def test_shared_and_separate_copies_give_the_same():
    for stage, separate in zip(stages(), stages(shared=False), strict=True):
        torch.testing.assert_close(stage(inputs()), separate(inputs()))


def test_different_networks_are_not_mixed():
    pair = stages(shared=False)
    randomised(pair[0].module_list[1].backbone, seed=9)
    raw = raw_tokens(pair, inputs())
    for stage, found in zip(pair, raw, strict=True):
        for embedder, names in stage.embedders():
            for name in names:
                torch.testing.assert_close(found[name], embedder(inputs()[name]))


def test_the_photo_once_and_each_object_give_what_all_at_once_gives():
    pair, x = stages(), inputs()
    network = pair[0].module_list[0].backbone
    photo = raw_tokens(pair, {"rgb_image": x["rgb_image"]})
    seen, handle = count_passes(network)
    own = raw_tokens(pair, {name: tensor for name, tensor in x.items() if name != "rgb_image"})
    handle.remove()
    assert seen == [3]
    for stage, shared, crops in zip(pair, photo, own, strict=True):
        torch.testing.assert_close(stage.assemble({**shared, **crops}), stage(x))


def test_one_photo_serves_a_batch_of_objects():
    pair, x = stages(), inputs(batch=3)
    x["rgb_image"] = x["rgb_image"][:1]
    for stage, raw in zip(pair, raw_tokens(pair, x), strict=True):
        tokens = stage.assemble(raw)
        for i in range(3):
            alone = {name: tensor[i : i + 1] if len(tensor) > 1 else tensor for name, tensor in x.items()}
            torch.testing.assert_close(tokens[i : i + 1], stage(alone))


def test_token_order_and_count():
    structure, latent = stages()
    assert structure.input_names == ("image", "rgb_image", "mask", "rgb_image_mask", "pointmap", "rgb_pointmap")
    assert structure(inputs()).shape == (1, 4 * 26 + 2 * 9, 24)
    assert latent(inputs()).shape == (1, 4 * 28, 24)
    changed = inputs() | {"mask": 1 - inputs()["mask"]}
    moved = (structure(changed) - structure(inputs())).abs().amax(-1)[0] > 1e-6
    assert moved[2 * 26 : 3 * 26].all()
    assert not moved[: 2 * 26].any()
    assert not moved[3 * 26 :].any()


def test_crop_and_full_view_differ_by_their_vector_alone():
    structure, _ = stages()
    raw = torch.randn(1, 5, 24)
    difference = structure.project(0, "full", raw) - structure.project(0, "cropped", raw)
    torch.testing.assert_close(difference, (structure.idx_emb[1] - structure.idx_emb[0]).expand(1, 5, -1))
    before = structure(inputs())
    structure.idx_emb[2] += 1
    assert torch.equal(structure(inputs()), before)


def test_a_missing_input_is_named():
    with pytest.raises(KeyError, match="rgb_image_mask"):
        stages()[1]({name: tensor for name, tensor in inputs().items() if name != "rgb_image_mask"})


def test_tokens_come_in_the_dtype_of_the_weights():
    structure, _ = stages()
    exact = structure(inputs())
    for name, parameter in structure.named_parameters():
        if "norm" not in name and "gamma" not in name and name != "idx_emb":
            parameter.data = parameter.data.bfloat16()
    rounded = structure(inputs())
    assert rounded.dtype == torch.bfloat16
    assert (rounded.float() - exact).norm() < 0.03 * exact.norm()


def test_official_sizes():
    vit = VITS["dinov2_vitl14_reg"]
    official = ConditionConfig(
        (
            (DinoConfig(vit, 518, False), IMAGES),
            (DinoConfig(vit, 518, False), MASKS),
            (PointPatchConfig(512, 256, 8), MAPS),
        )
    )
    assert projection_hidden(official) == 2816
    with torch.device("meta"):
        network = ConditionEmbedder(official)
    assert len(network.state_dict()) == 722
    assert not list(network.buffers())


# Pointmaps


def pointmap(seed=4):
    return torch.randn(1, 3, 12, 12, generator=torch.Generator().manual_seed(seed))


def test_a_point_touches_the_token_of_its_window_alone():
    embedder, x = randomised(PointPatchEmbed(POINTS)), pointmap()
    before = embedder(x)
    x[0, 2, 5, 9] += 1  # second row of windows, third column
    moved = (embedder(x) - before).abs().amax(-1)[0] > 1e-6
    assert moved.nonzero().flatten().tolist() == [1 * 3 + 2]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_one_coordinate_without_value_makes_the_point_invalid(bad, axis):
    embedder, x = randomised(PointPatchEmbed(POINTS)), pointmap()
    nowhere = x.clone()
    nowhere[0, :, 3, 3] = math.nan
    x[0, axis, 3, 3] = bad
    assert torch.equal(embedder(x), embedder(nowhere))
    assert embedder(x).isfinite().all()
    assert not torch.equal(embedder(x), embedder(pointmap()))


def test_a_map_without_any_point_is_finite():
    embedder = randomised(PointPatchEmbed(POINTS))
    empty = embedder(torch.full((1, 3, 12, 12), math.nan))
    assert empty.isfinite().all()
    # All windows are alike but for their place.
    place = embedder.pos_embed.flatten(2).transpose(1, 2)
    torch.testing.assert_close(empty - place, (empty - place)[:, :1].expand_as(empty))


def test_maps_of_a_batch_and_of_other_sizes():
    embedder = randomised(PointPatchEmbed(POINTS))
    maps = torch.cat([pointmap(4), pointmap(5)])
    together = embedder(maps)
    torch.testing.assert_close(together[1:], embedder(maps[1:]))
    doubled = maps.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.equal(embedder(doubled), together)


def test_far_points_do_not_overflow_half_weights():
    embedder, x = randomised(PointPatchEmbed(POINTS)).half(), pointmap() * 1e5
    assert embedder(x).isfinite().all()
