"""Test cases of shape_error.py from triangle meshes (.obj and binary .stl), from four directions in uniform light.

Meshes are rendered in grey-blue, since few files include textures. The up axis is y in .obj files and z in .stl files.
"""

# Indexing an array has no type for mypy, and the rasteriser is made of that.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numba
import numpy as np

from training.objects.cases import Case

VIEWS_DEG = ((30.0, 15.0), (120.0, 25.0), (210.0, 15.0), (300.0, 35.0))  # yaw, elevation
MARGIN = 1.15  # side of the picture over the longer side of the object
PAINT = np.array((0.45, 0.55, 0.7))
SUN, SUN_STRENGTH, SKY = np.array((0.4, 0.6, 0.7)), 0.7, 0.45
MAX_CROSSINGS = 32


def read_mesh(path: Path) -> np.ndarray:
    """(T, 3, 3) float64 corners of triangles, y up; polygons are split into triangle fans."""
    if path.suffix.lower() == ".stl":
        data = path.read_bytes()
        record = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
        corners = np.frombuffer(data, record, count=int.from_bytes(data[80:84], "little"), offset=84)["corners"]
        return corners.astype(np.float64)[..., [0, 2, 1]] * [1, 1, -1]
    vertices: list[list[float]] = []
    triangles: list[tuple[int, int, int]] = []
    for line in path.read_text(errors="replace").splitlines():
        words = line.split()
        if words[:1] == ["v"]:
            vertices.append([float(w) for w in words[1:4]])
        elif words[:1] == ["f"]:
            numbers = [int(w.split("/")[0]) for w in words[1:]]
            corner = [n - 1 if n > 0 else len(vertices) + n for n in numbers]
            triangles += [(corner[0], b, c) for b, c in itertools.pairwise(corner[1:])]
    return np.array(vertices)[np.array(triangles)]


def mesh_cases(paths: Sequence[Path], side: int, points: int) -> Iterator[Case]:
    """Four cases per mesh, in units of the picture's half side, with `points` points on each surface."""

    for path in paths:
        mesh = read_mesh(path)
        surface = _surface_points(mesh, points)
        middle = (mesh.reshape(-1, 3).min(0) + mesh.reshape(-1, 3).max(0)) / 2
        for yaw, elevation in VIEWS_DEG:
            turn = _turn(np.radians(yaw), np.radians(elevation))
            seen = (mesh - middle) @ turn.T
            low, high = seen.reshape(-1, 3).min(0), seen.reshape(-1, 3).max(0)
            centre, half = (low + high) / 2, float(max(high[:2] - low[:2])) / 2 * MARGIN
            depths, normals = _crossings(np.ascontiguousarray((seen - centre) / half), side)
            mask = np.isfinite(depths[..., 0])
            layers, hollow = _layers(depths, mask)
            light = SKY + SUN_STRENGTH * np.maximum(normals @ (SUN / np.linalg.norm(SUN)), 0)
            rgb = np.where(mask[..., None], np.clip(PAINT * light[..., None], 0, 1), 0)
            placed = ((surface - middle) @ turn.T - centre) / half * [1, -1, -1]
            yield Case((rgb * 255).astype(np.uint8), mask, layers, hollow, placed, turn[:, 1])


def _layers(depths: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(4, S, S) float32 layers and (S, S) bool mask from sorted crossings (S, S, N), alternately entries and exits."""
    count = np.isfinite(depths).sum(-1)
    last = np.take_along_axis(depths, np.maximum(count - 1, 0)[..., None], axis=-1)[..., 0]
    hollow = mask & (count >= 4)
    middle = (depths[..., 0] + last) / 2
    layers = [depths[..., 0], *(np.where(hollow, depths[..., i], middle) for i in (1, 2)), last]
    return np.where(mask, np.stack(layers), 0).astype(np.float32), hollow


def _turn(yaw: float, elevation: float) -> np.ndarray:
    """(3, 3) rotation to a camera pitched down by `elevation`; x right, y up, z towards the viewer."""
    c, s = np.cos(yaw), np.sin(yaw)
    about_y = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    c, s = np.cos(elevation), np.sin(elevation)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ about_y


def _surface_points(mesh: np.ndarray, count: int) -> np.ndarray:
    """(count, 3) points distributed uniformly by area."""
    rng = np.random.default_rng(0)
    a, b, c = mesh[:, 0], mesh[:, 1], mesh[:, 2]
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    chosen = rng.choice(len(mesh), count, p=area / area.sum())
    u, v = np.sqrt(rng.random((count, 1))), rng.random((count, 1))
    return a[chosen] * (1 - u) + b[chosen] * u * (1 - v) + c[chosen] * u * v


@numba.njit(cache=True)
def _crossings(mesh: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Depths (side, side, N) at which each pixel's ray crosses the mesh, nearest first, padded with -inf, and the
    normals (side, side, 3) of the nearest crossings, facing the viewer."""
    depths = np.full((side, side, MAX_CROSSINGS), -np.inf)
    normals = np.zeros((side, side, 3))
    for t in range(len(mesh)):
        x, y = (mesh[t, :, 0] + 1) * side / 2 - 0.5, (1 - mesh[t, :, 1]) * side / 2 - 0.5
        doubled = (x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0])
        if abs(doubled) < 1e-12:
            continue
        n = np.cross(mesh[t, 1] - mesh[t, 0], mesh[t, 2] - mesh[t, 0])
        n = n / max(np.sqrt((n * n).sum()), 1e-12) * (1.0 if n[2] >= 0 else -1.0)
        for row in range(max(int(np.ceil(y.min())), 0), min(int(np.floor(y.max())), side - 1) + 1):
            for column in range(max(int(np.ceil(x.min())), 0), min(int(np.floor(x.max())), side - 1) + 1):
                b = ((column - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (row - y[0])) / doubled
                c = ((x[1] - x[0]) * (row - y[0]) - (column - x[0]) * (y[1] - y[0])) / doubled
                if b < 0 or c < 0 or b + c > 1:
                    continue
                z = mesh[t, 0, 2] * (1 - b - c) + mesh[t, 1, 2] * b + mesh[t, 2, 2] * c
                if z > depths[row, column, 0]:
                    normals[row, column] = n
                k = MAX_CROSSINGS - 1
                while k >= 0 and depths[row, column, k] < z:  # insert, keeping the order
                    if k + 1 < MAX_CROSSINGS:
                        depths[row, column, k + 1] = depths[row, column, k]
                    depths[row, column, k] = z
                    k -= 1
    return depths, normals
