"""The comparison with the official package: nothing apart for equal subjects, and every difference is seen."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")
pytest.importorskip("yaml")
pytest.importorskip("numba")

import torch
from native_parity import (
    Inputs,
    Native,
    Official,
    SubjectResult,
    compare,
    difference,
    draw_noise,
    iou,
    main,
    report,
)

from sam3d_gs.errors import BadInputError
from sam3d_gs.sam3d_torch.checkpoints.checkpoint import Checkpoint
from sam3d_gs.sam3d_torch.contract import RuntimeOptions
from sam3d_gs.types import Gaussians, Pose
from synthetic.checkpoints import make_checkpoints

VIEWS, SIDE_PX = 2, 64
EQUAL_DB = 100  # equal up to the rounding of sums, whose order the place of arrays in memory may change


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Rendering leaves torch with as many threads as numba has, which on busy cores wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoints(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> Checkpoint:
    return Checkpoint(folder)


@pytest.fixture(scope="module")
def inputs(checkpoint: Checkpoint) -> Inputs:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 255, (48, 64, 3)).astype(np.uint8)
    mask = np.zeros((48, 64), bool)
    mask[10:36, 14:40] = True
    x, y = torch.meshgrid(torch.linspace(0.6, -0.6, 64), torch.linspace(0.4, -0.4, 48), indexing="xy")
    pointmap = torch.stack([2 * x, 2 * y, torch.full_like(x, 2.0) + 0.1 * torch.sin(9 * x)], -1)
    return Inputs(rgb, mask, pointmap, draw_noise(checkpoint.config, 0))


def native(checkpoint: Checkpoint, dtype: str = "fp32") -> Native:
    return Native(checkpoint, RuntimeOptions("cpu", dtype, steps=2, slat_steps=2, gaussians_per_voxel=4))


@pytest.fixture(scope="module")
def subject(checkpoint: Checkpoint) -> Native:
    return native(checkpoint)


@pytest.fixture(scope="module")
def result(subject: Native, inputs: Inputs) -> SubjectResult:
    return subject.run(inputs)


@pytest.mark.slow
def test_equal_runtimes_give_equal_objects(checkpoint: Checkpoint, inputs: Inputs) -> None:
    text = compare(native(checkpoint), native(checkpoint), inputs, VIEWS, SIDE_PX)
    assert text.count("| native float32 |") == 3  # once in costs as the reference, then as the subject in both tables
    given = "| native float32, voxels of native float32 |"
    costs, own, other = (line for line in text.splitlines() if line.startswith(("| native float32 | 1.", given)))
    assert costs.startswith(given)
    for line in (own, other):
        iou_shown, psnr, *pose = (cell.strip() for cell in line.split("|")[2:-1])
        assert iou_shown == "1.0000"
        assert all(float(value) > EQUAL_DB for value in psnr.split("/"))
        assert pose == ["0.000"] * 3


@pytest.mark.slow
def test_another_dtype_is_near_and_another_noise_is_not(
    checkpoint: Checkpoint, inputs: Inputs, subject: Native, result: SubjectResult
) -> None:
    others = (
        native(checkpoint, "bf16").run(inputs),
        subject.run(replace(inputs, noise=draw_noise(checkpoint.config, 1))),
    )
    near, far = (difference(result, other, VIEWS, SIDE_PX) for other in others)
    assert 0.8 < near.occupancy_iou < 1
    assert far.occupancy_iou < 0.8
    assert 20 < min(near.psnr_db) < EQUAL_DB
    assert max(far.psnr_db) < min(near.psnr_db)
    assert 0 < near.rotation_deg < 3 < far.rotation_deg


@pytest.mark.slow
def test_noise_of_stage_2_stays_with_its_voxel(inputs: Inputs, result: SubjectResult) -> None:
    voxels = torch.from_numpy(result.voxels)
    assert torch.equal(inputs.noise.at(voxels.flip(0)), inputs.noise.at(voxels).flip(0))
    assert not torch.equal(inputs.noise.at(voxels[:1]), inputs.noise.at(voxels[1:2]))


@pytest.mark.slow
def test_noise_of_stage_2_matters(inputs: Inputs, subject: Native, result: SubjectResult) -> None:
    noise = replace(inputs.noise, field=inputs.noise.field.flip(0))
    found = difference(result, subject.run(replace(inputs, noise=noise)), VIEWS, SIDE_PX)
    assert found.occupancy_iou == 1
    assert max(found.psnr_db) < 60


@pytest.mark.slow
def test_an_object_that_cannot_be_made_says_why(subject: Native, inputs: Inputs) -> None:
    with pytest.raises(BadInputError, match=r"^native float32 made no object: .*mask"):
        subject.run(replace(inputs, mask=np.zeros_like(inputs.mask)))


@pytest.mark.slow
def test_as_a_program(folder: Path, tmp_path: Path, inputs: Inputs, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(inputs.rgb).save(tmp_path / "photo.png")
    Image.fromarray(inputs.mask).save(tmp_path / "mask.png")
    quick = ["--dtype=bf16", "--device=cpu", "--steps=2", "--slat-steps=1", "--views=1", "--side-px=32", "--seed=3"]
    main([str(tmp_path / "photo.png"), str(tmp_path / "mask.png"), "--checkpoints", str(folder), *quick])
    out = capsys.readouterr().out
    assert "64 x 48 px, seed 3" in out
    assert "| from native float32 | occupancy IoU" in out
    assert "| native bfloat16, voxels of native float32 | 1.0000 |" in out


# The measures


def made(pose: Pose, sh0: float = 0.0) -> SubjectResult:
    one = np.ones((1, 3), np.float32)
    blob = Gaussians(0 * one, np.eye(1, 4, dtype=np.float32), -2 * one, 5 * one[:, 0], sh0 * one)
    return SubjectResult(np.array([[1, 2, 3]]), blob, pose, 1.0)


HERE = Pose(np.array([1.0, 0, 0, 0]), np.array([0.0, 3, 4]), 2.0)


@pytest.mark.slow
@pytest.mark.parametrize("angle_deg", [0.0, 1e-4, 30.0, 179.0])
def test_pose_differences(angle_deg: float) -> None:
    half = math.radians(angle_deg) / 2
    pose = Pose(np.array([math.cos(half), 0, math.sin(half), 0]), np.array([0.0, 3, 4.1]), 1.9)
    found = difference(made(HERE), made(pose), VIEWS, SIDE_PX)
    assert found.rotation_deg == pytest.approx(angle_deg, abs=1e-9)
    assert found.translation_percent == pytest.approx(2.0)
    assert found.scale_percent == pytest.approx(5.0)


@pytest.mark.slow
def test_psnr_falls_with_the_difference_in_colour() -> None:
    first, second = (min(difference(made(HERE), made(HERE, sh0), VIEWS, SIDE_PX).psnr_db) for sh0 in (0.01, 0.1))
    assert math.inf > first > second
    assert first - second == pytest.approx(20, abs=0.1)  # ten times the difference


@pytest.mark.slow
def test_iou_counts_voxels() -> None:
    voxels = np.array([[0, 0, 0], [0, 0, 1], [5, 0, 1]])
    assert iou(voxels, voxels[::-1]) == 1
    assert iou(voxels, voxels[:2]) == pytest.approx(2 / 3)
    assert iou(voxels, voxels + 1) == 0


@pytest.mark.slow
def test_memory_is_shown_where_it_is_counted() -> None:
    text = report(made(HERE), [("other", replace(made(HERE), peak_gib=1.5))], "first", VIEWS, SIDE_PX)
    assert "| first | 1 | 1 | 1.00 | - |" in text
    assert "| other | 1 | 1 | 1.00 | 1.50 |" in text


# The official package: a stand-in with the same entry points, which reports the noise it starts from as its result

PACKAGE = """
from types import SimpleNamespace

import torch


class Generator(torch.nn.Module):
    def _generate_noise(self, shape, device):
        return torch.randn(shape)


class Pipeline:
    device = torch.device("cpu")
    models = torch.nn.ModuleDict({"ss_generator": Generator(), "slat_generator": Generator()})

    def sample_slat(self, slat_input, coords, inference_steps=None):
        return self.models["slat_generator"]._generate_noise((1, len(coords), 8), "cpu")[0]

    def run(self, image, mask=None, seed=None, pointmap=None, stage1_inference_steps=None, stage2_inference_steps=None,
            decode_formats=None, with_mesh_postprocess=True, with_texture_baking=True, with_layout_postprocess=True,
            use_vertex_color=False):
        assert image.shape == (48, 64, 4) and set(image[..., 3].flat) == {0, 255} and pointmap.shape == (48, 64, 3)
        assert decode_formats == ["gaussian"] and stage1_inference_steps == 7
        noise = self.models["ss_generator"]._generate_noise({"translation": (1, 1, 3), "scale": (1, 1, 3)}, "cpu")
        coords = torch.tensor([[0, 1, 2, 3], [0, 4, 5, 6]])
        slat = self.sample_slat({}, coords)
        gaussian = SimpleNamespace(
            get_xyz=slat[:, :3], get_rotation=torch.eye(1, 4).repeat(2, 1), get_scaling=torch.full((2, 3), 0.1),
            get_opacity=torch.full((2, 1), 0.5), get_features=slat[:, None, 3:6])
        return {"coords": coords, "gaussian": [gaussian], "rotation": torch.tensor([[0.8, 0.6, 0.0, 0.0]]),
                "translation": noise["translation"][0], "scale": torch.full((1, 3), 2.0)}


class Inference:
    def __init__(self, config_file, compile=False):
        assert config_file == "pipeline.yaml"
        self._pipeline = Pipeline()
"""


@pytest.mark.slow
def test_official_package_gets_our_noise(
    tmp_path: Path, checkpoint: Checkpoint, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notebook").mkdir()
    (tmp_path / "notebook" / "inference.py").write_text(PACKAGE)
    monkeypatch.setattr("sys.path", ["unchanged"])
    monkeypatch.setenv("CONDA_PREFIX", "somewhere")
    official = Official(tmp_path, Path("pipeline.yaml"), 7, None)
    result = official.run(inputs)
    assert result.voxels.tolist() == [[1, 2, 3], [4, 5, 6]]
    started = inputs.noise.at(torch.from_numpy(result.voxels)).numpy()
    np.testing.assert_array_equal(result.gaussians.means, started[:, :3])
    np.testing.assert_array_equal(result.gaussians.sh0, started[:, 3:6])
    np.testing.assert_allclose(result.gaussians.scales, 0.1, rtol=1e-6)
    np.testing.assert_allclose(result.gaussians.opacities, 0.5, atol=1e-6)
    x, y, z = inputs.noise.structure["translation"][0, 0].tolist()
    np.testing.assert_allclose(result.pose.translation, (-x, -y, z))  # PyTorch3D's camera to OpenCV's
    assert result.pose.scale == 2

    pipeline = official._pipeline
    assert "sample_slat" not in vars(pipeline)  # everything is as it was
    assert "_generate_noise" not in vars(pipeline.models["ss_generator"])
    with pytest.raises(BadInputError, match="finds its voxels itself"):
        official.run(replace(inputs, voxels=torch.zeros(1, 3)))
    official.close()
