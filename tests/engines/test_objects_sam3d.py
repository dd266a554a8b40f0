"""The engine of the official SAM 3D Objects package, against a stand-in with upstream's signatures and quirks."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sam3d_gs.cli import main
from sam3d_gs.engines import registry, sam3d_official
from sam3d_gs.engines.api import FailedObject
from sam3d_gs.engines.objects_sam3d import OfficialObjects
from sam3d_gs.errors import EXIT_USAGE, BadInputError, MissingPackageError, Sam3dGsError
from sam3d_gs.gaussians.pose import quat_to_matrix
from sam3d_gs.gaussians.pt import read_pt
from sam3d_gs.sam3d_torch.runtime import object_seed
from sam3d_gs.types import InstanceMask, Photo, PlacedObject
from sam3d_gs.workspace import Workspace

STAND_IN = Path(__file__).parent / "sam3d_stand_in"
HEIGHT, WIDTH = 48, 64


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A card that the package knows by name, no Conda; what loading it changes is undone."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "NVIDIA H200")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    names = ("CONDA_PREFIX", "CUDA_HOME", "LIDRA_SKIP_INIT", "ATTN_BACKEND", "SPARSE_ATTN_BACKEND")
    for name in (*names, "TORCH_FORCE_WEIGHTS_ONLY_LOAD"):
        monkeypatch.setenv(name, "")  # so that it is put back whatever happens to it
        monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    forget()


def forget() -> None:
    for name in [name for name in sys.modules if name.split(".")[0] in ("sam3d_objects", "flash_attn")]:
        del sys.modules[name]


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    """As users have it: checkpoints/hf inside the checkout."""
    checkout = tmp_path / "sam-3d-objects"
    checkout.mkdir()
    for name in ("notebook", "sam3d_objects"):
        (checkout / name).symlink_to(STAND_IN / name)
    folder = checkout / "checkpoints" / "hf"
    folder.mkdir(parents=True)
    (folder / "pipeline.yaml").write_text("dtype: float16\n")
    torch.save({"state_dict": {"a": torch.zeros(1)}}, folder / "ss_generator.ckpt")
    return folder


@pytest.fixture
def photo() -> Photo:
    rgb = np.random.default_rng(0).integers(60, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    rgb[:12] = 0  # sky, where the depth model sees nothing
    return Photo(Path("kitchen.png"), "kitchen", rgb, "0")


def mask(object_id: str, rows: slice, columns: slice) -> InstanceMask:
    inside = np.zeros((HEIGHT, WIDTH), bool)
    inside[rows, columns] = True
    return InstanceMask(object_id, object_id.split("-")[1], inside, 0.8)


CUP = mask("00-cup-0", slice(20, 40), slice(8, 30))
BOWL = mask("01-bowl-0", slice(14, 30), slice(36, 60))


def engine(checkpoints: Path, **more: Any) -> OfficialObjects:
    made = registry.choose("objects", "sam3d-objects", checkpoints=checkpoints, **more).load()
    assert isinstance(made, OfficialObjects)
    return made


def placed(results: Iterator[PlacedObject | FailedObject]) -> dict[str, PlacedObject]:
    found = {}
    for result in results:
        assert isinstance(result, PlacedObject), result
        found[result.object_id] = result
    return found


def test_gaussians_project_onto_their_masks(checkpoints: Path, photo: Photo) -> None:
    """Pose, frame and K go together: every splat falls on the pixel whose depth it was made from."""
    objects = placed(engine(checkpoints).objects(photo, [CUP, BOWL], ["00-cup-0", "01-bowl-0"]))
    for source in (CUP, BOWL):
        made = objects[source.object_id]
        R = quat_to_matrix(made.pose.quat_wxyz)
        x_cam = made.pose.scale * made.gaussians.means @ R.T + made.pose.translation
        seen = x_cam @ made.K.T
        pixels = np.floor(seen[:, :2] / seen[:, 2:]).astype(int)
        again = np.zeros((HEIGHT, WIDTH), bool)
        again[pixels[:, 1], pixels[:, 0]] = True
        np.testing.assert_array_equal(again, source.mask)
        assert np.abs(R - np.eye(3)).max() > 0.5
        assert np.abs(made.gaussians.means).max() <= 0.5 * np.sqrt(3)
        np.testing.assert_allclose(made.gaussians.scales, np.hypot(0.01, 0.0009), rtol=1e-5)
        np.testing.assert_allclose(made.gaussians.opacity_logits, 3, atol=1e-5)
        np.testing.assert_allclose(made.gaussians.quats, [[1, 0, 0, 0]] * len(made.gaussians))
        assert made.image_size == (WIDTH, HEIGHT)
        assert made.engine == "sam3d-objects"
        assert made.scale_source == "arbitrary (MoGe)"
        assert made.scores == {"mask": 0.8}


@pytest.mark.slow
def test_depth_is_computed_once_and_only_gaussians_are_decoded(checkpoints: Path, photo: Photo) -> None:
    loaded = engine(checkpoints)
    placed(loaded.objects(photo, [CUP, BOWL], ["00-cup-0", "01-bowl-0"]))
    assert loaded._pipeline.depth_model.calls == 1
    assert len(loaded._pipeline.runs) == 2
    for run in loaded._pipeline.runs:
        assert run["decode_formats"] == ["gaussian"]
        assert not (run["with_mesh_postprocess"] or run["with_texture_baking"] or run["with_layout_postprocess"])
        assert not (run["use_stage1_distillation"] or run["use_stage2_distillation"])
        assert run["stage1_inference_steps"] is run["stage2_inference_steps"] is None
    assert not list(loaded.objects(photo, [CUP], []))
    assert loaded._pipeline.depth_model.calls == 1
    loaded.close()


def test_an_object_does_not_depend_on_what_else_is_wanted(checkpoints: Path, photo: Photo) -> None:
    loaded = engine(checkpoints, seed=5)
    together = placed(loaded.objects(photo, [CUP, BOWL], ["00-cup-0", "01-bowl-0"]))
    alone = placed(loaded.objects(photo, [CUP, BOWL], ["01-bowl-0"]))
    assert alone["01-bowl-0"].seed == object_seed(5, "01-bowl-0") == loaded._pipeline.runs[-1]["seed"]
    np.testing.assert_array_equal(alone["01-bowl-0"].gaussians.sh0, together["01-bowl-0"].gaussians.sh0)
    other = placed(engine(checkpoints, seed=6).objects(photo, [BOWL], ["01-bowl-0"]))
    assert np.abs(other["01-bowl-0"].gaussians.sh0 - alone["01-bowl-0"].gaussians.sh0).max() > 0.1


@pytest.mark.parametrize(
    ("more", "asked"),
    [
        ({"steps": 7, "slat_steps": 9}, (7, 9, False, "gaussian")),
        ({"preset": "quality"}, (50, 50, False, "gaussian")),
        ({"preset": "draft"}, (4, 10, True, "gaussian_4")),
        ({"preset": "draft", "gaussians_per_voxel": 32, "steps": 2}, (2, 10, True, "gaussian")),
        ({"gaussians_per_voxel": 4}, (None, None, False, "gaussian_4")),
    ],
)
def test_effort(checkpoints: Path, photo: Photo, more: dict[str, Any], asked: tuple[Any, ...]) -> None:
    loaded = engine(checkpoints, **more)
    placed(loaded.objects(photo, [CUP], ["00-cup-0"]))
    (run,) = loaded._pipeline.runs
    found = (run["stage1_inference_steps"], run["stage2_inference_steps"], run["use_stage1_distillation"])
    assert (*found, run["decode_formats"][0]) == asked


def test_bad_objects_fail_alone(checkpoints: Path, photo: Photo, monkeypatch: pytest.MonkeyPatch) -> None:
    line = mask("02-line-0", slice(20, 22), slice(3, 40))
    sky = mask("03-sky-0", slice(0, 10), slice(0, 60))
    loaded = engine(checkpoints)
    run = loaded._pipeline.run

    def fails_for_the_cup(image: np.ndarray, *args: Any, **kwargs: Any) -> Any:
        if image[30, 20, 3]:
            raise RuntimeError("CUDA out of memory. Tried to allocate 9 GiB\nmore lines")
        return run(image, *args, **kwargs)

    monkeypatch.setattr(loaded._pipeline, "run", fails_for_the_cup)
    wanted = [CUP, line, sky, BOWL]
    results = list(loaded.objects(photo, wanted, [m.object_id for m in wanted]))
    reasons = {result.object_id: result.reason for result in results if isinstance(result, FailedObject)}
    assert reasons == {
        "00-cup-0": "The official package failed: CUDA out of memory. Tried to allocate 9 GiB.",
        "02-line-0": "Its mask spans only 37 x 2 px; at least 3 x 3 px are needed.",
        "03-sky-0": "There is no valid depth inside its mask.",
    }
    assert isinstance(results[-1], PlacedObject)


# --- the surroundings that the package takes for granted


def test_it_loads_outside_conda_and_leaves_the_users_cuda_home(
    checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_HOME", "/opt/my-cuda")
    engine(checkpoints)
    assert os.environ["CONDA_PREFIX"] == sys.prefix
    assert os.environ["CUDA_HOME"] == "/opt/my-cuda"


@pytest.mark.parametrize(
    ("installed", "capability", "wish", "taken"),
    [
        (False, (9, 0), None, "sdpa"),  # upstream would fail: it insists on flash_attn on an H200
        (True, (9, 0), None, "flash_attn"),
        (True, (9, 0), "sdpa", "sdpa"),
        (True, (7, 5), None, "sdpa"),
    ],
)
def test_attention_backend(
    checkpoints: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    installed: bool,
    capability: tuple[int, int],
    wish: str | None,
    taken: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
    if installed:
        (tmp_path / "flash_attn.py").touch()
        sys.path.insert(0, str(tmp_path))
    if wish:
        monkeypatch.setenv("ATTN_BACKEND", wish)
    engine(checkpoints)
    backend = sys.modules["sam3d_objects.pipeline.inference_pipeline_pointmap"].BACKEND
    assert backend == taken
    assert torch.cuda.get_device_name(0) == "NVIDIA H200"


def test_checkpoints_are_read_without_unpickling_objects(checkpoints: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "owned",)

    torch.save({"state_dict": Evil()}, checkpoints / "ss_generator.ckpt")
    with pytest.raises(Sam3dGsError, match=r"cannot load .*pipeline.yaml: "):
        engine(checkpoints)
    assert not (tmp_path / "owned").exists()


def test_without_a_card_it_says_what_to_choose(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(Sam3dGsError, match=r"only on CUDA GPUs.*--objects-engine native"):
        engine(checkpoints)


def test_the_release_is_found_in_its_folder(checkpoints: Path, photo: Photo) -> None:
    weights = checkpoints.parents[1] / "weights"
    weights.mkdir()
    checkpoints.rename(weights / "checkpoints")
    assert placed(engine(weights).objects(photo, [CUP], ["00-cup-0"]))


def test_missing_parts_are_one_line(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInputError, match=r"No pipeline.yaml in .*--checkpoints"):
        engine(checkpoints.parent)
    monkeypatch.setitem(sys.modules, "sam3d_objects.pipeline", None)
    with pytest.raises(MissingPackageError, match=r"needs 'sam3d_objects.pipeline.*envs/setup.sh"):
        engine(checkpoints)
    (checkpoints.parents[1] / "notebook").unlink()
    with pytest.raises(MissingPackageError, match="a checkout of the official repository"):
        engine(checkpoints)


def test_an_installed_package_tells_where_its_checkout_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(STAND_IN))
    assert sam3d_official.find_checkout(tmp_path) == STAND_IN


def test_its_log_is_silenced(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    silenced: list[str] = []
    loguru = ModuleType("loguru")
    loguru.logger = type("Logger", (), {"disable": staticmethod(silenced.append)})  # type: ignore[attr-defined]
    loguru.__spec__ = sys.__spec__
    monkeypatch.setitem(sys.modules, "loguru", loguru)
    engine(checkpoints)
    assert silenced == ["sam3d_objects"]


# --- the command line


@pytest.mark.slow
def test_reconstruct_by_the_command_line(
    checkpoints: Path, photo: Photo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(photo.rgb).save(tmp_path / "kitchen.png")
    (tmp_path / "masks").mkdir()
    for source in (CUP, BOWL):
        Image.fromarray(source.mask).save(tmp_path / "masks" / f"{source.phrase}.png")
    monkeypatch.chdir(tmp_path)  # whose sam-3d-objects/checkpoints/hf is the default
    options = ["--masks", "masks", "--objects-engine", "sam3d-objects", "--turntable", "none", "--no-report"]
    monkeypatch.setattr("sys.argv", ["sam3d-gs", "run", "kitchen.png", *options])
    main_code()
    out = capfd.readouterr()
    assert "objects: 2 objects" in out.out, out.err
    made = [read_pt(path) for path in sorted(Workspace(tmp_path, "kitchen").objects_dir.glob("*.pt"))]
    assert [one.engine for one in made] == ["sam3d-objects"] * 2
    assert "Loading the official SAM 3D Objects" in out.err


@pytest.mark.parametrize("more", [("--vram", "8"), ("--depth", "d.npy"), ("--dtype", "fp32"), ("--moge", "m.pt")])
def test_options_of_native_alone(
    photo: Photo, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], more: tuple[str, str]
) -> None:
    monkeypatch.setattr("sys.argv", ["sam3d-gs", "objects", "a.png", "--engine", "sam3d-objects", *more])
    assert main_code() == EXIT_USAGE
    assert f"{more[0]} is for engine 'native' of objects, not 'sam3d-objects'" in capfd.readouterr().err


def main_code() -> int:
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0
