"""The examples run as they stand, and the example engine works once it is installed."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small photo in a folder of its own: a red box and a blue ball on a grey floor."""
    image = Image.new("RGB", (240, 180), (205, 203, 198))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 120, 240, 180), fill=(150, 146, 140))
    draw.rectangle((40, 70, 100, 140), fill=(200, 40, 30))
    draw.ellipse((140, 80, 200, 140), fill=(30, 60, 200))
    path = tmp_path_factory.mktemp("photos") / "desk.png"
    noise = np.random.default_rng(0).normal(0, 4, (180, 240, 3))
    Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a Python file in this process, which has torch already, in an empty folder; what it printed."""

    def run_file(path: Path, *arguments: object) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", [str(path), *map(str, arguments)])
        runpy.run_path(str(path), run_name="__main__")
        return capsys.readouterr().out

    return run_file


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "result"),
    [
        ("01_one_photo.py", "scene.ply"),
        ("02_own_masks.py", "boxes.ply"),
        ("03_own_engine.py", "bright.ply"),
        ("04_edit_pose.py", "edited.ply"),
    ],
)
def test_a_script(run: Callable[..., str], photo: Path, tmp_path: Path, script: str, result: str) -> None:
    assert run(EXAMPLES / script, photo, tmp_path)
    assert (tmp_path / result).stat().st_size > 10_000
    assert json.loads((tmp_path / f"{result}.json").read_text())["objects"]


@pytest.mark.slow
def test_a_folder_of_photos(run: Callable[..., str], photo: Path, tmp_path: Path) -> None:
    (photo.parent / "broken.jpg").write_bytes(b"no photo")
    text = run(EXAMPLES / "05_folder_of_photos.py", photo.parent, tmp_path / "out")
    assert "broken.jpg is not an image" in text
    assert "desk.png: <Scene of desk:" in text and "report.html" in text


@pytest.mark.slow
def test_the_notebook(run: Callable[..., str], photo: Path, tmp_path: Path) -> None:
    """Its cells as a script, and the picture that a notebook would show."""
    cells = json.loads((EXAMPLES / "notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    (tmp_path / "assets").mkdir()
    Image.open(photo).convert("RGB").save(tmp_path / "assets" / "sample.jpg")
    shown = "\nassert scene._repr_png_().startswith(b'\\x89PNG')\n"
    (tmp_path / "cells.py").write_text("\n".join(code) + shown, encoding="utf-8")
    assert "few.ply" in run(tmp_path / "cells.py")


def _run(*command: object, cwd: Path, paths: tuple[Path, ...] = ()) -> str:
    python_path = os.pathsep.join(map(str, (*paths, ROOT / "src")))
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": python_path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_example_engine_works_once_it_is_installed(photo: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    source = tmp_path / "example_engine"
    _copy(EXAMPLES / "example_engine", source)
    pip = ("-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet")
    _run(*pip, "--no-deps", "--no-build-isolation", "--target", site, source, cwd=tmp_path)
    program = ("-m", "sam3d_gs")
    assert "--brightness" in _run(*program, "masks", "--help", cwd=tmp_path, paths=(site,))
    command = ("masks", photo, "--engine", "brightest", "--phrases", "wall", "--brightness", 0.72, "-w", tmp_path / "w")
    assert "1 masks kept" in _run(*program, *command, cwd=tmp_path, paths=(site,))
    manifest = json.loads((tmp_path / "w/outputs/master_with_vllm/desk/manifest.json").read_text())
    assert manifest["stages"]["masks"]["options"] == {"brightness": 0.72}
    listed = _run(
        "-c", "import sam3d_gs as sg; print(*[s.name for s in sg.list_engines('masks')])", cwd=tmp_path, paths=(site,)
    )
    assert "brightest" in listed.split()
    checked = ("run", photo, "--masks-engine", "brightest", "--phrases", "wall", "--check", "-w", tmp_path / "w")
    _run(*program, *checked, cwd=tmp_path, paths=(site,))


def _copy(source: Path, target: Path) -> None:
    for path in source.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts and not path.name.endswith(".pyc"):
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
