"""Sprites: cut-out renderings of sets of shapes, with depth, each from one direction in one light."""

from __future__ import annotations

import itertools
import multiprocessing
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.masks.bank import KINDS, Pictures
from training.masks.looks import Dice, dress, furs, glaze, materials, views
from training.masks.rows import SPRITE
from training.masks.sets import ShapeSet, make_set
from training.objects.layout import MATERIAL_LENGTH, MATERIALS, PLANES, VIEW, VIEW_LENGTH
from training.objects.raycast import Shapes, render
from training.objects.shapes import pack

_FIELD = 2.1  # half the side of the first, coarse look, which every shape fits in
_COARSE_PX = 64
_MARGIN = 1.06  # of the window around what was seen
_STEEPEST_DEG = 86.0


@dataclass(frozen=True)
class SetPool:
    """S sets of shapes, with their members concatenated."""

    shapes: Shapes  # (M,)
    first: Tensor  # (S,) int64, the first member of each set
    members: Tensor  # (S,) int64
    kind: Tensor  # (S,) int64, index into KINDS
    top: Tensor  # (S, 4) float32: 1 if it can carry things, then height and half sizes of the surface
    tumbles: Tensor  # (S,) float32 0 or 1
    dressed: Tensor  # (S,) float32 0 or 1: the last member is a person
    glazed: Tensor  # (S,) float32 0 or 1: it is a vehicle with windows
    furred: Tensor  # (S,) float32 0 or 1: it is an animal

    def to(self, device: torch.device) -> SetPool:
        rest = (self.first, self.members, self.kind, self.top, self.tumbles, self.dressed, self.glazed, self.furred)
        return SetPool(self.shapes.to(device), *(t.to(device) for t in rest))


def make_pool(count: int, first: int = 0, processes: int = 1) -> SetPool:
    """Sets `first` to `first + count - 1`, on the CPU; independent of the number of processes."""
    edges = np.linspace(first, first + count, 4 * processes + 1).astype(int)
    ranges = [(int(a), int(b)) for a, b in itertools.pairwise(edges) if a < b]
    if processes == 1:
        parts = [_range(r) for r in ranges]
    else:
        with multiprocessing.get_context("fork").Pool(processes) as pool:
            parts = pool.map(_range, ranges)
    arrays = [torch.from_numpy(np.concatenate([part[i] for part in parts])) for i in range(len(parts[0]))]
    rows, counts, deformations, members, kind, top, tumbles, dressed, glazed, furred = arrays
    shapes = Shapes(rows, counts, deformations, torch.zeros(len(counts)))
    return SetPool(shapes, members.cumsum(0) - members, members, kind, top, tumbles, dressed, glazed, furred)


def _range(bounds: tuple[int, int]) -> tuple[np.ndarray, ...]:
    """The same as NumPy arrays, which can be sent between processes without shared memory."""
    sets = [make_set(seed) for seed in range(*bounds)]
    members = [shape for s in sets for shape in s.members]
    shapes = pack(members, [False] * len(members))

    def column(values: list[float]) -> np.ndarray:
        return np.array(values, np.float32)

    return (
        shapes.rows.numpy(),
        shapes.counts.numpy(),
        shapes.deformations.numpy(),
        np.array([len(s.members) for s in sets]),
        np.array([KINDS.index(s.kind) for s in sets]),
        column([_top(s) for s in sets]).reshape(len(sets), 4),  # type: ignore[misc]
        column([s.tumbles for s in sets]),
        column([s.dressed for s in sets]),
        column([s.glazed for s in sets]),
        column([s.furred for s in sets]),
    )


def _top(s: ShapeSet) -> tuple[float, float, float, float]:
    return (0.0, 0.0, 0.0, 0.0) if s.top is None else (1.0, *s.top)


def picture_sets(pool: SetPool, chosen: Tensor, generator: torch.Generator, side_px: int) -> Pictures:
    """Sprites of the sets `chosen` (C,) int64, each from a random direction in random light; all on one device."""
    dice = Dice(generator)
    count = len(chosen)
    of_set = torch.repeat_interleave(torch.arange(count, device=chosen.device), pool.members[chosen])
    starts = pool.members[chosen].cumsum(0) - pool.members[chosen]
    place = torch.arange(len(of_set), device=chosen.device) - starts[of_set]  # in its set
    shapes = pool.shapes.pick(pool.first[chosen][of_set] + place)

    lying = _any_turn(dice, count)
    upright = torch.eye(3, device=chosen.device).expand(count, 3, 3)
    pose = torch.where(pool.tumbles[chosen].view(-1, 1, 1) > 0, lying, upright)
    box = _box(shapes, pose, of_set, count)  # where it stands
    turn = _seen_from(dice, count)

    view = views(dice, count)[of_set]
    view[:, VIEW["BUMP_HEIGHT"] : VIEW["BUMP_HEIGHT"] + 4] = shapes.deformations
    view[:, VIEW["SALT"]] += 17 * place
    view[:, VIEW["TURN"] : VIEW["TURN"] + 9] = (turn @ pose)[of_set].reshape(-1, 9)
    low, high = _seen(shapes, view)
    view[:, VIEW["CENTRE"] : VIEW["CENTRE"] + 2] = (low + high) / 2
    view[:, VIEW["HALF"]] = _MARGIN * (high - low).amax(1) / 2

    paint = materials(dice, len(of_set))
    last = place == pool.members[chosen][of_set] - 1
    looks = ((pool.dressed, dress(dice, paint)), (pool.glazed, glaze(dice, paint)), (pool.furred, furs(dice, paint)))
    for marks, painted in looks:
        paint = torch.where((last & (marks[chosen][of_set] > 0)).view(-1, 1, 1), painted, paint)
    planes = render(shapes, view, paint, side_px)
    alpha = planes[:, PLANES["SEEN"]]
    colour = planes[:, PLANES["RGB"] : PLANES["RGB"] + 3].clamp(0, 1) * alpha[:, None]

    sprites = _records(view, turn, box, pool, chosen, of_set, place)
    return Pictures(
        torch.cat([colour, alpha[:, None]], 1), planes[:, PLANES["LAYERS"]], sprites, pool.kind[chosen][of_set]
    )


def _records(
    view: Tensor, turn: Tensor, box: tuple[Tensor, Tensor], pool: SetPool, chosen: Tensor, of_set: Tensor, place: Tensor
) -> Tensor:
    """(N, len(SPRITE)): the window of each sprite, and its set's position, used in the set's first sprite."""
    low, high = box
    foot = torch.stack([(low[:, 0] + high[:, 0]) / 2, low[:, 1], (low[:, 2] + high[:, 2]) / 2], 1)
    foot_seen = (turn @ foot[..., None])[..., 0]
    top = pool.top[chosen]
    columns = {
        "up_x": turn[:, 0, 1],
        "up_y": turn[:, 1, 1],
        "up_z": turn[:, 2, 1],
        "right_x": turn[:, 0, 0],
        "right_y": turn[:, 1, 0],
        "right_z": turn[:, 2, 0],
        "foot_x": foot_seen[:, 0],
        "foot_y": foot_seen[:, 1],
        "foot_z": foot_seen[:, 2],
        "height": high[:, 1] - low[:, 1],
        "width": torch.maximum(high[:, 0] - low[:, 0], high[:, 2] - low[:, 2]),
        "members": pool.members[chosen].float(),
        "top": torch.where(top[:, 0] > 0, top[:, 1] - low[:, 1], 0.0),
        "top_half_width": top[:, 2],
        "top_half_length": top[:, 3],
    }
    columns = {name: values[of_set] for name, values in columns.items()}
    columns["members"] = torch.where(place == 0, columns["members"], 0.0)
    columns["half"] = view[:, VIEW["HALF"]]
    columns["centre_x"], columns["centre_y"] = view[:, VIEW["CENTRE"]], view[:, VIEW["CENTRE"] + 1]
    return torch.stack([columns[name] for name in SPRITE], 1)


def _seen(shapes: Shapes, view: Tensor) -> tuple[Tensor, Tensor]:
    """Minimum and maximum x, y of each shape in its view, (N, 2) each, from a coarse and then a finer rendering."""
    view = view.clone()
    view[:, VIEW["CENTRE"] : VIEW["CENTRE"] + 2] = 0
    view[:, VIEW["HALF"]] = _FIELD
    paint = torch.zeros(len(shapes), MATERIALS, MATERIAL_LENGTH, device=view.device)
    for _ in range(2):
        seen = render(shapes, view, paint, _COARSE_PX, silhouette=True)[:, 0]
        half, centre = view[:, VIEW["HALF"]], view[:, VIEW["CENTRE"] : VIEW["CENTRE"] + 2].clone()
        place = (torch.arange(_COARSE_PX, device=view.device) + 0.5) * (2 / _COARSE_PX) - 1
        lows, highs = [], []
        for used, at in ((seen.amax(1) > 0, place), (seen.amax(2) > 0, -place)):
            found = used.any(1)  # nothing is found of what is thinner than a coarse pixel
            lows.append(torch.where(found, torch.where(used, at, 1.0).amin(1), -2 / _COARSE_PX))
            highs.append(torch.where(found, torch.where(used, at, -1.0).amax(1), 2 / _COARSE_PX))
        # What is seen may reach almost a pixel beyond the middle of the last one.
        low = centre + (torch.stack(lows, 1) - 2 / _COARSE_PX) * half[:, None]
        high = centre + (torch.stack(highs, 1) + 2 / _COARSE_PX) * half[:, None]
        view[:, VIEW["CENTRE"] : VIEW["CENTRE"] + 2] = (low + high) / 2
        view[:, VIEW["HALF"]] = (high - low).amax(1) / 2
    pixel = (2 / _COARSE_PX) * half[:, None] / 2
    return low + pixel, high - pixel


def _box(shapes: Shapes, pose: Tensor, of_set: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Minimum and maximum x, y, z of each upright set, (count, 3) each, from a front and a side view."""
    view = torch.zeros(len(shapes), VIEW_LENGTH, device=pose.device)
    view[:, VIEW["BUMP_HEIGHT"] : VIEW["BUMP_HEIGHT"] + 4] = shapes.deformations
    aside = torch.tensor([[0.0, 0, -1], [0, 1, 0], [1, 0, 0]], device=pose.device)  # x of this view is -z
    ends = []
    for turn in (pose, aside @ pose):
        view[:, VIEW["TURN"] : VIEW["TURN"] + 9] = turn[of_set].reshape(-1, 9)
        low, high = _seen(shapes, view)
        index = of_set[:, None].expand(-1, 2)
        ends.append(
            (
                torch.full((count, 2), _FIELD, device=pose.device).scatter_reduce(0, index, low, "amin"),
                torch.full((count, 2), -_FIELD, device=pose.device).scatter_reduce(0, index, high, "amax"),
            )
        )
    (front_low, front_high), (side_low, side_high) = ends
    return torch.cat([front_low, -side_high[:, :1]], 1), torch.cat([front_high, -side_low[:, :1]], 1)


def _seen_from(dice: Dice, count: int) -> Tensor:
    """(count, 3, 3) rotations to cameras at any azimuth, more often low than high."""
    yaw = dice.uniform(count, high=2 * torch.pi)
    elevation = torch.deg2rad(_STEEPEST_DEG * dice.uniform(count) ** 1.2)
    zero, one = torch.zeros_like(yaw), torch.ones_like(yaw)
    c, s = yaw.cos(), yaw.sin()
    about_y = torch.stack([c, zero, s, zero, one, zero, -s, zero, c], 1).view(count, 3, 3)
    c, s = elevation.cos(), elevation.sin()
    about_x = torch.stack([one, zero, zero, zero, c, -s, zero, s, c], 1).view(count, 3, 3)
    return about_x @ about_y


def _any_turn(dice: Dice, count: int) -> Tensor:
    """(count, 3, 3) uniformly distributed rotations, from unit quaternions."""
    w, x, y, z = F.normalize(dice.normal(count, 4), dim=1).unbind(1)
    rows = [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)]
    rows += [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)]
    rows += [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]
    return torch.stack(rows, 1).view(count, 3, 3)
