"""Wires that were once cut without a test noticing; `bash run_tests.sh --mutation --known` cuts them one by one."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from tests.mutation.rooms import PACKAGE
from tests.mutation.trial import Copy

TIMEOUT_S = 900.0


@dataclass(frozen=True)
class Known:
    """One change, and tests of which one at least must fail."""

    what: str
    path: str  # below the package
    old: str  # stands in the file once
    new: str
    tests: tuple[str, ...]
    may_survive: str = ""  # the reason why no test has to notice


_RECONSTRUCT = ("tests/embedded/test_reconstruct.py",)

KNOWN = (
    Known(
        "the geometry head of the mask network is not asked",
        "embedded/reconstruct.py",
        "predict_geometry(networks.scene, photo.rgb) if networks.scene and has_background else None",
        "None",
        _RECONSTRUCT,
    ),
    Known(
        "specks stay in the masks",
        "embedded/reconstruct.py",
        "[remove_specks(item.mask) for item in usable]",
        "[item.mask for item in usable]",
        _RECONSTRUCT,
    ),
    Known(
        "plates are not made flat",
        "embedded/reconstruct.py",
        "            layers = flatten_plate(layers, draft.plate, draft.crop)",
        "            pass",
        _RECONSTRUCT,
    ),
    Known(
        "what an object carries stays behind when the object is moved",
        "embedded/placement/object_depths.py",
        "for k in _with_supported(front, supported):",
        "for k in {front}:",
        ("tests/embedded/placement/test_supported_objects.py",),
    ),
    Known(
        "an object in front counts against the IoU of the one behind",
        "gaussians/reprojection.py",
        "obj.K, mask, others)",
        "obj.K, mask)",
        ("tests/gaussians/test_reprojection.py", "tests/stages/test_scene.py"),
    ),
    Known(
        "up axes that cancel decide the direction up",
        "gaussians/scene.py",
        "if length > _LEAST_UP * len(ups) else",
        "if length > 0 else",
        ("tests/gaussians/test_scene.py",),
    ),
    Known(
        "an object is not made again when its phrase changes",
        "stages/objects.py",
        "                m.object_id,\n                m.phrase,\n",
        "                m.object_id,\n",
        ("tests/stages/test_objects.py", "tests/stages/test_object_reuse.py"),
    ),
    Known(
        "proposals that are unfit by themselves are compared all the same",
        "masks/selection.py",
        "        if choice.dropped is None:\n            choice = _compared(",
        "        if True:\n            choice = _compared(",
        ("tests/masks/test_selection.py", "tests/embedded/proposals/test_selection.py"),
    ),
    Known(
        "feet reach a little higher",
        "embedded/placement/silhouette.py",
        "FOOT_SHARE = 0.08",
        "FOOT_SHARE = 0.085",
        ("tests/embedded/placement/test_object_depths.py",),
        may_survive="The constant was tuned on photos; benchmarks/ measures it.",
    ),
)


def misplaced(root: Path) -> list[str]:
    """What is wrong with the list: changes whose text does not stand in its file once, and tests that are not there."""
    problems = []
    for known in KNOWN:
        count = (root / PACKAGE / known.path).read_text().count(known.old)
        if count != 1:
            problems.append(f"{known.path} has {count} times: {known.old.strip()!r}")
        problems += [f"no {test}" for test in known.tests if not (root / test).exists()]
    return problems


def check(root: Path) -> int:
    """Print what became of each. Returns 1 when one survived that must not, 0 otherwise."""
    if problems := misplaced(root):
        print("\n".join(problems), file=sys.stderr)
        return 1
    survived = 0
    with Copy(root) as copy:
        for tests in dict.fromkeys(known.tests for known in KNOWN):
            if copy.run(tests, TIMEOUT_S) != "passed":
                raise RuntimeError(f"tests fail without a mutant: {' '.join(tests)}\n{copy.log()}")
        for known in KNOWN:
            source = (root / PACKAGE / known.path).read_text()
            with copy.changed(str(PACKAGE / known.path), source.replace(known.old, known.new)):
                lives = copy.run(known.tests, TIMEOUT_S) == "passed"
            survived += lives and not known.may_survive
            print(f"{'SURVIVES' if lives else 'dies':8}  {known.path}: {known.what}", flush=True)
            if lives and known.may_survive:
                print(f"          {known.may_survive}")
    return 1 if survived else 0
