"""A machine for the full profile: three environments of a stand-in Conda, and a hub with tiny networks.

Each environment has a Python with the packages of its stage, and a `sam3d-gs` that runs this source with it. The
weights come from the hub to where the program expects them, as an owner's do.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

from synthetic.checkpoints import make_checkpoints
from tests.hub import GOOD_TOKEN, FakeHub
from tests.scripts.script_place import FAKES, REPOSITORY
from tests.servers.real_vllm import ARGUMENTS, ENVIRONMENT, SMALL, prompt_file

SEARCH_PATH = os.pathsep.join([str(REPOSITORY / "src"), str(REPOSITORY)])
PYTHONS = {
    "vllm": ENVIRONMENT / "bin" / "python",
    "sam3": ENVIRONMENT / "bin" / "python",
    "sam3d-objects": sys.executable,
}


@dataclass
class Machine:
    """A machine with the three environments, and its settings."""

    base: Path
    hub: FakeHub
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def workspace(self) -> Path:
        return self.base / "my work"

    def environ(self) -> dict[str, str]:
        theirs = ("SAM3D_GS_", "CONDA", "MAMBA", "HF_", "HUGGING")
        own = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
        own |= {"CONDA_SH": str(self.base / "etc" / "profile.d" / "conda.sh"), "HF_HOME": str(self.base / "hf")}
        own |= {"SAM3D_GS_VENVS": str(self.base / "no venvs"), "SAM3D_GS_WORKSPACE": str(self.workspace)}
        return own | {"PYTHONPATH": SEARCH_PATH, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"} | self.settings

    def online(self) -> Machine:
        """With a network and a token."""
        own = {"HF_ENDPOINT": self.hub.endpoint, "HF_TOKEN": GOOD_TOKEN, "HF_HUB_OFFLINE": "0"}
        return replace(self, settings=self.settings | own)

    def start(self, *command: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(part) for part in command],
            env=self.environ(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # as a terminal's foreground job: Ctrl-C reaches all of it
        )

    def run(self, *command: object) -> subprocess.CompletedProcess[str]:
        process = self.start(*command)
        out, err = process.communicate(timeout=500)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def sam3d_gs(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return self.run(self.base / "envs" / "sam3d-objects" / "bin" / "sam3d-gs", *arguments)

    def pipeline(self, picture: Path, *options: object) -> list[object]:
        """The one click, with what keeps it small."""
        small: list[object] = ["--turntable", "none", "--vllm-args", ARGUMENTS, *SMALL]
        small += ["--system-prompt", prompt_file(self.base), "--preset", "draft", "--steps", "2", "--slat-steps", "1"]
        small += ["--score-threshold", "0", "--min-area-percent", "0", "--no-border-filter"]  # masks are random
        return ["bash", REPOSITORY / "run_pipeline.sh", picture, "--profile", "full", *small, *options]


def make_environments(base: Path) -> None:
    script = base / "etc" / "profile.d" / "conda.sh"
    script.parent.mkdir(parents=True)
    shutil.copy(FAKES / "conda.sh", script)
    for name, python in PYTHONS.items():
        _program(base / "envs" / name / "bin" / "python", f'exec "{python}" "$@"')
        _program(base / "envs" / name / "bin" / "sam3d-gs", f'exec "{python}" -m sam3d_gs "$@"')
    _program(base / "envs" / "vllm" / "bin" / "vllm", f'exec "{ENVIRONMENT}/bin/vllm" "$@"')


def full_hub(scratch: Path, language_model: Path) -> FakeHub:
    """With all weights of the profile under the names of the real ones; access to the gated ones is granted."""
    objects = make_checkpoints(scratch / "objects")
    repositories = {
        "Qwen/Qwen3-VL-8B-Thinking": _files(language_model),
        "facebook/sam3": _files(_tiny_sam3(scratch / "sam3")),
        "facebook/sam-3d-objects": {f"checkpoints/{name}": data for name, data in _files(objects).items()},
        "Ruicheng/moge-vitl": _files(objects / "moge-vitl"),
    }
    return FakeHub(repositories, dict.fromkeys(("facebook/sam3", "facebook/sam-3d-objects"), "granted"))


def _program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/usr/bin/env bash\n{text}\n")
    path.chmod(0o755)


def _tiny_sam3(folder: Path) -> Path:
    code = f"from pathlib import Path; from tests.sam3_networks.tiny import save_tiny; save_tiny(Path({str(folder)!r}))"
    environ = {**os.environ, "PYTHONPATH": SEARCH_PATH}
    subprocess.run([ENVIRONMENT / "bin" / "python", "-c", code], env=environ, check=True, timeout=120)
    return folder


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
