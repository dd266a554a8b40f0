"""The registry: what it says is true of the engines, and options never pass in silence."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sam3d_gs.engines import plugins, registry
from sam3d_gs.engines.registry import BUILT_IN, choose
from sam3d_gs.engines.spec import EngineSpec
from sam3d_gs.errors import MissingPackageError, UsageError
from sam3d_gs.option_flags import EngineOptions, flag_names, flags_of, option
from sam3d_gs.options import PROFILES, STAGES_WITH_ENGINES, EmbeddedObjectOptions, MaskOptions
from sam3d_gs.weights.repositories import REPOSITORIES

ROOT = Path(__file__).parents[2]
METHODS = {"phrases": "phrases", "masks": "masks", "objects": "objects"}


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    registry.all_specs.cache_clear()
    yield
    registry.all_specs.cache_clear()


@pytest.mark.parametrize("spec", BUILT_IN, ids=lambda spec: f"{spec.stage}-{spec.name}")
def test_every_engine_is_where_its_entry_says(spec: EngineSpec) -> None:
    module, _, name = spec.target.partition(":")
    found = importlib.util.find_spec(module)
    assert found is not None and found.origin is not None
    tree = ast.parse(Path(found.origin).read_text(encoding="utf-8"))
    [engine] = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    assert METHODS[spec.stage] in {node.name for node in engine.body if isinstance(node, ast.FunctionDef)}
    assert spec.summary
    assert set(spec.weights) <= {repository.name for repository in REPOSITORIES}
    assert all(option in flags_of(spec.options) for option in spec.chosen_by)
    assert spec.needs_gpu <= bool(spec.gpu(spec.options()).gib)
    assert bool(spec.without_gpu) == spec.needs_gpu


def test_every_profile_has_one_engine_per_stage() -> None:
    for stage in STAGES_WITH_ENGINES:
        for profile in PROFILES:
            assert len([spec for spec in BUILT_IN if (spec.stage, spec.profile) == (stage, profile)]) == 1


def test_the_recipes_of_setup_sh_are_those_of_the_engines() -> None:
    text = (ROOT / "envs" / "setup.sh").read_text(encoding="utf-8")
    recipes = {spec.environment for spec in BUILT_IN} - {"", "embedded"}
    for recipe in recipes:
        assert f"#   --env {recipe}" in text
        assert (ROOT / "envs" / f"{recipe}.yml").is_file()
    assert {line.split()[2] for line in text.splitlines() if line.startswith("#   --env ")} == recipes


def test_the_extras_named_when_a_package_is_missing_exist() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for spec in BUILT_IN:
        if spec.environment and spec.environment != "vllm":
            assert f"\n{spec.extra} = [" in text


def test_an_option_names_the_engines_that_take_it() -> None:
    for name, options, words in (
        (
            "embedded",
            {"boxes": ((1, 2, 3, 4),)},
            "--box is for engine 'sam3' or 'sam3-official' of masks, not 'embedded'",
        ),
        ("given", {"masks_dir": Path(), "max_objects": 3}, "--max-objects is for engine 'embedded' or 'sam3'"),
        ("", {"masks_dir": Path(), "min_area_percent": 3}, "not 'given'"),
        ("", {"no_such": 3}, "has no option 'no_such'"),
    ):
        with pytest.raises(UsageError, match=words):
            choose("masks", name, **options)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="--fov is for engine 'embedded' or 'native' of objects, not 'sam3d-objects'"):
        choose("objects", "sam3d-objects", fov_deg=40.0)
    with pytest.raises(UsageError, match="MoGe estimates the camera"):
        choose("objects", "native", fov_deg=40.0)
    choose("objects", "native", fov_deg=40.0, depth=Path("d.npy"))
    with pytest.raises(UsageError, match="Leave one of them out"):
        choose("objects", "native", fov_deg=40.0, depth=Path("d.npy"), intrinsics="1,1,1,1")
    with pytest.raises(UsageError, match="--masks is for engine 'given'"):
        choose("masks", "sam3", masks_dir=Path())
    with pytest.raises(UsageError, match="needs --masks DIR"):
        choose("masks", "given")
    with pytest.raises(UsageError, match=r"Unknown --preset 'fast'\. Expected normal or draft or quality"):
        choose("objects", "native", preset="fast")
    with pytest.raises(UsageError, match=r"Unknown engine 'sam4' for masks\. Expected embedded or given or sam3"):
        choose("masks", "sam4")
    with pytest.raises(UsageError, match="Unknown profile"):
        choose("masks", profile="fast")


def test_a_user_input_chooses_its_engine() -> None:
    assert choose("masks", masks_dir=Path(), profile="full").name == "given"
    assert choose("phrases", phrases=("cup",), profile="full").name == "given"
    assert choose("phrases", profile="full").name == "vllm"


def test_same_spelling_means_same_option() -> None:
    """Engines of one stage that spell an option alike mean the same, so that one flag can serve them."""
    for stage in STAGES_WITH_ENGINES:
        spelled: dict[str, str] = {}
        for spec in registry.specs_of(stage):
            for name, flag in flags_of(spec.options).items():
                for spelling in flag_names(name, flag):
                    assert spelled.setdefault(spelling, name) == name


def test_a_missing_package_is_named_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "broken_engine.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    spec = EngineSpec("masks", "mine", "broken_engine:Masks", MaskOptions, install="pip install mine")
    with pytest.raises(MissingPackageError, match=r"'no_such_package'.*`pip install mine`"):
        registry.load(registry.with_options(spec))


class _Point:
    """An entry point of a plugin."""

    def __init__(self, value: Any) -> None:
        self.name, self.value, self._loaded = "plugin", "plugin:SPEC", value

    def load(self) -> Any:
        if isinstance(self._loaded, Exception):
            raise self._loaded
        return self._loaded


def _install(monkeypatch: pytest.MonkeyPatch, *values: Any) -> None:
    monkeypatch.setattr(plugins, "plugin_entry_points", lambda: [_Point(value) for value in values])


def test_plugins_join_the_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    one = EngineSpec("masks", "one", "x:X", MaskOptions)
    two = EngineSpec("objects", "two", "x:X", EmbeddedObjectOptions)
    _install(monkeypatch, one, [two])
    assert choose("masks", "one", max_objects=3).options.max_objects == 3
    assert registry.find("objects", "two") is two


@pytest.mark.parametrize(
    ("plugin", "words"),
    [
        (ImportError("no module named x"), "no module named x"),
        ("a text", "not an EngineSpec"),
        (EngineSpec("masks", "sam3", "x:X", MaskOptions), "an engine 'sam3' of masks already exists"),
        (EngineSpec("dreams", "mine", "x:X", MaskOptions), "its stage is 'dreams'"),
    ],
    ids=["import", "type", "name", "stage"],
)
def test_a_broken_plugin_is_skipped_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, plugin: Any, words: str
) -> None:
    _install(monkeypatch, plugin)
    with caplog.at_level(logging.WARNING, "sam3d_gs"):
        assert registry.find("masks", "sam3").target.startswith("sam3d_gs.engines")
    assert words in caplog.text and "is skipped" in caplog.text


@dataclass(frozen=True)
class TakesForce(EngineOptions):
    force: bool = option(False, "Not ours to take.")


@dataclass(frozen=True)
class TakesSeed(EngineOptions):
    seed: int = option(0, "Of another stage.")


@dataclass(frozen=True)
class OtherType(EngineOptions):
    score_threshold: str = option("low", "low or high")


@dataclass(frozen=True)
class SameOption(EngineOptions):
    score_threshold: float = option(0.2, "As for the others.")


@dataclass(frozen=True)
class Required(EngineOptions):
    level: float


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (TakesForce, "--force is one of the program's own"),
        (TakesSeed, "--seed means something else"),
        (OtherType, "--score-threshold means something else"),
        (Required, "missing 1 required positional argument"),
        (dict, "not a subclass of EngineOptions"),
        (SameOption, ""),
    ],
)
def test_options_of_a_plugin_never_take_those_of_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, options: Any, words: str
) -> None:
    _install(monkeypatch, EngineSpec("masks", "mine", "x:X", options))
    with caplog.at_level(logging.WARNING, "sam3d_gs"):
        there = ("masks", "mine") in registry.all_specs()
    assert words in caplog.text
    assert there == (not words)


def test_the_reserved_options_are_those_of_the_commands() -> None:
    """Whatever `sam3d-gs run` and the stages take beside the options of engines."""
    import typer

    from sam3d_gs.cli import app

    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    engines = {
        spelling
        for spec in BUILT_IN
        for name, flag in flags_of(spec.options).items()
        for spelling in flag_names(name, flag)
    }
    own: set[str] = {"--help", "-h"}
    for command in ("run", "phrases", "masks", "objects", "reconstruct"):
        for parameter in commands[command].params:
            if parameter.param_type_name == "option":
                own |= {*parameter.opts, *parameter.secondary_opts} - engines
    assert {spelling for spelling in own if spelling not in ("--no-border-filter",)} == plugins.RESERVED_FLAGS


@pytest.mark.parametrize("stage", ["mask", "scene"])
def test_a_stage_without_engines(stage: str) -> None:
    for ask in (lambda: choose(stage), lambda: choose(stage, "sam3")):
        with pytest.raises(UsageError, match=r"has no engines\. Expected phrases or masks or objects"):
            ask()


def test_values_given_in_python_are_checked_and_converted() -> None:
    for options, words in (({"seed": -1}, "--seed is -1. Expected at least 0"), ({"pitch_deg": 500.0}, "-45 to 85")):
        with pytest.raises(UsageError, match=words):
            choose("objects", "embedded", **options)
    assert choose("masks", masks_dir="some/folder").options.masks_dir == Path("some/folder")
    assert choose("phrases", phrases=["cup"]).options.phrases == ("cup",)
    with pytest.raises(UsageError, match="Expected a list"):
        choose("phrases", phrases="red cup")


def test_this_environment_has_no_plugins_that_tests_would_see() -> None:
    assert not list(importlib.metadata.entry_points(group=plugins.GROUP))
