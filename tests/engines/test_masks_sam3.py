"""Engine sam3 behind the command line, on a tiny checkpoint with random weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sam3d_gs.errors import EXIT_FAILED, EXIT_USAGE
from tests.command_line import sam3d_gs
from tests.sam3_networks.tiny import save_tiny

Cli = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("sam3"))


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    """`sam3d-gs masks ARGS` in this process: exit code and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*args: object) -> tuple[int, str]:
        code, _, err = sam3d_gs(monkeypatch, capfd, "masks", *args)
        return code, err

    return run


def rows(tmp_path: Path) -> list[dict[str, object]]:
    return json.loads((tmp_path / "outputs/master_with_vllm/masks/kitchen/masks.json").read_text())["masks"]


@pytest.mark.slow
def test_phrases_become_masks(cli: Cli, tiny: Path, picture: Path, tmp_path: Path) -> None:
    options = ["--sam3", tiny, "--device", "cpu", "--score-threshold", 0, "--no-border-filter"]
    code, err = cli(picture, "--engine", "sam3", "--phrases", "red cup", "--phrases", "spoon", *options)
    assert code == 0, err
    assert "SAM 3 on the CPU is slow" in err
    found = rows(tmp_path)
    assert any(row["kept"] for row in found)
    assert all(row["kept"] or row["dropped"] for row in found)
    assert {row["phrase"] for row in found} == {"red cup", "spoon"}


@pytest.mark.slow
def test_a_threshold_that_leaves_nothing_names_the_best_score(cli: Cli, tiny: Path, picture: Path) -> None:
    code, err = cli(picture, "--engine", "sam3", "--phrases", "red cup", "--sam3", tiny, "--score-threshold", 1)
    assert code == EXIT_FAILED
    assert 'No masks kept for "red cup" in kitchen.png: 1 dropped, the best one (score 0.' in err
    assert "below the threshold 1.00" in err


@pytest.mark.slow
def test_a_box_and_a_point_need_no_phrases(cli: Cli, tiny: Path, picture: Path, tmp_path: Path) -> None:
    code, err = cli(picture, "--engine", "sam3", "--sam3", tiny, "--box", "4,12,28,36", "--point", "48,24")
    assert code == 0, err
    found = {row["object_id"] for row in rows(tmp_path)}
    assert found == {"00-object-at-16-24-0", "01-object-at-48-24-0"}
    assert not (tmp_path / "outputs/master_with_vllm/kitchen/phrases.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--box", "4,12,28"], "--box '4,12,28' is not x0,y0,x1,y1 in pixels"),
        (["--box", "28,12,4,36"], "must lie right of and below"),
        (["--point", "a,b"], "--point 'a,b' is not x,y in pixels"),
        (["--point", "nan,1"], "is not x,y in pixels"),
        (["--phrase-threshold", "cup"], "is not PHRASE=SCORE"),
        (["--phrase-threshold", "cup=2"], "is not PHRASE=SCORE"),
        (["--sam3-precision", "int4"], "Unknown --sam3-precision 'int4'. Expected auto or fp32"),
        (["--box", "4,12,28,36", "--phrases", "cup"], "without phrases"),
        (["--box", "4,12,28,36", "--masks", "."], "for engine 'sam3' or 'sam3-official' of masks, not 'given'"),
    ],
)
def test_wrong_options_are_one_line(cli: Cli, picture: Path, args: list[str], says: str) -> None:
    engine = [] if "--masks" in args else ["--engine", "sam3"]
    code, err = cli(picture, *engine, *args)
    assert code == EXIT_USAGE
    assert says in err
    assert err.count("\n") == 1


def test_options_of_sam3_are_refused_elsewhere(cli: Cli, picture: Path) -> None:
    code, err = cli(picture, "--point", "4,4")
    assert code == EXIT_USAGE
    assert "--point is for engine 'sam3' or 'sam3-official' of masks, not 'embedded'" in err


@pytest.mark.slow
def test_a_box_reaches_beyond_the_photo_by_a_pixel(cli: Cli, tiny: Path, picture: Path, tmp_path: Path) -> None:
    """As SAM 3's own boxes do; the first number looks like an option."""
    code, err = cli(picture, "--engine", "sam3", "--sam3", tiny, "--box", "-0.7,12,28,48.4", "--point", "64,48")
    assert code == 0, err
    assert {row["object_id"] for row in rows(tmp_path)} == {"00-object-at-14-30-0", "01-object-at-64-48-0"}


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--box", "70,12,95,36"], "--box 70,12,95,36 lies outside kitchen.png, 64 x 48 px"),
        (["--box", "0.25,0.5,0.75,1"], "looks like fractions of the photo. Give pixels of kitchen.png, 64 x 48 px: "),
        (["--point", "0.5,0.5"], "--point 32,24"),
    ],
)
def test_a_box_or_point_that_is_not_on_the_photo(cli: Cli, picture: Path, args: list[str], says: str) -> None:
    """Refused before the network is loaded: there is none."""
    code, err = cli(picture, "--engine", "sam3", "--sam3", "absent", *args)
    assert code == EXIT_FAILED
    assert says in err
    assert err.count("\n") == 1


@pytest.mark.slow
def test_the_checkpoint_of_another_model_is_refused(cli: Cli, tiny: Path, picture: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "clip_text_model"}')
    (other / "tokenizer_config.json").write_text((tiny / "tokenizer_config.json").read_text())
    (other / "tokenizer.json").write_text((tiny / "tokenizer.json").read_text())
    code, err = cli(picture, "--engine", "sam3", "--phrases", "cup", "--sam3", other)
    assert code == EXIT_FAILED
    assert "holds a model of type 'clip_text_model', not SAM 3" in err


@pytest.mark.slow
def test_a_checkpoint_that_lacks_weights_is_refused(cli: Cli, tiny: Path, picture: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    part = tmp_path / "part"
    part.mkdir()
    for path in tiny.iterdir():
        (part / path.name).write_bytes(path.read_bytes())
    weights = load_file(tiny / "model.safetensors")
    weights.pop("detector_model.text_projection.weight")
    save_file(weights, part / "model.safetensors", metadata={"format": "pt"})
    code, err = cli(picture, "--engine", "sam3", "--phrases", "cup", "--sam3", part)
    assert code == EXIT_FAILED
    assert "lacks 1 weights of Sam3Model, e.g. text_projection.weight" in err


def test_no_checkpoint_there(cli: Cli, picture: Path, tmp_path: Path, tiny: Path) -> None:
    (tmp_path / "empty").mkdir()
    code, err = cli(picture, "--engine", "sam3", "--phrases", "cup", "--sam3", tmp_path / "empty")
    assert code == EXIT_FAILED
    assert "Cannot load SAM 3 from" in err
