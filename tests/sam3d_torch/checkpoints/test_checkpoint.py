"""Checkpoint folders: what is loaded is what the files say, and a bad file is named before anything is loaded."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import shutil
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sam3d_gs.errors import BadInputError
from sam3d_gs.sam3d_torch.checkpoints.checkpoint import Checkpoint, find_moge
from sam3d_gs.sam3d_torch.checkpoints.network_source import (
    GAUSSIAN_DECODER,
    MOGE,
    STRUCTURE_FLOW,
    Part,
    Reader,
    network_parts,
    tensors_of,
)
from sam3d_gs.sam3d_torch.checkpoints.weight_files import WeightFile
from sam3d_gs.sam3d_torch.checkpoints.yaml_files import read_config
from sam3d_gs.sam3d_torch.moge import MogeConfig, MogeV1
from synthetic.checkpoints import make_checkpoints
from synthetic.checkpoints.configs import FULL_MOGE, file_stems

HERE = Path(__file__).parent
CPU = torch.device("cpu")
FLOW_PREFIX = "_base_models.generator.reverse_fn.backbone."
CONDITION_PREFIX = "_base_models.condition_embedder."


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint folder; tests must not change it."""
    return make_checkpoints(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture
def own(tiny: Path, tmp_path: Path) -> Path:
    """A copy of it to spoil."""
    return Path(shutil.copytree(tiny, tmp_path / "own"))


def stored(path: Path) -> dict[str, Tensor]:
    content = torch.load(path, weights_only=True)
    return content.get("state_dict", content)


@pytest.mark.slow
def test_official_yaml_gives_the_official_tensors() -> None:
    config = read_config(HERE / "official_yaml")
    parts = network_parts(config, {name: Path(stem) for name, stem in file_stems(config).items()})
    moge = MogeConfig.from_checkpoint(FULL_MOGE)
    parts[MOGE] = Part(MOGE, lambda: MogeV1(moge), Path("model.pt"), "")
    official = json.loads(gzip.decompress((HERE / "official_tensors.json.gz").read_bytes()))

    assert sorted(parts) == sorted(official)
    for name, part in parts.items():
        ours = {key: list(tensor.shape) for key, tensor in part.on_meta(nn.Module).state_dict().items()}
        theirs = {key.removeprefix("reverse_fn.backbone."): shape for key, shape in official[name].items()}
        assert ours == theirs, name


@pytest.mark.slow
def test_every_network_holds_the_values_of_its_file(tiny: Path) -> None:
    checkpoint = Checkpoint(tiny)
    structure, latent = stored(tiny / "ss_generator.ckpt"), stored(tiny / "slat_generator.ckpt")
    networks: list[tuple[nn.Module, dict[str, Tensor], str]] = [
        (checkpoint.structure_flow(CPU, torch.float32), structure, FLOW_PREFIX),
        (checkpoint.structure_condition(CPU, torch.float32), structure, CONDITION_PREFIX),
        (checkpoint.latent_flow(CPU, torch.float32), latent, FLOW_PREFIX),
        (checkpoint.latent_condition(CPU, torch.float32), latent, CONDITION_PREFIX),
        (checkpoint.structure_decoder(CPU, torch.float32), stored(tiny / "ss_decoder.ckpt"), ""),
        (checkpoint.gaussian_decoder(32, CPU, torch.float32), stored(tiny / "slat_decoder_gs.ckpt"), ""),
        (checkpoint.gaussian_decoder(4, CPU, torch.float32), stored(tiny / "slat_decoder_gs_4.ckpt"), ""),
        (checkpoint.moge(CPU, torch.float32), torch.load(tiny / "moge-vitl" / "model.pt")["model"], ""),
    ]
    for network, tensors, prefix in networks:
        state = network.state_dict()
        assert set(state) == {key.removeprefix(prefix) for key in tensors if key.startswith(prefix)}
        for name, value in state.items():
            assert torch.equal(value, tensors[prefix + name].float()), name
        assert not network.training
        assert not any(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_small_and_delicate_tensors_stay_float32(tiny: Path, dtype: torch.dtype) -> None:
    checkpoint = Checkpoint(tiny)
    flow = checkpoint.structure_flow(CPU, dtype).state_dict()
    condition = checkpoint.structure_condition(CPU, dtype).state_dict()
    decoder = checkpoint.gaussian_decoder(4, CPU, dtype).state_dict()
    moge = checkpoint.moge(CPU, dtype).state_dict()

    assert flow["blocks.0.self_attn.to_qkv.shape.weight"].dtype == dtype
    assert flow["blocks.0.mlp.shape.mlp.0.bias"].dtype == dtype
    assert condition["module_list.0.backbone.blocks.0.attn.qkv.weight"].dtype == dtype
    assert decoder["blocks.0.attn.to_qkv.weight"].dtype == dtype
    assert moge["head.projects.0.weight"].dtype == dtype
    for state, name in [
        (flow, "blocks.0.norm2.shape.weight"),
        (flow, "blocks.0.self_attn.q_rms_norm.shape.gamma"),
        (flow, "latent_mapping.shape.pos_emb"),
        (flow, "latent_mapping.scale.out_layer.weight"),
        (condition, "idx_emb"),
        (condition, "projection_nets.0.0.weight"),
        (condition, "module_list.0.backbone.blocks.0.ls1.gamma"),
        (decoder, "offset_perturbation"),
        (moge, "head.upsample_blocks.0.1.layers.0.weight"),
        (moge, "head.output_block.0.2.weight"),
    ]:
        assert state[name].dtype == torch.float32, name


@pytest.mark.slow
def test_equal_dino_copies_are_one(tiny: Path) -> None:
    checkpoint = Checkpoint(tiny)
    structure, latent = (
        checkpoint.structure_condition(CPU, torch.float32),
        checkpoint.latent_condition(CPU, torch.float32),
    )

    backbones = {id(network.module_list[i].backbone) for network in (structure, latent) for i in (0, 1)}

    assert len(backbones) == 1
    assert checkpoint.structure_condition(CPU, torch.float16).module_list[0].backbone is not (
        structure.module_list[0].backbone
    )


@pytest.mark.slow
def test_different_dino_copies_stay_apart(own: Path) -> None:
    path = own / "slat_generator.ckpt"
    tensors = stored(path)
    tensors[CONDITION_PREFIX + "module_list.1.backbone.blocks.1.mlp.fc2.bias"][3] += 1e-3
    torch.save({"state_dict": tensors}, path)
    checkpoint = Checkpoint(own)

    structure, latent = (
        checkpoint.structure_condition(CPU, torch.float32),
        checkpoint.latent_condition(CPU, torch.float32),
    )

    assert list(checkpoint.dino_groups().values()) == [0, 0, 0, 1]
    assert latent.module_list[0].backbone is structure.module_list[0].backbone
    own_bias = latent.module_list[1].backbone.blocks[1].mlp.fc2.bias
    assert torch.equal(own_bias, tensors[CONDITION_PREFIX + "module_list.1.backbone.blocks.1.mlp.fc2.bias"])
    assert not torch.equal(own_bias, latent.module_list[0].backbone.blocks[1].mlp.fc2.bias)


@pytest.mark.slow
def test_a_dropped_backbone_is_loaded_again(tiny: Path) -> None:
    checkpoint = Checkpoint(tiny)
    first = checkpoint.structure_condition(CPU, torch.float32).state_dict()
    again = checkpoint.structure_condition(CPU, torch.float32).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.slow
def test_weight_bytes_are_what_loading_takes(tiny: Path) -> None:
    checkpoint = Checkpoint(tiny)
    where = (CPU, torch.float16)
    told = checkpoint.weight_bytes(torch.float16, 4)
    networks = {
        name: getattr(checkpoint, name)(*where) for name in told if name not in (GAUSSIAN_DECODER, "latent_condition")
    }
    networks["latent_condition"] = checkpoint.latent_condition(*where)
    networks[GAUSSIAN_DECODER] = checkpoint.gaussian_decoder(4, *where)

    seen: set[int] = set()
    for name, network in networks.items():
        new = {t.data_ptr(): t.numel() * t.itemsize for *_, t in tensors_of(network) if t.data_ptr() not in seen}
        seen |= set(new)
        assert told[name] == sum(new.values()), name


@pytest.mark.slow
def test_building_reads_no_values(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: WeightFile, key: str) -> Tensor:
        raise AssertionError(f"{key} was read")

    monkeypatch.setattr(WeightFile, "__getitem__", refuse)
    checkpoint = Checkpoint(tiny)
    with pytest.raises(AssertionError, match="was read"):
        checkpoint.structure_flow(CPU, torch.float32)


def test_one_tensor_at_a_time_is_in_memory_twice(tiny: Path) -> None:
    class Watched(Checkpoint):
        most = 0

        @contextmanager
        def reader(self, part: Part) -> Iterator[Reader]:
            alive: list[weakref.ref[Tensor]] = []

            def read(name: str) -> Tensor:
                value = inner(name).clone()
                alive.append(weakref.ref(value))
                self.most = max(self.most, sum(ref() is not None for ref in alive))
                return value

            with super().reader(part) as inner:
                yield read

    checkpoint = Watched(tiny)
    checkpoint.structure_flow(CPU, torch.float16)
    assert 1 <= checkpoint.most <= 2


@pytest.mark.slow
@pytest.mark.parametrize("prefixes", [True, False])
def test_safetensors_mirror(tiny: Path, own: Path, prefixes: bool) -> None:
    for path in own.glob("*.ckpt"):
        tensors = stored(path)
        if not prefixes:
            tensors = {key: value for key, value in tensors.items() if not key.startswith("_base_models.decoder.")}
            tensors = {key.removeprefix(FLOW_PREFIX).removeprefix(CONDITION_PREFIX): v for key, v in tensors.items()}
        save_file(tensors, path.with_suffix(".safetensors"))
        path.unlink()

    theirs, ours = Checkpoint(tiny), Checkpoint(own)

    for name in (STRUCTURE_FLOW, "latent_condition", "structure_decoder"):
        a, b = (getattr(checkpoint, name)(CPU, torch.float32).state_dict() for checkpoint in (theirs, ours))
        assert set(a) == set(b)
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_the_small_decoder_may_be_missing(own: Path) -> None:
    (own / "slat_decoder_gs_4.ckpt").unlink()
    checkpoint = Checkpoint(own)
    assert sorted(checkpoint.config.gaussian_decoders) == [32]
    with pytest.raises(BadInputError, match="--gaussians-per-voxel 32"):
        checkpoint.gaussian_decoder(4, CPU, torch.float32)


def test_the_folder_above_will_do(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").symlink_to(tiny, target_is_directory=True)
    assert Checkpoint(tmp_path).folder == tmp_path / "checkpoints"


class Payload:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, ("ran",)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


SPOILERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (Path.unlink, "No weights at"),
    "empty": (lambda path: path.write_bytes(b""), "it is empty"),
    "cut": (cut, "ends early"),
    "text": (lambda path: path.write_text("<html>401</html>"), "it is a web page"),
    "noise": (lambda path: path.write_bytes(bytes(range(7, 207))), "not written by torch.save"),
    "account": (lambda path: path.write_text("root:x:0:0"), "not written by torch.save"),
    "pointer": (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "Git LFS pointer"),
    "zip": (lambda path: shutil.copy(shutil.make_archive(str(path), "zip", path.parent, "ss_decoder.yaml"), path), ""),
    "pickle": (lambda path: path.write_bytes(pickle.dumps(Payload())), "not written by torch.save"),
    "object": (lambda path: torch.save(Payload(), path), "Python object {mkdir}"),
    "tensor": (lambda path: torch.save(torch.zeros(3), path), "holds a Tensor"),
    "nothing": (lambda path: torch.save({}, path), "holds no tensor"),
    "numbers": (lambda path: torch.save({"epoch": 3}, path), "'epoch' is no tensor"),
    "other": (lambda path: torch.save({"fc.weight": torch.zeros(3)}, path), "unexpected (first fc.weight)"),
}


BAD_DECODERS = [("ss_decoder.ckpt", spoiler) for spoiler in SPOILERS]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(
    ("file", "spoiler"), [("ss_generator.ckpt", "cut"), ("slat_decoder_gs.ckpt", "missing"), *BAD_DECODERS]
)
def test_a_bad_file_is_named(own: Path, monkeypatch: pytest.MonkeyPatch, file: str, spoiler: str) -> None:
    monkeypatch.chdir(own)
    spoil, reason = SPOILERS[spoiler]
    spoil(own / file)
    with pytest.raises(BadInputError) as caught:
        Checkpoint(own)
    assert file in str(caught.value)
    assert reason.format(mkdir=f"{os.mkdir.__module__}.mkdir") in str(caught.value)
    assert "weights_only" not in str(caught.value)  # no advice to do without the safeguards
    assert "\n" not in str(caught.value)
    assert not (own / "ran").exists()


def test_a_cut_safetensors_file_is_named(own: Path) -> None:
    path = own / "ss_decoder.ckpt"
    save_file(stored(path), path.with_suffix(".safetensors"))
    path.unlink()
    cut(path.with_suffix(".safetensors"))
    with pytest.raises(BadInputError, match=r"ss_decoder\.safetensors is not a readable file"):
        Checkpoint(own)


def change(tensors: dict[str, Tensor], key: str, value: Tensor | None) -> None:
    del tensors[key]
    if value is not None:
        tensors[key] = value


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "key", "value", "message"),
    [
        (
            "ss_generator",
            FLOW_PREFIX + "blocks.0.norm2.shape.weight",
            None,
            "1 missing (first blocks.0.norm2.shape.weight",
        ),
        (
            "ss_generator",
            FLOW_PREFIX + "d_embedder.extra",
            torch.zeros(1),
            f"1 unexpected (first {FLOW_PREFIX}d_embedder",
        ),
        ("slat_generator", CONDITION_PREFIX + "idx_emb", torch.zeros(2, 32), "idx_emb: (2, 32) instead of (3, 32)"),
        ("slat_generator", CONDITION_PREFIX + "module_list.2.pos", torch.zeros(2), "1 unexpected"),
        ("slat_decoder_gs", "offset_perturbation", torch.zeros(4, 3), "(4, 3) instead of (32, 3)"),
        ("slat_decoder_gs_4", "out_layer.bias", None, "1 missing (first out_layer.bias)"),
    ],
)
def test_tensors_that_do_not_fit(own: Path, file: str, key: str, value: Tensor | None, message: str) -> None:
    path = own / f"{file}.ckpt"
    tensors = stored(path)
    tensors.setdefault(key, torch.zeros(0))
    change(tensors, key, value)
    torch.save({"state_dict": tensors} if "generator" in file else tensors, path)
    with pytest.raises(BadInputError) as caught:
        Checkpoint(own)
    assert path.name in str(caught.value)
    assert f"{file}.yaml" in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_yaml_that_disagrees_with_the_tensors(own: Path) -> None:
    path = own / "ss_decoder.yaml"
    path.write_text(path.read_text().replace("- 16", "- 24", 1))
    with pytest.raises(BadInputError, match=r"ss_decoder\.ckpt does not fit .* ss_decoder\.yaml.* instead of \(24"):
        Checkpoint(own)


def test_moge_is_found_in_order(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub-home"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    beside = own / "moge-vitl" / "model.pt"
    above = tmp_path / "moge-other" / "model.pt"
    cached = tmp_path / "hub-home" / "hub" / "models--Ruicheng--moge-vitl" / "snapshots" / "abc" / "model.pt"
    for path in (above, cached):
        path.parent.mkdir(parents=True)
        shutil.copy(beside, path)

    assert find_moge(own, "Ruicheng/moge-vitl", cached.parent) == cached
    for path in (beside, above, cached):
        assert find_moge(own, "Ruicheng/moge-vitl", None) == path
        path.unlink()
    with pytest.raises(BadInputError, match=r"Put model.pt of Ruicheng/moge-vitl at .* or give --depth"):
        find_moge(own, "Ruicheng/moge-vitl", None)
    with pytest.raises(BadInputError, match="Correct --moge"):
        find_moge(own, None, tmp_path / "nowhere.pt")
    local = own / "depth" / "mine.pt"
    local.parent.mkdir()
    local.touch()
    assert find_moge(own, "depth/mine.pt", None) == local


@pytest.mark.slow
def test_without_moge_everything_else_works(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(own))
    shutil.rmtree(own / "moge-vitl")
    checkpoint = Checkpoint(own)
    assert MOGE not in checkpoint.weight_bytes(torch.float32, 32)
    with pytest.raises(BadInputError, match="No depth weights"):
        checkpoint.moge(CPU, torch.float32)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": {"a": torch.zeros(1)}}, "no model_config"),
        ({"model_config": {"encoder": "dinov9"}, "model": {"a": torch.zeros(1)}}, "dinov9"),
        ({"model_config": {"encoder": "dinov2_tiny14"}, "model": {"a": torch.zeros(1)}}, "does not fit"),
        (
            {"model_config": {"encoder": "dinov2_tiny14", "num_tokens_range": 7}, "model": {"a": torch.zeros(1)}},
            "cannot",
        ),
    ],
)
def test_a_wrong_depth_file_is_named(own: Path, content: dict[str, Any], message: str) -> None:
    path = own / "moge-vitl" / "model.pt"
    torch.save(content, path)
    with pytest.raises(BadInputError, match=message):
        Checkpoint(own).moge(CPU, torch.float32)
