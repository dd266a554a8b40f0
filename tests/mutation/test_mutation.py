"""The list of known mutants is about code that is there, and cosmic-ray's mutants are what they should be."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutation import known_mutants
from tests.mutation.results import Notebook, Result, table
from tests.mutation.rooms import modules, relevant_tests

ROOT = Path(__file__).resolve().parents[2]


def test_known_mutants_change_code_that_is_there() -> None:
    assert known_mutants.misplaced(ROOT) == []


def test_every_module_has_tests() -> None:
    found = modules(ROOT, [])
    assert {"stages/scene.py", "gaussians/pose.py", "masks/rules.py", "embedded/reconstruct.py"} <= set(found)
    assert all(relevant_tests(ROOT, module) for module in found)
    assert relevant_tests(ROOT, "gaussians/pose.py")[0] == ["tests/gaussians/test_pose.py"]


SOURCE = """
def half(x: int | None) -> float | None:
    return x / 2 if x is not None else None

@_jit(cache=True)
def kernel(x):
    return x + 1
"""


def test_annotations_and_kernels_stay_as_they_are() -> None:
    pytest.importorskip("cosmic_ray")
    from tests.mutation.mutants import diff, mutants_of

    mutants = mutants_of("a.py", SOURCE, seed=0)
    codes = [code for mutant in mutants if (code := mutant.code(SOURCE))]
    assert codes and all("int | None) -> float | None:" in code and "x + 1" in code for code in codes)
    changes = {tuple(diff(SOURCE, code)) for code in codes}
    assert len(changes) == len(codes), "a mutant twice"
    assert {mutant.line for mutant in mutants} == {3}
    assert mutants == mutants_of("a.py", SOURCE, seed=0)


def test_a_survivor_is_tried_again_when_its_tests_change(tmp_path: Path) -> None:
    killed = Result("a.py", 3, ["-a", "+b"], "failed", "hash of killed", "tests")
    survivor = Result("a.py", 5, ["-c", "+d"], "passed", "hash of survivor", "tests")
    for result in (killed, survivor):
        Notebook(tmp_path / "results.jsonl").add(result)
    notebook = Notebook(tmp_path / "results.jsonl")
    assert notebook.known("hash of killed", "other tests") == killed
    assert notebook.known("hash of survivor", "tests") == survivor
    assert notebook.known("hash of survivor", "other tests") is None


def test_the_table_has_the_score_and_the_survivors() -> None:
    results = [Result("a.py", 3, ["-a", "+b"], "failed", "", ""), Result("a.py", 5, ["-c", "+d"], "passed", "", "")]
    lines = table(results).splitlines()
    assert lines[1].split() == ["a.py", "2", "1", "50%"]
    assert lines[2].split() == ["all", "2", "1", "50%"]
    assert lines[4:] == ["src/sam3d_gs/a.py:5 survived", "  -c", "  +d"]
