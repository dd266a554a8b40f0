"""The engines' options on the command line: all from the registry, and refused by engines that do not take them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sam3d_gs import cli, pipeline
from sam3d_gs.errors import UsageError
from sam3d_gs.options import NativeOptions, Sam3Options, VllmOptions
from sam3d_gs.pipeline import Settings


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A function that parses `sam3d-gs ARGS` and returns the stages and settings without running them."""

    def parse(*args: str) -> tuple[list[str], Settings]:
        calls: list[tuple[list[str], Settings]] = []

        def run(photos: list[Path], stages: list[str], settings: Settings, *rest: object) -> int:
            calls.append((stages, settings))
            return 0

        monkeypatch.setattr(pipeline, "run", run)
        result = CliRunner().invoke(cli.app, [*args, "--workspace", str(tmp_path)])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        [only] = calls
        return only

    return parse


def test_typed_options_reach_the_settings(parsed: Any, tmp_path: Path) -> None:
    stages, settings = parsed(
        *("run", "x.jpg", "--profile", "full", "--max-phrases", "3", "--no-border-filter", "--sam3-device", "cpu"),
        *("--device", "cuda", "--vram", "8", "--phrase-threshold", "red cup=0.3", "--keep-server", "--seed", "7"),
    )
    assert stages == ["phrases", "masks", "objects", "scene"]
    phrases, masks, objects = settings.phrases.options, settings.masks.options, settings.objects.options
    assert isinstance(phrases, VllmOptions) and phrases.max_phrases == 3 and phrases.keep_server
    assert phrases.server_log.is_relative_to(tmp_path)
    assert isinstance(masks, Sam3Options) and not masks.border_filter and masks.device == "cpu"
    assert masks.phrase_thresholds == (("red cup", 0.3),) and masks.score_threshold == 0.5
    assert isinstance(objects, NativeOptions) and (objects.device, objects.vram_gib, objects.seed) == ("cuda", 8, 7)
    assert objects.checkpoints == tmp_path / "sam-3d-objects/checkpoints/hf"


def test_masks_accepts_device_without_a_prefix(parsed: Any) -> None:
    _, settings = parsed("masks", "x.jpg", "--engine", "sam3", "--device", "cpu")
    assert settings.masks.options.device == "cpu"


def test_boxes_and_points_skip_the_phrases_stage(parsed: Any) -> None:
    stages, settings = parsed("run", "x.jpg", "--masks-engine", "sam3", "--box", "1,2,30,40", "--point", "5,6")
    assert stages == ["masks", "objects", "scene"]
    assert settings.masks.options.boxes == ((1.0, 2.0, 30.0, 40.0),)
    assert settings.masks.options.points == ((5.0, 6.0),)


def test_own_masks_and_phrases_choose_their_engines(parsed: Any) -> None:
    stages, settings = parsed("run", "x.jpg", "--masks", ".", "--stages", "objects,scene")
    assert stages == ["masks", "objects", "scene"] and settings.masks.name == "given"
    stages, settings = parsed("run", "x.jpg", "--phrases", "cup", "--stages", "masks")
    assert stages == ["phrases", "masks"] and settings.phrases.options.phrases == ("cup",)
    stages, _ = parsed("masks", "x.jpg", "--phrases", "cup")
    assert stages == ["phrases", "masks"]
    stages, _ = parsed("reconstruct", "x.jpg", "--masks", ".")
    assert stages == ["masks", "objects", "scene"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--masks", ".", "--max-objects", "3"], "--max-objects is for engine"),
        (["--masks", ".", "--min-area-percent", "3"], "--min-area-percent is for engine"),
        (["--masks", ".", "--score-threshold", "0.3"], "--score-threshold is for engine"),
        (["--masks", ".", "--no-border-filter"], "--border-filter is for engine"),
        (["--masks", ".", "--phrases", "cup"], "--masks gives the masks already"),
        (["--masks", ".", "--max-phrases", "3"], "--masks gives the masks already"),
        (["--masks-engine", "sam3", "--box", "1,2,3,4", "--max-phrases", "3"], "without phrases"),
        (["--phrases", "cup", "--max-phrases", "3"], "--max-phrases is for engine"),
        (["--profile", "full", "--fov", "40"], "MoGe estimates the camera"),
        (["--objects-engine", "sam3d-objects", "--fov", "40"], "--fov is for engine"),
        (["--fov", "55", "--objects-engine", "native"], "MoGe estimates the camera"),
        (["--sam3-device", "auto"], "--sam3-device is for engine 'sam3' or 'sam3-official' of masks, not 'embedded'"),
        (["--model", "Qwen/Qwen3-VL-8B-Thinking"], "--model is for engine 'vllm' or 'openai'"),
        (["--keep-server"], "--keep-server is for engine 'vllm'"),
        (["--phrases-engine", "openai"], "needs --base-url"),
        (["--masks-engine", "sam3", "--box", "1,2,3"], "--box '1,2,3' is not x0,y0,x1,y1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_that_the_engine_does_not_take_are_refused(parsed: Any, arguments: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parsed("run", "x.jpg", *arguments)


def test_options_of_one_photo_are_refused_for_two(parsed: Any) -> None:
    with pytest.raises(UsageError, match="--box is for one photo, but 2 are given"):
        parsed("run", "x.jpg", "y.jpg", "--masks-engine", "sam3", "--box", "1,2,3,4")
    with pytest.raises(UsageError, match="--depth is for one photo"):
        parsed("run", "x.jpg", "y.jpg", "--objects-engine", "native", "--depth", "d.npy")


def test_environment_variables_apply_only_to_engines_that_take_them(
    parsed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAM3D_GS_VLM_MODEL", "my/model")
    assert parsed("run", "x.jpg")[1].phrases.name == "embedded"
    assert parsed("run", "x.jpg", "--profile", "full")[1].phrases.options.model == "my/model"
    own = parsed("run", "x.jpg", "--profile", "full", "--model", "other/model")
    assert own[1].phrases.options.model == "other/model"


def test_help_names_the_engines_and_defaults_of_an_option() -> None:
    text = " ".join(CliRunner().invoke(cli.app, ["masks", "--help"], env={"COLUMNS": "400"}).output.split())
    assert "Masks: engines sam3 and sam3-official" in text
    assert "Default: 0.0 for embedded; 0.5 for sam3 and sam3-official." in text
    assert "On by default." in text


def test_the_fingerprint_holds_only_the_options_of_its_engine() -> None:
    from sam3d_gs.engines.registry import choose
    from sam3d_gs.stages.bookkeeping import result_options

    assert set(result_options(choose("objects", "embedded").options)) == {"seed", "fov_deg", "pitch_deg"}
    assert result_options(choose("masks", masks_dir=Path("a")).options) == {}
    native = result_options(choose("objects", "native", depth=Path("d.npy"), vram_gib=4.0).options)
    assert not set(native) & {"checkpoints", "moge", "depth", "device", "vram_gib"}
    assert json.dumps(native)
