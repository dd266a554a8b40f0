"""What is mutated, and which tests must notice."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

PACKAGE = Path("src/sam3d_gs")

# Pattern of modules -> the tests that run against a mutant, besides the module's own test file, which goes first. Those
# of the room itself come before those of the assembly, since a mutant's first failing test ends its trial.
ROOMS = {
    "stages/*.py": ["tests/stages", "tests/test_cli.py", "tests/test_manifest.py", "tests/engines/test_given.py"],
    "gaussians/*.py": ["tests/gaussians", "tests/stages/test_scene.py", "tests/report/test_pictures.py"],
    "masks/*.py": ["tests/masks", "tests/stages/test_masks.py", "tests/engines/test_given.py"],
    "embedded/reconstruct.py": ["tests/embedded/test_reconstruct.py", "tests/engines/test_objects_embedded.py"],
}
# Tests of a single module that lie elsewhere.
ALSO = {
    "stages/claim.py": ["tests/test_kill.py"],
    "gaussians/frames.py": ["tests/assets"],
    "gaussians/zcurve.py": ["tests/assets"],
    "gaussians/packed.py": ["tests/report/test_viewer.py"],
    "masks/prompts.py": ["tests/engines/test_masks_sam3.py", "tests/sam3_networks"],
    "masks/selection.py": ["tests/embedded/proposals/test_selection.py"],
    "masks/rules.py": ["tests/embedded/proposals/test_selection.py"],
    "masks/detections.py": ["tests/engines/test_masks_sam3.py"],
}
# Functions that are left as they are, by a decorator they have, with the reason.
LEFT_OUT = {
    "_jit": "numba compiles them for a minute per mutant, and without the compiler they do not run: NumPy's records "
    "have no attributes. tests/gaussians/test_render.py compares their pictures with a plain implementation."
}


def modules(root: Path, chosen: list[str]) -> list[str]:
    """Sorted paths below the package. `chosen`: parts of their names ("masks/", "pose"); none: all modules."""
    found = {path.relative_to(root / PACKAGE).as_posix() for room in ROOMS for path in (root / PACKAGE).glob(room)}
    return sorted(
        name
        for name in found
        if not name.endswith("__init__.py") and (not chosen or any(part in name for part in chosen))
    )


def relevant_tests(root: Path, module: str) -> list[str]:
    """The tests for a module, most likely to notice first; those that are not there are left out."""
    path = Path(module)
    own = Path("tests") / path.parent / f"test_{path.stem}.py"
    of_room = next(tests for room, tests in ROOMS.items() if fnmatch(module, room))
    wanted = [own.as_posix(), *ALSO.get(module, []), *of_room]
    return [test for test in dict.fromkeys(wanted) if (root / test).exists()]
