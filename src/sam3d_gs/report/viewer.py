"""The live viewer: a photo's scene in the browser, served by viser on this machine only, to its user only."""

from __future__ import annotations

import contextlib
import io
import logging
import socket
import time
import webbrowser
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from sam3d_gs.errors import BadInputError, MissingPackageError
from sam3d_gs.gaussians.current_scene import CurrentScene, SceneFiles, current_scene
from sam3d_gs.gaussians.ply import read_ply
from sam3d_gs.gaussians.pose import pose_from_matrix, transform
from sam3d_gs.gaussians.thinning import share, thin
from sam3d_gs.photo import open_image, to_rgb
from sam3d_gs.report.viewer_guard import Guard, check_guarded, guarded
from sam3d_gs.scene_files import read_scene
from sam3d_gs.types import Gaussians, Photo, PlacedObject, SceneDescription
from sam3d_gs.workspace import Workspace

HOST = "127.0.0.1"
MAX_SPLATS = 250_000  # of the scene: all are sent over a socket and sorted by the browser
MIN_SIGMA_PX = 0.7  # on the photo: viser's shader drops what is smaller than about a pixel, which would leave holes
FRUSTUM_DEPTH = 0.2  # of the distance to the scene
PHOTO_SIDE_PX = 1024  # of the photo in the frustum

log = logging.getLogger("sam3d_gs")


def serve(workspace: Workspace, port: int = 8080, open_browser: bool = True) -> None:
    """Show a photo's scene until Ctrl-C. Port 0, or a port in use, means another free one; the address is printed.

    Raises BadInputError when there is no scene or a file of it is broken, MissingPackageError without viser.
    """
    serve_scene(from_workspace(workspace), port, open_browser)


def serve_scene(scene: ViewedScene, port: int = 8080, open_browser: bool = True) -> None:
    """The same for a scene in memory."""
    with contextlib.suppress(KeyboardInterrupt), running(scene, port) as viewer:
        print(f"{scene.name}: {viewer.url} (Ctrl-C stops the viewer)", flush=True)
        if open_browser:
            webbrowser.open(viewer.url)
        while True:
            time.sleep(3600)


@dataclass(frozen=True)
class ViewedScene:
    """What the viewer shows."""

    description: SceneDescription
    objects: Sequence[Gaussians]  # of each object, camera frame, thinned out for the view
    photo_rgb: np.ndarray | None = None  # (H, W, 3) uint8, shown in the photo's camera

    @property
    def name(self) -> str:
        return self.description.photo


def from_workspace(workspace: Workspace) -> ViewedScene:
    """The scene of a photo that has been worked on. Raises BadInputError."""
    described = read_scene(workspace.scene_json)
    if not described.objects:
        raise BadInputError(f"{workspace.scene_json} has no objects to show. Run the scene stage again.")
    photo = np.asarray(to_rgb(open_image(workspace.image_png))) if workspace.image_png.is_file() else None
    cleaned = _cleaned(workspace)
    if cleaned is not None:
        budgets = share(list(map(len, cleaned.parts)), MAX_SPLATS)
        parts = [thin(part, budget) for part, budget in zip(cleaned.parts, budgets, strict=True)]
        return ViewedScene(cleaned.description, parts, photo)
    return ViewedScene(described, _gaussians(workspace, described), photo)


def _cleaned(workspace: Workspace) -> CurrentScene | None:
    """The scene of a merged .ply that a user has edited; None when it is as it was made, or of no use."""
    files = SceneFiles(workspace)
    if not workspace.scene_ply.is_file() or not files.ply_edited:
        return None
    try:
        cleaned = current_scene(files)
    except BadInputError as error:
        log.warning("%s The objects are shown as they were made.", error)
        return None
    log.info("%s", cleaned.remark)
    return cleaned


def from_memory(description: SceneDescription, objects: Sequence[PlacedObject], photo: Photo) -> ViewedScene:
    """The scene of objects in memory."""
    limits = share([len(obj.gaussians) for obj in objects], MAX_SPLATS)
    thinned = [transform(thin(obj.gaussians, n), obj.pose) for obj, n in zip(objects, limits, strict=True)]
    return ViewedScene(description, thinned, photo.rgb)


@dataclass(frozen=True)
class Viewer:
    """A running viewer."""

    url: str  # with the token that opens it
    server: Any  # viser.ViserServer


@contextlib.contextmanager
def running(scene: ViewedScene, port: int = 8080) -> Iterator[Viewer]:
    """The viewer while the block runs; see `serve` for the port.

    Raises MissingPackageError without viser, Sam3dGsError if viser cannot be closed to strangers (viewer_guard.py).
    """
    try:
        import viser
    except ImportError as error:
        raise MissingPackageError(
            "The live viewer needs viser, which is not installed here. Run `pip install 'sam3d_gs[embedded]'`."
        ) from error

    free = _free_port(port)
    if port not in (0, free):
        log.warning("Port %d is in use, taking %d.", port, free)
    guard = Guard()
    # Its own banner is hidden; ours has the address.
    with contextlib.redirect_stdout(io.StringIO()), guarded(guard, HOST):
        server = viser.ViserServer(host=HOST, port=free, label=f"sam3d_gs · {scene.name}", verbose=False)
    try:
        check_guarded(server, HOST)
        _fill(server, scene)
        yield Viewer(f"http://{HOST}:{server.get_port()}/{guard.token}/", server)
    finally:
        with contextlib.redirect_stdout(io.StringIO()):
            server.stop()


def _gaussians(workspace: Workspace, scene: SceneDescription) -> list[Gaussians]:
    """Every object's Gaussians in the camera frame, thinned for the view."""
    budgets = share([obj.gaussians for obj in scene.objects], MAX_SPLATS)
    placed = []
    for obj, budget in zip(scene.objects, budgets, strict=True):
        if "ply" not in obj.files:
            raise BadInputError(f"{workspace.scene_json} names no .ply of {obj.object_id}. Run the scene stage again.")
        gaussians = thin(read_ply(workspace.own_file(obj.files["ply"], workspace.scene_json)), budget)
        placed.append(transform(gaussians, pose_from_matrix(obj.T_camera_object)))
    return placed


def _fill(server: Any, viewed: ViewedScene) -> None:
    """Add the objects with their names and checkboxes, and the photo's camera."""
    scene, objects = viewed.description, viewed.objects
    server.scene.set_up_direction(tuple(scene.up))
    server.scene.world_axes.visible = False
    server.gui.configure_theme(show_logo=False, show_share_button=False)  # sharing would send the scene elsewhere

    depth = float(np.median([np.median(gaussians.means[:, 2]) for gaussians in objects]))
    start = server.initial_camera
    start.position, start.look_at, start.up = (0.0, 0.0, 0.0), (0.0, 0.0, depth), tuple(scene.up)
    start.fov = 2 * np.arctan(scene.image_size[1] / (2 * scene.K[1, 1]))  # vertical
    start.near = 1e-3 * depth
    _add_frustum(server, viewed, start.fov, depth)

    with server.gui.add_folder("Objects"):
        everything = server.gui.add_checkbox("All", True)
        names = server.gui.add_checkbox("Names", True)
        boxes = [_add_object(server, scene, i, gaussians, names) for i, gaussians in enumerate(objects)]

    @everything.on_update  # type: ignore[untyped-decorator, unused-ignore]
    def _(_: object) -> None:
        for box in boxes:
            box.value = everything.value


def _add_object(server: Any, scene: SceneDescription, number: int, gaussians: Gaussians, names: Any) -> Any:
    """Add one object as splats with a label. Returns the checkbox that shows and hides both."""
    obj = scene.objects[number]
    covariances, smallest = covariances_of(gaussians), MIN_SIGMA_PX / scene.K[0, 0]
    # Widened to a minimum size on the photo: sigma_px = f sigma / z, added as a variance along all axes.
    covariances += np.eye(3, dtype=np.float32) * (smallest * gaussians.means[:, 2:, None]) ** 2
    splats = server.scene.add_gaussian_splats(
        f"/objects/{obj.object_id}",
        centers=gaussians.means,
        covariances=covariances,
        rgbs=gaussians.rgb,
        opacities=gaussians.opacities[:, None],
    )
    middle = gaussians.means.mean(0)
    heights = (gaussians.means - middle) @ scene.up
    top = middle + scene.up * np.quantile(heights, 0.995)
    label = server.scene.add_label(f"/names/{obj.object_id}", obj.phrase, position=tuple(top), anchor="bottom-center")
    box = server.gui.add_checkbox(obj.phrase, True, hint=obj.object_id)

    def show(_: object) -> None:
        splats.visible = box.value
        label.visible = box.value and names.value

    box.on_update(show)
    names.on_update(show)
    return box


def _add_frustum(server: Any, viewed: ViewedScene, fov: float, depth: float) -> None:
    """Add a button to the photo's camera, and its frustum with the photo, hidden while the view is inside it."""
    width_px, height_px = viewed.description.image_size
    photo = None
    if viewed.photo_rgb is not None:
        image = Image.fromarray(viewed.photo_rgb)
        image.thumbnail((PHOTO_SIDE_PX, PHOTO_SIDE_PX))
        photo = np.asarray(image)
    size = FRUSTUM_DEPTH * depth
    frustum = server.scene.add_camera_frustum(
        "/photo",
        fov=fov,
        aspect=width_px / height_px,
        scale=size,
        image=photo,
        color=(11, 110, 96),
        thickness=2.0,
        thickness_units="screen",
        visible=False,
    )
    back = server.gui.add_button("Photo's camera")
    shown = server.gui.add_checkbox("Show the photo's camera", True)
    inside = True

    def update() -> None:
        frustum.visible = shown.value and not inside

    def moved(camera: Any) -> None:
        nonlocal inside
        inside = bool(np.linalg.norm(camera.position) < 1.2 * size)
        update()

    @server.on_client_connect  # type: ignore[untyped-decorator, unused-ignore]
    def _(client: Any) -> None:
        client.camera.on_update(moved)

    @back.on_click  # type: ignore[untyped-decorator, unused-ignore]
    def _(event: Any) -> None:
        camera, start = event.client.camera, server.initial_camera
        with event.client.atomic():
            camera.up_direction, camera.fov = start.up, start.fov
            camera.position, camera.look_at = start.position, start.look_at

    shown.on_update(lambda _: update())


def covariances_of(gaussians: Gaussians) -> np.ndarray:
    """(N, 3, 3) float32 covariance matrices, R diag(s^2) R^T."""
    w, x, y, z = gaussians.quats.T
    rotations = np.stack(
        [
            np.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], -1),
            np.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], -1),
            np.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], -1),
        ],
        -2,
    )
    axes = rotations * gaussians.scales[:, None, :]
    return np.asarray(axes @ axes.transpose(0, 2, 1), dtype=np.float32)


def _free_port(wanted: int) -> int:
    """`wanted`, or the first free one after it, or any when it is 0."""
    candidates = [*range(wanted, min(wanted + 100, 65536)), 0] if wanted else [0]
    for candidate in candidates:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that just closed may be taken again
            try:
                probe.bind((HOST, candidate))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise BadInputError("No free port on this machine. Close some programs or give another --port.")
