"""Recorded cases of the image networks: DINO, the condition embedders, MoGe and its camera fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sam3d_gs.sam3d_torch.condition import ConditionEmbedder, DinoEmbedder, PointPatchEmbed
from sam3d_gs.sam3d_torch.config import ConditionConfig, DinoConfig, PointPatchConfig, VitConfig
from sam3d_gs.sam3d_torch.dino import as_image
from sam3d_gs.sam3d_torch.focal import normalized_focal, recover_focal_shift
from sam3d_gs.sam3d_torch.moge import MogeConfig, MogeV1
from sam3d_gs.sam3d_torch.parity.case import Case
from sam3d_gs.sam3d_torch.pointmap import to_pytorch3d


def dino_config(config: Mapping[str, Any], width: int, prenorm: bool) -> DinoConfig:
    """From upstream's fields; the position table of these cases has the grid of the input."""
    vit = VitConfig(
        width=width,
        depth=config["depth"],
        heads=config["num_heads"],
        registers=config["num_register_tokens"],
        patch_px=config["patch_size"],
        grid=config["input_size"] // config["patch_size"],
        mlp_ratio=config.get("mlp_ratio", 4),
    )
    return DinoConfig(vit, config["input_size"], prenorm)


def point_patch_config(config: Mapping[str, Any]) -> PointPatchConfig:
    return PointPatchConfig(
        width=config["embed_dim"],
        input_px=config["input_size"],
        patch_px=config["patch_size"],
        heads=config["num_heads"],
        mlp_ratio=config["mlp_ratio"],
    )


def condition_config(config: Mapping[str, Any]) -> ConditionConfig:
    def part(kind: str) -> DinoConfig | PointPatchConfig:
        if kind == "Dino":
            return dino_config(config["dino"], config["embed_dim"], config["dino"]["prenorm_features"])
        return point_patch_config(config["point_patch"])

    def group(name: str) -> str:
        return "full" if name.startswith("rgb_") else "cropped"

    return ConditionConfig(
        embedders=tuple(
            (part(each["kind"]), tuple((name, group(name)) for name in each["kwargs"])) for each in config["embedders"]
        ),
        hidden_multiplier=config["projection_net_hidden_dim_multiplier"],
    )


def moge_config(config: Mapping[str, Any]) -> MogeConfig:
    encoder, layers = config["encoder"], config["intermediate_layers"]
    return MogeConfig(
        vit=VitConfig(
            width=encoder["embed_dim"],
            depth=encoder["depth"],
            heads=encoder["num_heads"],
            registers=encoder["num_register_tokens"],
            patch_px=encoder["patch_size"],
            grid=encoder["pos_embed_grid"],
        ),
        layers=layers if isinstance(layers, int) else tuple(layers),
        projected=config["dim_proj"],
        upsampled=tuple(config["dim_upsample"]),
        hidden_multiple=config["dim_times_res_block_hidden"],
        res_blocks=config["num_res_blocks"],
        norm=config["res_block_norm"],
        last_res_blocks=config["last_res_blocks"],
        last_channels=config["last_conv_channels"],
        last_kernel_px=config["last_conv_size"],
        remap=config["remap_output"],
        mask_threshold=config["mask_threshold"],
        tokens=config["num_tokens"],
    )


def run_dino(case: Case) -> dict[str, Tensor]:
    """Both stages' tokens, from one pass each for the image and the mask."""
    embedder = DinoEmbedder(dino_config(case.config, case.config["embed_dim"], prenorm=False))
    _load(embedder, case)
    found: dict[str, Tensor] = {}
    for kind, x in (("image", case.inputs.get("image", case.inputs.get("image_u8"))), ("mask", case.inputs["mask"])):
        if x is not None:
            tokens = embedder.backbone(as_image(x))
            found |= {f"ss_{kind}_tokens": tokens.final, f"slat_{kind}_tokens": tokens.prenorm}
    return found


def run_point_patch(case: Case) -> dict[str, Tensor]:
    """Tokens of a pointmap."""
    embedder = PointPatchEmbed(point_patch_config(case.config))
    _load(embedder, case)
    return {"tokens": embedder(case.inputs["pointmap"])}


def run_condition(case: Case) -> dict[str, Tensor]:
    """All condition tokens of one stage."""
    embedder = ConditionEmbedder(condition_config(case.config))
    _load(embedder, case)
    return {"tokens": embedder(case.inputs)}


def run_moge(case: Case) -> dict[str, Tensor]:
    """The network alone, then with the fit; ours is the converged one."""
    model = MogeV1(moge_config(case.config))
    _load(model, case)
    image = case.inputs["image_u8"]
    points, score = model(image.float() / 255)
    geometry = model.infer(image[0].permute(1, 2, 0))
    focal, shift = (torch.tensor(value, dtype=torch.float64) for value in (geometry.focal, geometry.shift))
    return {
        "points_raw": points,
        "mask_raw": score,
        "points": geometry.points,
        "depth": geometry.depth,
        "mask": geometry.mask,
        "intrinsics": geometry.intrinsics,
        "focal": focal,
        "shift": shift,
        "converged_focal": focal,
        "converged_shift": shift,
        "pointmap_pytorch3d": to_pytorch3d(geometry.points),
    }


def run_focal_shift(case: Case) -> dict[str, Tensor]:
    """The fit of every recorded map."""
    found: dict[str, Tensor] = {}
    for name in sorted({key.split(".")[0] for key in case.inputs}):
        points, mask = case.inputs[f"{name}.points"], case.inputs[f"{name}.mask"].bool()
        fit = recover_focal_shift(points, mask)
        for kind, value in zip(("focal", "shift"), fit, strict=True):
            found[f"{name}.{kind}"] = found[f"{name}.converged_{kind}"] = torch.tensor(value, dtype=torch.float64)
        found[f"{name}.fx_fy"] = torch.tensor(normalized_focal(fit[0], mask.shape[1] / mask.shape[0]))
    return found


def _load(module: nn.Module, case: Case) -> None:
    module.load_state_dict(case.state, strict=True, assign=True)
    module.eval()


RUNNERS: Mapping[str, Callable[[Case], dict[str, Tensor]]] = {
    "dinov2_reg": run_dino,
    "point_patch_embed": run_point_patch,
    "embedder_fuser": run_condition,
    "moge_v1": run_moge,
    "moge_focal_shift": run_focal_shift,
}
