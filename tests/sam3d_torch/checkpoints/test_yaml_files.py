"""The official YAML files become a configuration, and what a fork edited is honoured or refused by file and key."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sam3d_gs.errors import BadInputError
from sam3d_gs.sam3d_torch.checkpoints.yaml_files import read_config, read_folder
from sam3d_gs.sam3d_torch.config import VITS, DinoConfig, PointPatchConfig

OFFICIAL = Path(__file__).with_name("official_yaml")
Edit = Callable[[str, str, str], Path]


@pytest.fixture
def edit(tmp_path: Path) -> Edit:
    """Copies the official files and replaces a text in one of them; gives the folder."""

    def replace(file: str, old: str, new: str) -> Path:
        folder = tmp_path / "checkpoints"
        if not folder.exists():
            shutil.copytree(OFFICIAL, folder)
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new))
        return folder

    return replace


def test_official_networks() -> None:
    config = read_config(OFFICIAL)

    flow = config.structure_flow
    assert (flow.width, flow.cond_width, flow.blocks, flow.heads, flow.resolution) == (1024, 1024, 24, 16, 16)
    assert {name: (latent.channels, latent.tokens) for name, latent in flow.latents.items()} == {
        "6drotation_normalized": (6, 1),
        "scale": (3, 1),
        "shape": (8, 4096),
        "translation": (3, 1),
        "translation_scale": (1, 1),
    }
    assert flow.pose_stream == "6drotation_normalized"
    assert flow.pose_order == ("6drotation_normalized", "translation", "scale", "translation_scale")
    latent = config.latent_flow
    assert (latent.width, latent.blocks, latent.heads, latent.resolution) == (1024, 24, 16, 64)
    assert (latent.patch, latent.io_channels, latent.io_res_blocks, latent.in_channels) == (2, (128,), 2, 8)
    assert config.structure_decoder.channels == (512, 128, 32)
    assert sorted(config.gaussian_decoders) == [4, 32]
    decoder = config.gaussian_decoders[32]
    assert (decoder.width, decoder.blocks, decoder.heads, decoder.window) == (768, 12, 12, 8)
    assert (decoder.voxel_size, decoder.kernel_size_3d, decoder.scale_bias) == (1.5, 0.0009, 0.004)
    assert (decoder.opacity_bias, decoder.rotation_rate) == (0.1, 0.1)


def test_official_conditions() -> None:
    config = read_config(OFFICIAL)

    vit = VITS["dinov2_vitl14_reg"]
    assert config.structure_condition.embedders == (
        (DinoConfig(vit, 518, False), (("image", "cropped"), ("rgb_image", "full"))),
        (DinoConfig(vit, 518, False), (("mask", "cropped"), ("rgb_image_mask", "full"))),
        (PointPatchConfig(512, 256, 8), (("pointmap", "cropped"), ("rgb_pointmap", "full"))),
    )
    assert [embedder for embedder, _ in config.latent_condition.embedders] == [DinoConfig(vit, 518, True)] * 2
    assert config.structure_condition.width == config.latent_condition.width == 1024


def test_samplers_mix_yaml_and_constructor_defaults() -> None:
    config = read_config(OFFICIAL)

    structure, latent = config.structure_sampler, config.latent_sampler
    assert (structure.steps, structure.rescale_t, structure.guidance, structure.interval) == (25, 3.0, 7.0, (0, 500))
    assert (latent.steps, latent.rescale_t, latent.guidance, latent.interval) == (25, 1.0, 1.0, (0, 500))
    assert config.dtype == "float16"
    assert (config.preprocess.size_px, config.preprocess.box_factor, config.preprocess.scene_scale) == (518, 1.2, True)
    assert len(config.latent_mean) == len(config.latent_std) == 8


def test_files_stand_beside_the_pipeline() -> None:
    _, files = read_folder(OFFICIAL)

    assert files.structure == OFFICIAL / "ss_generator.ckpt"
    assert files.gaussian_decoders[4] == OFFICIAL / "slat_decoder_gs_4.ckpt"
    assert files.depth == "Ruicheng/moge-vitl"


def test_four_gaussians_may_be_missing(edit: Edit) -> None:
    folder = edit("pipeline.yaml", "pad_size", "pad_size")
    (folder / "slat_decoder_gs_4.yaml").unlink()
    assert sorted(read_config(folder).gaussian_decoders) == [32]


def test_legal_edits_are_honoured(edit: Edit) -> None:
    edit("pipeline.yaml", "slat_cfg_strength: 1", "slat_cfg_strength: 2.5")
    edit("pipeline.yaml", "pad_size: 1.0", "ss_inference_steps: 12\nslat_cfg_interval: [100, 6e+2]")
    edit("slat_decoder_gs.yaml", "voxel_size: 1.5", "voxel_size: 2.0")
    for file in ("ss_generator.yaml", "slat_generator.yaml"):
        edit(file, "input_size: 518", "input_size: 770")
    edit("pipeline.yaml", "size: 518", "size: 770")
    folder = edit("pipeline.yaml", "box_size_factor: 1.2", "box_size_factor: 1.5")

    config = read_config(folder)

    assert config.latent_sampler.guidance == 2.5
    assert config.latent_sampler.interval == (100.0, 600.0)
    assert config.structure_sampler.steps == 12
    assert config.gaussian_decoders[32].voxel_size == 2.0
    assert (config.preprocess.box_factor, config.preprocess.size_px) == (1.5, 770)
    assert {embedder.input_px for embedder, _ in config.latent_condition.embedders} == {770}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "old", "new", "key"),
    [
        ("slat_decoder_gs.yaml", "voxel_size: 1.5", "voxel_size: 0.5", "representation_config.voxel_size"),
        ("slat_decoder_gs.yaml", "voxel_size: 1.5", "voxel_size: .nan", "representation_config.voxel_size"),
        ("slat_decoder_gs.yaml", "softplus", "exp", "scaling_activation"),
        ("slat_decoder_gs.yaml", "resolution: 64", "resolution: 32", "resolution"),
        ("slat_decoder_gs.yaml", "num_heads: 12", "num_heads: 7", "num_heads"),
        ("slat_decoder_gs_4.yaml", "num_gaussians: 4", "num_gaussians: 32", "num_gaussians"),
        ("slat_decoder_gs.yaml", "SLatGaussianDecoderTdfyWrapper", "SLatOther", "_target_"),
        ("slat_generator.yaml", "model_channels: 1024", "model_channels: wide", "model_channels"),
        ("slat_generator.yaml", "cond_channels: 1024", "cond_channels: 768", "cond_channels"),
        ("slat_generator.yaml", "patch_size: 2", "patch_size: 4", "io_block_channels"),
        ("slat_generator.yaml", "force_zeros_cond: true", "force_zeros_cond: false", "force_zeros_cond"),
        ("slat_generator.yaml", "unconditional_handling: add_flag", "unconditional_handling: zeros", "unconditional"),
        ("slat_generator.yaml", "input_size: 518", "input_size: 771", "input_size"),
        ("slat_generator.yaml", "          - 128", "          - -1", "io_block_channels"),
        ("slat_generator.yaml", "- rgb_image\n", "- normals\n", "embedder_list[0]"),
        ("slat_generator.yaml", "resolution: 64", "resolution: 32", "resolution 32"),
        ("ss_generator.yaml", "dinov2_vitl14_reg", "dinov2_vitg14_reg", "dino_model"),
        ("ss_generator.yaml", "remap_output: linear", "remap_output: exp", "remap_output"),
        ("ss_generator.yaml", "remap_output: linear", "", "remap_output"),
        ("ss_generator.yaml", "resolution: 16", "resolution: 0", "resolution"),
        (
            "ss_generator.yaml",
            "            - translation_scale\n",
            "",
            "latent_share_transformer.6drotation_normalized",
        ),
        ("ss_generator.yaml", "qk_rms_norm: true", "qk_rms_norm: true\n          rope_base: 3", "rope_base"),
        ("ss_decoder.yaml", "- 32\n", "- 32\n- 16\n", "resolution"),
        ("ss_decoder.yaml", "latent_channels: 8", "latent_channels: 4", "latent_channels"),
        ("pipeline.yaml", "size: 518", "size: 770", "img_transform.transforms[1].size"),
        ("pipeline.yaml", "ScaleShiftInvariant", "Naive", "pose_decoder_name"),
        ("pipeline.yaml", "dtype: float16", "dtype: int8", "dtype"),
        ("pipeline.yaml", "- 0.45506954\n", "", "slat_mean"),
        ("pipeline.yaml", "- 2.08374642\n", "- 0\n", "slat_std"),
        ("pipeline.yaml", "slat_rescale_t: 1", "slat_rescale_t: 0", "slat_rescale_t"),
        ("pipeline.yaml", "downsample_ss_dist: 1", "downsample_ss_dist: 2", "downsample_ss_dist"),
        ("pipeline.yaml", "pad_size: 1.0", "carve: 0.1", "carve"),
        ("pipeline.yaml", "moge.model.v1.", "moge.model.v2.", "depth_model.model._target_"),
        ("pipeline.yaml", "padding_factor: 0.0", "padding_factor: 0.1", "padding_factor"),
    ],
)
def test_what_cannot_be_honoured_is_named(edit: Edit, file: str, old: str, new: str, key: str) -> None:
    folder = edit(file, old, new)

    with pytest.raises(BadInputError) as caught:
        read_config(folder)

    message = str(caught.value)
    assert "\n" not in message
    assert key in message
    assert file in message


def test_another_crop_in_stage_two_is_refused(edit: Edit) -> None:
    folder = edit("pipeline.yaml", "pad_size", "pad_size")
    text = (folder / "pipeline.yaml").read_text()
    before, _, after = text.rpartition("box_size_factor: 1.2")
    (folder / "pipeline.yaml").write_text(before + "box_size_factor: 1.4" + after)
    with pytest.raises(BadInputError, match=r"slat_preprocessor.*img_mask_joint_transform"):
        read_config(folder)


def test_a_folder_without_files(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"no pipeline\.yaml.*--checkpoints"):
        read_config(tmp_path)


@pytest.mark.parametrize("text", ["", "[1, 2]", "a: [1", "\x00", "!!python/object:os.system {}"])
def test_a_file_that_is_no_yaml_mapping(edit: Edit, text: str) -> None:
    folder = edit("pipeline.yaml", "pad_size", "pad_size")
    (folder / "ss_decoder.yaml").write_text(text)
    with pytest.raises(BadInputError, match=r"ss_decoder\.yaml") as caught:
        read_config(folder)
    assert "\n" not in str(caught.value)
