"""What is mutated, and which tests must notice."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

PACKAGE = Path("src/sam3d_gs")

# Pattern of modules -> the tests that run against a mutant which the module's own test file has not noticed. Those of
# the room itself come before those of the assembly, since the first failing test ends a trial.
ROOMS = {
    "stages/*.py": ["tests/stages", "tests/test_cli.py", "tests/test_manifest.py", "tests/engines/test_given.py"],
    "gaussians/*.py": ["tests/gaussians", "tests/stages/test_scene.py", "tests/report/test_pictures.py"],
    "masks/*.py": ["tests/masks", "tests/stages/test_masks.py", "tests/engines/test_given.py"],
    "embedded/reconstruct.py": ["tests/embedded/test_reconstruct.py", "tests/engines/test_objects_embedded.py"],
}
# Tests of a single module that lie elsewhere; they run with its own test file.
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


def relevant_tests(root: Path, module: str) -> list[list[str]]:
    """The tests for a module, in two steps: those of the module itself, which mostly notice, then those of its room."""
    path = Path(module)
    own = [(Path("tests") / path.parent / f"test_{path.stem}.py").as_posix(), *ALSO.get(module, [])]
    of_room = next(tests for room, tests in ROOMS.items() if fnmatch(module, room))
    steps = [own, [test for test in of_room if test not in own]]
    there = [[test for test in step if (root / test).exists()] for step in steps]
    return [step for step in there if step]
