"""`sam3d-gs doctor` on an empty machine and with a mocked full set-up."""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sam3d_gs.cli import app
from sam3d_gs.engines.registry import BUILT_IN
from sam3d_gs.errors import Sam3dGsError
from sam3d_gs.system import environments, machine
from sam3d_gs.weights.checkpoints import Store
from sam3d_gs.weights.hub import Hub
from sam3d_gs.weights.remote_files import RemoteFile
from sam3d_gs.weights.repositories import REPOSITORIES
from tests.hub import GOOD_TOKEN, FakeHub, serving

NAMES = ("vllm", "sam3", "sam3d-objects")
MODULES = ("vllm", "torch", "transformers", "safetensors", "yaml", "numba")


def _executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without GPUs, environments, weights and token."""
    for name in (
        "HF_TOKEN",
        "HF_TOKEN_PATH",
        "HF_HUB_CACHE",
        "HF_HUB_OFFLINE",
        "HF_ENDPOINT",
        "CONDA_EXE",
        "MAMBA_EXE",
    ):
        monkeypatch.delenv(name, raising=False)
    for variable, _ in environments.STAGE_ENVIRONMENTS.values():
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("CONDA_SH", str(tmp_path / "no-conda.sh"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("SAM3D_GS_VENVS", str(tmp_path / "venvs"))
    monkeypatch.setenv("SAM3D_GS_WORKSPACE", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    root = environments.repository_root()
    assert root is not None
    monkeypatch.chdir(root)  # fixes name the scripts as they are called from there
    _gpus(tmp_path)


def _gpus(tmp_path: Path, *rows: str) -> None:
    """A fake nvidia-smi that prints these rows; without rows it fails."""
    output = "\n".join(f"echo '{row}, GPU-{i}'" for i, row in enumerate(rows))
    _executable(tmp_path / "bin" / "nvidia-smi", output or "exit 9")


def _environment(tmp_path: Path, name: str, modules: tuple[str, ...] = MODULES) -> None:
    stubs = tmp_path / "stubs" / name
    for module in (*modules, "sam3d_gs"):
        (stubs / module).mkdir(parents=True)
        (stubs / module / "__init__.py").touch()
    if "torch" in modules:
        _torch(stubs, usable=True)
    place = tmp_path / "venvs" / name / "bin"
    _executable(place / "python", f'PYTHONPATH="{stubs}" exec "{sys.executable}" -S "$@"')
    _executable(place / "sam3d-gs", "exit 0")


def _torch(stubs: Path, usable: bool) -> None:
    text = f"class version:\n    cuda = '13.0'\nclass cuda:\n    is_available = staticmethod(lambda: {usable})\n"
    (stubs / "torch" / "__init__.py").write_text(text)


def _weights(tmp_path: Path) -> None:
    """Tiny weights, with a record of their sizes and digests."""
    digest = hashlib.sha256(b"abc").hexdigest()
    hub = Hub("", tmp_path / "hf" / "hub")
    for repository in REPOSITORIES:
        folder = tmp_path / repository.folder if repository.folder else None
        store = Store(repository if folder is None else _in(repository, folder), hub)
        needed = {name for spec in BUILT_IN for name in spec.weights.get(repository.name, ())} - {"sam3.pt"}
        for name in needed:
            path = store.path(name, "c" * 40)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"abc")
        store.record("c" * 40, [RemoteFile(name, 3, digest) for name in sorted(needed)])


def _in(repository: Any, folder: Path) -> Any:
    from dataclasses import replace

    return replace(repository, folder=folder)


@pytest.fixture
def full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in NAMES:
        _environment(tmp_path, name)
    _weights(tmp_path)
    _gpus(tmp_path, "0, NVIDIA GeForce RTX 4090, 580.65.06, 24564, 24100")
    monkeypatch.setenv("HF_TOKEN", GOOD_TOKEN)
    return tmp_path


def _doctor(*arguments: str, code: int) -> str:
    result = CliRunner().invoke(app, ["doctor", *arguments])
    assert result.exit_code == code, result.output
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert GOOD_TOKEN not in result.output
    return result.output


def _data(*arguments: str, code: int) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(_doctor("--json", *arguments, code=code))
    return data


def _fixes(data: dict[str, Any], stage: str) -> list[str]:
    return [p["fix"] for s in data["stages"] if s["stage"] == stage for p in s["problems"]]


def test_an_empty_machine_gets_a_fix_for_every_stage() -> None:
    data = _data(code=1)
    assert not data["ready"] and not data["machine"]["cards"] and not data["hub"]["token"]
    assert _fixes(data, "phrases")[0] == "bash envs/setup.sh --env vllm"
    assert _fixes(data, "masks")[0] == "bash envs/setup.sh --env sam3"
    assert "hf auth login" in _fixes(data, "objects")[1]
    text = _doctor(code=1)
    assert "profile full" in text and "cannot run here" in text


def test_quiet_prints_one_line_per_problem_and_nothing_else() -> None:
    lines = _doctor("--quiet", "--profile", "full", code=1).splitlines()
    assert lines and all(". Next: " in line for line in lines)


@pytest.mark.slow
def test_the_full_set_up_is_ready(full: Path) -> None:
    data = _data(code=0)
    assert data["ready"] and [s["ready"] for s in data["stages"]] == [True] * 3
    assert data["machine"]["cards"][0]["free_mib"] == 24100
    assert data["environments"]["phrases"]["prefix"] and "vllm" in data["environments"]["phrases"]["packages"]
    assert data["plan"][0].startswith("1. phrases (vllm) in vllm on GPU 0") and "fits" in data["plan"][0]
    assert "can run here" in _doctor(code=0)
    assert _doctor("--quiet", code=0) == ""


@pytest.mark.slow
def test_a_missing_package_stops_its_stage_only(full: Path) -> None:
    shutil.rmtree(full / "stubs" / "sam3" / "transformers")
    data = _data(code=1)
    assert [s["ready"] for s in data["stages"]] == [True, False, True]
    assert "lacks transformers" in data["stages"][1]["problems"][0]["what"]
    assert _data("--stages", "phrases,objects", code=0)["ready"]


@pytest.mark.slow
def test_damaged_and_missing_weights_have_different_fixes(full: Path) -> None:
    (full / "sam-3d-objects/checkpoints/hf/ss_decoder.ckpt").write_bytes(b"abcd")
    assert _fixes(_data(code=1), "objects") == ["sam3d-gs checkpoints verify --repair sam-3d-objects"]
    fixes = _fixes(_data("--masks-engine", "sam3-official", "--stages", "masks", code=1), "masks")
    assert "sam3d-gs checkpoints download --all sam3" in fixes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rows", "ready", "words"),
    [
        (["0, Small, 580, 8192, 8000"], False, "needs about"),
        (["0, Half, 580, 16384, 16000", "1, Half, 580, 16384, 16000"], True, "GPUs 0+1"),
        (["0, Busy, 580, 49140, 900"], True, "only 0.9 GiB are free now"),
        (["0, [N/A], 580, [N/A], [N/A]"], False, "no NVIDIA GPU"),
    ],
)
def test_gpu_memory_is_compared_with_what_the_model_needs(full: Path, rows: list[str], ready: bool, words: str) -> None:
    _gpus(full, *rows)
    text = _doctor("--stages", "phrases", code=0 if ready else 1)
    assert words in text


@pytest.mark.slow
def test_a_smaller_model_needs_a_smaller_gpu(full: Path) -> None:
    _gpus(full, "0, Small, 580, 12288, 12000")
    output = _check(full)
    assert "needs about 19.9" in output and "a smaller --model" in output
    (full / "mine").mkdir()
    (full / "mine" / "model.safetensors").write_bytes(b"")
    assert _check(full, "--model", str(full / "mine")) == ""
    assert "needs about 12.5" in _check(full, "--model", "Qwen/Qwen3-VL-4B-Thinking", "--stages", "phrases")
    _gpus(full)
    (full / "mine" / "model.safetensors").unlink()  # of unknown size
    assert "no NVIDIA GPU" in _check(full, "--model", str(full / "mine"))


@pytest.mark.slow
def test_deep_finds_damaged_weights_of_the_right_size(full: Path) -> None:
    assert _data("--deep", code=0)["ready"]
    (full / "sam-3d-objects/checkpoints/hf/slat_generator.ckpt").write_bytes(b"abd")
    assert _data(code=0)["ready"]
    data = _data("--deep", code=1)
    assert _fixes(data, "objects") == ["sam3d-gs checkpoints verify --repair sam-3d-objects"]
    bad = [(f["name"], f["state"]) for c in data["checkpoints"] for f in c["files"] if f["state"] != "ok"]
    assert bad == [("checkpoints/slat_generator.ckpt", "wrong digest")]


@pytest.mark.slow
def test_deep_hashes_the_users_own_folder(full: Path) -> None:
    own = full / "my weights"
    shutil.move(full / "sam-3d-objects/checkpoints/hf", own)
    objects = ("--stages", "objects", "--deep")
    assert "not here" in _data(*objects, code=1)["stages"][0]["problems"][0]["what"]
    folder = ("--folder", f"sam-3d-objects={own}")
    [sam3d, moge] = _data(*objects, *folder, code=0)["checkpoints"]
    assert (sam3d["where"], sam3d["complete"], moge["complete"]) == (str(own), True, True)
    (own / "ss_decoder.ckpt").write_bytes(b"xyz")
    assert "1 wrong digest" in _data(*objects, *folder, code=1)["stages"][0]["problems"][0]["what"]


@pytest.mark.slow
def test_deep_checks_that_each_torch_can_use_the_gpu(full: Path) -> None:
    assert _data("--deep", code=0)["environments"]["masks"]["cuda"] == "CUDA 13.0, usable"
    _torch(full / "stubs" / "sam3", usable=False)
    assert _data(code=0)["environments"]["masks"]["cuda"] == ""  # not checked
    data = _data("--deep", code=1)
    assert [stage["ready"] for stage in data["stages"]] == [True, False, True]
    assert data["stages"][1]["problems"][0]["what"] == "torch cannot use the GPU (CUDA 13.0, not usable here)"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["0, Usual, 580, 24564, 24100"], "They do not fit at the same time (--overlap), which needs about 35.4 GiB"),
        (["0, Large, 580, 143771, 143000"], "(--overlap): phrases on GPU 0, masks on GPU 0, objects on GPU 0."),
        (
            ["0, Usual, 580, 24564, 24100", "1, Usual, 580, 24564, 24100"],
            "(--overlap): phrases on GPU 0, masks on GPU 1, objects on GPU 1.",
        ),
    ],
    ids=["one small", "one large", "two"],
)
def test_the_plan_says_whether_stages_fit_at_the_same_time(full: Path, rows: list[str], words: str) -> None:
    _gpus(full, *rows)
    plan = _data(code=0)["plan"]
    assert plan[3] == "4. scene in sam3d-objects on the CPU"
    assert words in plan[-1]


def test_gpus_hidden_by_cuda_visible_devices_do_not_count(full: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    text = _doctor("--stages", "phrases", code=1)
    assert "CUDA_VISIBLE_DEVICES=1" in text and "on an NVIDIA GPU, and there is none here" in text


def test_fixes_work_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = shlex.split(_fixes(_data(code=1), "masks")[0])
    assert command[:1] + command[2:] == ["bash", "--env", "sam3"] and Path(command[1]).is_file()


@pytest.mark.slow
def test_an_engine_without_packages_runs_in_any_environment(full: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(full / "venvs" / "vllm")
    served = ("--phrases-engine", "openai")
    assert "export SAM3D_GS_ENV_VLLM=" in _fixes(_data(*served, code=1), "phrases")[0]
    monkeypatch.setenv("SAM3D_GS_ENV_VLLM", "sam3")
    assert _data(*served, code=0)["ready"]


def test_a_hanging_environment_times_out(full: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "_TIMEOUT_S", 0.5)
    _executable(full / "venvs" / "sam3" / "bin" / "python", "exec sleep 3")
    assert "no answer within" in _data("--stages", "masks", code=1)["stages"][0]["problems"][0]["what"]


@pytest.mark.slow
def test_access_is_checked_only_online(full: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("huggingface_hub")
    fake = FakeHub(
        {"facebook/sam3": {"config.json": b"{}"}, "Qwen/Qwen3-VL-8B-Thinking": {"config.json": b"{}"}},
        gates={"facebook/sam3": "pending"},
    )
    with serving(fake):
        monkeypatch.setenv("HF_ENDPOINT", fake.endpoint)
        _data("--stages", "phrases,masks", code=0)
        assert not fake.requests
        access = _data("--stages", "phrases,masks", "--online", code=0)["hub"]["access"]
        assert access == {"facebook/sam3": "pending", "Qwen/Qwen3-VL-8B-Thinking": "granted"}
        next((full / "hf/hub/models--facebook--sam3").rglob("config.json")).unlink()
        problem = _data("--stages", "masks", "--online", code=1)["stages"][0]["problems"][0]
    assert "access pending" in problem["what"]


@pytest.mark.slow
def test_the_embedded_profile_runs_here() -> None:
    pytest.importorskip("numba")
    assert _data("--profile", "embedded", code=0)["ready"]


@pytest.mark.parametrize(
    "arguments", [["--profile", "fast"], ["--stages", "dream"], ["--masks-engine", "sam4"]], ids=lambda a: a[0]
)
def test_unknown_names_are_refused(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, ["doctor", *arguments])
    assert "Expected" in str(result.exception)


def test_without_a_clone_this_python_is_examined(monkeypatch: pytest.MonkeyPatch) -> None:
    found = environments.probe("vllm", ["json", "no_such_module"], None)
    assert found.missing == ("no_such_module",) and found.name == "this Python"


def test_a_free_port_is_found() -> None:
    assert machine.inspect_machine(Path(), Path()).free_port


def _check(tmp_path: Path, *options: str) -> str:
    result = CliRunner().invoke(app, ["run", "photo.jpg", "--check", "--profile", "full", *options])
    if result.exit_code:
        assert isinstance(result.exception, Sam3dGsError), result.exception
        assert "nothing was started" in str(result.exception)
    return result.output


def test_check_is_silent_if_the_run_can_start(full: Path) -> None:
    assert _check(full) == ""


@pytest.mark.slow
def test_check_names_the_weights_that_are_missing(full: Path) -> None:
    (full / "sam-3d-objects/checkpoints/hf/slat_generator.ckpt").unlink()
    assert "objects (native): weights facebook/sam-3d-objects" in _check(full)
    assert _check(full, "--stages", "phrases,masks") == ""


@pytest.mark.slow
def test_check_takes_the_options_into_account(full: Path) -> None:
    shutil.rmtree(full / "hf")  # leaves only the weights of SAM 3D Objects
    assert "facebook/sam3" in _check(full) and "Ruicheng" in _check(full)
    (full / "mine").mkdir()
    own = ("--sam3", str(full / "mine"), "--depth", str(full / "depth.npy"))
    (full / "depth.npy").touch()
    assert _check(full, *own) == ""
    (full / "venvs/vllm/bin/python").unlink()
    assert "environment vllm" in _check(full, *own)
    (full / "masks").mkdir()
    assert _check(full, "--masks", str(full / "masks"), "--depth", str(full / "depth.npy")) == ""
