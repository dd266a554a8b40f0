"""run_pipeline.sh --profile full from a photo to a merged .ply: a real vLLM, three environments, tiny networks.

The environments are a stand-in Conda's; each holds a `sam3d-gs` that runs this source with the Python that has its
packages.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from sam3d_gs.sam3d_torch.checkpoints.synthetic import make_checkpoints
from sam3d_gs.workspace import Workspace
from tests.scripts.script_place import FAKES, REPOSITORY
from tests.servers.test_vllm import ARGUMENTS, ENVIRONMENT, PROMPT, model  # noqa: F401  a fixture

pytestmark = pytest.mark.servers

SEARCH_PATH = os.pathsep.join([str(REPOSITORY / "src"), str(REPOSITORY)])


@pytest.fixture(scope="module")
def conda(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """conda.sh of a Conda with the three environments."""
    base = tmp_path_factory.mktemp("conda")
    script = base / "etc" / "profile.d" / "conda.sh"
    script.parent.mkdir(parents=True)
    shutil.copy(FAKES / "conda.sh", script)
    vllm_python = str(ENVIRONMENT / "bin" / "python")
    for name, python in {"vllm": vllm_python, "sam3": vllm_python, "sam3d-objects": sys.executable}.items():
        program(base / "envs" / name / "bin" / "sam3d-gs", f'exec "{python}" -m sam3d_gs "$@"')
    program(base / "envs" / "vllm" / "bin" / "vllm", f'exec "{ENVIRONMENT}/bin/vllm" "$@"')
    return script


@pytest.fixture(scope="module")
def sam3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sam3")
    code = f"from pathlib import Path; from tests.sam3_masks.tiny import save_tiny; save_tiny(Path({str(folder)!r}))"
    environ = {**os.environ, "PYTHONPATH": SEARCH_PATH}
    subprocess.run([ENVIRONMENT / "bin" / "python", "-c", code], env=environ, check=True, timeout=120)
    return folder


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/usr/bin/env bash\n{text}\n")
    path.chmod(0o755)


def run(conda: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("SAM3D_GS_", "CONDA"))}
    environ |= {"CONDA_SH": str(conda), "PYTHONPATH": SEARCH_PATH, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    environ |= {"SAM3D_GS_CHECKED": "1", "SAM3D_GS_VENVS": str(conda.parent / "none")}  # no card here, and no venvs
    command = ["bash", REPOSITORY / "run_pipeline.sh", *map(str, arguments)]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=500, check=False)


def test_one_click_from_photo_to_scene(
    model: Path,  # noqa: F811
    sam3: Path,
    conda: Path,
    tmp_path: Path,
) -> None:
    Image.new("RGB", (96, 64), (210, 30, 30)).save(tmp_path / "kitchen.png")
    (tmp_path / "prompt.md").write_text(PROMPT)
    checkpoints = make_checkpoints(tmp_path / "checkpoints")
    options = ["--profile", "full", "--workspace", tmp_path / "work", "--turntable", "none"]
    options += ["--model", model, "--vllm-args", ARGUMENTS, "--system-prompt", tmp_path / "prompt.md"]
    options += ["--sent-side-px", "96", "--max-tokens", "512", "--thinking-tokens", "64"]
    options += ["--sam3", sam3, "--score-threshold", "0", "--min-area-percent", "0", "--no-border-filter"]
    options += ["--checkpoints", checkpoints, "--preset", "draft", "--steps", "2", "--slat-steps", "1"]
    done = run(conda, tmp_path / "kitchen.png", *options)
    assert done.returncode in (0, 3), done.stderr  # random masks: some are too small for an object
    workspace = Workspace(tmp_path / "work", "kitchen")
    assert [row["text"] for row in json.loads(workspace.phrases_json.read_text())["phrases"]] == ["red ball"]
    stages = json.loads(workspace.manifest.read_text())["stages"]
    assert {name: stages[name]["engine"] for name in ("phrases", "masks", "objects")} == {
        "phrases": "vllm",
        "masks": "sam3",
        "objects": "native",
    }
    scene = json.loads(workspace.scene_json.read_text())
    assert scene["objects"]
    assert workspace.scene_ply.stat().st_size > 1000
    again = run(conda, tmp_path / "kitchen.png", *options)
    assert again.stdout.count("up to date") >= 3
    assert "ready after" not in again.stderr  # no server for what is there
