"""`sam3d-gs checkpoints` against a fake hub: checks first, then complete and verified files."""

from __future__ import annotations

import json
import shutil
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sam3d_gs.commands.checkpoints import app
from sam3d_gs.errors import Sam3dGsError
from sam3d_gs.weights.repositories import REPOSITORIES, find_repository
from tests.hub import COMMIT, GOOD_TOKEN, FakeHub, Fault, serving

pytest.importorskip("huggingface_hub")

BIG = bytes(i * 11 % 253 for i in range(5000))
SHARDS = {"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}
OBJECTS = find_repository("sam-3d-objects")
REPOS = {
    "Qwen/Qwen3-VL-8B-Thinking": {
        "config.json": b"{}",
        "model.safetensors.index.json": json.dumps(SHARDS).encode(),
        "model-1-of-2.safetensors": BIG,
        "model-2-of-2.safetensors": BIG[::-1],
        "README.md": b"# nobody reads this",
    },
    "facebook/sam3": {
        "config.json": b"{ }",
        "model.safetensors": BIG + b"3",
        "sam3.pt": BIG + b"pt",
        "tokenizer.json": b"{  }",
    },
    "facebook/sam-3d-objects": {
        **{name: name.encode() * 9 for name in OBJECTS.essential},
        "checkpoints/ss_encoder.ckpt": BIG,
        "doc/figure.yaml": b"outside the folder",
    },
    "Ruicheng/moge-vitl": {"model.pt": BIG + b"moge"},
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    fake = FakeHub(
        {name: dict(files) for name, files in REPOS.items()},
        gates={"facebook/sam3": "granted", "facebook/sam-3d-objects": "granted"},
    )
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN_PATH", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with serving(fake):
        monkeypatch.setenv("HF_ENDPOINT", fake.endpoint)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.setenv("HF_TOKEN", GOOD_TOKEN)
        monkeypatch.setenv("SAM3D_GS_WORKSPACE", str(tmp_path))
        yield fake


def _call(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, arguments)
    if result.exception and not isinstance(result.exception, (SystemExit, Sam3dGsError)):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def _error(*arguments: str) -> str:
    result = _call(*arguments, code=1)
    assert isinstance(result.exception, Sam3dGsError)
    assert "\n" not in str(result.exception) and GOOD_TOKEN not in str(result.exception)
    return str(result.exception)


@pytest.mark.slow
def test_everything_lands_where_engines_look(hub: FakeHub, tmp_path: Path) -> None:
    _call("download")
    folder = tmp_path / "sam-3d-objects" / "checkpoints" / "hf"
    assert (folder / "pipeline.yaml").read_bytes() == REPOS[OBJECTS.id]["checkpoints/pipeline.yaml"]
    assert not (folder / "ss_encoder.ckpt").exists()
    snapshot = tmp_path / "hf" / "hub" / "models--facebook--sam3" / "snapshots" / COMMIT
    assert sorted(path.name for path in snapshot.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
    from huggingface_hub import hf_hub_download

    found = hf_hub_download("Ruicheng/moge-vitl", "model.pt", cache_dir=tmp_path / "hf" / "hub", local_files_only=True)
    assert Path(found).read_bytes() == REPOS["Ruicheng/moge-vitl"]["model.pt"]
    before = len(hub.transfers())
    _call("download")
    assert len([r for r in hub.transfers() if r.path.startswith("/stored")]) <= before
    assert "complete" in _call("list").output


def test_all_takes_the_rest_too(hub: FakeHub, tmp_path: Path) -> None:
    _call("download", "--all", "sam3", "sam-3d-objects")
    assert (tmp_path / "sam-3d-objects/checkpoints/hf/ss_encoder.ckpt").read_bytes() == BIG
    assert not list(tmp_path.rglob("figure.yaml"))
    assert list(tmp_path.rglob("sam3.pt"))
    assert '"sam3.pt"' in _call("verify", "sam3", "--json").output


def test_everything_that_is_denied_is_said_before_anything_is_downloaded(hub: FakeHub) -> None:
    hub.gates = {"facebook/sam3": "pending", "facebook/sam-3d-objects": "not asked for"}
    text = _error("download")
    assert "facebook/sam3: pending" in text and "facebook/sam-3d-objects: not asked for" in text
    assert "https://huggingface.co/facebook/sam-3d-objects" in text
    assert not hub.transfers()


def test_one_bad_file_is_replaced_alone(hub: FakeHub, tmp_path: Path) -> None:
    _call("download", "qwen3-vl", "sam-3d-objects")
    shard = next(tmp_path.rglob("snapshots/*/model-2-of-2.safetensors"))
    shard.resolve().write_bytes(bytes(len(BIG)))  # the right size
    yaml = tmp_path / "sam-3d-objects/checkpoints/hf/ss_decoder.yaml"
    yaml.write_bytes(yaml.read_bytes()[:-1])
    assert "wrong digest" not in _call("verify", "--sizes", "qwen3-vl").output
    output = _call("verify", "qwen3-vl", "sam-3d-objects", code=1).output
    assert f"wrong digest: {shard}" in output and f"wrong size: {yaml}" in output
    hub.requests.clear()
    _call("verify", "--repair", "qwen3-vl", "sam-3d-objects")
    fetched = {r.path.rsplit("/", 1)[-1] for r in hub.transfers() if r.path.startswith("/stored")}
    assert fetched == {"model-2-of-2.safetensors", "ss_decoder.yaml"}
    assert shard.read_bytes() == BIG[::-1]


def test_verify_without_the_hub_uses_the_record(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _call("download", "moge", "sam-3d-objects")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub.requests.clear()
    assert "the record of the download" in _call("verify", "moge", "sam-3d-objects").output
    _call("download", "moge", "sam-3d-objects")
    (tmp_path / "sam-3d-objects/checkpoints/hf/pipeline.yaml").unlink()
    _call("verify", "sam-3d-objects", code=1)
    assert "HF_HUB_OFFLINE is set, and facebook/sam-3d-objects" in _error("download", "moge", "sam-3d-objects")
    assert not hub.requests


def test_files_brought_by_hand_are_judged_by_what_is_known(hub: FakeHub, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in OBJECTS.essential:
        (folder / name.removeprefix("checkpoints/")).write_bytes(b"short")
    output = _call("list", "sam-3d-objects", "--folder", f"sam-3d-objects={folder}").output
    assert "the known release" in output and f"wrong size: {folder / 'ss_generator.ckpt'}" in output
    _call("download", "sam-3d-objects", "--folder", f"sam-3d-objects={folder}")  # the hub knows better
    assert (folder / "ss_generator.ckpt").read_bytes() == REPOS[OBJECTS.id]["checkpoints/ss_generator.ckpt"]
    assert not (tmp_path / "sam-3d-objects").exists()


def test_a_missing_shard_is_noticed_offline(hub: FakeHub, tmp_path: Path) -> None:
    _call("download", "qwen3-vl")
    root = tmp_path / "hf/hub/models--Qwen--Qwen3-VL-8B-Thinking"
    (root / ".sam3d_gs.json").unlink()  # as another tool would have left it
    assert "complete" in _call("list", "qwen3-vl").output
    next(root.glob("snapshots/*/model-1-of-2.safetensors")).unlink()
    assert "1 missing of 3 files" in _call("list", "qwen3-vl").output


def test_a_dropped_connection_resumes(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sam3d_gs.weights.transfer._BLOCK", 500)
    hub.faults["model.pt"] = Fault("drop", after=3500, times=1)
    _call("download", "moge")
    stored = [r.range for r in hub.transfers("model.pt") if r.path.startswith("/stored")]
    assert stored == ["", "bytes=3500-"]


def test_a_full_disk_is_reported_first(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 9, 1000))
    assert "only 0.0 GiB are free" in _error("download", "moge")
    assert not hub.transfers("model.pt")


@pytest.mark.parametrize("name", ["checkpoints//tmp/x", "checkpoints/../../x"])
def test_a_bad_name_in_the_list_of_files_leaves_nothing(hub: FakeHub, tmp_path: Path, name: str) -> None:
    hub.listed["checkpoints/pipeline.yaml"] = name
    assert "outside its folder" in _error("download", "sam-3d-objects")
    assert not hub.transfers(name) and not (tmp_path / "sam-3d-objects").exists()


def test_ctrl_c_says_how_to_continue(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sam3d_gs.weights.hub.Hub.download", stopped)
    result = _call("download", "moge", code=130)
    assert "run the same command again to resume" in result.output


def test_two_downloads_into_one_place(hub: FakeHub, tmp_path: Path) -> None:
    import filelock

    root = tmp_path / "hf/hub/models--Ruicheng--moge-vitl"
    root.mkdir(parents=True)
    with filelock.FileLock(root / ".sam3d_gs.lock"):
        assert "Another download" in _error("download", "moge")


def test_any_repository_of_the_hub(hub: FakeHub, tmp_path: Path) -> None:
    hub.repositories["own/tiny"] = {"config.json": b"{}", "weights.bin": BIG}
    _call("download", "own/tiny", "--folder", f"own/tiny={tmp_path / 'tiny'}")
    assert (tmp_path / "tiny/weights.bin").read_bytes() == BIG


@pytest.mark.parametrize("arguments", [["sam4"], ["a/b/c"], ["moge", "--folder", "moge"]])
def test_wrong_names(hub: FakeHub, arguments: list[str]) -> None:
    result = CliRunner().invoke(app, ["list", *arguments])
    assert isinstance(result.exception, Sam3dGsError) and result.exception.exit_code == 2


def test_names_are_unique_and_gated_ones_come_from_meta() -> None:
    assert len({r.name for r in REPOSITORIES}) == len(REPOSITORIES)
    assert {r.id for r in REPOSITORIES if r.gated} == {"facebook/sam3", "facebook/sam-3d-objects"}
