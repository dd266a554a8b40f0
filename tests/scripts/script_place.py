"""A copy of the scripts with fake programs on the PATH instead of the real Conda, Python, pip, uv and sam3d-gs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
FAKES = Path(__file__).parent / "fakes"
STAGE_ENVIRONMENTS = ("vllm", "sam3", "sam3d-objects")
# All external programs that the scripts may call.
TOOLS = [
    *("bash", "cat", "chmod", "cp", "dirname", "env", "find", "flock", "grep", "head", "ln", "mkdir", "mktemp", "mv"),
    *("printf", "readlink", "rm", "sed", "sleep", "tail", "touch", "tr", "xargs"),
]


@dataclass
class Call:
    """One recorded call of a fake program."""

    program: str
    argv: list[str]
    cwd: Path
    environment: dict[str, str]

    @property
    def stages(self) -> str:
        """STAGES in `sam3d-gs run --stages STAGES --profile PROFILE --workspace DIR OPTIONS`."""
        assert self.argv[:2] == ["run", "--stages"]
        return self.argv[2]

    @property
    def options(self) -> list[str]:
        """OPTIONS, the arguments of the script."""
        assert self.argv[3::2][:2] == ["--profile", "--workspace"]
        return self.argv[7:]


@dataclass
class Place:
    """A copy of the repository's scripts, run with only fakes and TOOLS on the PATH."""

    root: Path  # the copy of the repository
    base: Path  # the test's folder
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def tools(self) -> Path:
        return self.base / "tools"

    @property
    def conda_base(self) -> Path:
        return self.base / "my conda"

    @property
    def conda_sh(self) -> Path:
        return self.conda_base / "etc" / "profile.d" / "conda.sh"

    def add_conda(self, *names: str) -> None:
        self.conda_sh.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(FAKES / "conda.sh", self.conda_sh)
        for name in names:
            self.add_venv(self.conda_base / "envs" / name)

    def add_venv(self, folder: Path, program: bool = True) -> None:
        (folder / "bin").mkdir(parents=True)
        executable(FAKES / "python", folder / "bin" / "python")
        if program:
            executable(FAKES / "sam3d-gs", folder / "bin" / "sam3d-gs")

    def add_python(self, name: str) -> None:
        """Add a fake Python to the PATH; its version is that in `name`."""
        executable(FAKES / "python", self.tools / name)

    def give_order(self, name: str, text: str = "") -> None:
        """Write an order for the fakes, e.g. give_order("exit-masks", "3")."""
        (self.base / "orders").mkdir(exist_ok=True)
        (self.base / "orders" / name).write_text(text, encoding="utf-8")

    def cancel_order(self, name: str) -> None:
        (self.base / "orders" / name).unlink()

    def environ(self, **more: str) -> dict[str, str]:
        return {
            "PATH": str(self.tools),
            "HOME": str(self.base / "home"),
            "LC_ALL": "C.UTF-8",
            "FAKE": str(self.base),
            "FAKE_RECORD": str(FAKES / "record.sh"),
            **self.settings,
            **more,
        }

    def run(
        self,
        script: str,
        *arguments: str,
        cwd: Path | None = None,
        environ: Mapping[str, str] | None = None,
        **more: str,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.tools / "bash"), str(self.root / script), *arguments],
            cwd=self.base,
            env=environ or self.environ(**more),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=90,
            check=False,
        )

    def calls(self, program: str | None = "sam3d-gs") -> list[Call]:
        """The recorded calls of the fakes, oldest first; None: of all programs."""
        calls = []
        for path in sorted((self.base / "calls").glob("*"), key=lambda path: int(path.name)):
            fields = path.read_bytes().decode("utf-8").split("\0")
            name, cwd, count = fields[:3]
            argv = fields[3 : 3 + int(count)]
            environment = dict(pair.split("=", 1) for pair in fields[3 + int(count) :] if "=" in pair)
            calls.append(Call(name, argv, Path(cwd), environment))
        return [call for call in calls if program in (None, call.program)]

    def pip_calls(self) -> list[str]:
        return [" ".join(call.argv) for call in self.calls(None) if call.program in ("pip", "uv")]


def executable(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)
    target.chmod(0o755)


def process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
