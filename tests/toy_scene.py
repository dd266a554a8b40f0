"""Three coloured balls at known places, as the files of a workspace and as a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from sam3d_gs.gaussians.ply import write_ply
from sam3d_gs.gaussians.pose import pose_matrix, transform
from sam3d_gs.gaussians.thinning import Thinning
from sam3d_gs.report.data import ObjectReport, ReportData, StageReport
from sam3d_gs.report.view3d import pack_object, splat_limits
from sam3d_gs.scene_files import write_scene
from sam3d_gs.types import SH_C0, Gaussians, InstanceMask, ObjectDescription, Photo, Phrase, Pose, SceneDescription
from sam3d_gs.workspace import Workspace, object_id

SIZE = (480, 320)  # px
K = np.array([[500.0, 0, 240], [0, 500.0, 160], [0, 0, 1]])
UP = np.array([0.0, -1.0, 0.0])
TURN = np.array([0.6, 0.0, 0.8, 0.0])  # not the identity, so that a forgotten or doubled rotation shows


@dataclass(frozen=True)
class Ball:
    phrase: str
    rgb: tuple[float, float, float]
    centre: tuple[float, float, float]  # camera frame
    radius: float
    gaussians: int = 1500

    @property
    def pixel(self) -> np.ndarray:
        """(2,) where the centre is in the photo."""
        projected = K @ self.centre
        return np.asarray(projected[:2] / projected[2])


BALLS = (
    Ball("red ball", (0.9, 0.1, 0.1), (-0.7, 0.2, 3.0), 0.4),
    Ball("green ball", (0.1, 0.7, 0.2), (0.75, 0.3, 3.2), 0.35),
    Ball("blue ball", (0.15, 0.2, 0.9), (0.1, -0.6, 4.0), 0.3),
)


def ball_gaussians(ball: Ball) -> tuple[Gaussians, Pose]:
    """In an object frame whose unit is the ball's diameter, with the pose that puts it in place."""
    rng = np.random.default_rng(0)
    shell = rng.normal(size=(ball.gaussians, 3))
    shell *= 0.5 / np.linalg.norm(shell, axis=1, keepdims=True)
    if ball.gaussians == 1:
        shell[:] = 0
    n = len(shell)
    gaussians = Gaussians(
        means=shell.astype(np.float32),
        quats=np.tile(np.float32([1, 0, 0, 0]), (n, 1)),
        log_scales=np.full((n, 3), np.log(0.05), np.float32),
        opacity_logits=np.full(n, 4.0, np.float32),
        sh0=np.tile(((np.array(ball.rgb) - 0.5) / SH_C0).astype(np.float32), (n, 1)),
    )
    return gaussians, Pose(TURN, np.array(ball.centre), 2 * ball.radius)


def write_workspace(root: Path, balls: Sequence[Ball] = BALLS) -> tuple[Workspace, SceneDescription, Photo]:
    """image.png, single .ply files and the scene JSON, as the stages leave them."""
    workspace = Workspace(root, "balls")
    photo = Photo(Path("balls.png"), "balls", _photo(balls), "0" * 64)
    workspace.run_dir.mkdir(parents=True)
    Image.fromarray(photo.rgb).save(workspace.image_png)
    objects = []
    for number, ball in enumerate(balls):
        gaussians, pose = ball_gaussians(ball)
        name = object_id(number, ball.phrase, 0)
        write_ply(workspace.single_ply(name), gaussians)
        means = transform(gaussians, pose).means
        bounds = np.stack([means.min(0), means.max(0)]).astype(np.float64)
        corners = np.array([[bounds[i, 0], bounds[j, 1], bounds[k, 2]] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
        objects.append(
            ObjectDescription(
                object_id=name,
                phrase=ball.phrase,
                scores={"mask": 0.8},
                T_camera_object=pose_matrix(pose),
                aabb=bounds,
                obb=corners,
                gaussians=len(gaussians),
                files={"ply": workspace.relative(workspace.single_ply(name))},
                reprojection_iou=0.9,
            )
        )
    scene = SceneDescription("balls", K, SIZE, "arbitrary", UP, tuple(objects))
    write_scene(workspace.scene_json, scene, {})
    return workspace, scene, photo


def report_data(root: Path, balls: Sequence[Ball] = BALLS) -> ReportData:
    """A report of the balls with everything a page can show except animations."""
    _, scene, photo = write_workspace(root, balls)
    masks = [
        InstanceMask(obj.object_id, ball.phrase, _disc(ball), 0.8)
        for obj, ball in zip(scene.objects, balls, strict=True)
    ]
    limits = splat_limits([obj.gaussians for obj in scene.objects])
    return ReportData(
        photo=photo,
        scene=scene,
        objects=[
            ObjectReport(obj, pack_object(Thinning(ball_gaussians(ball)[0]), obj.T_camera_object, limit), seconds=1.5)
            for obj, ball, limit in zip(scene.objects, balls, limits, strict=True)
        ],
        phrases=[Phrase(i, ball.phrase, 0.9) for i, ball in enumerate(balls)],
        masks=masks,
        stages=[StageReport("masks", "done", "embedded", 2.0, 300.0, {"max_objects": 12})],
        licences={"toy model": "CC0"},
        files={"ply": "balls.ply"},
        version="1.2.3",
    )


def dropped(data: ReportData, reason: str) -> InstanceMask:
    """One more mask, found but not kept."""
    return replace(data.masks[0], object_id="07-dropped-0", phrase="dropped thing", dropped=reason)


def _disc(ball: Ball) -> np.ndarray:
    rows, columns = np.mgrid[: SIZE[1], : SIZE[0]] + 0.5
    away = np.hypot(columns - ball.pixel[0], rows - ball.pixel[1])
    return np.asarray(away < K[0, 0] * ball.radius / ball.centre[2])


def _photo(balls: Sequence[Ball]) -> np.ndarray:
    rgb = np.full((SIZE[1], SIZE[0], 3), 225, np.uint8)
    for ball in sorted(balls, key=lambda b: -b.centre[2]):
        rgb[_disc(ball)] = np.round(255 * np.array(ball.rgb))
    return rgb
