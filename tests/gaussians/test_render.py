"""The CPU renderer against a slow picture written from the formulas, and the properties any renderer must have."""

from __future__ import annotations

import inspect
import logging
import sys
import threading
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam3d_gs.gaussians import rasterise, render
from sam3d_gs.gaussians.pose import pose_matrix, quat_to_matrix, transform
from sam3d_gs.gaussians.render import Camera, Rendered
from sam3d_gs.types import SH_C0, Gaussians, Pose

WIDTH, HEIGHT = 45, 37  # not multiples of the tile
K = np.array([[50.0, 0.0, 21.0], [0.0, 47.0, 19.5], [0.0, 0.0, 1.0]])
CAMERA = Camera(K, WIDTH, HEIGHT, np.eye(4))


def some_gaussians(n: int, seed: int = 0) -> Gaussians:
    """A cloud in front of CAMERA, of all shapes and opacities."""
    rng = np.random.default_rng(seed)
    quats = rng.normal(size=(n, 4))
    return Gaussians(
        means=(rng.uniform(-1, 1, (n, 3)) + np.array([0, 0, 3])).astype(np.float32),
        quats=(quats / np.linalg.norm(quats, axis=1, keepdims=True)).astype(np.float32),
        log_scales=rng.uniform(np.log(0.01), np.log(0.4), (n, 3)).astype(np.float32),
        opacity_logits=rng.uniform(-4, 5, n).astype(np.float32),
        sh0=rng.uniform(-1.7, 1.7, (n, 3)).astype(np.float32),
    )


def wall(z: float = 2.0, cells: int = 60, half: float = 2.0) -> Gaussians:
    """A flat, opaque, grey wall facing the camera."""
    x, y = np.meshgrid(*[np.linspace(-half, half, cells)] * 2)
    n = cells * cells
    spacing = 2 * half / cells
    return Gaussians(
        means=np.stack([x.ravel(), y.ravel(), np.full(n, z)], 1).astype(np.float32),
        quats=np.tile(np.float32([1, 0, 0, 0]), (n, 1)),
        log_scales=np.tile(np.log(np.float32([spacing, spacing, spacing / 10])), (n, 1)),
        opacity_logits=np.full(n, 8, np.float32),
        sh0=np.zeros((n, 3), np.float32),
    )


def from_the_formulas(gaussians: Gaussians, camera: Camera) -> Rendered:
    """Every pixel of every splat in float64, nearest first; nothing clever."""
    R, t = camera.T_camera_world[:3, :3], camera.T_camera_world[:3, 3]
    (fx, _, cx), (_, fy, cy), _ = camera.K
    x, y = np.meshgrid(np.arange(camera.width_px) + 0.5, np.arange(camera.height_px) + 0.5)
    tan_x, tan_y = 0.5 * camera.width_px / fx, 0.5 * camera.height_px / fy
    rgb, depth = np.zeros((*x.shape, 3)), np.zeros(x.shape)
    transmittance = np.ones(x.shape)
    means = gaussians.means.astype(float) @ R.T + t
    for i in np.argsort(means[:, 2], kind="stable"):
        X, Y, Z = means[i]
        rotation = R @ quat_to_matrix(gaussians.quats[i])
        covariance = rotation @ np.diag(gaussians.scales[i].astype(float) ** 2) @ rotation.T
        if covariance[2, 2] >= Z * Z:
            continue
        slope_x = np.clip(X / Z, -cx / fx - 0.3 * tan_x, (camera.width_px - cx) / fx + 0.3 * tan_x)
        slope_y = np.clip(Y / Z, -cy / fy - 0.3 * tan_y, (camera.height_px - cy) / fy + 0.3 * tan_y)
        J = np.array([[fx / Z, 0, -fx * slope_x / Z], [0, fy / Z, -fy * slope_y / Z]])
        sharp = J @ covariance @ J.T
        blurred = sharp + 0.3 * np.eye(2)
        opacity = gaussians.opacities[i] * np.sqrt(max(np.linalg.det(sharp), 0) / np.linalg.det(blurred))
        offset = np.stack([x - (fx * X / Z + cx), y - (fy * Y / Z + cy)], -1)
        exponent = np.einsum("hwi,ij,hwj->hw", offset, np.linalg.inv(blurred), offset)
        alpha = np.minimum(opacity * np.exp(-0.5 * exponent), 0.999)
        weight = np.where(alpha >= 1 / 255, alpha * transmittance, 0)
        rgb += weight[..., None] * gaussians.rgb[i]
        depth += weight * Z
        transmittance -= weight
    alpha = 1 - transmittance
    return Rendered(rgb, alpha, depth / np.maximum(alpha, 1e-10))


def assert_same_picture(one: Rendered, other: Rendered, atol: float) -> None:
    """Single pixels may differ by one contribution at the 1/255 threshold, the picture as a whole may not."""
    for name in ("rgb", "alpha"):
        difference = np.abs(getattr(one, name) - getattr(other, name))
        assert difference.max() < 0.006, name
        assert difference.mean() < atol, name
    # Depth is divided by alpha, so look where there is enough of it.
    seen = (one.alpha > 0.2) & (other.alpha > 0.2)
    assert np.abs(one.depth - other.depth)[seen].mean() < 10 * atol if seen.any() else True


@pytest.mark.parametrize("seed", range(4))
def test_numba_follows_the_formulas(seed: int) -> None:
    gaussians = some_gaussians(200, seed)
    pose = Pose(np.array([0.98, 0.1, -0.15, 0.05]), np.array([0.1, -0.05, 0.4]), 1.0)
    camera = Camera(K, WIDTH, HEIGHT, pose_matrix(pose))
    expected = from_the_formulas(gaussians, camera)
    assert 0.2 < expected.alpha.mean() < 0.9
    assert_same_picture(render.render(gaussians, camera, None, "numba"), expected, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(
    quat=st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1),
    translation=st.tuples(*[st.floats(-5, 5)] * 3),
)
def test_moving_scene_and_camera_together_changes_nothing(quat: Any, translation: Any) -> None:
    gaussians = some_gaussians(40)
    pose = Pose(np.array(quat) / np.linalg.norm(quat), np.array(translation), 1.0)
    moved = render.render(
        transform(gaussians, pose), Camera(K, WIDTH, HEIGHT, np.linalg.inv(pose_matrix(pose))), backend="numba"
    )
    assert_same_picture(moved, render.render(gaussians, CAMERA, backend="numba"), atol=2e-4)


@settings(max_examples=30, deadline=None)
@given(scale=st.floats(1e-3, 1e3))
def test_scene_units_do_not_matter(scale: float) -> None:
    gaussians = some_gaussians(40)
    scaled = render.render(
        transform(gaussians, Pose(np.array([1.0, 0, 0, 0]), np.zeros(3), scale)), CAMERA, None, "numba"
    )
    original = render.render(gaussians, CAMERA, None, "numba")
    assert_same_picture(Rendered(scaled.rgb, scaled.alpha, scaled.depth / scale), original, atol=2e-4)


@given(u=st.floats(8, WIDTH - 8), v=st.floats(8, HEIGHT - 8), z=st.floats(0.5, 50))
@settings(max_examples=30, deadline=None)
def test_a_gaussian_lands_where_K_projects_its_mean(u: float, v: float, z: float) -> None:
    mean = z * np.linalg.inv(K) @ [u, v, 1]
    one = Gaussians(
        means=mean[None].astype(np.float32),
        quats=np.float32([[1, 0, 0, 0]]),
        log_scales=np.log(np.full((1, 3), z * 1.2 / 50, np.float32)),
        opacity_logits=np.float32([6]),
        sh0=np.float32([[0.5 / SH_C0, -0.5 / SH_C0, -0.5 / SH_C0]]),
    )
    picture = render.render(one, CAMERA, None, "numba")
    x, y = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    total = picture.alpha.sum()
    assert (x * picture.alpha).sum() / total == pytest.approx(u, abs=0.05)
    assert (y * picture.alpha).sum() / total == pytest.approx(v, abs=0.05)
    seen = picture.alpha > 0.01
    assert picture.depth[seen] == pytest.approx(z, rel=1e-5)
    assert picture.rgb[..., 0] == pytest.approx(picture.alpha, abs=1e-6)
    assert picture.rgb[..., 1:].max() == 0


def test_an_opaque_wall_has_no_holes_and_hides_what_is_behind() -> None:
    front = wall()
    back = some_gaussians(200)
    behind = Gaussians(back.means + np.float32([0, 0, 3]), back.quats, back.log_scales, back.opacity_logits, back.sh0)
    both = Gaussians(
        *(np.concatenate([getattr(behind, name), getattr(front, name)]) for name in front.__dataclass_fields__)
    )
    picture = render.render(both, CAMERA, backend="numba")
    assert picture.alpha.min() > 0.999
    assert picture.rgb == pytest.approx(0.5, abs=2e-3)
    assert picture.depth == pytest.approx(2.0, abs=5e-3)


def test_background_is_seen_through_what_is_missing() -> None:
    gaussians = some_gaussians(10)
    bare = render.render(gaussians, CAMERA, None, "numba")
    over = render.render(gaussians, CAMERA, (0.2, 0.4, 0.6), "numba")
    assert over.rgb == pytest.approx(bare.rgb + (1 - bare.alpha)[..., None] * [0.2, 0.4, 0.6], abs=1e-6)
    assert np.array_equal(over.alpha, bare.alpha)


def test_nothing_to_see() -> None:
    cloud = some_gaussians(50)
    behind = Gaussians(cloud.means * np.float32(-1), cloud.quats, cloud.log_scales, cloud.opacity_logits, cloud.sh0)
    none = Gaussians(*(getattr(cloud, name)[:0] for name in cloud.__dataclass_fields__))
    for gaussians in (behind, none):
        picture = render.render(gaussians, CAMERA)
        assert picture.rgb.shape == (HEIGHT, WIDTH, 3)
        assert picture.rgb.min() == 1.0
        assert not picture.alpha.any()
        assert not picture.depth.any()


def test_values_that_are_not_finite_are_left_out() -> None:
    good = some_gaussians(40)
    broken = {name: getattr(good, name).copy() for name in good.__dataclass_fields__}
    broken["means"][0, 1] = np.nan
    broken["quats"][1] = 0
    broken["quats"][2, 3] = np.nan
    broken["log_scales"][3, 0] = np.inf
    broken["log_scales"][4, 0] = 500
    broken["opacity_logits"][5] = np.nan
    broken["sh0"][6, 2] = np.nan
    broken["means"][7, 2] = np.inf
    keep = slice(8, None)
    expected = render.render(Gaussians(**{name: getattr(good, name)[keep] for name in broken}), CAMERA, backend="numba")
    picture = render.render(Gaussians(**broken), CAMERA, backend="numba")
    assert np.array_equal(picture.rgb, expected.rgb)
    assert np.array_equal(picture.depth, expected.depth)


def test_a_camera_inside_the_cloud_stays_finite() -> None:
    cloud = some_gaussians(500)
    around = Gaussians(
        cloud.means - np.float32([0, 0, 3]), cloud.quats, cloud.log_scales + 1, cloud.opacity_logits, cloud.sh0
    )
    picture = render.render(around, CAMERA, backend="numba")
    for array in (picture.rgb, picture.alpha, picture.depth):
        assert np.isfinite(array).all()
    assert picture.rgb.max() <= 1.0001
    assert picture.alpha.max() <= 1.0


def test_splats_far_larger_than_the_picture_stay_finite() -> None:
    """This one, far off the axis of a camera with an extreme shift, is a long thin ellipse of a billion pixels."""
    splat = Gaussians(
        means=np.float32([[0.92988908, -1.22014141, 0.04170756]]),
        quats=np.float32([[0.46783713, -0.01261086, 0.64783508, -0.60106492]]),
        log_scales=np.float32([[-4.23694038, -3.87061048, -3.91982293]]),
        opacity_logits=np.float32([1.63261914]),
        sh0=np.float32([[0.00437141, 0.44315684, 0.16584002]]),
    )
    turned = np.eye(4)
    turned[:3] = [
        [0.990268069, 0.0, 0.139173101, -0.117738646],
        [0.0, 1.0, 0.0, -0.052204398],
        [-0.139173101, 0.0, 0.990268069, 0.141900295],
    ]
    zoomed = np.array([[311.8612651, 0, -3.282297264e8], [0, 311.8612651, 1.900725954e10], [0, 0, 1]])
    picture = render.render(splat, Camera(zoomed, 480, 360, turned), backend="numba")
    for array in (picture.rgb, picture.alpha, picture.depth):
        assert np.isfinite(array).all()
    assert 0.0 <= picture.alpha.min() <= picture.alpha.max() <= 1.0


@pytest.mark.parametrize("size", [(1, 1), (16, 1), (17, 33)])
def test_any_size(size: tuple[int, int]) -> None:
    camera = Camera(np.diag([2.0, 2.0, 1.0]) * [[size[0]], [size[1]], [1]], *size, np.eye(4))
    picture = render.render(wall(half=9.0), camera, backend="numba")
    assert picture.alpha.shape == size[::-1]
    assert picture.alpha.min() > 0.99


def test_many_passes_give_the_picture_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    gaussians = some_gaussians(300)
    once = render.render(gaussians, CAMERA, backend="numba")
    monkeypatch.setattr(rasterise, "PAIRS_PER_PASS", 50)
    again = render.render(gaussians, CAMERA, backend="numba")
    assert np.array_equal(once.rgb, again.rgb)
    assert np.array_equal(once.depth, again.depth)


def test_threads_may_render_at_once() -> None:
    gaussians = some_gaussians(2000)
    expected = render.render(gaussians, CAMERA, backend="numba").rgb
    pictures: list[np.ndarray] = []
    threads = [
        threading.Thread(target=lambda: pictures.append(render.render(gaussians, CAMERA, backend="numba").rgb))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pictures) == 4
    assert all(np.array_equal(picture, expected) for picture in pictures)


def test_no_folder_for_the_cache_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def njit(cache: bool = False, **options: Any) -> Any:
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr(rasterise.numba, "njit", njit)
    assert rasterise._jit(parallel=True)(abs) is abs


def test_cameras_must_make_sense() -> None:
    with pytest.raises(ValueError, match="positive"):
        Camera(K, 0, 5, np.eye(4))
    with pytest.raises(ValueError, match="positive"):
        Camera(K * np.nan, 5, 5, np.eye(4))
    with pytest.raises(ValueError, match="want"):
        Camera(np.eye(4), 5, 5, np.eye(4))


# The parameters of gsplat 1.5.3's `rasterization`, in order; those before near_plane have no default.
GSPLAT_REQUIRED = ["means", "quats", "scales", "opacities", "colors", "viewmats", "Ks", "width", "height"]
GSPLAT_OPTIONAL = {"near_plane": 0.01, "far_plane": 1e10, "radius_clip": 0.0, "eps2d": 0.3, "sh_degree": None}
GSPLAT_OPTIONAL |= {"packed": True, "tile_size": 16, "backgrounds": None, "render_mode": "RGB", "sparse_grad": False}
GSPLAT_OPTIONAL |= {"absgrad": False, "rasterize_mode": "classic", "channel_chunk": 32, "distributed": False}
GSPLAT_OPTIONAL |= {"camera_model": "pinhole", "segmented": False, "covars": None, "with_ut": False}
GSPLAT_OPTIONAL |= {"with_eval3d": False, "radial_coeffs": None, "tangential_coeffs": None, "thin_prism_coeffs": None}
GSPLAT_OPTIONAL |= {"ftheta_coeffs": None, "rolling_shutter": 4, "viewmats_rs": None}
GSPLAT_SIGNATURE = inspect.Signature(
    [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in GSPLAT_REQUIRED]
    + [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default)
        for name, default in GSPLAT_OPTIONAL.items()
    ]
)


@pytest.fixture
def mock_gsplat(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module `gsplat` whose `rasterization` takes what gsplat's takes, checks it, and renders by the formulas."""
    torch = pytest.importorskip("torch")

    def rasterization(*args: Any, **kwargs: Any) -> Any:
        bound = GSPLAT_SIGNATURE.bind(*args, **kwargs)
        bound.apply_defaults()
        call = bound.arguments
        n = len(call["means"])
        shapes = {"means": (n, 3), "quats": (n, 4), "scales": (n, 3), "opacities": (n,), "colors": (n, 3)}
        for name, shape in (shapes | {"viewmats": (1, 4, 4), "Ks": (1, 3, 3)}).items():
            assert tuple(call[name].shape) == shape, name
            assert call[name].dtype == torch.float32, name
        assert (call["render_mode"], call["rasterize_mode"], call["eps2d"]) == ("RGB+ED", "antialiased", 0.3)
        assert call["sh_degree"] is None
        array = {name: value.numpy() for name, value in call.items() if isinstance(value, torch.Tensor)}
        with np.errstate(divide="ignore"):
            logits = np.log(array["opacities"] / (1 - array["opacities"]))
        colours = (array["colors"] - 0.5) / SH_C0
        gaussians = Gaussians(array["means"], array["quats"], np.log(array["scales"]), logits, colours)
        camera = Camera(array["Ks"][0], call["width"], call["height"], array["viewmats"][0])
        picture = from_the_formulas(gaussians, camera)
        rgbd = np.concatenate([picture.rgb, picture.depth[..., None]], -1)
        return torch.from_numpy(rgbd)[None], torch.from_numpy(picture.alpha)[None, ..., None], {}

    module = ModuleType("gsplat")
    module.rasterization = rasterization  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gsplat", module)
    return module


@pytest.mark.usefixtures("mock_gsplat")
def test_gsplat_is_called_as_it_wants_to_be() -> None:
    gaussians = some_gaussians(60)
    pose = pose_matrix(Pose(np.array([0.98, 0.1, -0.15, 0.05]), np.array([0.1, -0.05, 0.4]), 1.0))
    camera = Camera(K, WIDTH, HEIGHT, pose)
    picture = render.render_gsplat(gaussians, camera, device="cpu")
    assert {array.dtype for array in (picture.rgb, picture.alpha, picture.depth)} == {np.dtype(np.float32)}
    assert_same_picture(picture, render.render(gaussians, camera, backend="numba"), atol=1e-4)


def test_auto_takes_numba_where_gsplat_does_not_run(
    mock_gsplat: ModuleType, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    torch = pytest.importorskip("torch")

    def no_compiler(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("no nvcc")

    mock_gsplat.rasterization = no_compiler  # type: ignore[attr-defined]
    monkeypatch.setattr(render, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *args: self)
    render.auto_backend.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert render.auto_backend() == "numba"
    assert "no nvcc" in caplog.text

    mock_gsplat.rasterization = lambda **call: (  # type: ignore[attr-defined]
        torch.zeros(1, call["height"], call["width"], 4),
        torch.zeros(1, call["height"], call["width"], 1),
        {},
    )
    render.auto_backend.cache_clear()
    assert render.auto_backend() == "gsplat"

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    render.auto_backend.cache_clear()
    assert render.auto_backend() == "numba"
    render.auto_backend.cache_clear()
