"""One photo in, a scene of separate, posed 3D Gaussian objects out.

    import sam3d_gs as sg

    scene = sg.reconstruct("desk.jpg")          # in memory, nothing written
    scene.save("desk.ply", frame="z-up")
    sg.run("desk.jpg", workspace="out")         # resumable, with report and pictures: what the command line does

What is listed in `__all__` is public and stays; everything else may change. Importing this package imports nothing
heavy: each name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_MODULES = {
    "sam3d_gs.api": (
        "engine",
        "list_engines",
        "load_photo",
        "load_scene",
        "reconstruct",
        "run",
        "run_many",
        "RunResult",
    ),
    "sam3d_gs.scene": ("Scene", "SceneObject"),
    "sam3d_gs.types": ("Gaussians", "InstanceMask", "Photo", "Phrase", "PlacedObject", "Pose"),
    "sam3d_gs.engines.api": ("FailedObject", "MaskEngine", "ObjectEngine", "PhraseEngine"),
    "sam3d_gs.engines.registry": ("EngineChoice",),
    "sam3d_gs.engines.spec": ("EngineSpec", "GpuRequest"),
    "sam3d_gs.errors": ("BadInputError", "MissingPackageError", "ObjectError", "Sam3dGsError", "UsageError"),
    "sam3d_gs.option_flags": ("EngineOptions", "option"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

if TYPE_CHECKING:
    from sam3d_gs.api import (
        RunResult,
        engine,
        list_engines,
        load_photo,
        load_scene,
        reconstruct,
        run,
        run_many,
    )
    from sam3d_gs.engines.api import FailedObject, MaskEngine, ObjectEngine, PhraseEngine
    from sam3d_gs.engines.registry import EngineChoice
    from sam3d_gs.engines.spec import EngineSpec, GpuRequest
    from sam3d_gs.errors import BadInputError, MissingPackageError, ObjectError, Sam3dGsError, UsageError
    from sam3d_gs.option_flags import EngineOptions, option
    from sam3d_gs.scene import Scene, SceneObject
    from sam3d_gs.types import Gaussians, InstanceMask, Photo, Phrase, PlacedObject, Pose

__all__ = [
    "BadInputError",
    "EngineChoice",
    "EngineOptions",
    "EngineSpec",
    "FailedObject",
    "Gaussians",
    "GpuRequest",
    "InstanceMask",
    "MaskEngine",
    "MissingPackageError",
    "ObjectEngine",
    "ObjectError",
    "Photo",
    "Phrase",
    "PhraseEngine",
    "PlacedObject",
    "Pose",
    "RunResult",
    "Sam3dGsError",
    "Scene",
    "SceneObject",
    "UsageError",
    "engine",
    "list_engines",
    "load_photo",
    "load_scene",
    "option",
    "reconstruct",
    "run",
    "run_many",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'sam3d_gs' has no attribute {name!r}")
    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
