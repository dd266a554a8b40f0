"""The command line as a user types it, with fake engines behind it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from sam3d_gs.cli import app
from sam3d_gs.engines import registry
from sam3d_gs.errors import EXIT_FAILED, EXIT_PARTIAL, EXIT_STOPPED, EXIT_USAGE
from sam3d_gs.workspace import Workspace
from tests import fakes
from tests.command_line import sam3d_gs

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run `sam3d-gs ARGS` in this process; exit code, stdout, stderr. The embedded engines are fakes."""
    specs = dict(registry.all_specs())
    for stage in ("phrases", "masks", "objects"):
        specs[stage, "embedded"] = replace(specs[stage, "embedded"], target=f"tests.test_cli:make_{stage}")
    monkeypatch.setattr(registry, "all_specs", lambda: specs)
    monkeypatch.chdir(tmp_path)
    FAIL.clear()

    def run(*args: object) -> tuple[int, str, str]:
        quick = ["--turntable", "none", "--no-report"] if args[0] == "run" and "--turntable" not in args else []
        return sam3d_gs(monkeypatch, capfd, *args, *quick)

    return run


FAIL: list[str] = []


def make_phrases(options: object) -> fakes.FakePhrases:
    return fakes.FakePhrases()


def make_masks(options: object) -> fakes.FakeMasks:
    return fakes.FakeMasks()


def make_objects(options: object) -> fakes.FakeObjects:
    return fakes.FakeObjects(fail=FAIL, stop_after=1 if "stop" in FAIL else None)


@pytest.mark.slow
def test_run_makes_everything_and_says_where(cli: Run, picture: Path, tmp_path: Path) -> None:
    code, out, _ = cli("run", picture, "--workspace", tmp_path / "w", "--turntable", "webp")
    assert code == 0
    for line in ("phrases: 2 phrases", "masks: 2 masks kept", "objects: 2 objects", "ply: ", "json: ", "report: "):
        assert line in out
    root = tmp_path / "w" / "sam-3d-objects" / "gaussians"
    assert (root / "multi" / "kitchen.ply").exists()
    scene = json.loads((root / "multi" / "kitchen.json").read_text())
    assert [o["object_id"] for o in scene["objects"]] == ["00-red-cup-0", "01-spoon-0"]
    assert all(o["reprojection_iou"] > 0.5 for o in scene["objects"])
    assert (tmp_path / "w" / "outputs" / "master_with_vllm" / "kitchen" / "report.html").exists()
    code, out, _ = cli("run", picture, "--workspace", tmp_path / "w", "--turntable", "webp")
    assert code == 0
    assert out.count("up to date") == 4


@pytest.mark.slow
def test_partial_and_failed_exit_codes(cli: Run, picture: Path) -> None:
    FAIL.append("01-spoon-0")
    code, out, err = cli("run", picture)
    assert code == EXIT_PARTIAL
    assert "1 objects, 1 failed" in out
    assert "fails on purpose" in err
    FAIL.append("00-red-cup-0")
    code, _, err = cli("run", picture, "--force")
    assert code == EXIT_FAILED
    assert "No object could be reconstructed" in err


@pytest.mark.slow
def test_ctrl_c_says_that_work_is_kept(cli: Run, picture: Path) -> None:
    FAIL.append("stop")
    code, _, err = cli("run", picture)
    assert code == EXIT_STOPPED
    assert "Finished work is kept" in err
    FAIL.clear()
    assert "objects: 2 objects" in cli("run", picture)[1]


@pytest.mark.slow
def test_two_photos_of_one_name_never_mix(cli: Run, picture: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "kitchen.png"
    other.parent.mkdir()
    Image.new("RGB", (64, 48), "blue").save(other)
    assert cli("run", picture, other)[0] == 0
    names = sorted(
        p.name for p in (tmp_path / "outputs" / "master_with_vllm").iterdir() if p.name not in ("masks", ".lock")
    )
    assert names[0] == "kitchen"
    assert names[1].startswith("kitchen-")
    code, out, _ = cli("clean", other)
    assert code == 0
    assert names[1] in out
    assert (tmp_path / "sam-3d-objects" / "gaussians" / "multi" / "kitchen.ply").exists()
    assert not list(tmp_path.rglob(f"{names[1]}*"))
    assert other.exists()


@pytest.mark.slow
def test_one_bad_photo_of_two(cli: Run, picture: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no image")
    code, out, err = cli("run", bad, picture)
    assert code == EXIT_PARTIAL
    assert err.count("Error") == 1
    assert "bad.jpg" in err
    assert "kitchen: scene:" in out
    assert cli("run", bad)[0] == EXIT_FAILED


@pytest.mark.slow
def test_own_phrases_and_own_masks(cli: Run, picture: Path, tmp_path: Path) -> None:
    code, out, _ = cli("run", picture, "--phrases", "red cup", "--phrases", "spoon", "--phrases", "fork")
    assert code == 0
    assert "3 masks kept" in out
    folder = tmp_path / "my masks"
    folder.mkdir()
    mask = np.zeros((48, 64), bool)
    mask[10:30, 10:30] = True
    Image.fromarray(mask).save(folder / "teapot.png")
    code, out, _ = cli("run", picture, "--masks", folder)
    assert code == 0
    assert "1 masks kept" in out
    assert "kitchen: phrases" not in out
    scene = json.loads((tmp_path / "sam-3d-objects" / "gaussians" / "multi" / "kitchen.json").read_text())
    assert [o["phrase"] for o in scene["objects"]] == ["teapot"]


@pytest.mark.slow
def test_stages_one_by_one(cli: Run, picture: Path) -> None:
    for command in ("phrases", "masks", "objects", "scene"):
        code, out, err = cli(command, picture)
        assert code == 0, err
        assert f"kitchen: {command}: " in out
    assert "up to date" in cli("reconstruct", picture)[1]


@pytest.mark.slow
def test_run_takes_some_stages_with_the_options_of_all(cli: Run, picture: Path, tmp_path: Path) -> None:
    """As the scripts call it: one environment after the other, the same options each time."""
    options = ["--phrases", "red box", "--max-objects", "1", "--seed", "4", "--turntable", "none"]
    done: list[str] = []
    for stages in (["phrases"], ["masks"], ["objects", "scene"]):
        code, _, err = cli("run", picture, "--stages", ",".join(stages), *options)
        assert code == 0, err
        done += stages
        assert sorted(json.loads(Workspace(tmp_path, "kitchen").manifest.read_text())["stages"]) == sorted(done)
    manifest = json.loads(Workspace(tmp_path, "kitchen").manifest.read_text())["stages"]
    assert manifest["phrases"]["engine"] == "given"
    assert len(manifest["objects"]["items"]) == 1
    code, out, _ = cli("run", picture, *options)
    assert (code, out.count("up to date")) == (0, 4)


def test_own_masks_are_read_before_the_objects(cli: Run, picture: Path, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    Image.fromarray(np.pad(np.full((24, 24), 255, np.uint8), ((12, 12), (4, 36)))).save(folder / "box.png")
    code, _, err = cli("run", picture, "--stages", "objects", "--masks", folder)
    assert code == 0, err
    assert list(json.loads(Workspace(tmp_path, "kitchen").manifest.read_text())["stages"]) == ["masks", "objects"]
    assert cli("run", picture, "--stages", "phrases", "--masks", folder)[0] == 0  # nothing to look for


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["fly", "x.png"],
        ["run", "x.png", "--profile", "huge"],
        ["run", "x.png", "--stages", "masks,cooking"],
        ["masks", "x.png", "--engine", "nonsense"],
        ["masks", "x.png", "--engine", "given"],
        ["masks", "x.png", "--masks", "folder", "--engine", "embedded"],
        ["run", "x.png", "--turntable", "mp4"],
        ["run", "x.png", "--fov", "500"],
        ["phrases", "x.png", "--phrases", " "],
    ],
)
def test_usage_errors_exit_with_2(cli: Run, picture: Path, arguments: list[str]) -> None:
    code, _, err = cli(*[str(picture) if a == "x.png" else a for a in arguments])
    assert code == EXIT_USAGE
    assert "Traceback" not in err


@pytest.mark.slow
def test_status(cli: Run, picture: Path, tmp_path: Path) -> None:
    assert "No photo" in cli("status")[1]
    assert cli("status", picture)[0] == EXIT_FAILED
    FAIL.append("01-spoon-0")
    cli("run", picture)
    code, out, _ = cli("status", "kitchen")
    assert code == 0
    for text in ("phrases", "partial", "00-red-cup-0", "fails on purpose"):
        assert text in out
    data = json.loads(cli("status", picture, "--json")[1])
    assert [o["status"] for o in data[0]["objects"]] == ["done", "failed"]


@pytest.mark.slow
def test_clean_removes_one_photo_and_nothing_else(cli: Run, picture: Path, tmp_path: Path) -> None:
    other = tmp_path / "kitchen2.png"
    Image.new("RGB", (64, 48), "blue").save(other)
    cli("run", picture, other)
    bystander = tmp_path / "sam-3d-objects" / "gaussians" / "multi" / "kitchen_mine.ply"
    bystander.write_text("not ours")
    before = {p for p in tmp_path.rglob("*") if p.is_file()}
    assert cli("clean", picture, "--dry-run")[0] == 0
    assert {p for p in tmp_path.rglob("*") if p.is_file()} == before
    assert cli("clean", picture)[0] == 0
    gone = before - {p for p in tmp_path.rglob("*") if p.is_file()}
    assert gone
    assert all("kitchen" in str(p) and "kitchen2" not in str(p) for p in gone)
    assert bystander.exists()
    assert picture.exists()
    assert cli("status", "kitchen2")[0] == 0
    for evil in ("..", "../kitchen2", "/", "."):
        assert cli("clean", evil)[0] == EXIT_FAILED


def test_version_and_help() -> None:
    runner = CliRunner()
    assert "sam3d-gs 0." in runner.invoke(app, ["--version"]).output
    assert runner.invoke(app, ["-h"]).exit_code == 0


@pytest.mark.slow
def test_nothing_but_results_on_stdout(cli: Run, picture: Path) -> None:
    _, out, err = cli("-q", "run", picture)
    assert all(line.startswith("kitchen: ") for line in out.splitlines())
    assert err == ""
