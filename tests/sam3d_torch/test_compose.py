"""Upstream's way of merging a scene; numbers recorded from it are compared in test_parity.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from sam3d_gs.gaussians.pose import matrix_to_quat, quat_to_matrix, transform
from sam3d_gs.sam3d_torch.compose import MergedScene, merge, normalised
from sam3d_gs.sam3d_torch.pose import Sam3dPose, to_opencv
from sam3d_gs.types import Gaussians

KERNEL = 0.001


def _object(n: int, seed: int) -> MergedScene:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    quats = torch.nn.functional.normalize(draw(n, 4) - 0.5, dim=-1)
    return MergedScene(draw(n, 3) - 0.5, KERNEL + 0.02 * draw(n, 3), quats, draw(n), draw(n, 3), KERNEL)


def _pose(seed: int, scale: float) -> Sam3dPose:
    rng = np.random.default_rng(seed)
    quat = rng.normal(size=4)
    return Sam3dPose(quat / np.linalg.norm(quat), rng.normal(size=3), scale)


def test_a_single_object_lies_where_our_own_scene_has_it() -> None:
    made, pose = _object(50, 0), _pose(1, 2.0)
    scene = merge([(made, pose)], KERNEL)
    fields = [value.numpy() for value in (made.means, made.quats, made.scales.log(), made.opacities.logit(), made.sh0)]
    ours = transform(Gaussians(*fields), to_opencv(pose))
    flip = np.diag([-1.0, -1.0, 1.0])
    np.testing.assert_allclose(scene.means.numpy() @ flip, ours.means, atol=2e-6)
    for theirs, quat in zip(scene.quats.numpy(), ours.quats, strict=True):
        turned = matrix_to_quat(flip @ quat_to_matrix(theirs))
        assert abs(turned @ quat) == pytest.approx(1, abs=1e-5)
    floor = scene.scales > 1.1 * KERNEL * pose.scale * 1.001
    torch.testing.assert_close(scene.scales[floor], torch.from_numpy(ours.scales)[floor], rtol=1e-4, atol=0)


def test_scales_are_decoded_with_the_smallest_kernel_of_the_scene() -> None:
    small, large = _object(5, 0), _object(7, 1)
    scene = merge([(small, _pose(0, 0.5)), (large, _pose(1, 3.0))], KERNEL)
    assert scene.kernel_size == pytest.approx(0.5 * KERNEL)
    adjusted = (3.0 * large.scales).clamp_min(1.1 * 3.0 * KERNEL)
    wanted = (adjusted**2 - (3.0 * KERNEL) ** 2 + (0.5 * KERNEL) ** 2).sqrt()
    torch.testing.assert_close(scene.scales[5:], wanted)
    torch.testing.assert_close(scene.scales[:5], (0.5 * small.scales).clamp_min(1.1 * 0.5 * KERNEL))
    assert torch.equal(scene.opacities, torch.cat([small.opacities, large.opacities]))
    assert torch.equal(scene.sh0, torch.cat([small.sh0, large.sh0]))


def test_normalised_scene_has_extent_one_about_the_origin() -> None:
    scene = _object(200, 3)
    plain = normalised(scene)
    opaque = plain.means[scene.opacities > 0.9]
    assert float((opaque.amax(0) - opaque.amin(0)).max()) == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close((opaque.amax(0) + opaque.amin(0)) / 2, torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(plain.scales / scene.scales, torch.full((200, 3), plain.kernel_size / KERNEL))
    upright = normalised(scene, upright=True)
    torch.testing.assert_close(upright.means, plain.means[:, [0, 2, 1]] * torch.tensor([-1.0, 1.0, 1.0]))


def test_a_scene_of_haze_has_no_extent() -> None:
    scene = _object(4, 0)
    scene.opacities.fill_(0.1)
    with pytest.raises(ValueError, match="opacity"):
        normalised(scene)
