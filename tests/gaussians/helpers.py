"""Random Gaussians, poses and objects for the tests of this folder."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from sam3d_gs.types import Gaussians, PlacedObject, Pose

FIELDS = ("means", "quats", "log_scales", "opacity_logits", "sh0")
K = np.array([[900.0, 0.0, 320.5], [0.0, 910.0, 240.25], [0.0, 0.0, 1.0]])


def random_gaussians(n: int, seed: int = 0) -> Gaussians:
    rng = np.random.default_rng(seed)
    quats = rng.standard_normal((n, 4))
    return Gaussians(
        means=rng.uniform(-0.5, 0.5, (n, 3)).astype(np.float32),
        quats=(quats / np.linalg.norm(quats, axis=1, keepdims=True)).astype(np.float32),
        log_scales=rng.uniform(-6.0, -2.0, (n, 3)).astype(np.float32),
        opacity_logits=rng.uniform(-3.0, 3.0, n).astype(np.float32),
        sh0=rng.uniform(-1.5, 1.5, (n, 3)).astype(np.float32),
    )


def random_pose(seed: int = 0) -> Pose:
    rng = np.random.default_rng(seed)
    quat = rng.standard_normal(4)
    return Pose(quat / np.linalg.norm(quat), rng.uniform(-2.0, 2.0, 3) + np.array([0.0, 0.0, 6.0]), rng.uniform(0.3, 3))


def random_object(name: str = "00-red-cup-0", n: int = 50, seed: int = 0) -> PlacedObject:
    return PlacedObject(
        object_id=name,
        phrase="red cup",
        gaussians=random_gaussians(n, seed),
        pose=random_pose(seed),
        K=K,
        image_size=(641, 480),
        scores={"mask": 0.75},
        seed=7,
        engine="embedded",
        scale_source="arbitrary",
        versions={"sam3d_gs": "0.1.0"},
    )


def assert_same(left: Gaussians, right: Gaussians) -> None:
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name), err_msg=name)


@st.composite
def poses(draw: st.DrawFn) -> Pose:
    """Poses with every kind of rotation, half turns and the identity among them."""
    part = st.integers(-4, 4)
    quat = np.array(draw(st.tuples(part, part, part, part).filter(any)), dtype=np.float64)
    translation = np.array(draw(st.tuples(*[st.floats(-10, 10)] * 3)))
    return Pose(quat / np.linalg.norm(quat), translation, draw(st.floats(0.05, 20.0)))
