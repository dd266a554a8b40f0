"""The .ply reader and writer: INRIA's bytes, the same arrays back, and one clear line for every broken file."""

from __future__ import annotations

import os
import resource
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam3d_gs.errors import BadInputError, Sam3dGsError
from sam3d_gs.gaussians import ply
from sam3d_gs.types import Gaussians
from tests.gaussians.helpers import assert_same, random_gaussians

INRIA = Path(__file__).parent / "data" / "inria_degree0.ply"  # by plyfile, see make_inria_ply.py
NAMES = ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"]
NAMES += ["scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
BY_PLYFILE_AND_HAND = (
    b"ply\nformat binary_little_endian 1.0\nelement vertex 3\n"
    + b"".join(b"property float %s\n" % name.encode() for name in NAMES)
    + b"end_header\n"
)


def table(gaussians: Gaussians) -> dict[str, np.ndarray]:
    """Column name -> values, written out by hand."""
    columns = [gaussians.means, np.zeros((len(gaussians), 3)), gaussians.sh0, gaussians.opacity_logits[:, None]]
    return dict(zip(NAMES, np.hstack([*columns, gaussians.log_scales, gaussians.quats]).T, strict=True))


def write_by_hand(
    path: Path,
    columns: dict[str, np.ndarray],
    kind: str = "binary_little_endian",
    types: dict[str, str] | None = None,
    before: str = "",
    before_data: bytes = b"",
    ending: str = "\n",
) -> Path:
    """A .ply from any columns; `types` names the type of those that are not float."""
    codes = {"float": "f4", "double": "f8", "uchar": "u1", "int16": "i2", "float64": "f8"}
    chosen = {name: (types or {}).get(name, "float") for name in columns}
    count = len(next(iter(columns.values())))
    lines = ["ply", f"format {kind} 1.0", "comment by hand", *([before] if before else []), f"element vertex {count}"]
    lines += [f"property {chosen[name]} {name}" for name in columns] + ["end_header", ""]
    order = ">" if kind == "binary_big_endian" else "<"
    records = np.zeros(count, [(name, order + codes[kind_]) for name, kind_ in chosen.items()])
    for name, values in columns.items():
        records[name] = values
    if kind == "ascii":
        body = "\n".join(" ".join(repr(float(value)) for value in row) for row in records.tolist()).encode()
    else:
        body = records.tobytes()
    path.write_bytes(ending.join(lines).encode() + before_data + body)
    return path


def test_bytes_of_the_inria_layout(tmp_path: Path) -> None:
    """Against a file that plyfile wrote, and against the format spelt out."""
    values = [[0.0 if name[0] == "n" else row + (i + 1) / 32 for i, name in enumerate(NAMES)] for row in range(3)]
    for row in range(3):
        values[row][13:] = [float(row == i) for i in range(4)]
    by_hand = BY_PLYFILE_AND_HAND + b"".join(struct.pack("<17f", *row) for row in values)
    assert INRIA.read_bytes() == by_hand

    gaussians = ply.read_ply(INRIA)
    np.testing.assert_array_equal(gaussians.means[2], [2 + 1 / 32, 2 + 2 / 32, 2 + 3 / 32])
    np.testing.assert_array_equal(gaussians.sh0[1], [1 + 7 / 32, 1 + 8 / 32, 1 + 9 / 32])
    np.testing.assert_array_equal(gaussians.opacity_logits, [10 / 32, 1 + 10 / 32, 2 + 10 / 32])
    np.testing.assert_array_equal(gaussians.log_scales[0], [11 / 32, 12 / 32, 13 / 32])
    np.testing.assert_array_equal(gaussians.quats, np.eye(4)[:3])

    ply.write_ply(tmp_path / "again.ply", gaussians)
    assert (tmp_path / "again.ply").read_bytes() == by_hand


@pytest.mark.slow
def test_a_file_by_gsply_reads_the_same(tmp_path: Path) -> None:
    """gsply leaves the normals out."""
    gsply = pytest.importorskip("gsply")
    gaussians = random_gaussians(300)
    arrays = (gaussians.log_scales, gaussians.quats, gaussians.opacity_logits, gaussians.sh0)
    gsply.plywrite(tmp_path / "theirs.ply", gaussians.means, *arrays)
    assert b" nx" not in (tmp_path / "theirs.ply").read_bytes()[:600]
    assert_same(ply.read_ply(tmp_path / "theirs.ply"), gaussians)

    ply.write_ply(tmp_path / "ours.ply", gaussians, ["a comment"])
    theirs = gsply.plyread(tmp_path / "ours.ply")
    np.testing.assert_array_equal(theirs.means, gaussians.means)
    np.testing.assert_array_equal(theirs.quats, gaussians.quats)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 200), st.integers(0, 1000), st.integers(1, 70))
def test_same_arrays_and_same_bytes_back(
    tmp_path_factory: pytest.TempPathFactory, n: int, seed: int, block: int
) -> None:
    folder = tmp_path_factory.mktemp("ply")
    gaussians = random_gaussians(n, seed)
    ply.write_ply(folder / "a.ply", gaussians)
    with ply.ply_writer(folder / "pieces.ply", n) as writer:
        for part in ply.blocks(gaussians, block):
            writer.write(ply.pack(part))
    again = ply.read_ply(folder / "a.ply")
    assert_same(again, gaussians)
    ply.write_ply(folder / "b.ply", again)
    assert (folder / "a.ply").read_bytes() == (folder / "b.ply").read_bytes() == (folder / "pieces.ply").read_bytes()


@pytest.mark.parametrize("kind", ["binary_little_endian", "binary_big_endian", "ascii"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"], ids=["lf", "crlf"])
def test_other_encodings_of_the_same(tmp_path: Path, kind: str, ending: str) -> None:
    gaussians = random_gaussians(25)
    columns = table(gaussians)
    shuffled = {name: columns[name] for name in sorted(columns) if name not in ("nx", "ny", "nz")}
    shuffled["f_rest_0"] = shuffled["red"] = np.arange(25)
    path = write_by_hand(
        tmp_path / "odd.ply",
        shuffled,
        kind,
        types={"x": "double", "opacity": "float64", "red": "uchar", "f_rest_0": "int16"},
        before=f"element camera 2{ending}property uchar id",
        before_data=b"7\n8\n" if kind == "ascii" else b"\x07\x08",
        ending=ending,
    )
    assert_same(ply.read_ply(path), gaussians)


def test_elements_after_the_vertices_are_ignored(tmp_path: Path) -> None:
    data = INRIA.read_bytes().replace(
        b"end_header\n", b"element face 1\nproperty list uchar int vertex_indices\nend_header\n"
    )
    path = tmp_path / "faces.ply"
    path.write_bytes(data + struct.pack("<B3i", 3, 0, 1, 2))
    assert_same(ply.read_ply(path), ply.read_ply(INRIA))


def test_quaternions_are_normalised_when_read(tmp_path: Path) -> None:
    gaussians = random_gaussians(5)
    columns = table(gaussians)
    for name in ("rot_0", "rot_1", "rot_2", "rot_3"):
        columns[name] = columns[name] * np.array([1, 2, 0.25, 10, 1])
    read = ply.read_ply(write_by_hand(tmp_path / "long.ply", columns))
    np.testing.assert_allclose(read.quats, gaussians.quats, atol=2e-7)


def with_value(name: str, value: float) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        columns = table(random_gaussians(10))
        columns[name][[2, 7]] = value
        return write_by_hand(path, columns)

    return make


def with_bytes(change: Callable[[bytes], bytes]) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        path.write_bytes(change(INRIA.read_bytes()))
        return path

    return make


def zero_quaternion(path: Path) -> Path:
    columns = table(random_gaussians(10))
    for name in ("rot_0", "rot_1", "rot_2", "rot_3"):
        columns[name][[1, 4, 5]] = 0.0
    return write_by_hand(path, columns)


def without(*names: str) -> Callable[[Path], Path]:
    return lambda path: write_by_hand(
        path, {name: values for name, values in table(random_gaussians(3)).items() if name not in names}
    )


def ascii_line(change: Callable[[list[str]], list[str]]) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        write_by_hand(path, table(random_gaussians(40)), "ascii")
        path.write_text("\n".join(change(path.read_text().split("\n"))))
        return path

    return make


HUGE = b"999999999999999999"
BROKEN: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (lambda path: path, "No .ply file"),
    "a folder": (lambda path: path.mkdir() or path, "No .ply file"),
    "a pipe": (lambda path: os.mkfifo(path) or path, "No .ply file"),
    "empty file": (with_bytes(lambda data: b""), "not a .ply file"),
    "another kind of file": (with_bytes(lambda data: b"\x89PNG\r\n\x1a\n" + data), "not a .ply file"),
    "header cut": (with_bytes(lambda data: data[:200]), "header does not end"),
    "endless header": (with_bytes(lambda data: b"ply\n" + b"comment a\n" * 20_000), "header does not end"),
    "one endless line": (with_bytes(lambda data: b"ply\n" + b"a" * 200_000), "header does not end"),
    "garbage in the header": (
        with_bytes(lambda data: data.replace(b"element", b"\xff\xfe\x00")),
        "header has the line",
    ),
    "no format": (with_bytes(lambda data: data.replace(b"format binary_little_endian 1.0\n", b"")), "no format line"),
    "unknown format": (with_bytes(lambda data: data.replace(b"little", b"middle")), "header has the line"),
    "unknown type": (
        with_bytes(lambda data: data.replace(b"float x", b"quad x")),
        "header has the line 'property quad x'",
    ),
    "count is a word": (with_bytes(lambda data: data.replace(b"vertex 3", b"vertex all")), "'element vertex all'"),
    "negative count": (with_bytes(lambda data: data.replace(b"vertex 3", b"vertex -3")), "'element vertex -3'"),
    "no vertices": (with_bytes(lambda data: data.replace(b"vertex 3", b"face 3")), "no element vertex"),
    "a column twice": (with_bytes(lambda data: data.replace(b"float y", b"float x")), "the property x twice"),
    "a list": (with_bytes(lambda data: data.replace(b"float nx", b"list uchar int nx")), "list properties"),
    "cut short": (with_bytes(lambda data: data[:-1]), "cut short: 3 vertices need"),
    "too long": (with_bytes(lambda data: data + b"\0" * 68), "68 bytes follow the last vertex"),
    "huge count": (with_bytes(lambda data: data.replace(b"vertex 3", b"vertex " + HUGE)), "cut short"),
    "huge count of another element": (
        with_bytes(lambda data: data.replace(b"element v", b"element a %s\nproperty int i\nelement v" % HUGE)),
        "cut short",
    ),
    "huge count, ASCII": (
        with_bytes(
            lambda data: data.replace(b"binary_little_endian", b"ascii").replace(b"vertex 3", b"vertex " + HUGE)
        ),
        "cut short",
    ),
    "huge count of another element, ASCII": (
        with_bytes(
            lambda data: data.replace(b"binary_little_endian", b"ascii").replace(
                b"element v", b"element a %s\nproperty int i\nelement v" % HUGE
            )
        ),
        "cut short",
    ),
    "count 0": (
        with_bytes(lambda data: data[: data.index(b"end_header\n") + 11].replace(b"vertex 3", b"vertex 0")),
        "declares 0 vertices",
    ),
    "a point cloud": (without("f_dc_0", "f_dc_1", "f_dc_2", "opacity"), "no column f_dc_0, f_dc_1, f_dc_2, opacity"),
    "no rotation": (without("rot_3"), "no column rot_3"),
    "NaN": (with_value("opacity", np.nan), "NaN or infinite values: 2 in opacity"),
    "infinite": (with_value("scale_1", -np.inf), "NaN or infinite values: 2 in scale_1"),
    "zero quaternions": (zero_quaternion, "3 of 10 quaternions are zero"),
    "ASCII, a word": (ascii_line(lambda lines: [*lines[:-1], lines[-1].replace("0.", "zero")]), "Cannot read"),
    "ASCII, a line short": (ascii_line(lambda lines: lines[:-1]), "40 lines of 17 numbers"),
    "ASCII, a number short": (ascii_line(lambda lines: [*lines[:-1], lines[-1].rsplit(" ", 1)[0]]), "Cannot read"),
    "ASCII, only blanks": (ascii_line(lambda lines: [*lines[:22], " " * 9000]), "40 lines of 17 numbers"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_get_one_clear_line(tmp_path: Path, case: str) -> None:
    make, said = BROKEN[case]
    path = make(tmp_path / "scene.ply")
    with pytest.raises(BadInputError) as caught:
        ply.read_ply(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_double_beyond_float32_is_infinite(tmp_path: Path) -> None:
    columns = table(random_gaussians(10))
    columns["x"] = np.where(np.arange(10) == 3, 1e300, columns["x"])
    with pytest.raises(BadInputError, match="1 in x"):
        ply.read_ply(write_by_hand(tmp_path / "far.ply", columns, types={"x": "double"}))


def test_a_compressed_file_is_named_as_such(tmp_path: Path) -> None:
    gsply = pytest.importorskip("gsply")
    one = random_gaussians(300)
    data = gsply.GSData.from_arrays(
        means=one.means, scales=one.log_scales, quats=one.quats, opacities=one.opacity_logits, sh0=one.sh0, format="ply"
    )
    (tmp_path / "a.ply").write_bytes(gsply.compress_to_bytes(data))
    with pytest.raises(BadInputError, match=r"is a compressed \.ply"):
        ply.read_ply(tmp_path / "a.ply")


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 687), st.binary(max_size=40), st.integers(0, 60))
def test_random_damage_never_ends_in_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, where: int, put: bytes, cut: int
) -> None:
    """Either Gaussians come out, or BadInputError."""
    path = tmp_path_factory.mktemp("damage") / "scene.ply"
    data = INRIA.read_bytes()
    path.write_bytes(data[:where] + put + data[where + cut :])
    try:
        assert len(ply.read_ply(path)) > 0
    except BadInputError as error:
        said = str(error)
    else:
        said = str(path)
    assert str(path) in said


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "scene.ply"
    ply.write_ply(path, random_gaussians(4))
    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt), ply.ply_writer(path, 8) as writer:
        writer.write(ply.pack(random_gaussians(4, seed=1)))
        raise KeyboardInterrupt
    with pytest.raises(ValueError, match="promises 4 more"), ply.ply_writer(path, 8) as writer:
        writer.write(ply.pack(random_gaussians(4, seed=1)))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["scene.ply"]


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    """A limit on the size of files fails the write in the same way as a full disk does."""
    path = tmp_path / "scene.ply"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(Sam3dGsError, match=f"Cannot write {path}"):
            ply.write_ply(path, random_gaussians(1000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not os.listdir(tmp_path)


def test_comments_stay_on_one_line_and_ascii(tmp_path: Path) -> None:
    ply.write_ply(tmp_path / "a.ply", random_gaussians(2), ["photo\nend_header café"])
    assert b"comment photo end_header caf?\n" in (tmp_path / "a.ply").read_bytes()
    assert len(ply.read_ply(tmp_path / "a.ply")) == 2


def test_no_empty_file() -> None:
    with pytest.raises(ValueError, match="at least one"):
        ply.write_ply(Path("never.ply"), random_gaussians(0))
