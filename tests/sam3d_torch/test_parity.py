"""Our modules against numbers recorded from upstream's, and the comparison itself: a wrong number must not pass."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors")

import torch
from safetensors.torch import save_file
from torch import Tensor

from sam3d_gs.errors import BadInputError
from sam3d_gs.sam3d_torch.parity import __main__ as parity
from sam3d_gs.sam3d_torch.parity.case import Case, case_names, read_case
from sam3d_gs.sam3d_torch.parity.compare import compare, limit_of

GOLDEN = Path(__file__).parent / "golden"
RELATIVE = {"metric": "relative L2 per output tensor, fp32", "value": 1e-5}


@pytest.mark.slow
@pytest.mark.parametrize("name", case_names(GOLDEN))
def test_recorded_case(name: str) -> None:
    runners, broken = parity.load_runners()
    outcome = parity.run_case(GOLDEN, name, runners, "cpu")
    assert outcome.ok, parity.table([outcome], broken)


def test_every_module_is_covered() -> None:
    modules = {read_case(GOLDEN, name).meta["module"] for name in case_names(GOLDEN)}
    assert len(modules) >= 11, sorted(modules)


# The comparison


def case_of(tolerance: dict[str, Any], **outputs: Tensor) -> Case:
    return Case("made", {}, {"tolerance": tolerance}, {}, {}, {k.replace("__", "."): v for k, v in outputs.items()})


def is_ok(tolerance: dict[str, Any], recorded: Tensor, ours: Tensor, name: str = "x") -> bool:
    (verdict,) = compare(case_of(tolerance, **{name: recorded}), {name.replace("__", "."): ours})
    return verdict.ok


def test_relative_error_is_measured_and_limited() -> None:
    recorded = torch.tensor([3.0, 4.0])
    (verdict,) = compare(case_of(RELATIVE, x=recorded), {"x": recorded + torch.tensor([0.0, 0.5])})
    assert not verdict.ok
    assert verdict.error == pytest.approx(0.1)
    assert is_ok(RELATIVE, recorded, recorded * (1 + 5e-6))
    assert not is_ok(RELATIVE, recorded, recorded * (1 + 2e-5))


def test_an_output_that_is_not_produced_fails() -> None:
    (verdict,) = compare(case_of(RELATIVE, x=torch.ones(2)), {})
    assert not verdict.ok
    assert verdict.note == "not produced"


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf, 1.0])
@pytest.mark.parametrize("special", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_must_be_at_the_same_places(special: float, wrong: float) -> None:
    recorded = torch.tensor([1.0, special, 2.0])
    assert is_ok(RELATIVE, recorded, recorded.clone())
    ours = torch.tensor([1.0, wrong, 2.0])
    assert is_ok(RELATIVE, recorded, ours) == (str(special) == str(wrong))


def test_shapes_differ_by_axes_of_one_only() -> None:
    recorded = torch.arange(6.0).reshape(1, 2, 3)
    assert is_ok(RELATIVE, recorded, recorded[0])
    assert not is_ok(RELATIVE, recorded, recorded.reshape(3, 2))
    assert not is_ok(RELATIVE, recorded, recorded[0, :1])


def test_integers_and_masks_are_exact() -> None:
    coords = torch.arange(12).reshape(3, 4)
    assert is_ok(RELATIVE, coords.to(torch.uint8), coords)
    assert not is_ok(RELATIVE, coords, coords.flip(0))
    masks = {"metric": "relative L2 over finite entries (1e-5) and identical NaN pattern; masks exact", "value": 1e-5}
    soft = torch.tensor([0.5, 1.0])
    assert is_ok(masks, soft, soft.clone(), "rgb_image_mask")
    assert not is_ok(masks, soft, soft + 1e-7, "rgb_image_mask")
    assert is_ok(masks, soft, soft + 1e-7, "image")
    assert not is_ok({"metric": "exact equality", "value": 0}, soft, soft + 1e-7)


def test_voxels_by_jaccard_where_the_case_allows_it() -> None:
    coords = torch.arange(40).reshape(10, 4)
    allowed = {"metric": "exact equality, or Jaccard >= 0.85", "value": 0}
    assert is_ok(allowed, coords, coords.flip(0)[:9], "coords_final")
    assert not is_ok(allowed, coords, coords[:8], "coords_final")
    assert not is_ok(allowed, coords, coords[:9], "factor")


def test_quaternions_up_to_sign_and_raw_ones_not() -> None:
    quats = torch.tensor([[0.5, 0.5, -0.5, 0.5], [1.0, 0.0, 0.0, 0.0]])
    ours = quats * torch.tensor([[-1.0], [1.0]])
    assert is_ok(RELATIVE, quats, ours, "rotations")
    assert not is_ok(RELATIVE, quats, ours, "rotations_raw")
    assert not is_ok(RELATIVE, quats, ours.flip(0), "rotations")


def test_rotation_by_its_matrix() -> None:
    tolerance = {"metric": "relative L2 (rotation: max abs of the rotation matrix)", "value": 3e-4}
    angle = 0.01
    turned = torch.tensor([[math.cos(angle / 2), math.sin(angle / 2), 0.0, 0.0]])
    (verdict,) = compare(case_of(tolerance, rotation=torch.tensor([[1.0, 0, 0, 0]])), {"rotation": -turned})
    assert verdict.error == pytest.approx(math.sin(angle), rel=1e-5)
    assert not verdict.ok


@pytest.mark.parametrize(
    ("tolerance", "name", "metric", "value"),
    [
        (RELATIVE, "x", "relative L2", 1e-5),
        ({}, "x", "relative L2", 1e-5),
        ({"metric": "max abs, fp32", "value": 1e-5}, "x", "absolute", 1e-5),
        ({**RELATIVE, "scales": 2e-4}, "normalized.scales", "relative L2", 2e-4),
        ({**RELATIVE, "scales": 2e-4}, "scale", "relative L2", 1e-5),
        ({"value": 3e-4, "condition_tokens": 1e-5}, "ss_cond_tokens_sub", "relative L2", 1e-5),
        ({"value": 3e-4, "gaussian.*": 1e-5}, "gaussian.means", "relative L2", 1e-5),
        ({"metric": "absolute", "value": 1e-3, "against_converged": 1e-5}, "map0.converged_focal", "absolute", 1e-5),
        ({**RELATIVE, "focal_shift_dependent_outputs": "absolute 1e-3 (ftol 1e-2)"}, "points", "absolute", 1e-3),
        ({**RELATIVE, "focal_shift_dependent_outputs": "absolute 1e-3"}, "points_raw", "relative L2", 1e-5),
    ],
)
def test_each_output_has_its_own_tolerance(tolerance: dict[str, Any], name: str, metric: str, value: float) -> None:
    limit = limit_of(tolerance, name, torch.ones(1))
    assert (limit.metric, limit.value) == (metric, value)


# The program


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A folder with one case, `double`: out.y = 2 in.x."""
    x = torch.arange(4.0)
    save_file({"in.x": x, "out.y": 2 * x, "state.w": torch.full((1,), 2.0)}, tmp_path / "double.safetensors")
    description = {"files": ["double.safetensors"], "tolerance": RELATIVE}
    (tmp_path / "double.json").write_text(json.dumps(description))
    (tmp_path / "other.json").write_text(json.dumps({"files_not": 1}))
    (tmp_path / "list.json").write_text("[1]")
    return tmp_path


@pytest.mark.parametrize(
    ("runners", "code", "said"),
    [
        ({"dou": lambda case: {"y": case.state["w"] * case.inputs["x"]}}, 0, "1 of 1 cases within tolerance"),
        ({"dou": lambda case: {"y": 2.001 * case.inputs["x"]}}, 1, "relative L2 error 5.00e-04"),
        ({"dou": lambda case: {}}, 1, "double y: not produced"),
        ({"dou": lambda case: case.outputs}, 1, "double y: relative L2 error 1.00e+00"),
        ({"dou": lambda case: {"y": case.inputs["z"]}}, 1, "double: KeyError: 'z' (test_parity.py:"),
        ({"tri": lambda case: {}}, 1, "double: nothing here runs it"),
        ({"d": lambda case: {}, "doub": lambda case: {"y": 2 * case.inputs["x"]}}, 0, "1 of 1"),
    ],
)
def test_exit_code(
    made: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    runners: dict[str, parity.Runner],
    code: int,
    said: str,
) -> None:
    monkeypatch.setattr(parity, "load_runners", lambda: (runners, {}))
    assert parity.main([str(made)]) == code
    assert said in capsys.readouterr().out


def test_a_file_that_is_not_there_fails_its_case(made: Path) -> None:
    (made / "double.safetensors").unlink()
    outcome = parity.run_case(made, "double", {"double": lambda case: {}}, "cpu")
    assert not outcome.ok
    assert "double.safetensors" in outcome.reason


def test_a_damaged_description_fails_its_case(made: Path) -> None:
    (made / "double.json").write_text('{"files": [')
    assert case_names(made) == ["double"]
    assert not parity.run_case(made, "double", {"double": lambda case: {}}, "cpu").ok


def test_an_area_that_cannot_be_imported_is_named() -> None:
    runners, broken = parity.load_runners(["no_such_area", "voxels"])
    assert list(broken) == ["no_such_area"]
    assert "ss_decoder" in runners
    assert "parity/no_such_area.py cannot be imported" in parity.table([parity.Outcome("x")], broken)


@pytest.mark.parametrize("folder", ["", "nowhere"])
def test_nothing_to_run_is_a_usage_error(tmp_path: Path, folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert parity.main([str(tmp_path / folder)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_only_the_cases_asked_for(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(parity, "load_runners", lambda: ({}, {}))
    assert parity.main([str(made), "--only", "doub*"]) == 1
    assert parity.main([str(made), "--only", "triple"]) == 2
    assert "No case is called triple. There are: double." in capsys.readouterr().err


def test_read_case_says_what_is_missing(made: Path) -> None:
    with pytest.raises(BadInputError, match=r"nothing\.json"):
        read_case(made, "nothing")
