"""Which Python environment a stage runs in and which packages it has, found with the rules of envs/activate.sh."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sam3d_gs.engines.spec import EngineSpec

_TIMEOUT_S = 30.0
EMBEDDED = ".venv"

# Stage -> the variable that names its environment in the full profile, and the default name.
STAGE_ENVIRONMENTS = {
    "phrases": ("SAM3D_GS_ENV_VLLM", "vllm"),
    "masks": ("SAM3D_GS_ENV_SAM3", "sam3"),
    "objects": ("SAM3D_GS_ENV_SAM3D", "sam3d-objects"),
}

# Run inside the environment; imports only the standard library, to be fast.
_PROBE = """
import importlib.metadata as m, importlib.util as u, json, sys
named = m.packages_distributions()
def version(name):
    if u.find_spec(name) is None: return None
    try: return m.version(named.get(name, [name])[0])
    except m.PackageNotFoundError: return ""
print(json.dumps({"python": sys.version.split()[0], "prefix": sys.prefix,
                  "packages": {name: version(name) for name in sys.argv[1:]}}))
"""
_CUDA_PROBE = """
import torch
built, usable = torch.version.cuda, torch.cuda.is_available()
print(f"CUDA {built}, {'usable' if usable else 'not usable here'}" if built else "built without CUDA")
"""
_IN_ENVIRONMENT = """
source "$1/envs/activate.sh"
problem=$(env_problem "$2")
if [[ -n $problem ]]; then printf '%s\\n' "$problem" >&2; exit 1; fi
run_in_env "${@:2}"
"""


@dataclass(frozen=True)
class Environment:
    """One environment, as reported by its own Python."""

    name: str
    prefix: str = ""
    python: str = ""
    packages: Mapping[str, str | None] = field(default_factory=dict)  # module -> version; None: not installed
    cuda: str = ""  # torch's CUDA, e.g. "CUDA 13.0, usable"; empty: not checked
    problem: str = ""  # why it cannot be used

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(name for name, version in self.packages.items() if version is None)


def repository_root() -> Path | None:
    """The clone that this package runs from; None if it was installed without one."""
    root = Path(__file__).resolve().parents[3]
    return root if (root / "envs" / "activate.sh").is_file() else None


def environment_of(spec: EngineSpec, profile: str = "full") -> str:
    """The name of the environment that the scripts run an engine in."""
    if profile == "embedded" or spec.environment == "embedded":
        return EMBEDDED
    variable, default = STAGE_ENVIRONMENTS[spec.stage]
    return os.environ.get(variable) or default


def probe(name: str, modules: Sequence[str], root: Path | None, cuda_too: bool = False) -> Environment:
    """The Python and package versions of environment `name`; of this Python if there is no clone or no .venv in it."""
    here = root is None or (name == EMBEDDED and not (root / EMBEDDED).exists())
    name = "this Python" if here else name
    start = [sys.executable] if here else ["bash", "-c", _IN_ENVIRONMENT, "doctor", str(root), name, "python"]
    code, text = _run([*start, "-c", _PROBE, *sorted({"sam3d_gs", *modules})])
    if code != 0:
        return Environment(name, problem=text.rstrip(".") or f"its Python failed with exit code {code}")
    try:
        found = json.loads(text.splitlines()[-1])
        environment = Environment(name, found["prefix"], found["python"], found["packages"])
    except (ValueError, LookupError, TypeError):
        return Environment(name, problem=f"its Python answered {text[:80]!r}")
    if cuda_too and environment.packages.get("torch") is not None:
        _, text = _run([*start, "-c", _CUDA_PROBE])
        return replace(environment, cuda=(text.splitlines() or ["did not answer"])[-1])
    return environment


def _run(command: Sequence[str]) -> tuple[int, str]:
    """Exit code and stdout; after a failure, the last line of stderr."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL, check=False
        )
    except subprocess.TimeoutExpired:
        return 124, f"no answer within {_TIMEOUT_S:.0f} s"
    except OSError as error:
        return 127, f"{command[0]}: {error.strerror}"
    if done.returncode == 0:
        return 0, done.stdout
    return done.returncode, (done.stderr.strip().splitlines() or [""])[-1]
