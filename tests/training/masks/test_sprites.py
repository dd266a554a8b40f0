"""Sets of shapes and their sprites: what is recorded of a sprite agrees with its picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from procedural.shape import BOX, ShapeBuilder

from training.masks.bank import KINDS
from training.masks.rows import SPRITE
from training.masks.sets import make_set
from training.masks.sprites import SetPool, make_pool, picture_sets
from training.objects.shapes import pack


def one_box(half: tuple[float, float, float]) -> SetPool:
    builder = ShapeBuilder()
    builder.add(BOX, (*half, 0.0), (0.1, 0.2, -0.1))
    shapes = pack([builder.shape("boxy")], [False])
    zero = torch.zeros(1)
    top = torch.tensor([[1.0, 0.2 + half[1], half[0], half[2]]])
    return SetPool(shapes, torch.tensor([0]), torch.tensor([1]), torch.tensor([1]), top, zero, zero, zero, zero)


@pytest.mark.slow
def test_foot_height_and_top_of_a_box() -> None:
    half = (0.5, 0.3, 0.2)
    pictures = picture_sets(one_box(half), torch.tensor([0]), torch.Generator().manual_seed(1), 64)
    found = dict(zip(SPRITE, pictures.sprites[0].tolist(), strict=True))
    assert found["height"] == pytest.approx(0.6, abs=0.03)
    assert found["width"] == pytest.approx(1.0, abs=0.05)
    assert found["top"] == pytest.approx(0.6, abs=0.03)
    up = np.array([found["up_x"], found["up_y"], found["up_z"]])
    right = np.array([found["right_x"], found["right_y"], found["right_z"]])
    assert np.linalg.norm(up) == pytest.approx(1, abs=1e-5)
    assert up @ right == pytest.approx(0, abs=1e-5)
    turn = np.stack([right, up, np.cross(right, up)], 1)
    foot = turn @ np.array([0.1, -0.1, -0.1])
    np.testing.assert_allclose([found["foot_x"], found["foot_y"], found["foot_z"]], foot, atol=0.03)


def test_a_sprite_fills_its_window_and_its_depth_is_that_of_its_surface() -> None:
    pictures = picture_sets(one_box((0.5, 0.3, 0.2)), torch.tensor([0]), torch.Generator().manual_seed(2), 64)
    alpha, z = pictures.rgba[0, 3], pictures.z[0]
    rows, columns = np.flatnonzero(alpha.any(1)), np.flatnonzero(alpha.any(0))
    assert max(np.ptp(rows), np.ptp(columns)) > 0.85 * 64
    found = dict(zip(SPRITE, pictures.sprites[0].tolist(), strict=True))
    # Back to the shape frame, every pixel lies on one of the box's faces.
    i, j = np.nonzero(alpha.numpy())
    x = found["centre_x"] + found["half"] * ((j + 0.5) / 32 - 1)
    y = found["centre_y"] - found["half"] * ((i + 0.5) / 32 - 1)
    points = np.stack([x, y, z.numpy()[i, j]])
    up = np.array([found["up_x"], found["up_y"], found["up_z"]])
    right = np.array([found["right_x"], found["right_y"], found["right_z"]])
    own = np.stack([right, up, np.cross(right, up)]) @ points - np.array([[0.1], [0.2], [-0.1]])
    off = np.abs(np.abs(own) - np.array([[0.5], [0.3], [0.2]])).min(0)
    assert np.percentile(off, 99) < 0.01


@pytest.mark.slow
def test_every_kind_is_made_and_members_of_a_set_share_their_frame() -> None:
    sets = [make_set(seed) for seed in range(160)]
    assert {s.kind for s in sets} == set(KINDS)
    assert all(len(s.members) > 1 for s in sets if s.kind in ("nested", "seated"))
    assert all(len(s.members) == 1 for s in sets if s.kind in ("thing", "carrier", "car", "animal"))
    pool = make_pool(80)
    seated = torch.nonzero(pool.kind == KINDS.index("seated"))[:1, 0]
    pictures = picture_sets(pool, seated, torch.Generator().manual_seed(3), 32)
    chair, person = (dict(zip(SPRITE, row.tolist(), strict=True)) for row in pictures.sprites)
    assert chair["members"] == 2 and person["members"] == 0
    for name in ("up_x", "up_z", "right_x", "foot_y", "height"):
        assert chair[name] == person[name]
    assert (pictures.rgba[:, 3].sum((1, 2)) > 50).all()


def test_the_same_numbers_make_the_same_sets_in_any_split() -> None:
    whole, half = make_pool(12), make_pool(6, first=6)
    members = int(half.members.sum())
    assert torch.equal(whole.shapes.rows[-members:], half.shapes.rows)
    assert torch.equal(whole.kind[6:], half.kind)
