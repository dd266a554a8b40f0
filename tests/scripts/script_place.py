"""The scripts in a folder of their own, among fake programs: no real Conda, Python, pip, uv or sam3d-gs is in reach."""

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
# Everything the scripts may call besides bash's own commands.
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
        """Of `sam3d-gs run --stages STAGES --profile PROFILE --workspace DIR ...`."""
        assert self.argv[:2] == ["run", "--stages"]
        return self.argv[2]

    @property
    def options(self) -> list[str]:
        """What the caller of the script gave."""
        assert self.argv[3::2][:2] == ["--profile", "--workspace"]
        return self.argv[7:]


@dataclass
class Place:
    """A copy of the repository's scripts with a PATH that holds only fakes and a few tools."""

    root: Path  # the repository's copy
    base: Path  # everything of the test
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
        """A fake Python on the PATH; `name` says its version."""
        executable(FAKES / "python", self.tools / name)

    def make(self, name: str, text: str = "") -> None:
        """Tell the fakes something, e.g. make("exit-masks", "3")."""
        (self.base / "orders").mkdir(exist_ok=True)
        (self.base / "orders" / name).write_text(text, encoding="utf-8")

    def unmake(self, name: str) -> None:
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
        """What the fakes recorded, oldest first."""
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


def process_is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
