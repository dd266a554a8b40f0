"""Synthetic checkpoints: in the official layout, equal for equal seeds, and they make an object."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from sam3d_gs.sam3d_torch.checkpoints.checkpoint import Checkpoint
from sam3d_gs.sam3d_torch.checkpoints.network_source import MOGE, STRUCTURE_FLOW
from sam3d_gs.sam3d_torch.checkpoints.weight_files import open_weights
from sam3d_gs.sam3d_torch.checkpoints.yaml_files import read_config
from sam3d_gs.sam3d_torch.sampler import latent_noise, sample_latent, sample_structure, structure_noise
from sam3d_gs.sam3d_torch.structure_calls import StructureCalls
from sam3d_gs.sam3d_torch.voxels import surface
from synthetic.checkpoints import SIZES, RandomNetworks, full_config, make_checkpoints, tiny_config, yaml_files
from synthetic.checkpoints.__main__ import main

CPU = torch.device("cpu")
OFFICIAL = Path(__file__).parents[1] / "sam3d_torch" / "checkpoints" / "official_yaml"


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """How torch shares sines among threads changes their last bits, and other tests change the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoints(tmp_path_factory.mktemp("tiny"))


def test_full_size_is_the_official_one() -> None:
    assert full_config() == read_config(OFFICIAL)


@pytest.mark.parametrize("size", SIZES)
def test_yaml_says_what_the_configuration_says(size: str, tmp_path: Path) -> None:
    config = SIZES[size]().config
    for name, content in yaml_files(config).items():
        (tmp_path / name).write_text(yaml.safe_dump(content))
    assert read_config(tmp_path) == config


def test_yaml_has_the_official_structure() -> None:
    def keys(value: object, place: str = "") -> set[str]:
        if isinstance(value, dict):
            return {f"{place}/{key}" for key in value}.union(*(keys(v, f"{place}/{key}") for key, v in value.items()))
        return set().union(*(keys(item, place) for item in value)) if isinstance(value, list) else set()

    for name, content in yaml_files(full_config()).items():
        official = yaml.safe_load((OFFICIAL / name).read_text())
        sampler = {f"/{stage}_{key}" for stage in ("ss", "slat") for key in ("inference_steps", "cfg_interval")}
        new = keys(content) - keys(official) - sampler - {"/ss_rescale_t", "/ss_cfg_strength"}
        assert not {key for key in new if not key.endswith("prenorm_features")}, name
        for key in ("_target_", "ss_generator_ckpt_path"):
            assert content.get(key) == official.get(key)


@pytest.mark.slow
def test_files_are_small_and_in_the_official_layout(tiny: Path) -> None:
    files = {str(path.relative_to(tiny)): path.stat().st_size for path in tiny.rglob("*") if path.is_file()}
    names = ("ss_generator", "slat_generator", "ss_decoder", "slat_decoder_gs", "slat_decoder_gs_4")
    assert set(files) == {
        "pipeline.yaml",
        "moge-vitl/model.pt",
        *(f"{name}.{kind}" for name in names for kind in ("yaml", "ckpt")),
    }
    assert sum(files.values()) < 6e6
    with open_weights(tiny / "ss_generator.ckpt") as file:
        assert {key.split(".")[1] for key in file} == {"generator", "condition_embedder", "decoder"}
        assert all(tensor.dtype == torch.float32 for key, tensor in file.items() if ".decoder." not in key)
    with open_weights(tiny / "ss_decoder.ckpt") as file:
        assert file["blocks.0.conv1.weight"].dtype == torch.float16
        assert file["out_layer.2.weight"].dtype == torch.float32


@pytest.mark.slow
def test_folder_and_memory_hold_the_same_networks(tiny: Path) -> None:
    checkpoint, networks = Checkpoint(tiny), RandomNetworks(SIZES["tiny"]())
    assert checkpoint.config == networks.config == tiny_config()
    for name in ("structure_flow", "latent_flow", "structure_condition", "latent_condition", "moge"):
        loaded, made = (getattr(source, name)(CPU, torch.float32).state_dict() for source in (checkpoint, networks))
        assert all(torch.equal(loaded[key], made[key]) for key in made), name
    assert checkpoint.weight_bytes(torch.float16, 32) == networks.weight_bytes(torch.float16, 32)


@pytest.mark.slow
def test_seeds_and_dino_copies(tiny: Path, tmp_path: Path) -> None:
    again = make_checkpoints(tmp_path / "again", safetensors=True)
    other = make_checkpoints(tmp_path / "other", seed=1, identical_dino=False)

    checkpoints = [Checkpoint(folder) for folder in (tiny, again, other)]
    flows = [checkpoint.structure_flow(CPU, torch.float32).state_dict() for checkpoint in checkpoints]

    assert all(torch.equal(flows[0][key], flows[1][key]) for key in flows[0])
    assert not torch.equal(flows[0]["t_embedder.mlp.0.weight"], flows[2]["t_embedder.mlp.0.weight"])
    assert list(checkpoints[1].dino_groups().values()) == [0, 0, 0, 0]
    assert list(checkpoints[2].dino_groups().values()) == [0, 1, 2, 3]


@pytest.mark.slow
def test_no_parameter_is_zero_or_infinite() -> None:
    networks = RandomNetworks(SIZES["tiny"]())
    for name, part in networks.parts.items():
        state = part.on_meta(torch.nn.Module).state_dict()
        with networks.reader(part) as read:
            for key, expected in state.items():
                value = read(key)
                assert value.shape == expected.shape, (name, key)
                assert value.isfinite().all(), (name, key)
                assert value.any(), (name, key)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_an_object_comes_out(seed: int) -> None:
    networks = RandomNetworks(SIZES["tiny"](), seed)
    config, dtype = networks.config, torch.float32
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode():
        tokens = torch.randn(1, 90, config.structure_flow.cond_width, generator=generator)
        noise = structure_noise(config.structure_flow, generator, CPU)
        calls = StructureCalls(networks.structure_flow(CPU, dtype))
        latents = sample_structure(calls, tokens, noise, config.structure_sampler)
        coords = surface(networks.structure_decoder(CPU, dtype)(latents["shape"]))
        noise_vectors = latent_noise(len(coords), config.latent_flow.in_channels, generator, CPU)
        slat = sample_latent(networks.latent_flow(CPU, dtype), coords, tokens, noise_vectors, config.latent_sampler)
        decoder = networks.gaussian_decoder(4, CPU, dtype)
        slat = slat * torch.tensor(config.latent_std) + torch.tensor(config.latent_mean)
        fields = decoder.gaussians(decoder(slat, coords), coords)

    assert 300 <= len(coords) <= 10_000
    assert len(torch.unique(coords // 2, dim=0)) < 0.6 * len(coords)  # lumps, not dust
    for field in (fields.means, fields.scales, fields.quats, fields.opacities, fields.sh0):
        assert field.isfinite().all()
    assert fields.means.abs().max() < 0.6
    assert 0.5 < fields.opacities.mean() < 0.95
    assert fields.scales.median() < 2 / config.latent_flow.resolution


def test_depth_is_that_of_a_pinhole_camera() -> None:
    network = RandomNetworks(SIZES["tiny"]()).moge(CPU, torch.float32)
    photo = np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)
    with torch.inference_mode():
        geometry = network.infer(photo)
    assert geometry.mask.float().mean() > 0.9
    depth = geometry.depth[geometry.mask]
    assert depth.min() > 0.2
    assert depth.max() < 5
    assert depth.std() > 0.01
    assert 0.8 < geometry.focal < 1.25


@pytest.mark.slow
def test_as_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["synthetic", str(tmp_path), "--size", "tiny", "--seed", "3", "--safetensors"])
    main()
    checkpoint = Checkpoint(tmp_path)
    assert checkpoint.parts[STRUCTURE_FLOW].path.suffix == ".safetensors"
    assert checkpoint.moge_part().name == MOGE


def test_the_package_does_not_import_its_makers() -> None:
    source = Path(__file__).parents[2] / "src"
    assert not [path for path in source.rglob("*.py") if "synthetic.checkpoints" in path.read_text(encoding="utf-8")]
