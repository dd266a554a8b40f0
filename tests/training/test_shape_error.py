"""The measure of shapes: zero for the same shape, right for a known difference, and meshes are cast correctly."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sam3d_gs.embedded.shape.crops import crop_object
from training.objects.cases import FAR, Case, procedural_cases
from training.objects.mesh_cases import mesh_cases, read_mesh
from training.objects.shape_error import behind_percent, compare, made_points, thickness_percent, true_layers

CORNERS = [(x, y, z) for x in (0, 2) for y in (0, 1) for z in (0, 1)]
FACES = [(1, 2, 4, 3), (5, 6, 8, 7), (1, 2, 6, 5), (3, 4, 8, 7), (1, 3, 7, 5), (2, 4, 8, 6)]


@pytest.fixture
def box_file(tmp_path: Path) -> Path:
    """A box of 2 x 1 x 1 as an .obj of six quadrangles."""
    path = tmp_path / "box.obj"
    lines = [f"v {x} {y} {z}" for x, y, z in CORNERS] + ["f " + " ".join(f"{i}/1" for i in face) for face in FACES]
    path.write_text("\n".join(lines))
    return path


def test_the_same_shape_farther_away_has_no_error() -> None:
    points = np.random.default_rng(0).uniform(-1, 1, (4000, 3))
    chamfer, f_score = compare(points + np.array((0, 0, 0.17)), points)
    assert chamfer < 0.15
    assert f_score > 99.9


def test_two_planes_have_their_distance_as_error() -> None:
    """Offset sideways by 5 % of the extent, which no offset in depth mends."""
    rng = np.random.default_rng(0)
    points = np.stack([np.zeros(8000), rng.uniform(-1, 1, 8000), rng.uniform(-1, 1, 8000)], axis=1)
    chamfer, f_score = compare(points + np.array((0.1, 0, 0)), points)
    assert chamfer == pytest.approx(5, abs=0.3)
    assert f_score == 0


@pytest.mark.slow
def test_a_mesh_box_is_cast_and_rebuilt(box_file: Path) -> None:
    assert read_mesh(box_file).shape == (12, 3, 3)
    case = next(iter(mesh_cases([box_file], 320, 8000)))
    assert 0.2 < case.mask.mean() < 0.8
    assert not case.hollow.any()
    inside = case.surface[:, 2].max() - case.surface[:, 2].min()
    assert np.ptp(case.layers[:, case.mask]) == pytest.approx(inside, rel=0.05)
    crop = crop_object(case.rgb, case.mask, 160)
    layers = true_layers(case, crop, 2)
    assert compare(made_points(case, crop, layers, 8000), case.surface)[0] < 1.6  # 8000 points alone give about 0.9
    assert thickness_percent(case, crop, layers) < 1.5


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="the ray caster's CPU build needs g++")
def test_true_layers_of_procedural_shapes_fit_their_surfaces() -> None:
    """Surface points by one program, depths by another: they only agree when both mean the same shape and frame."""
    for case in procedural_cases(1, further=False):
        crop = crop_object(case.rgb, case.mask, 160)
        assert compare(made_points(case, crop, true_layers(case, crop, 4), 8000), case.surface[::4])[0] < 2.5
        assert case.behind is not None
        assert ((case.behind.sum(-1) > 0) == case.mask).mean() > 0.999  # the same outline from behind


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="the ray caster's CPU build needs g++")
def test_in_perspective_they_fit_too() -> None:
    """Shells of the same depths built for parallel rays do not, so the camera of the case matters."""
    fits = []
    for case in procedural_cases(2, further=False, lean=0.45):
        crop = crop_object(case.rgb, case.mask, 160)
        far = replace(case, depth=FAR, K=np.array([[160 * FAR, 0, 160], [0, 160 * FAR, 160], [0, 0, 1]]))
        layers = true_layers(case, crop, 4)
        fits.append([compare(made_points(c, crop, layers, 8000), case.surface[::4])[0] for c in (case, far)])
    assert len(fits) == 2
    for right, wrong in fits:
        assert right < 2.5
        assert wrong > right + 1


@pytest.mark.slow
def test_the_colours_behind_have_no_error_where_the_back_is_as_predicted() -> None:
    side = 320
    mask = np.zeros((side, side), bool)
    mask[60:260, 60:260] = True
    grey = np.full((side, side, 3), 0.5)
    case = Case(
        (255 * grey).astype(np.uint8),
        mask,
        np.zeros((4, side, side)),
        mask & False,
        np.zeros((1, 3)),
        np.zeros(3),
        grey,
    )
    crop = crop_object(case.rgb, mask, 160)
    layers = true_layers(case, crop, 2)
    assert behind_percent(case, crop, layers) < 0.5
    assert behind_percent(replace(case, behind=grey + 0.2), crop, layers) == pytest.approx(20, abs=0.5)
