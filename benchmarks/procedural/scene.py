"""Procedural scenes with ground truth: `make_scene(seed, size_px)`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from procedural.families import FIRST_SEED, make_shape
from procedural.raycast import Camera, World, object_depth, render, surface_points
from procedural.shape import MATERIALS, Shape, turn_z
from procedural.textures import CHECKS, CLOUDS, PLAIN, PLANKS, material_row, random_colour, random_materials
from sam3d_gs.gaussians.pose import matrix_to_quat, pose_matrix, transform_points
from sam3d_gs.types import Pose

SHAPES_PER_SCENE = 64  # scene s draws its shapes from FIRST_SEED + s * SHAPES_PER_SCENE upward
SURFACE_POINTS = 12_000
MIN_VISIBLE_PERCENT = 0.4  # of the photo; what shows less is left out of the scene
_SHAPE_TO_OBJECT = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # y up to z up


@dataclass(frozen=True)
class Item:
    """A shape in the object frame: z up, longest side of its box 1, box centred on the origin."""

    name: str
    shape: Shape
    centre: np.ndarray  # (3,) of the box, shape frame
    extent: float  # longest side of the box, shape units
    points: np.ndarray  # (N, 3) evenly over the whole surface, object frame

    @property
    def half_height(self) -> float:
        return float(self.points[:, 2].max())

    @property
    def footprint(self) -> float:
        """Largest horizontal distance from the upright axis."""
        return float(np.linalg.norm(self.points[:, :2], axis=1).max())


@dataclass(frozen=True)
class Placement:
    """An item standing in the world (z up): ``x_world = size * Rz(yaw) @ x_obj + position``."""

    item: Item
    size: float
    yaw_rad: float
    position: np.ndarray  # (3,)
    materials: np.ndarray  # (MATERIALS, MATERIAL_LENGTH)


@dataclass(frozen=True)
class ProceduralObject:
    """One object and its ground truth."""

    name: str
    pose: Pose  # object frame (z up, unit cube) to camera
    surface: np.ndarray  # (N, 3) float32, evenly over the whole surface, inside too; object frame
    mask: np.ndarray  # (H, W) bool, where the photo shows it
    amodal_mask: np.ndarray  # (H, W) bool, where it would show if it stood alone

    @property
    def T_camera_object(self) -> np.ndarray:
        """(4, 4) float64, scale included."""
        return pose_matrix(self.pose)

    @property
    def surface_camera(self) -> np.ndarray:
        """(N, 3) float64, the same points in the camera frame."""
        return transform_points(self.pose, self.surface.astype(np.float64))


@dataclass(frozen=True)
class ProceduralScene:
    """A photo with its ground truth. Camera frame: x right, y down, z forward; pixel centres at half-integers."""

    seed: int
    rgb: np.ndarray  # (H, W, 3) uint8, sRGB
    ids: np.ndarray  # (H, W) int32: 0 background, i + 1 for objects[i]
    depth: np.ndarray  # (H, W) float32 along z, scene units; inf where there is nothing
    K: np.ndarray  # (3, 3) float64, px
    up_camera: np.ndarray  # (3,) float64 unit vector against gravity
    pitch_deg: float  # how far the camera looks down
    objects: tuple[ProceduralObject, ...]


def make_item(name: str, shape: Shape, seed: int = 0, points: int = SURFACE_POINTS) -> Item:
    """A shape in the object frame, measured by `points` samples of its surface."""
    deformation = deformation_of(shape)
    rough = surface_points(shape.primitives, deformation, np.zeros(3), 3.0, 500, seed)
    centre, radius = _ball(rough)
    surface = surface_points(shape.primitives, deformation, centre, 1.12 * radius, points, seed)
    low, high = surface.min(0), surface.max(0)
    centre, extent = (low + high) / 2, float((high - low).max())
    return Item(name, shape, centre, extent, (surface - centre) / extent @ _SHAPE_TO_OBJECT.T)


def _ball(points: np.ndarray) -> tuple[np.ndarray, float]:
    centre = (points.min(0) + points.max(0)) / 2
    return centre, float(np.linalg.norm(points - centre, axis=1).max())


def deformation_of(shape: Shape) -> np.ndarray:
    return np.array([shape.bump_height, shape.bump_frequency, shape.twist_per_unit, shape.taper_per_unit])


def build_world(
    placements: Sequence[Placement], planes: np.ndarray, plane_materials: np.ndarray, light: np.ndarray
) -> World:
    """The placed items as arrays for the ray caster."""
    to_shape, spheres, scale = [], [], []
    for place in placements:
        item = place.item
        unit = place.size / item.extent  # world length of a shape unit
        turn = turn_z(place.yaw_rad) @ _SHAPE_TO_OBJECT
        inverse = turn.T / unit
        to_shape.append(np.column_stack([inverse, item.centre - inverse @ place.position]))
        spheres.append([*place.position, 1.03 * place.size * np.linalg.norm(item.points, axis=1).max()])
        scale.append(unit)
    rows = [place.item.shape.primitives for place in placements]
    return World(
        rows=np.concatenate(rows),
        first=np.cumsum([0, *map(len, rows)]).astype(np.int64),
        deformation=np.array([deformation_of(place.item.shape) for place in placements]),
        to_shape=np.array(to_shape),
        scale=np.array(scale),
        spheres=np.array(spheres),
        materials=np.array([place.materials for place in placements]),
        planes=np.asarray(planes, float),
        plane_materials=np.asarray(plane_materials, float),
        light=np.asarray(light, float),
    )


def look_at(
    eye: np.ndarray, target: np.ndarray, fov_deg: float, width_px: int, height_px: int, roll_deg: float = 0.0
) -> Camera:
    """A camera at `eye` (world, z up) that looks at a point; `fov_deg` is along the longer side."""
    forward = target - eye
    forward = forward / np.linalg.norm(forward)
    right = np.cross(forward, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    axes = turn_z(np.radians(roll_deg)) @ np.stack([right, np.cross(forward, right), forward])
    f_px = max(width_px, height_px) / 2 / np.tan(np.radians(fov_deg) / 2)
    return Camera(np.asarray(eye, float), axes, f_px, width_px / 2, height_px / 2, width_px, height_px)


def camera_pose(camera: Camera, place: Placement) -> Pose:
    rotation = camera.axes @ turn_z(place.yaw_rad)
    return Pose(matrix_to_quat(rotation), camera.axes @ (place.position - camera.origin), place.size)


def photograph(
    world: World,
    camera: Camera,
    placements: Sequence[Placement],
    seed: int,
    samples_per_side: int = 3,
    noise: float = 0.0,
) -> ProceduralScene:
    """Render the world, with its ground truth. `noise`: standard deviation of sensor noise, 0..1."""
    linear, ids, depth = render(world, camera, samples_per_side)
    srgb = np.where(linear < 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055)
    srgb = srgb + noise * np.random.default_rng(seed).normal(size=srgb.shape)
    objects = tuple(
        ProceduralObject(
            name=place.item.name,
            pose=camera_pose(camera, place),
            surface=place.item.points.astype(np.float32),
            mask=ids == i + 1,
            amodal_mask=np.isfinite(object_depth(world, camera, i)),
        )
        for i, place in enumerate(placements)
    )
    return ProceduralScene(
        seed=seed,
        rgb=np.round(255 * np.clip(srgb, 0, 1)).astype(np.uint8),
        ids=ids,
        depth=depth.astype(np.float32),
        K=camera.K,
        up_camera=camera.axes[:, 2].copy(),
        pitch_deg=float(np.degrees(np.arcsin(-camera.axes[2, 2]))),
        objects=objects,
    )


def make_scene(seed: int, size_px: int = 640, samples_per_side: int = 3) -> ProceduralScene:
    """The scene of this seed, always the same; `size_px` is the photo's longer side."""
    rng = np.random.default_rng(FIRST_SEED + seed)
    placements = _arrange(rng, seed)
    aspect = (0.75, 2 / 3, 9 / 16)[rng.integers(3)]
    camera_seed = int(rng.integers(1 << 31))
    planes, plane_materials, yaw = _room(rng, placements)
    light = _light(rng, yaw)
    # A small first look finds what is hidden or too small; the photo is then taken without it.
    small = _camera(np.random.default_rng(camera_seed), placements, yaw, 192, aspect)
    _, ids, _ = render(build_world(placements, planes, plane_materials, light), small, 1)
    shares = np.bincount(ids.ravel(), minlength=len(placements) + 1)[1:] / ids.size
    seen = [place for place, share in zip(placements, shares, strict=True) if 100 * share >= MIN_VISIBLE_PERCENT]
    world = build_world(seen, planes, plane_materials, light)
    camera = _camera(np.random.default_rng(camera_seed), placements, yaw, size_px, aspect)
    return photograph(world, camera, seen, seed, samples_per_side, noise=0.006)


def _arrange(rng: np.random.Generator, seed: int) -> list[Placement]:
    """Three to nine upright items that do not intersect, on the floor or, in a few cases, on another item."""
    wanted = int(rng.integers(3, 10))
    reach = 0.55 * np.sqrt(wanted)
    placed: list[Placement] = []
    for k in range(wanted):
        shape_seed = FIRST_SEED + seed * SHAPES_PER_SCENE + k
        shape = make_shape(shape_seed)
        item = make_item(shape.family, shape, shape_seed)
        size, yaw = float(np.exp(rng.uniform(np.log(0.45), np.log(1.3)))), float(rng.uniform(0, 2 * np.pi))
        materials = random_materials(rng, MATERIALS)
        base = placed[rng.integers(len(placed))] if placed and rng.random() < 0.25 else None
        top = _top_of(base, size * item.footprint) if base is not None else None
        if base is not None and top is not None and not any(p.position[2] > top for p in placed):
            position = np.array([*base.position[:2], top + size * item.half_height])
            placed.append(Placement(item, size, yaw, position, materials))
            continue
        for _ in range(60):
            xy = rng.uniform(-reach, reach, 2)
            room = [np.hypot(*(xy - p.position[:2])) - p.size * p.item.footprint for p in placed]
            if all(space > size * item.footprint + 0.01 for space in room):
                position = np.array([*xy, size * item.half_height])
                placed.append(Placement(item, size, yaw, position, materials))
                break
    return placed


def _top_of(base: Placement, footprint: float) -> float | None:
    """Height at which something this wide can stand on `base`; None if its top is too narrow or uneven."""
    if base.item.shape.family not in ("boxy", "furniture", "flat", "revolve"):
        return None
    points = base.size * base.item.points
    near = points[np.linalg.norm(points[:, :2], axis=1) < 0.8 * footprint]
    if footprint > 0.8 * base.size * base.item.footprint or not len(near):
        return None
    return float(base.position[2] + near[:, 2].max())


def _room(rng: np.random.Generator, placements: Sequence[Placement]) -> tuple[np.ndarray, np.ndarray, float]:
    """Floor and zero to two walls behind the objects, and the camera's horizontal direction."""
    yaw = float(rng.uniform(0, 2 * np.pi))
    planes = [np.array([0.0, 0, 1, 0])]
    floor = random_colour(rng) * 0.6 + 0.2
    pattern = int(rng.choice((PLAIN, CLOUDS, CHECKS, PLANKS), p=[0.4, 0.2, 0.1, 0.3]))
    second = floor * rng.uniform(0.5, 0.8)
    frequency = rng.uniform(1.5, 5) if pattern == PLANKS else rng.uniform(0.6, 3)
    gloss = rng.uniform(0.05, 0.5) * (rng.random() < 0.5)
    materials = [material_row(floor, second, pattern, frequency, grain=0.1, grain_frequency=12, gloss=gloss)]
    turns = [rng.uniform(-0.5, 0.5)]
    turns += [turns[0] + (np.pi / 2) * rng.choice((-1, 1))]
    for turn in turns[: rng.choice(3, p=[0.25, 0.45, 0.3])]:
        normal = -np.array([np.cos(yaw + turn), np.sin(yaw + turn), 0])
        far = max(p.size * p.item.footprint - normal @ p.position for p in placements)
        planes.append(np.array([*normal, -(far + rng.uniform(0.05, 1.5))]))
        colour = random_colour(rng) * 0.5 + 0.35
        pattern = int(rng.choice((PLAIN, CLOUDS), p=[0.7, 0.3]))
        materials.append(material_row(colour, 0.8 * colour, pattern, 1.0, sharpness=1, grain=0.06, grain_frequency=20))
    return np.array(planes), np.array(materials), yaw


def _light(rng: np.random.Generator, yaw: float) -> np.ndarray:
    """Sun and sky; the sun is beside or behind the camera, 25 to 75 degrees high."""
    azimuth, height = yaw + np.pi + rng.uniform(-1.9, 1.9), np.radians(rng.uniform(25, 75))
    sun = (np.cos(azimuth) * np.cos(height), np.sin(azimuth) * np.cos(height), np.sin(height))
    warmth = rng.uniform(-0.12, 0.12)
    strength, ambient = rng.uniform(0.4, 1.8), rng.uniform(0.5, 0.9)
    sun_colour = strength * np.array([1 + warmth, 1, 1 - warmth])
    sky = ambient * np.array([1 - warmth, 1, 1 + warmth])
    return np.array([*sun, *sun_colour, rng.uniform(0.04, 0.25), *sky, *(0.5 * sky), 0.5, rng.uniform(0.9, 1.4)])


def _camera(
    rng: np.random.Generator, placements: Sequence[Placement], yaw: float, size_px: int, aspect: float
) -> Camera:
    """The nearest camera that shows all objects; slightly nearer in one of six scenes."""
    low = np.min([p.position - p.size * p.item.footprint for p in placements], axis=0)
    high = np.max([p.position + p.size * p.item.footprint for p in placements], axis=0)
    target = np.array([*((low + high) / 2)[:2], np.mean([p.position[2] for p in placements])])
    pitch, fov_deg, roll_deg = np.radians(rng.uniform(8, 48)), rng.uniform(35, 65), rng.normal() * 1.0
    back = -np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), -np.sin(pitch)])
    size = (size_px, round(size_px * aspect))
    closeness = 0.85 if rng.random() < 1 / 6 else 1.0
    distance = 1.0
    while distance < 60:
        camera = look_at(target + distance * back, target, fov_deg, *size, roll_deg)
        if all(_in_view(camera, place) for place in placements):
            break
        distance *= 1.04
    return look_at(target + closeness * distance * back, target, fov_deg, *size, roll_deg)


def _in_view(camera: Camera, place: Placement) -> bool:
    points = place.size * place.item.points[::10] @ turn_z(place.yaw_rad).T + place.position
    x, y, z = ((points - camera.origin) @ camera.axes.T).T
    if z.min() < 0.1:
        return False
    u, v = camera.f_px * x / z + camera.cx_px, camera.f_px * y / z + camera.cy_px
    return bool(u.min() > 0 and v.min() > 0 and u.max() < camera.width_px and v.max() < camera.height_px)
