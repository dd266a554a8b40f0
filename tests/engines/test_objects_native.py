"""The native objects engine behind the command line, with a tiny checkpoint in the official layout."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sam3d_gs.engines.api import FailedObject
from sam3d_gs.engines.objects_native import NativeObjects
from sam3d_gs.errors import EXIT_FAILED, EXIT_PARTIAL, EXIT_STOPPED, EXIT_USAGE, BadInputError
from sam3d_gs.gaussians import pt
from sam3d_gs.gaussians.pt import read_pt
from sam3d_gs.options import NativeOptions
from sam3d_gs.photo import load_photo
from sam3d_gs.sam3d_torch import pose
from sam3d_gs.sam3d_torch.runtime import object_seed
from sam3d_gs.types import InstanceMask, Photo, PlacedObject
from sam3d_gs.workspace import Workspace
from synthetic.checkpoints import make_checkpoints
from tests.command_line import sam3d_gs

Run = Callable[..., tuple[int, str, str]]
FAST = ("--preset", "draft", "--steps", "2", "--slat-steps", "1")


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoints(tmp_path_factory.mktemp("checkpoints") / "hf")


@pytest.fixture
def masks(tmp_path: Path, picture: Path) -> Path:
    """Own masks of the two squares in `picture`, 64 x 48 px."""
    folder = tmp_path / "masks"
    save_mask(folder / "red-box.png", slice(12, 36), slice(4, 28))
    save_mask(folder / "blue-box.png", slice(12, 36), slice(36, 60))
    return folder


def save_mask(path: Path, rows: slice, columns: slice, shape: tuple[int, int] = (48, 64)) -> None:
    path.parent.mkdir(exist_ok=True)
    mask = np.zeros(shape, np.uint8)
    mask[rows, columns] = 255
    Image.fromarray(mask).save(path)


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path, checkpoints: Path) -> Run:
    """Run `sam3d-gs ARGS` with the tiny checkpoint in a workspace of its own; exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*args: object) -> tuple[int, str, str]:
        return sam3d_gs(monkeypatch, capfd, *args)

    return run


@pytest.fixture
def lift(cli: Run, checkpoints: Path) -> Run:
    """`lift(photo, masks, *options)`: the masks stage with own masks, then a quick objects stage."""

    def run(photo: Path, masks: Path, *more: object) -> tuple[int, str, str]:
        assert cli("masks", photo, "--masks", masks)[0] == 0
        return cli("objects", photo, "--engine", "native", "--checkpoints", checkpoints, *FAST, *more)

    return run


def objects_of(tmp_path: Path, name: str = "kitchen") -> dict[str, PlacedObject]:
    folder = Workspace(tmp_path, name).objects_dir
    return {path.stem: read_pt(path) for path in sorted(folder.glob("*.pt"))}


@pytest.mark.slow
def test_run_makes_objects_and_their_scene(
    cli: Run, picture: Path, masks: Path, checkpoints: Path, tmp_path: Path
) -> None:
    chosen = ("--masks", masks, "--objects-engine", "native", "--checkpoints", checkpoints)
    code, out, err = cli("run", picture, *chosen, *FAST, "--turntable", "none", "--no-report", "--seed", 3)
    assert code == 0, err
    assert "objects: 2 objects" in out
    objects = objects_of(tmp_path)
    assert len(objects) == 2
    for object_id, made in objects.items():
        assert made.engine == "native"
        assert made.seed == object_seed(3, object_id)
        assert made.scale_source == "arbitrary (MoGe)"
        assert made.image_size == (64, 48)
        np.testing.assert_allclose(made.K[:2, 2], [32, 24])
        assert made.versions.keys() == {"sam3d_gs", "torch", "dtype", "preset"}
        assert made.versions["preset"] == "draft"
    manifest = json.loads(Workspace(tmp_path, "kitchen").manifest.read_text())["stages"]["objects"]
    assert manifest["licences"] == {"SAM 3D Objects weights": "SAM License", "MoGe weights": "MIT"}
    scene = json.loads(Workspace(tmp_path, "kitchen").scene_json.read_text())
    assert [item["gaussians"] for item in scene["objects"]] == [len(made.gaussians) for made in objects.values()]
    assert scene["units"] == "arbitrary"


@pytest.mark.slow
def test_a_stopped_run_goes_on_with_the_missing_objects(
    lift: Run, picture: Path, masks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = pt.write_pt
    written: list[Path] = []

    def stop_at_the_second(path: Path, obj: PlacedObject) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(path)
        write(path, obj)

    with monkeypatch.context() as patch:
        patch.setattr(pt, "write_pt", stop_at_the_second)
        assert lift(picture, masks)[0] == EXIT_STOPPED
    assert len(objects_of(tmp_path)) == 1
    stamp = written[0].stat().st_mtime_ns
    # Less memory and another device name do not change what comes out, so what is there stays.
    code, out, _ = lift(picture, masks, "--vram", "0.5", "--device", "cpu")
    assert code == 0
    assert "objects: 2 objects" in out
    assert written[0].stat().st_mtime_ns == stamp
    assert len(objects_of(tmp_path)) == 2
    code, out, _ = lift(picture, masks)
    assert "objects: up to date" in out


@pytest.mark.slow
def test_other_checkpoints_make_the_objects_again(
    lift: Run, picture: Path, masks: Path, checkpoints: Path, tmp_path: Path
) -> None:
    def summary(folder: Path) -> str:
        code, out, err = lift(picture, masks, "--checkpoints", folder)
        assert code == 0, err
        return out.splitlines()[-1]

    assert "objects: 2 objects" in summary(checkpoints)
    moved = Path(shutil.copytree(checkpoints, tmp_path / "moved"))
    assert "up to date" in summary(moved)
    yaml = moved / "pipeline.yaml"
    yaml.write_text(yaml.read_text().replace("ss_rescale_t: 3.0", "ss_rescale_t: 2.0"))
    assert "objects: 2 objects" in summary(moved)
    assert "up to date" in summary(moved)
    # Other numbers in a file of the same size.
    shutil.copy(make_checkpoints(tmp_path / "others", seed=1) / "ss_decoder.ckpt", moved)
    assert "objects: 2 objects" in summary(moved)


@pytest.mark.slow
def test_the_object_stands_where_its_depth_is(
    checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tilted plane, a camera whose centre is off: where the networks say "no offset", the object is on the mask."""
    fx, fy, cx, cy = 95.0, 105.0, 42.0, 40.0
    u_px, v_px = np.meshgrid(np.arange(100) + 0.5, np.arange(75) + 0.5)
    depth_m = 1 / (0.3 + 0.0016 * (u_px - 50) - 0.0024 * (v_px - 37))
    np.save(tmp_path / "depth.npy", depth_m)
    mask = np.zeros((75, 100), bool)
    mask[10:25, 62:83] = True
    decoded = pose.decode

    def centred(latents: dict[str, torch.Tensor], *normalisation: Any) -> pose.Sam3dPose:
        still = torch.zeros_like(latents["translation"])
        return decoded({**latents, "translation": still}, *normalisation)

    monkeypatch.setattr(pose, "decode", centred)
    options = NativeOptions(
        "native",
        checkpoints=checkpoints,
        depth=tmp_path / "depth.npy",
        intrinsics=f"{fx},{fy},{cx},{cy}",
        steps=1,
        slat_steps=1,
    )
    photo = Photo(Path("plane.png"), "plane", np.full((75, 100, 3), 128, np.uint8), "0")
    (made,) = NativeObjects(options).objects(photo, [InstanceMask("00-a-0", "a", mask, 1.0)], ["00-a-0"])
    assert isinstance(made, PlacedObject)
    x, y, z = made.pose.translation
    assert z == pytest.approx(np.median(depth_m[mask]), rel=1e-3)
    assert fx * x / z + cx == pytest.approx(u_px[mask].mean(), abs=0.5)
    assert fy * y / z + cy == pytest.approx(v_px[mask].mean(), abs=0.5)


@pytest.mark.slow
def test_a_missing_package_names_what_brings_it(
    cli: Run, picture: Path, masks: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_yaml(module: str) -> None:
        raise ModuleNotFoundError("No module named 'yaml'", name="yaml")

    assert cli("masks", picture, "--masks", masks)[0] == 0
    monkeypatch.setattr("sam3d_gs.engines.registry.import_module", no_yaml)
    code, _, err = cli("objects", picture, "--engine", "native", "--checkpoints", checkpoints)
    assert code == EXIT_FAILED
    assert "'yaml', which is not installed in this environment. Run `pip install 'sam3d_gs[native]'`.\n" in err


@pytest.mark.slow
def test_a_bad_mask_fails_alone(lift: Run, picture: Path, masks: Path, tmp_path: Path) -> None:
    save_mask(masks / "line.png", slice(2, 3), slice(2, 40))
    code, out, err = lift(picture, masks)
    assert code == EXIT_PARTIAL
    assert "2 objects, 1 failed" in out
    assert "line" in err
    assert "Its mask spans only 38 x 1 px" in err
    assert len(objects_of(tmp_path)) == 2


@pytest.mark.slow
@pytest.mark.parametrize("size", [(200, 150), (3000, 1200)])
def test_small_and_large_photos(lift: Run, tmp_path: Path, size: tuple[int, int]) -> None:
    width, height = size
    photo = tmp_path / "photo.png"
    ramp = np.linspace(0, 255, width).astype(np.uint8)
    Image.fromarray(np.broadcast_to(ramp[None, :, None], (height, width, 3)).copy()).save(photo, compress_level=0)
    rows, columns = slice(height // 4, height // 2), slice(width // 3, width // 2)
    save_mask(tmp_path / "masks" / "thing.png", rows, columns, (height, width))
    code, _, err = lift(photo, tmp_path / "masks")
    assert code == 0, err
    (made,) = objects_of(tmp_path, "photo").values()
    assert made.image_size == size
    np.testing.assert_allclose(made.K[:2, 2], [width / 2, height / 2])


@pytest.mark.slow
def test_own_depth_makes_the_scene_metric(
    lift: Run, picture: Path, masks: Path, checkpoints: Path, tmp_path: Path
) -> None:
    without_moge = tmp_path / "no-moge"
    shutil.copytree(checkpoints, without_moge, ignore=shutil.ignore_patterns("moge*"))
    np.save(tmp_path / "depth.npy", np.full((24, 32), 2.5, np.float32))  # half the photo's size
    chosen = ("--checkpoints", without_moge, "--depth", tmp_path / "depth.npy")
    code, _, err = lift(picture, masks, *chosen, "--intrinsics", "50,60,31,25")
    assert code == 0, err
    first = objects_of(tmp_path)
    for made in first.values():
        np.testing.assert_array_equal(made.K, [[50, 0, 31], [0, 60, 25], [0, 0, 1]])
        assert made.scale_source == "metric: depth from depth.npy"
    # The file is part of the question: another depth, other objects.
    np.save(tmp_path / "depth.npy", np.full((24, 32), 5.0, np.float32))
    code, _, err = lift(picture, masks, *chosen, "--fov", "90")
    assert code == 0
    assert "no focal length in EXIF and no --intrinsics" in err
    for object_id, made in objects_of(tmp_path).items():
        assert made.K[0, 0] == pytest.approx(32)
        assert made.pose.translation[2] > first[object_id].pose.translation[2]


@pytest.mark.slow
def test_the_unit_and_the_camera_of_other_programs(lift: Run, picture: Path, masks: Path, tmp_path: Path) -> None:
    """TUM's 5000 per metre with 65535 for none, and ROS's calibration at twice the photo's size."""
    depth = np.full((48, 64), 1.5 * 5000, np.uint16)
    depth[:10] = 65535
    Image.fromarray(depth).save(tmp_path / "depth.png")
    (tmp_path / "ros.yaml").write_text(
        "image_width: 128\nimage_height: 96\n"
        "camera_matrix: {rows: 3, cols: 3, data: [100, 0, 62, 0, 120, 50, 0, 0, 1]}\n"
    )
    given = ("--depth", tmp_path / "depth.png", "--intrinsics", tmp_path / "ros.yaml")
    code, _, err = lift(picture, masks, *given)
    assert code == 0, err
    assert "median depth is 7.5 m if the unit is millimetres" in err
    assumed = objects_of(tmp_path)
    code, _, err = lift(picture, masks, *given, "--depth-unit", "5000")
    assert code == 0, err
    assert "depth.png: depth in 1/5000 m, 1.5 to 1.5 m" in err
    assert "unusual" not in err
    for object_id, made in objects_of(tmp_path).items():
        assert made.scale_source == "metric: depth from depth.png, in 1/5000 m"
        np.testing.assert_allclose(made.K, [[50, 0, 31], [0, 60, 25], [0, 0, 1]])
        assert assumed[object_id].scale_source == "metric: depth from depth.png, in millimetres"
        assert assumed[object_id].pose.translation[2] == pytest.approx(5 * made.pose.translation[2], rel=1e-3)


@pytest.mark.slow
def test_intrinsics_speak_of_the_photos_file(checkpoints: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "depth.npy", np.ones((48, 64), np.float32))
    options = NativeOptions(
        "native", checkpoints=checkpoints, depth=tmp_path / "depth.npy", intrinsics="500,600,310,250"
    )
    scaled = Photo(Path("large.jpg"), "large", np.zeros((48, 64, 3), np.uint8), "0", file_size=(640, 480))
    geometry = NativeObjects(options)._geometry(scaled)
    np.testing.assert_allclose(geometry.K, [[50, 0, 31], [0, 60, 25], [0, 0, 1]])
    small = replace(scaled, file_size=None)
    with pytest.raises(BadInputError, match=r"principal point \(310, 250\) lies outside large.jpg, 64 x 48 px"):
        NativeObjects(options)._geometry(small)


@pytest.mark.slow
def test_depth_and_camera_of_the_sensor_turn_with_the_photo(checkpoints: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(tmp_path / "p.jpg", exif=exif)
    depth = np.ones((48, 64), np.float32)
    depth[0, 0] = 2
    np.save(tmp_path / "depth.npy", depth)
    camera = {"fx": 50, "fy": 60, "cx": 31, "cy": 25, "width": 64, "height": 48}
    (tmp_path / "k.json").write_text(json.dumps(camera))
    options = NativeOptions(
        "native", checkpoints=checkpoints, depth=tmp_path / "depth.npy", intrinsics=str(tmp_path / "k.json")
    )
    geometry = NativeObjects(options)._geometry(load_photo(tmp_path / "p.jpg"))
    assert geometry.pointmap.shape == (64, 48, 3)
    assert geometry.pointmap[0, 47, 2] == 2  # the first pixel of the sensor is now at the top right
    np.testing.assert_allclose(geometry.K, [[60, 0, 23], [0, 50, 31], [0, 0, 1]])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("depth", "reason"),
    [
        (None, "No such file for --depth"),
        (np.zeros((48, 64), np.float32), "no valid depth"),
        (np.ones((64, 48), np.float32), "their shapes differ"),
        (np.ones((48, 64, 3), np.float32), "expected one number per pixel"),
        (np.full((48, 64), 1500.0, np.float32), "Try --depth-unit mm (1.5 m)"),
    ],
)
def test_unusable_depth_is_one_line(
    lift: Run, picture: Path, masks: Path, tmp_path: Path, depth: np.ndarray | None, reason: str
) -> None:
    if depth is not None:
        np.save(tmp_path / "depth.npy", depth)
    code, _, err = lift(picture, masks, "--depth", tmp_path / "depth.npy")
    assert code == EXIT_FAILED
    assert reason in err
    assert str(tmp_path / "depth.npy") in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_depth_missing_where_the_objects_are(lift: Run, picture: Path, masks: Path, tmp_path: Path) -> None:
    depth = np.full((48, 64), 2.0, np.float32)
    depth[:, 32:] = np.nan
    np.save(tmp_path / "depth.npy", depth)
    code, out, err = lift(picture, masks, "--depth", tmp_path / "depth.npy")
    assert code == EXIT_PARTIAL
    assert "1 objects, 1 failed" in out
    assert "no valid depth inside its mask" in err


def break_yaml(folder: Path) -> None:
    (folder / "pipeline.yaml").unlink()


def cut_off(folder: Path) -> None:
    path = folder / "slat_generator.ckpt"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def lose_moge(folder: Path) -> None:
    shutil.rmtree(folder / "moge-vitl")


def lose_decoder(folder: Path) -> None:
    (folder / "ss_decoder.ckpt").unlink()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "named"),
    [(break_yaml, "pipeline.yaml"), (cut_off, "slat_generator"), (lose_moge, "--moge"), (lose_decoder, "ss_decoder")],
)
def test_a_damaged_checkpoint_is_one_line_before_any_work(
    lift: Run,
    picture: Path,
    masks: Path,
    checkpoints: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Path], None],
    named: str,
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "no-cache"))
    folder = tmp_path / "weights" / "hf"
    shutil.copytree(checkpoints, folder)
    damage(folder)
    with pytest.raises(BadInputError):
        NativeObjects(NativeOptions(checkpoints=folder))
    code, _, err = lift(picture, masks, "--checkpoints", folder)
    assert code == EXIT_FAILED
    assert named in err.strip().splitlines()[-1]
    assert "Traceback" not in err


@pytest.mark.slow
def test_checkpoints_are_found_in_the_workspace(
    cli: Run, picture: Path, masks: Path, checkpoints: Path, tmp_path: Path
) -> None:
    shutil.copytree(checkpoints, tmp_path / "w" / NativeOptions.checkpoints)
    assert cli("masks", picture, "--masks", masks, "-w", tmp_path / "w")[0] == 0
    code, _, err = cli("objects", picture, "--engine", "native", *FAST, "-w", tmp_path / "w")
    assert code == 0, err


@pytest.mark.slow
def test_an_object_does_not_depend_on_what_else_is_wanted(checkpoints: Path) -> None:
    options = NativeOptions(checkpoints=checkpoints, preset="draft", steps=2, slat_steps=1)
    engine = NativeObjects(options)
    rgb = np.random.default_rng(1).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    photo = Photo(Path("kitchen.png"), "kitchen", rgb, "0")
    y, x = np.mgrid[:40, :60]
    found = [InstanceMask(f"0{i}-disc-0", "disc", np.hypot(x - 15 * (i + 1), y - 20) < 8, 0.7) for i in range(3)]
    found[2] = InstanceMask("02-disc-0", "disc", np.zeros((40, 60), bool), 0.7)
    made = {result.object_id: result for result in engine.objects(photo, found, [m.object_id for m in found])}
    assert isinstance(made["02-disc-0"], FailedObject)
    (alone,) = engine.objects(photo, found, ["01-disc-0"])
    engine.close()
    together = made["01-disc-0"]
    assert isinstance(alone, PlacedObject) and isinstance(together, PlacedObject)
    np.testing.assert_array_equal(alone.gaussians.means, together.gaussians.means)
    np.testing.assert_array_equal(alone.pose.translation, together.pose.translation)
    assert alone.scores == {"mask": 0.7}
    assert not list(engine.objects(photo, found, []))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (("--engine", "embedded", "--steps", "3"), "--steps is for engine 'native'"),
        (("--engine", "native", "--pitch", "30"), "--pitch is for engine 'embedded' of objects, not 'native'"),
        (("--engine", "native", "--intrinsics", "1,1,1,1"), "--intrinsics needs --depth"),
        (("--engine", "native", "--depth", "d.npy", "--moge", "m.pt"), "--depth replaces MoGe"),
        (("--engine", "native", "--gaussians-per-voxel", "8"), "Expected 4 or 32"),
        (("--engine", "native", "--preset", "best"), "Expected normal or draft or quality"),
        (("--engine", "native", "--device", "tpu"), "Expected auto or cuda or cpu or mps"),
        (("--engine", "native", "--dtype", "int8"), "Expected auto or fp16 or bf16 or fp32"),
        (("--engine", "native", "--depth-unit", "mm"), "--depth-unit needs --depth"),
        (("--engine", "native", "--depth", "d.npy", "--depth-unit", "0.001"), "Then give 1000."),
        (("other.png", "--engine", "native", "--depth", "d.npy"), "--depth is for one photo, but 2 are given"),
    ],
)
def test_wrong_usage(cli: Run, picture: Path, more: tuple[str, ...], reason: str) -> None:
    code, _, err = cli("objects", picture, *more)
    assert code == EXIT_USAGE
    assert reason in err
