"""Labels of composed scenes against simple arithmetic, and the compiled compositor against its reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.training.masks.reference import composed
from training.masks.bank import KINDS, Bank, Part, Pictures, bank_of, pyramid
from training.masks.rows import FAR, IGNORE, LAYER, LAYERS, PANEL, SCENE, SPRITE, SURFACE
from training.masks.scenes import Rows, arrange, compose, make_scenes, photograph

SIDE = 64
GREY, RED, BLUE = (0.5, 0.5, 0.5), (0.8, 0.1, 0.1), (0.1, 0.1, 0.8)


def row(names: tuple[str, ...], **values: float) -> torch.Tensor:
    assert set(values) <= set(names)
    return torch.tensor([float(values.get(name, 0)) for name in names])


@pytest.fixture(scope="module")
def bank() -> Bank:
    """Two sprites of 32 px that fill their windows: a red disc without relief, a blue square that leans forward."""
    at = (torch.arange(32) + 0.5) / 16 - 1
    disc = ((at[None] ** 2 + at[:, None] ** 2) < 0.9).float()
    square = torch.ones(32, 32)
    rgba = torch.stack(
        [torch.stack([*(c * alpha for c in colour), alpha]) for colour, alpha in ((RED, disc), (BLUE, square))]
    )
    z = torch.stack([torch.zeros(32, 32), (-at[:, None]).expand(32, 32) * 0.5])
    sprite = row(
        SPRITE,
        half=1,
        up_y=1,
        right_x=1,
        foot_y=-1,
        height=2,
        width=2,
        members=1,
        top=2,
        top_half_width=1,
        top_half_length=1,
    )
    sprites = sprite.repeat(len(KINDS), 1)
    pictures = [
        Pictures(rgba[k % 2][None], z[k % 2][None], sprites[k][None], torch.tensor([k])) for k in range(len(KINDS))
    ]
    return bank_of([Part.of(p) for p in pictures])


def level_scene(**values: float) -> Rows:
    """A camera that looks level over grey ground at a white wall four units away; no layers."""
    rows = Rows.empty(1, torch.device("cpu"))
    defaults = {"placed": 1, "focal": 1, "pitch_cos": 1, "roll_cos": 1, "wall": 1, "wall_distance": 4, "wall_cos": 1}
    rows.scenes[0] = row(SCENE, **(defaults | values))
    for surface, colour in zip(rows.surfaces[0], (GREY, (1, 1, 1), (1, 1, 1), (0.1, 0.4, 0.1)), strict=True):
        surface[:3] = torch.tensor(colour, dtype=torch.float32)
    rows.layers[0, :, 0] = -1
    return rows


def add_layer(rows: Rows, k: int, **values: float) -> None:
    """A sprite that covers view x and y in -0.25..0.25 unless other numbers are given."""
    plain = {"label": k + 1, "xx": 4, "yy": 4, "brightness": 1, "tint_r": 1, "tint_g": 1, "tint_b": 1}
    rows.layers[0, k] = row(LAYER, **(plain | values))


@pytest.mark.slow
def test_the_empty_room_is_the_geometry_of_a_plane_and_a_wall(bank: Bank) -> None:
    scenes = compose(level_scene(), bank, SIDE)
    down = (np.arange(SIDE) + 0.5) / SIDE - 0.5  # focal 1: also the slope of the ray
    expected = np.maximum(np.where(down > 0.25, down, 0.25), 0.25)  # ground 1 below the camera up to the wall at 4
    np.testing.assert_allclose(scenes.inverse_depth[0, :, 10], expected, rtol=1e-5)
    np.testing.assert_array_equal(scenes.ground[0, :, 10], down > 0.25)
    across = (10 + 0.5) / SIDE - 0.5
    np.testing.assert_allclose(scenes.rise[0, :, 10], -down / np.sqrt(1 + down**2 + across**2), atol=1e-6)
    assert not scenes.labels.any()


def test_looking_down_brings_the_ground_nearer_and_the_sky_is_far(bank: Bank) -> None:
    pitch = np.radians(30)
    scenes = compose(level_scene(wall=0, pitch_sin=np.sin(pitch), pitch_cos=np.cos(pitch)), bank, SIDE)
    middle = SIDE // 2
    assert 1 / float(scenes.inverse_depth[0, middle, middle]) == pytest.approx(1 / np.sin(pitch), rel=0.03)
    level = compose(level_scene(wall=0), bank, SIDE)
    assert float(level.inverse_depth[0, 0, 0]) == pytest.approx(1 / FAR)


def test_the_compiled_compositor_is_the_reference(bank: Bank) -> None:
    rows = level_scene(pitch_sin=0.2, pitch_cos=0.98, roll_sin=0.1, roll_cos=0.995, wall_sin=0.3, wall_cos=0.954)
    add_layer(rows, 0, sprite=0, depth=3)
    add_layer(rows, 1, sprite=1, depth=2.5, depth_per_z=1.5, xx=3, xy=0.5, yx=-0.4, yy=3.5, x0=0.4, level=1)
    add_layer(rows, 4, sprite=0, depth=2.4, xx=-6, yy=5, x0=-0.2, y0=0.5, level=2, tint_r=0.5, brightness=1.2)
    coverage = torch.empty(1, LAYERS + 1, SIDE, SIDE)
    made = compose(rows, bank, SIDE, coverage)
    wanted = composed(rows, bank, SIDE)
    np.testing.assert_allclose(made.rgb[0].permute(1, 2, 0), wanted.rgb, atol=2e-5)
    np.testing.assert_allclose(coverage[0], wanted.coverage, atol=2e-5)
    np.testing.assert_allclose(made.inverse_depth[0], wanted.inverse_depth, atol=2e-5)
    np.testing.assert_allclose(made.rise[0], wanted.rise, atol=1e-6)
    np.testing.assert_array_equal(made.labels[0], wanted.labels)
    np.testing.assert_array_equal(made.ground[0], wanted.ground)
    assert set(np.unique(wanted.labels)) == {0, 1, 2, 5}


def test_coverage_of_every_pixel_sums_to_one(bank: Bank) -> None:
    rows = arrange(torch.arange(6, dtype=torch.int32), bank, SIDE)
    coverage = torch.empty(6, LAYERS + 1, SIDE, SIDE)
    scenes = compose(rows, bank, SIDE, coverage)
    np.testing.assert_allclose(coverage.sum(1), 1, atol=1e-4)
    # The label is that of the layer that covers more than half of the pixel, where one does.
    best = coverage.argmax(1)
    share = coverage.amax(1)
    layer_labels = torch.cat([torch.zeros(6, 1), rows.layers[:, :, LAYER.index("label")]], 1).gather(1, best.flatten(1))
    sure = (share > 0.51) & (best > 0)
    assert sure.any()
    assert torch.equal(scenes.labels[sure].float(), layer_labels.view_as(share)[sure])


def test_what_is_nearer_hides_what_is_farther_whatever_the_order(bank: Bank) -> None:
    """A square through the plane of a disc: its near half shows, its far half does not."""
    rows = level_scene()
    add_layer(rows, 0, sprite=0, depth=3)
    add_layer(rows, 1, sprite=1, depth=3, depth_per_z=1)
    labels = compose(rows, bank, SIDE).labels[0]
    assert labels[SIDE // 2 - 8, SIDE // 2] == 2  # z is positive in the upper half: nearer
    assert labels[SIDE // 2 + 8, SIDE // 2] == 1


def test_windows_shadows_patches_of_light_and_reflections_are_no_objects(bank: Bank) -> None:
    rows = level_scene(sun=1, sun_z=2.5, sun_size=0.4)
    rows.panels[0, 0] = row(PANEL, on=1, y=1.5, half_width=0.5, half_height=0.4, glow=1, frame=0.1, r=0.9, g=0.9, b=1)
    rows.panels[0, 1] = row(PANEL, on=1, label=IGNORE, x=-1.2, y=1.5, half_width=0.4, half_height=0.4, r=0.4)
    plain = compose(level_scene(), bank, SIDE).rgb
    add_layer(
        rows, 0, sprite=0, depth=3, xx=8, yy=8, shadow=0.9, shadow_xx=3, shadow_yy=12, shadow_y0=-3, contact=0.9,
        contact_y=0.13, contact_half_width=0.2, contact_half_height=0.05, mirror=0.5, foot_row=1,
    )  # fmt: skip
    scenes = compose(rows, bank, SIDE)
    labels = scenes.labels[0]
    assert set(labels.unique().tolist()) == {0, 1, IGNORE}
    changed = (scenes.rgb - plain).abs().amax((0, 1)) > 0.02
    assert (changed & (labels == 0)).sum() > 200  # all that was drawn beside the disc is background
    disc = labels == 1
    assert disc.sum().item() == pytest.approx(np.pi * (np.sqrt(0.9) / 8 * SIDE) ** 2, rel=0.06)


def test_a_thicket_is_background_at_its_distance_up_to_its_top(bank: Bank) -> None:
    rows = level_scene(wall=0, thicket_distance=5, thicket_height=2.5)
    rows.surfaces[0, 3, SURFACE.index("pattern") : SURFACE.index("aspect") + 1] = torch.tensor([6, 8, 1.0])
    rows.surfaces[0, 3, SURFACE.index("turn_cos")] = 1
    scenes = compose(rows, bank, SIDE)
    assert not scenes.labels.any()
    leaves = (scenes.inverse_depth[0] - 1 / 5).abs() < 1e-6
    assert leaves[SIDE // 2 : SIDE // 2 + 8].float().mean() > 0.9  # from the camera's height down to its foot
    assert not leaves[SIDE // 2 + 13 :].any()  # ground nearer than it
    assert not leaves[:2].any()  # 5 x 0.48 over the camera: sky
    green = scenes.rgb[0, 1, leaves]
    assert green.std() > 0.3 * green.mean()  # it is no plain wall
    add_layer(rows, 0, sprite=1, depth=3)
    assert (compose(rows, bank, SIDE).labels[0] == 1).sum() == (SIDE // 2) ** 2  # things before it show whole


def test_prints_change_the_colours_of_a_thing_and_not_its_outline(bank: Bank) -> None:
    rows = level_scene()
    add_layer(rows, 0, sprite=0, depth=3)
    plain = compose(rows, bank, SIDE)
    for kind in (1, 2):
        add_layer(rows, 0, sprite=0, depth=3, print=kind, print_strength=0.8, print_frequency=6)
        printed = compose(rows, bank, SIDE)
        assert torch.equal(printed.labels, plain.labels)
        changed = (printed.rgb - plain.rgb).abs().amax((0, 1)) > 0.05
        inside = plain.labels[0] == 1
        assert not (changed & ~inside).any()
        assert 0.1 < changed[inside].float().mean() < 0.95


def test_an_open_lens_is_sharp_where_it_is_focused(bank: Bank) -> None:
    rows = level_scene(focus=1 / 3, defocus=40, exposure=1, balance_r=1, balance_g=1, balance_b=1, gamma=1, contrast=1)
    rows.scenes[0, SCENE.index("saturation")] = 1
    rows.surfaces[0, 1, SURFACE.index("pattern") : SURFACE.index("aspect") + 1] = torch.tensor([3, 6, 1.0])
    rows.surfaces[0, 1, SURFACE.index("turn_cos")] = 1
    add_layer(rows, 0, sprite=1, depth=3)
    composed_scene = compose(rows, bank, SIDE)
    wall = (slice(None), slice(0, 10), slice(None))
    thing = (slice(None), slice(20, 44), slice(20, 44))
    sharp, photo = composed_scene.rgb[0], photograph(rows, composed_scene).rgb[0]
    assert photo[wall].std() < 0.7 * sharp[wall].clamp(0, 1).std()
    rows.scenes[0, SCENE.index("defocus")] = 0
    torch.testing.assert_close(photograph(rows, composed_scene).rgb[0][thing], photo[thing])


def test_the_same_seeds_make_the_same_scenes_in_any_batch(bank: Bank) -> None:
    seeds = torch.tensor([5, 6, 7], dtype=torch.int32)
    together, alone = make_scenes(seeds, bank, SIDE), make_scenes(seeds[1:2], bank, SIDE)
    assert torch.equal(together.rgb[1:2], alone.rgb)
    assert torch.equal(together.labels[1:2], alone.labels)
    assert not torch.equal(together.rgb[0], together.rgb[1])


def test_arranged_things_stand_on_the_ground_and_far_ones_come_first(bank: Bank) -> None:
    rows = arrange(torch.arange(40, dtype=torch.int32), bank, SIDE)
    standing = 0
    for scene, layers in zip(rows.scenes, rows.layers, strict=True):
        if not scene[SCENE.index("placed")]:
            continue
        drawn = [
            named
            for named in ({n: float(v) for n, v in zip(LAYER, row, strict=True)} for row in layers)
            if named["sprite"] >= 0
        ]
        labels = [d["label"] for d in drawn if d["label"] != IGNORE]
        assert labels == sorted(set(labels))
        assert all(1 <= label <= LAYERS for label in labels)
        sine, cosine, focal = (float(scene[SCENE.index(n)]) for n in ("pitch_sin", "pitch_cos", "focal"))
        last = 1e9
        for d in drawn:
            on_ground = 1 / max(d["contact_y"] / focal * cosine + sine, 1e-6)
            if d["contact"] > 0 and abs(d["depth"] / on_ground - 1) < 1e-4:  # the sprites here have foot_z = 0
                standing += 1
                assert d["depth"] <= last + 1e-4
                last = d["depth"]
    assert standing > 60


def test_photos_are_valid_pictures_and_keep_the_labels(bank: Bank) -> None:
    rows = arrange(torch.arange(30, dtype=torch.int32), bank, SIDE)
    rows.scenes[:, SCENE.index("drawing")] = (torch.arange(30) == 7).float()
    before = compose(rows, bank, SIDE)
    after = photograph(rows, before)
    assert after.rgb.isfinite().all()
    assert 0 <= after.rgb.min() <= after.rgb.max() <= 1
    assert torch.equal(after.labels, before.labels)
    assert {int(n) for n in before.labels.unique()} <= {*range(LAYERS + 1), IGNORE}
    assert after.rgb[7].median() > 0.5  # mostly paper


def test_a_camera_exposes_for_what_it_sees(bank: Bank) -> None:
    """The same scenes in a fifth of the light give photos that are darker, but not by nearly as much."""
    rows = arrange(torch.arange(30, dtype=torch.int32), bank, SIDE)
    rows.scenes[:, SCENE.index("drawing")] = 0
    bright = compose(rows, bank, SIDE)
    bright = bright._replace(rgb=bright.rgb.clamp(0.2, 0.9))
    dim = bright._replace(rgb=bright.rgb / 5)
    share = photograph(rows, dim).rgb.mean() / photograph(rows, bright).rgb.mean()
    assert 0.4 < share < 0.9


@pytest.mark.slow
def test_some_photos_are_taken_of_one_thing_that_fills_them(bank: Bank) -> None:
    scenes = make_scenes(torch.arange(120, dtype=torch.int32), bank, SIDE)
    objects = [torch.bincount(labels.flatten().long(), minlength=IGNORE + 1)[1:IGNORE] for labels in scenes.labels]
    largest = torch.stack(objects).amax(1) / SIDE**2
    placed = scenes.placed > 0
    assert (largest[placed] > 0.2).float().mean() > 0.1


def test_a_pyramid_keeps_the_mean_and_averages_depth_over_what_is_opaque() -> None:
    alpha = torch.zeros(1, 16, 16)
    alpha[:, :, :8] = 1
    rgba = torch.stack([alpha * 0.4, alpha * 0.2, alpha * 0, alpha], 1)
    texels, z = pyramid(rgba, torch.where(alpha > 0, 1.5, 99.0))
    coarsest = slice(16 * 16 + 8 * 8 + 4 * 4, None)
    assert texels[0, coarsest].tolist() == [[102, 51, 0, 255], [0, 0, 0, 0]] * 2
    assert z[0, coarsest].tolist() == [12288, 0, 12288, 0]
