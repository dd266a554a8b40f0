"""What the program has to know about an engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sam3d_gs.option_flags import EngineOptions, flag_names, flags_of


@dataclass(frozen=True)
class GpuRequest:
    """The GPU memory that an engine needs."""

    gib: float = 0.0  # 0: runs on the CPU; infinite: unknown
    on: tuple[str, ...] = ()  # only GPUs with these ids; empty: any
    gpus: int | None = 1  # split over this many; None: over as few as can hold it


def cpu_only(options: Any) -> GpuRequest:
    """The request of engines that never use a GPU."""
    return GpuRequest()


@dataclass(frozen=True)
class EngineSpec:
    """One engine. All fields but the first four are optional."""

    stage: str  # phrases, masks or objects
    name: str  # what --engine accepts
    target: str  # "module:Class"; built from `options`, implements the stage's Protocol in engines/api.py
    options: type[EngineOptions]
    summary: str = ""  # one line for --help and the documentation
    profile: str = ""  # the profile that uses it by default
    # Installation.
    environment: str = ""  # name in envs/setup.sh; "embedded": .venv; empty: any environment
    install: str = ""  # how to install its packages, e.g. "pip install acme-masks"; empty: the extra `environment`
    modules: tuple[str, ...] = ()  # must be importable in that environment
    submodule: str = ""  # folder of upstream code that it needs
    # Weights: repository in weights/repositories.py -> files required to start.
    weights: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    downloads_weights: bool = False  # the engine itself downloads them on the first start
    # GPU. `gpu` takes the engine's options.
    gpu: Callable[[Any], GpuRequest] = cpu_only
    needs_gpu: bool = False  # cannot run on the CPU
    without_gpu: str = ""  # options to use instead on a machine without a GPU
    # Behaviour.
    chosen_by: tuple[str, ...] = ()  # options that select this engine, whatever the profile
    own_mask_only: bool = False  # an object depends only on its own mask, so it is kept when other masks change
    licences: Callable[[Any], Mapping[str, str]] = lambda options: {}  # model or data -> licence, given the options

    @property
    def install_command(self) -> str:
        """The shell command that installs its packages."""
        return self.install or f"pip install 'sam3d_gs[{self.extra}]'"

    @property
    def extra(self) -> str:
        """The extra of this package that installs its modules."""
        return {"sam3d-objects": "native"}.get(self.environment, self.environment)

    def takes(self, name: str) -> bool:
        """Whether it has an option of this name."""
        return name in flags_of(self.options)

    def flag(self, name: str) -> str:
        """The usual spelling of an option, e.g. --fov."""
        return flag_names(name, flags_of(self.options)[name])[0]
