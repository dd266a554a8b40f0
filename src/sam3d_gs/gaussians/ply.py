"""Gaussians as a 3DGS .ply, with exactly the columns that the INRIA code of Kerbl et al. 2023 writes at degree 0.

Columns x, y, z, nx, ny, nz (zeros), f_dc_0..2, opacity, scale_0..2, rot_0..3 (wxyz), all float32, binary little endian.
Values stay encoded as in `Gaussians`: log scales, opacity logits, degree-0 coefficients.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from sam3d_gs.errors import BadInputError
from sam3d_gs.files import atomic_path
from sam3d_gs.gaussians.check import COLUMNS, problem, unit_quats
from sam3d_gs.gaussians.ply_header import Vertices, find_vertices
from sam3d_gs.types import Gaussians

PROPERTIES = (
    *COLUMNS["means"],
    *("nx", "ny", "nz"),
    *(name for field in ("sh0", "opacity_logits", "log_scales", "quats") for name in COLUMNS[field]),
)
# Gaussians packed at a time: 1.1 MB, still in a cache when it is written. Also not more than OpenBLAS multiplies in one
# thread (4 x 4 x 2**14 = 2**18 products): its threads would wait for the cores that the threads of a merge are using.
BLOCK = 1 << 14


def write_ply(path: Path, gaussians: Gaussians, comments: Sequence[str] = ()) -> None:
    """Write one .ply, whole or not at all. Raises Sam3dGsError when writing fails."""
    with ply_writer(path, len(gaussians), comments) as writer:
        for part in blocks(gaussians):
            writer.write(pack(part))


@contextmanager
def ply_writer(path: Path, count: int, comments: Sequence[str] = ()) -> Iterator[PlyWriter]:
    """A .ply of `count` Gaussians, written piece by piece and moved into place when the block ends without an error.

    Raises ValueError when `count` is zero or another number of Gaussians was written.
    """
    if count < 1:
        raise ValueError("a .ply needs at least one Gaussian")
    with atomic_path(path) as temporary, temporary.open("wb", buffering=0) as stream:
        writer = PlyWriter(stream, count, comments)
        yield writer
        writer.finish()


class PlyWriter:
    """Appends packed Gaussians to an open file; see `ply_writer`."""

    def __init__(self, stream: BinaryIO, count: int, comments: Sequence[str]) -> None:
        self._stream = stream
        self._missing = count
        self._put(memoryview(header(count, comments)))

    def write(self, records: np.ndarray) -> None:
        """records: (n, 17) float32 from `pack`."""
        self._missing -= len(records)
        self._put(np.ascontiguousarray(records, dtype="<f4").reshape(-1).data.cast("B"))

    def finish(self) -> None:
        if self._missing:
            raise ValueError(f"the header promises {self._missing} more Gaussians than were written")

    def _put(self, data: memoryview) -> None:
        """One write call takes at most 2 GiB and may take less, e.g. when the disk is nearly full."""
        while data:
            data = data[self._stream.write(data) :]


def header(count: int, comments: Sequence[str] = ()) -> bytes:
    """The header of an INRIA .ply; without comments it is theirs byte by byte."""
    plain = (" ".join(comment.split()).encode("ascii", "replace").decode() for comment in comments)
    lines = ["ply", "format binary_little_endian 1.0", *(f"comment {comment}" for comment in plain)]
    lines += [f"element vertex {count}", *(f"property float {name}" for name in PROPERTIES), "end_header", ""]
    return "\n".join(lines).encode("ascii")


def blocks(gaussians: Gaussians, size: int = BLOCK) -> Iterator[Gaussians]:
    """Consecutive parts of at most `size` Gaussians; views, nothing is copied."""
    for start in range(0, len(gaussians), size):
        part = slice(start, start + size)
        yield gaussians.take(part)


def pack(gaussians: Gaussians) -> np.ndarray:
    """The bytes of the vertices: (N, 17) little-endian float32, columns as in PROPERTIES."""
    records = np.empty((len(gaussians), len(PROPERTIES)), dtype="<f4")
    records[:, 3:6] = 0.0
    for field, names in COLUMNS.items():
        array = getattr(gaussians, field).reshape(len(gaussians), len(names))
        first = PROPERTIES.index(names[0])
        for i in range(len(names)):  # by column: NumPy copies rows of three values three times slower
            records[:, first + i] = array[:, i]
    return records


def unpack(records: np.ndarray) -> Gaussians:
    """The Gaussians of (N, 17) float32 records as `pack` makes them."""
    columns = {
        field: np.ascontiguousarray(records[:, [PROPERTIES.index(name) for name in names]], np.float32)
        for field, names in COLUMNS.items()
    }
    return Gaussians(**{**columns, "opacity_logits": columns["opacity_logits"][:, 0]})


def read_ply(path: Path) -> Gaussians:
    """Read the Gaussians of a 3DGS .ply, binary (either byte order) or ASCII.

    Properties may come in any order and number type, and those not needed are ignored: normals, and also f_rest_*,
    the view-dependent part of the colour, which `Gaussians` does not hold. Quaternions are normalised.
    Raises BadInputError naming the file when it is missing, cut short, or holds no usable Gaussians.
    """
    if not path.is_file():  # a folder or a pipe is not opened
        raise BadInputError(f"No .ply file at {path}.")
    try:
        with path.open("rb") as stream:
            vertices = find_vertices(stream, path)
            _check_columns(vertices, path)
            records = _read_ascii(stream, vertices) if vertices.is_ascii else _read_binary(stream, vertices)
    except (OSError, ValueError) as error:
        raise BadInputError(f"Cannot read {path}: {error}. Write it again or give another file.") from error

    with np.errstate(over="ignore"):  # a double beyond float32 becomes infinite, which is reported below
        columns = {
            field: np.stack([records[name].astype(np.float32) for name in names], axis=-1)
            for field, names in COLUMNS.items()
        }
    gaussians = Gaussians(**{**columns, "opacity_logits": columns["opacity_logits"][:, 0]})
    if reason := problem(gaussians):
        raise BadInputError(f"{path} is not usable: {reason}. Write it again or give another file.")
    try:
        quats = unit_quats(gaussians.quats)
    except ValueError as error:
        raise BadInputError(f"{path} is not usable: {error}. Write it again or give another file.") from error
    return Gaussians(gaussians.means, quats, gaussians.log_scales, gaussians.opacity_logits, gaussians.sh0)


def count_ply(path: Path) -> int:
    """How many Gaussians a 3DGS .ply holds, from its header. Raises BadInputError like `read_ply`."""
    if not path.is_file():
        raise BadInputError(f"No .ply file at {path}.")
    try:
        with path.open("rb") as stream:
            vertices = find_vertices(stream, path)
    except OSError as error:
        raise BadInputError(f"Cannot read {path}: {error}. Write it again or give another file.") from error
    _check_columns(vertices, path)
    return vertices.count


def _check_columns(vertices: Vertices, path: Path) -> None:
    have = vertices.dtype.names or ()
    if "packed_position" in have:
        raise BadInputError(f"{path} is a compressed .ply; this reads plain ones. Give the .ply it was made from.")
    missing = [name for names in COLUMNS.values() for name in names if name not in have]
    if missing:
        raise BadInputError(f"{path} holds no 3D Gaussians: no column {', '.join(missing)}. Give a 3DGS .ply.")
    if not vertices.count:
        raise BadInputError(f"{path} is empty: it declares 0 vertices. Give a .ply with Gaussians.")


def _read_binary(stream: BinaryIO, vertices: Vertices) -> np.ndarray:
    stream.seek(vertices.offset)
    records = np.fromfile(stream, vertices.dtype, vertices.count)
    if len(records) != vertices.count:
        raise ValueError(f"it ended after {len(records)} of {vertices.count} vertices")
    return records


def _read_ascii(stream: BinaryIO, vertices: Vertices) -> np.ndarray:
    """One vertex a line. Values are parsed as float64 whatever the header says, then named."""
    for _ in range(vertices.lines_before):
        stream.readline()
    names = vertices.dtype.names or ()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about blank lines; the shape tells
        table = np.loadtxt(stream, np.float64, comments=None, ndmin=2, max_rows=vertices.count)
    if table.shape != (vertices.count, len(names)):
        raise ValueError(f"{vertices.count} lines of {len(names)} numbers were declared, it has {table.shape}")
    return table.view([(name, np.float64) for name in names])[:, 0]
