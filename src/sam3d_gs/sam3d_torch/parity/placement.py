"""Recorded cases of placement: preprocessing, pose decoding, scene composition."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sam3d_gs.gaussians.pose import quat_to_matrix
from sam3d_gs.sam3d_torch import compose, pointmap, pose, preprocess
from sam3d_gs.sam3d_torch.config import PreprocessConfig
from sam3d_gs.sam3d_torch.parity.case import Case


def run_preprocess(case: Case) -> dict[str, Tensor]:
    """An RGBA photo and a pointmap -> the embedders' inputs."""
    settings = case.config
    config = PreprocessConfig(settings["resize"], settings["box_size_factor"], bool(settings["use_scene_scale"]))
    rgba, points = case.inputs["rgba"].cpu().numpy(), case.inputs["pointmap"]
    alpha = (rgba[..., 3] / 255).astype(np.float32)
    made = preprocess.object_inputs(rgba[..., :3], alpha, points, config, need_depth=False)
    offset, stride = settings["output_offset"], settings["output_stride"]
    return {
        **{name: tensor[..., offset::stride, offset::stride] for name, tensor in made.tensors.items()},
        **{f"{view}_scale": made.scale for view in ("pointmap", "rgb_pointmap")},
        **{f"{view}_shift": made.shift for view in ("pointmap", "rgb_pointmap")},
        "crop_box_xyxy": torch.tensor(made.box_xyxy),
        "pointmap_at_image_size": pointmap.resize(points, *rgba.shape[:2]).permute(2, 0, 1),
    }


def run_pose_decode(case: Case) -> dict[str, Tensor]:
    """Latents and the pointmap's scale and shift -> poses, one by one."""
    samples = []
    for i in range(len(case.inputs["scale"])):
        latents = {name: case.inputs[name][i] for name in ("6drotation_normalized", "scale", "translation")}
        samples.append(pose.decode(latents, case.inputs["scene_scale"][i], case.inputs["scene_shift"][i]))
    points = case.inputs["points_object"].cpu().double().numpy()
    matrices = np.stack([quat_to_matrix(sample.quat_wxyz) for sample in samples])
    translations = np.stack([sample.translation for sample in samples])
    scales = np.array([sample.scale for sample in samples])[:, None]
    return {
        "rotation": torch.from_numpy(np.stack([sample.quat_wxyz for sample in samples])),
        "translation": torch.from_numpy(translations),
        "scale": torch.from_numpy(scales.repeat(3, axis=1)),
        "rotation_matrix": torch.from_numpy(matrices),
        "points_camera": torch.from_numpy(scales[..., None] * (points @ matrices) + translations[:, None]),
    }


@dataclass(frozen=True)
class _Fields:
    means: Tensor
    scales: Tensor
    quats: Tensor
    opacities: Tensor
    sh0: Tensor


def run_make_scene(case: Case) -> dict[str, Tensor]:
    """Decoded objects with their poses -> one scene, and the same normalised for a video."""
    objects = []
    for i in range(case.config["objects"]):
        given = _part(case.inputs, f"object{i}.")
        quat, translation, scale = (
            given[f"pose_{name}"][0].cpu().double().numpy() for name in ("rotation", "translation", "scale")
        )
        fields = _Fields(
            given["means"], given["scales"], given["rotations"], given["opacities"].squeeze(-1), given["f_dc"]
        )
        objects.append((fields, pose.Sam3dPose(quat, translation, float(scale[0]))))
    scene = compose.merge(objects, case.config["kernel_size_3d"])
    plain = compose.normalised(scene)
    return {
        "means": scene.means,
        "scales": scene.scales,
        "rotations": scene.quats,
        "opacities": scene.opacities[:, None],
        "f_dc": scene.sh0,
        "minimum_kernel_size": torch.tensor(scene.kernel_size),
        "normalized.means": plain.means,
        "normalized.scales": plain.scales,
        "normalized.minimum_kernel_size": torch.tensor(plain.kernel_size),
        "normalized_aligned.means": compose.normalised(scene, upright=True).means,
    }


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


RUNNERS: dict[str, Callable[[Case], dict[str, Tensor]]] = {
    "preprocess_": run_preprocess,
    "pose_decode": run_pose_decode,
    "make_scene": run_make_scene,
}
